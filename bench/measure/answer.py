"""The time from the start of a program to the first line that a guest prints for it."""
import subprocess
import time

from measure.figure import Failed

WORD = "answered-by-the-guest"


def first_answer(argv, environment=None):
    """Seconds until WORD comes; Failed when it does not."""
    began = time.monotonic()
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, process_group=0
    ) as child:
        answered = None
        for line in child.stdout:
            if WORD.encode() in line and answered is None:
                answered = time.monotonic() - began
        child.wait(60)
    if answered is None:
        raise Failed(f"{' '.join(argv)}: no answer, exit code {child.returncode}")
    return answered
