"""Cloud Hypervisor: forks, boots and calls of its API

Guests run in an emulated host (`mayfly host`), where all is emulated twice: ratios count, not times. The machine by hand
is started with curl and has no agent channel: less than what mayfly gives. Calls are made on this machine. Forks that
copy are restored as Cloud Hypervisor means it (MAYFLY_CH_RESTORE=copy).
"""
import dataclasses
import json

from measure.figure import Figure, Samples, run
from measure.google import Results

BY_DEFAULT = False
FORKS = 16


def measure(context):
    host = [context.program("bin", "mayfly"), "host", "--memory", "5G", "--"]
    emulated = dataclasses.replace(context, prefix=context.prefix + host)
    return calls(context) + guests(emulated) + many(emulated)


def calls(context):
    results = Results(context, "ch_bench", context.times(5), "--benchmark_filter=BM_Ping")
    ours, curl = (results.samples(name, "p50_ms", "ms") for name in ("BM_Ping", "BM_PingByCurl"))
    times = curl.median / ours.median
    return [Figure("vmm.ping, p50", ours, curl, "curl", f"1/{times:.1f}", goal="≤ 1/5 of curl", reached=times >= 5)]


def guests(context):
    results = Results(context, "ch_bench", context.times(7), "--benchmark_filter=BM_(Boot|Fork)")
    of = {name: results.samples(f"BM_{name}", "p50_ms", "ms") for name in ("Boot", "BootByHand", "BootToFirstExec", "ForkToFirstExec")}
    overhead = of["Boot"].median / of["BootByHand"].median - 1
    times = of["BootToFirstExec"].median / of["ForkToFirstExec"].median
    return [
        Figure("boot to ready", of["Boot"], of["BootByHand"], "by hand with curl, to the ready line", f"{overhead:+.1%}",
               goal="≤ +5 %", reached=overhead <= 0.05),
        Figure("fork to the first command answered", of["ForkToFirstExec"], of["BootToFirstExec"], "boot", f"1/{times:.1f}",
               goal="≤ 1/8 of a boot", reached=times >= 8),
    ]


def many(context):
    def forks(mode):
        argv = context.prefix + ["env", "MAYFLY_DRIVER=ch", "MAYFLY_POOL=off", f"MAYFLY_CH_RESTORE={mode}"]
        return json.loads(run(argv + [context.program("bench", "many_forks"), str(FORKS), "2", "1"]).stdout)

    share, copy = forks("share"), forks("copy")
    ours, copied = Samples(share["ready_mib"], "MiB"), Samples(copy["ready_mib"], "MiB")
    used = Samples(share["used_mib"], "MiB")
    answered = share["answered"]
    return [
        Figure(f"private memory of each of {FORKS} forks alive at once, ready", ours, copied, "forks that copy",
               f"1/{copied.median / ours.median:.1f}", goal="≤ 8 MiB", reached=max(ours.values) <= 8),
        Figure("the same when it has run a command", used, Samples(copy["used_mib"], "MiB"), "forks that copy"),
        Figure("of them answer", Samples([answered], "forks"), goal="all", reached=answered == FORKS),
    ]
