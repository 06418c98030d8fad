"""Many boots in a row, each of which has to succeed

`mayfly run -- true` again and again, one after the other and, with --jobs, so many at once. What changes a boot (kernel
words, devices, the initramfs) has to survive 100 of them, also with two at once.
"""
import concurrent.futures
import subprocess
import time

from measure.figure import Failed, Figure, Samples

BY_DEFAULT = False


def measure(context):
    count = context.times(100)
    argv = context.prefix + [context.program("bin", "mayfly"), "run", "--", "true"]
    return [measure_at_once(context, argv, count, jobs) for jobs in sorted({1, context.jobs})]


def measure_at_once(context, argv, count, jobs):
    def boot(number):
        began = time.monotonic()
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        took = time.monotonic() - began
        if done.returncode != 0:
            context.say(f"  boot {number}: exit code {done.returncode} after {took:.1f} s\n{done.stderr}")
        elif number % 10 == 0:
            context.say(f"  {number} of {count}, the last one in {took:.2f} s")
        return done.returncode == 0, took

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(boot, range(1, count + 1)))
    succeeded = sum(good for good, _ in results)
    if succeeded < count:
        raise Failed(f"{count - succeeded} of {count} boots did not succeed")
    return Figure(
        what=f"{count} boots, {f'{jobs} at once' if jobs > 1 else 'one after the other'}, each to its end",
        ours=Samples([took for _, took in results], "s"),
        ratio=f"{succeeded} of {count} succeeded",
        goal="all succeed",
        reached=True,
    )
