"""mayfly run beside plain QEMU: what mayfly adds to a boot

The guest by hand has no agent channel and no virtio device: less than what mayfly gives. It is ended at its ready line;
mayfly has run a command by then, has its exit code and has removed the VM.
"""
import time

from measure import qemu
from measure.figure import Figure, Samples, interleaved, run


def measure(context):
    program = context.program("bin", "mayfly")
    argv = qemu.Command(context)

    def mayfly():
        began = time.monotonic()
        run(context.prefix + [program, "run", "--", "true"])
        return time.monotonic() - began

    def by_hand():
        while True:
            began = time.monotonic()
            if qemu.boot_until_ready(context, argv):
                return time.monotonic() - began
            context.say("  a guest by hand hung in its boot, as microvm's do that check their timer: measured again")

    for warm_up in (mayfly, by_hand):
        warm_up()
    values = interleaved(context.times(15), context, mayfly=mayfly, by_hand=by_hand)
    ours, peer = Samples(values["mayfly"], "s"), Samples(values["by_hand"], "s")
    overhead = ours.median / peer.median - 1
    return [
        Figure(
            what="`mayfly run -- true`, to its end",
            ours=ours,
            peer=peer,
            peer_name="plain QEMU, the same kernel and initramfs, to the ready line",
            ratio=f"{overhead:+.1%}",
            goal="≤ +8 %",
            reached=overhead <= 0.08,
        )
    ]
