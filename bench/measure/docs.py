"""Writes figures into docs/performance.md: each bench has a part of its own between two marks, which is replaced."""
import re

from measure.host import ROOT

FILE = ROOT / "docs" / "performance.md"


def row(figure):
    def side(name):
        return figure[name]["text"] if figure[name] else ""

    beside = f"{side('peer')} {figure['peer_name']}".strip()
    goal = f"{figure['goal']}: {figure['verdict']}" if figure["goal"] else figure["verdict"]
    return f"| {' | '.join([figure['ratio'], figure['what'], side('ours'), beside, goal])} |"


def part(result):
    lines = [f"<!-- {result['bench']}: written by bench/run -->", f"## {result['title']}", ""]
    lines += ["| ratio | figure | mayfly | beside it | goal |", "| --- | --- | --- | --- | --- |"]
    lines += [row(figure) for figure in result["figures"]]
    lines += ["", f"`{result['command']} --docs`, {result['date']}; {result['machine']}", f"<!-- end of {result['bench']} -->"]
    return "\n".join(lines)


def write(result):
    text = FILE.read_text()
    name = re.escape(result["bench"])
    marks = re.compile(rf"<!-- {name}: written by bench/run -->.*?<!-- end of {name} -->", re.DOTALL)
    new = part(result)
    text = marks.sub(lambda _: new, text) if marks.search(text) else text.rstrip("\n") + "\n\n" + new + "\n"
    FILE.write_text(text)
