"""A fresh boot to the first command answered, beside virtme-ng

The time from the start of the program to the first line of the command's output. virtme-ng boots Debian's cloud kernel
too, with this machine's files as its root; both use software emulation.
"""
from measure import virtme_ng
from measure.answer import WORD, first_answer
from measure.figure import Figure, Samples, interleaved

LIMIT = 1.6


def measure(context):
    mayfly = context.prefix + [context.program("bin", "mayfly"), "run", "--", "echo", WORD]
    peer, why = virtme_ng.measure(context)
    measures = {"mayfly": lambda: first_answer(mayfly)}
    if peer:
        measures["virtme_ng"] = peer
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
