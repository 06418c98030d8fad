"""Forks, leased warm and restored cold

Warm ones wait in mayflyd, which has made them ahead; cold ones are restored in the process that asks. The template is
there already. Times are those of the client, from the request on. virtme-ng takes turns with cold forks; its time is that
of its program, up to the first line that its guest prints.
"""
from measure import virtme_ng
from measure.figure import Figure, Samples, interleaved
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
COLD = "BM_ColdForkMicro"
AFTER_COLD = 5  # where the comparisons of the cold fork stand


def measure(context):
    results = Results(context, "fork_bench", context.times(3))
    figures = []
    for title, name, counter, limit in FIGURES:
        samples = results.samples(name, counter, "ms")
        goal = {"goal": f"≤ {limit} ms", "reached": samples.median <= limit} if limit else {}
        figures.append(Figure(title, samples, **goal))
    boot = results.samples("BM_BootMicro", "p50_ms", "ms")
    beside_boot = compared(results.samples(COLD, "p50_ms", "ms"), boot, "boot", "≤ 1/25 of a boot", 25)
    return figures[:AFTER_COLD] + [beside_boot, beside_virtme_ng(context)] + figures[AFTER_COLD:]


def compared(cold, other, name, goal, least):
    times = other.median / cold.median
    return Figure("cold fork, microvm", cold, other, name, f"1/{times:.1f}", goal=goal, reached=times >= least)


def beside_virtme_ng(context):
    goal = "≤ 1/120 of virtme-ng"
    peer, why = virtme_ng.measure(context)
    if not peer:
        return Figure("cold fork, microvm", goal=goal, not_measured=why)

    def fork():
        return Results(context, "fork_bench", 1, f"--benchmark_filter=^{COLD}/").samples(COLD, "p50_ms", "ms").median

    values = interleaved(context.times(3), context, fork=fork, virtme_ng=lambda: 1000 * peer())
    return compared(Samples(values["fork"], "ms"), Samples(values["virtme_ng"], "ms"), "virtme-ng, a fresh guest", goal, 120)
