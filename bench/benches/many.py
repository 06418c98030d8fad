"""200 forks alive at once

128 MiB each, restored by two starters, none made ahead. All have to answer; then they are left alone, and what an idle
one takes is looked at.
"""
import json

from measure.figure import Figure, Samples, run

BY_DEFAULT = False
STARTERS = 2
IDLE_SECONDS = 10


def measure(context):
    count = context.times(200)
    argv = context.prefix + ["env", "MAYFLY_POOL_WARM=0", context.program("bench", "many_forks")]
    got = json.loads(run(argv + [str(count), str(STARTERS), str(IDLE_SECONDS)]).stdout)
    rate = Samples([count / got["seconds"]], "forks/s")
    ready, used = Samples(got["ready_mib"], "MiB"), Samples(got["used_mib"], "MiB")
    cpu = Samples([sum(got["cpu_percent"]) / count], "% of a CPU")
    answered = got["answered"]
    return [
        Figure(f"{count} forks of 128 MiB by {STARTERS} starters", rate, goal="≥ 15 forks/s", reached=rate.median >= 15),
        Figure(
            f"{count} forks alive at once, which answer",
            Samples([answered], "forks"),
            ratio=f"{answered} of {count}",
            goal="all",
            reached=answered == count,
        ),
        Figure("private memory of a fork that is ready", ready, goal="≤ 18 MiB", reached=ready.median <= 18),
        Figure("the same when it has run a command", used),
        Figure("CPU of an idle fork, their mean", cpu, goal="≤ 0.25 %", reached=cpu.median <= 0.25),
    ]
