"""A guest started by hand: plain QEMU, no mayfly."""
import json
import os
import signal
import socket
import subprocess

from measure.figure import Failed, run

READY = b"VMRS_READY"


class Command:
    """What a person would type who knows what is fast: the same kernel, initramfs and kernel words as mayfly's."""

    def __init__(self, context):
        shown = run([context.program("bin", "mayfly"), "image", "build", "tiny", "--json"])  # there from now on
        shown = json.loads(run([context.program("bin", "mayfly"), "image", "show", "tiny", "--json"]).stdout)
        self.before = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        self.before += ["-accel", "tcg,thread=multi,tb-size=64", "-cpu", "max", "-m", "256", "-M"]
        self.before += ["microvm,acpi=on,rtc=on,pcie=off,usb=off,isa-serial=on"]
        self.after = ["-serial", "chardev:console", "-kernel", shown["kernel"], "-initrd", shown["initramfs"]]
        self.after += ["-append", f"console=ttyS0 pci=off {shown['command_line']}"]

    def argv(self, console):
        return self.before + ["-chardev", f"socket,id=console,fd={console}"] + self.after


def boot_until_ready(context, command):
    """Runs QEMU until its console says that the guest is ready, then ends it. False: it hung."""
    ours, theirs = socket.socketpair()
    guest = subprocess.Popen(
        context.prefix + command.argv(theirs.fileno()),
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    theirs.close()
    try:
        ours.settimeout(20)
        seen = b""
        while READY not in seen:
            try:
                piece = ours.recv(65536)
            except TimeoutError:
                return False
            if not piece:
                raise Failed(f"plain QEMU ended before the guest was ready: {seen[-500:]}")
            seen += piece
        return True
    finally:
        os.killpg(guest.pid, signal.SIGKILL)
        guest.wait()
        ours.close()
