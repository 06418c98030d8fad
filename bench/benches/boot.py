"""A fresh boot to the first command answered, beside virtme-ng

The time from the start of the program to the first line of the command's output. virtme-ng boots Debian's cloud kernel
too, with this machine's files as its root; both use software emulation.
"""
import os
import subprocess
import time

from measure import host
from measure.figure import Failed, Figure, Samples, interleaved

WORD = "answered-by-the-guest"
LIMIT = 1.6


def first_answer(argv, environment=None):
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


def virtme_ng(context):
    """The command for virtme-ng, or why it cannot be measured."""
    vng = host.PLACE / "venv" / "bin" / "vng"
    kernels = sorted((host.PLACE / "kernel" / "boot").glob("vmlinuz-*")) if (host.PLACE / "kernel" / "boot").exists() else []
    if not vng.exists() or not kernels or not (host.PLACE / "bin" / "virtiofsd").exists():
        return None, "virtme-ng, virtiofsd or a kernel for it is missing: bench/setup"
    return context.prefix + [str(vng), "--disable-kvm", "--run", str(kernels[-1]), "--", "echo", WORD], ""


def measure(context):
    mayfly = context.prefix + [context.program("bin", "mayfly"), "run", "--", "echo", WORD]
    peer, why = virtme_ng(context)
    measures = {"mayfly": lambda: first_answer(mayfly)}
    if peer:
        path = f"{host.PLACE / 'venv' / 'bin'}:{host.PLACE / 'bin'}:{os.environ['PATH']}"
        measures["virtme_ng"] = lambda: first_answer(peer, os.environ | {"PATH": path})
    first_answer(mayfly)
    values = interleaved(context.times(7), context, **measures)
    ours = Samples(values["mayfly"], "s")
    figures = [
        Figure("boot to the first command answered", ours, goal=f"≤ {LIMIT} s", reached=ours.median <= LIMIT),
        Figure("boot to the first command answered", ours, goal="≤ 1/5 of virtme-ng", not_measured=why),
    ]
    if peer:
        theirs = Samples(values["virtme_ng"], "s")
        times = theirs.median / ours.median
        figures[1].peer, figures[1].peer_name = theirs, "virtme-ng"
        figures[1].ratio, figures[1].reached = f"1/{times:.1f}", times >= 5
    return figures
