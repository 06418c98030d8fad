"""64 MiB into the guest and back, beside scp into the same guest

To the guest's /tmp, which is memory. scp goes to a dropbear in the guest through a port that mayfly forwards.
"""
from measure.figure import Figure
from measure.google import Results


def measure(context):
    results = Results(context, "transfer_bench", context.times(5))
    why = results.why_not("BM_Scp")
    figures = []
    for counter, what, least in (("real_time", "there and back", 5), ("up_ms", "upload", None), ("down_ms", "download", None)):
        figure = Figure(f"64 MiB, {what}", results.samples("BM_UploadDownload", counter, "ms"), peer_name="scp", not_measured=why)
        figure.goal = f"≥ {least} × scp" if least else ""
        if not why:
            figure.peer = results.samples("BM_Scp", counter, "ms")
            times = figure.peer.median / figure.ours.median
            figure.ratio, figure.reached = f"{times:.1f} ×", times >= least if least else None
        figures.append(figure)
    return figures
