"""A suite of 200 trivial VM tests under ctest -j2, beside the same with VMs that boot

Each test is a process of its own, as mayfly_discover_tests has it.
"""
import pathlib
import subprocess
import tempfile
import time

from measure.figure import Failed, Figure, Samples

BY_DEFAULT = False
JOBS = 2
BOOTED = 20


def measure(context):
    count = context.times(200)
    forked, booted = [tests_per_second(context, *which) for which in ((count, {}), (BOOTED, {"MAYFLY_FORK": "off"}))]
    return [
        Figure(
            f"{count} trivial VM tests, ctest -j{JOBS}",
            forked,
            booted,
            f"{BOOTED} of them, booted",
            ratio=f"{forked.median / booted.median:.1f} ×",
            goal="≥ 10 tests/s",
            reached=forked.median >= 10,
        )
    ]


def tests_per_second(context, count, environment):
    suite = context.program("bench", "suite")
    words = [f"{name}={value}" for name, value in environment.items()]
    with tempfile.TemporaryDirectory() as place:
        tests = [f'add_test({number} "{suite}" "--gtest_filter=Suite.RunsACommand/{number}")' for number in range(count)]
        pathlib.Path(place, "CTestTestfile.cmake").write_text("\n".join(tests) + "\n")
        argv = context.prefix + ["env"] + words + ["ctest", f"-j{JOBS}", "--test-dir", place, "--output-on-failure"]
        # The first makes the template, or brings the boot's files into memory.
        subprocess.run(argv + ["-R", "^0$"], capture_output=True)
        began = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True)
        took = time.monotonic() - began
    if done.returncode != 0:
        raise Failed(done.stdout[-2000:])
    return Samples([count / took], "tests/s")
