"""The image tiny: its size, and the memory that a ready guest uses

Used memory is what `free` calls so: MemTotal − MemAvailable of a guest of 256 MiB whose first command is the question.
"""
import json
import os
import re

from measure.figure import Figure, Samples, run

MIB = 1 << 20


def measure(context):
    program = context.program("bin", "mayfly")
    run([program, "image", "build", "tiny"])
    shown = json.loads(run([program, "image", "show", "tiny", "--json"]).stdout)
    size = Samples([os.path.getsize(shown["initramfs"]) / MIB], "MiB")
    used = []
    for _ in range(context.times(3)):
        text = run([program, "run", "--", "cat", "/proc/meminfo"]).stdout
        memory = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
        used.append((memory["MemTotal"] - memory["MemAvailable"]) / 1024)
    used = Samples(used, "MiB")
    return [
        Figure("initramfs", size, goal="≤ 6 MiB", reached=size.median <= 6),
        Figure("memory used at ready", used, goal="≤ 40 MiB", reached=used.median <= 40),
    ]
