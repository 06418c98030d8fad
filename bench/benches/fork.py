"""Forks, leased warm and restored cold

Warm ones wait in mayflyd, which has made them ahead; cold ones are restored in the process that asks. The template is
there already. Times are those of the client, from the request on.
"""
from measure.figure import Figure
from measure.google import Results

FIGURES = [
    ("lease of a warm fork, p50", "BM_WarmLease", "p50_ms", 1),
    ("lease of a warm fork, p99", "BM_WarmLease", "p99_ms", 5),
    ("warm fork to the first command answered, p50", "BM_WarmForkToFirstExec", "p50_ms", 6),
    ("fork into a VMM started ahead, to the first answer, p50", "BM_ForkIntoStarted", "p50_ms", 32),
    ("cold fork to the first answer, microvm, p50", "BM_ColdForkMicro", "p50_ms", 55),
    ("the same with 4 GiB of memory, p50", "BM_ColdForkMicro4GiB", "p50_ms", None),
    ("cold fork to the first answer, q35, p50", "BM_ColdForkPc", "p50_ms", 80),
    ("clone of a disk of 1 GiB, p50", "BM_Clone1GiB", "p50_ms", None),
    ("clone of a disk of 10 GiB, p50", "BM_Clone10GiB", "p50_ms", 5),
]


def measure(context):
    results = Results(context, "fork_bench", context.times(3))
    figures = []
    for title, name, counter, limit in FIGURES:
        samples = results.samples(name, counter, "ms")
        goal = {"goal": f"≤ {limit} ms", "reached": samples.median <= limit} if limit else {}
        figures.append(Figure(title, samples, **goal))
    cold, boot = results.samples("BM_ColdForkMicro", "p50_ms", "ms"), results.samples("BM_BootMicro", "p50_ms", "ms")
    times = boot.median / cold.median
    figures.insert(
        5, Figure("cold fork, microvm", cold, boot, "boot", f"1/{times:.1f}", goal="≤ 1/25 of a boot", reached=times >= 25)
    )
    return figures
