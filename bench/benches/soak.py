"""2,000 leases with random kills

Two test processes at once, each with a VM of the pool. Of ten, one is killed at some moment, and one has its VMM killed.
The others have to pass, and in the end nothing may be left.
"""
import concurrent.futures
import json
import os
import pathlib
import random
import re
import select
import signal
import subprocess
import tempfile
import time

from measure.figure import Failed, Figure, Samples

BY_DEFAULT = False
AT_ONCE = 2
LOOKS = 20  # at the daemon's memory


def measure(context):
    count = context.times(2000)
    with tempfile.TemporaryDirectory(dir="/tmp") as runtime:
        soak = Soak(context, runtime)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(lambda number: soak.lease(number, count), range(count)))
        leaks = soak.leaks()
    asked = {fate: sum(1 for given, _ in outcomes if given == fate) for fate in ("test", "vmm")}
    failed = sum(1 for fate, code in outcomes if fate == "none" and code != 0)
    if leaks:
        context.say("\n".join(leaks))
    memory = Samples(soak.memory, "MiB")
    half = len(soak.memory) // 2
    growth = max(soak.memory[half:]) / max(soak.memory[1:half]) - 1
    kills = f"{asked['test']} killed tests, {asked['vmm']} killed VMMs"
    return [
        Figure(f"{count} leases, {kills}: failures of others", Samples([failed], "tests"), goal="0", reached=failed == 0),
        Figure("what is left afterwards", Samples([len(leaks)], "things"), goal="0", reached=not leaks),
        Figure("memory of mayflyd meanwhile", memory, ratio=f"{growth:+.0%}", goal="flat", reached=growth < 0.1),
    ]


class Soak:
    def __init__(self, context, runtime):
        os.chmod(runtime, 0o700)
        self.context = context
        self.runtime = pathlib.Path(runtime)
        self.environment = os.environ | {"MAYFLY_RUNTIME_DIR": runtime, "MAYFLY_POOL_IDLE": "600"}
        self.random = random.Random(1)
        self.memory = []

    def lease(self, number, count):
        fate = self.random.choices(["none", "test", "vmm"], [8, 1, 1])[0]
        moment = self.random.uniform(0, 0.08)
        argv = [self.context.program("bench", "suite"), f"--gtest_filter=Suite.RunsACommand/{number % 200}"]
        # In its folder: where a failed test leaves what it saw.
        test = subprocess.Popen(
            argv,
            env=self.environment,
            cwd=self.runtime,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if fate != "none":
            time.sleep(moment)
        if fate == "test":
            test.kill()
        elif fate == "vmm" and not self.kill_vmm_of(test):
            fate = "none"  # it was over by then
        said = test.communicate()[0]
        if fate == "none" and test.returncode != 0:
            self.context.say(said[-1500:])
        if number % (count // LOOKS or 1) == 0:
            self.memory.append(self.daemon_memory())
            self.context.say(f"  {number} of {count}, mayflyd has {self.memory[-1]:.1f} MiB")
        return fate, test.returncode

    def status(self):
        argv = [self.context.program("bin", "mayfly"), "pool", "status", "--json"]
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def kill_vmm_of(self, test):
        for pool in self.status().get("pools", []):
            for lease in pool.get("leases", []):
                if lease["peer"] == test.pid and lease["processes"]:
                    return self.kill(lease["processes"][0]["pid"])
        return False

    def kill(self, vmm):
        try:
            process = os.pidfd_open(vmm)
            if os.fsencode(self.runtime) not in pathlib.Path(f"/proc/{vmm}/cmdline").read_bytes():
                return False  # the lease has ended, and the number is another one's
            signal.pidfd_send_signal(process, signal.SIGKILL)
            os.close(process)
            return True
        except OSError:
            return False

    def daemons(self):
        return [pool["pid"] for pool in self.status().get("pools", []) if "pid" in pool]

    def daemon_memory(self):
        status = pathlib.Path(f"/proc/{self.daemons()[0]}/status").read_text()
        return int(re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE).group(1)) / 1024

    def leaks(self):
        left = []
        for pool in self.status().get("pools", []):
            left += [f"a lease: {lease}" for lease in pool.get("leases", [])]
        stop = [self.context.program("bin", "mayfly"), "pool", "stop"]
        subprocess.run(stop, env=self.environment, capture_output=True, check=True)
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.runtime) in words and not ends(int(entry.name)):
                left.append(f"a process: {words.decode(errors='replace')[:200]}")
        return left + [f"a sandbox: {path}" for path in self.runtime.glob("p[0-9]*")]


def ends(pid):
    """Whether it does so by itself: those that clean up after others are the last."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return True
    ended, _, _ = select.select([process], [], [], 20)
    os.close(process)
    return bool(ended)
