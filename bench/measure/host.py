"""This machine and this tree, as they are told with the figures."""
import datetime
import os
import pathlib
import platform
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "bench"  # what bench/setup installed


def today():
    return datetime.date.today().isoformat()


def describe():
    names = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(), re.MULTILINE))
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{os.cpu_count()} × {cpu.group(1) if cpu else platform.machine()}, {memory:.0f} GiB, {names['NAME']} {names['VERSION_ID']}, "
        f"software emulation, load {os.getloadavg()[0]:.1f}"
    )
