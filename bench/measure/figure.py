"""What a bench gives: figures. A bench is a module of bench/benches with

    '''One line that says what is compared.'''
    BY_DEFAULT = True                     # also when no bench is named
    def measure(context): …               # → list of Figure; raises Failed

Things that are compared are measured by turns, `interleaved`, so that whatever else the machine does meets both.
"""
import dataclasses
import statistics
import subprocess
import sys


class Failed(Exception):
    pass


@dataclasses.dataclass
class Context:
    build: object  # pathlib.Path of the build directory
    count: int | None
    jobs: int
    out: object
    prefix: list  # words before each command that is measured

    def times(self, default):
        return self.count or default

    def program(self, *path):
        program = self.build.joinpath(*path)
        if not program.exists():
            preset = self.build.name
            raise Failed(f"{program} is missing: cmake --preset {preset} && cmake --build --preset {preset}")
        return str(program)

    def say(self, text):
        print(text, file=self.out, flush=True)


@dataclasses.dataclass
class Samples:
    """Measurements of one thing. Printed as "median (min–max) unit"."""

    values: list
    unit: str

    @property
    def median(self):
        return statistics.median(self.values)

    def __str__(self):
        if len(self.values) == 1:
            return f"{number(self.median)} {self.unit}"
        return f"{number(self.median)} ({number(min(self.values))}–{number(max(self.values))}) {self.unit}"


@dataclasses.dataclass
class Figure:
    what: str
    ours: Samples | None = None
    peer: Samples | None = None
    peer_name: str = ""
    ratio: str = ""  # for people: "1/6.1 of virtme-ng"
    goal: str = ""
    reached: bool | None = None  # None: there is no goal, or it was not measured
    not_measured: str = ""

    def verdict(self):
        if self.not_measured:
            return f"not measured: {self.not_measured}"
        if self.reached is None:
            return ""
        return "reached" if self.reached else "NOT reached"

    def text(self):
        parts = [self.ratio, self.what + ":", str(self.ours) if self.ours else ""]
        if self.peer:
            parts.append(f"beside {self.peer_name} {self.peer}")
        if self.goal:
            parts.append(f"[goal: {self.goal}]")
        return "  " + " ".join(part for part in parts + [self.verdict()] if part)

    def as_dict(self):
        described = dataclasses.asdict(self)
        for side in ("ours", "peer"):
            samples = getattr(self, side)
            if samples:
                described[side] |= {"median": samples.median, "text": str(samples)}
        return described | {"verdict": self.verdict()}


def number(value):
    """Three digits that count."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def interleaved(count, context, **measures):
    """Calls each of `measures` `count` times, by turns. → name → list of what they returned."""
    values = {name: [] for name in measures}
    for turn in range(count):
        for name, function in measures.items():
            values[name].append(function())
        if sys.stderr.isatty():
            print(f"\r  {turn + 1} of {count}", end="\r", file=sys.stderr, flush=True)
    context.say("  " + ", ".join(f"{name} {' '.join(f'{value:.4g}' for value in each)}" for name, each in values.items()))
    return values


def run(argv, **options):
    """Runs a program to its end; Failed unless it succeeds."""
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, argv))[:200]}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return done
