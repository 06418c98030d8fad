"""Runs a Google Benchmark program and reads what it measured."""
import json

from measure.figure import Failed, Samples, run


class Results:
    """By turns, as many times as asked for."""

    def __init__(self, context, program, count, *options):
        self.program = program
        self.command = context.prefix + [context.program("bench", program)]
        self.command += ["--benchmark_format=json", f"--benchmark_repetitions={count}", *options]
        self.command += ["--benchmark_enable_random_interleaving=true"]
        text = run(self.command).stdout
        self.runs = [each for each in json.loads(text)["benchmarks"] if each["run_type"] == "iteration"]

    def why_not(self, name):
        """Empty when it was measured."""
        for each in self._of(name):
            if each.get("error_occurred"):
                return each["error_message"].removeprefix("not measured: ")
        return ""

    def samples(self, name, counter, unit, scale=1):
        return Samples([each[counter] * scale for each in self._of(name) if counter in each], unit)

    def _of(self, name):
        found = [each for each in self.runs if each["name"].split("/")[0] == name]
        if not found:
            raise Failed(f"{self.program} has no benchmark {name}")
        return found
