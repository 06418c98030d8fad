"""A command in a running guest, beside ssh into the same guest

The median of many round trips, several times. ssh goes to a dropbear in the guest through a port that mayfly forwards:
with a connection for each command, as a script does it, and over one that stays open.
"""
from measure.figure import Figure
from measure.google import Results

LIMIT_MS = 4


def measure(context):
    results = Results(context, "exec_bench", context.times(5), "--benchmark_min_time=0.5")
    ours = results.samples("BM_ExecTrue", "p50_ms", "ms")
    figures = [Figure("round trip of `true`, p50", ours, goal=f"≤ {LIMIT_MS} ms", reached=ours.median <= LIMIT_MS)]
    for name, peer_name, least in (("BM_SshTrue", "ssh", 20), ("BM_SshTrueOpenConnection", "ssh, connection open", None)):
        figure = Figure("round trip of `true`, p50", ours, peer_name=peer_name, not_measured=results.why_not(name))
        figure.goal = f"≤ 1/{least} of ssh" if least else ""
        if not figure.not_measured:
            figure.peer = results.samples(name, "p50_ms", "ms")
            times = figure.peer.median / ours.median
            figure.ratio, figure.reached = f"1/{times:.1f}", times >= least if least else None
        figures.append(figure)
    figures.append(Figure("round trip of `true` in a shell, p50", results.samples("BM_ExecShell", "p50_ms", "ms")))
    figures.append(Figure("round trip without a process (Stat), p50", results.samples("BM_Stat", "p50_ms", "ms")))
    output = results.samples("BM_ExecOutput", "bytes_per_second", "MiB/s", 1 / (1 << 20))
    figures.append(Figure("output of a command", output))
    return figures
