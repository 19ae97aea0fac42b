"""Write into README.md which units stand: `make labs` runs it.

python tools/standing.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiinfra_labs.course.units import STANDING, UNITS, Unit

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- units: made by `make labs` -->", "<!-- end of units -->"


def table() -> str:
    """The units that have pages and a lab, as Markdown."""
    rows = [
        f"| {unit.id} {unit.title} | {pages(unit)} | [lab](labs/{unit.notebook}) |"
        for unit in UNITS.values()
        if unit.id in STANDING
    ]
    count = f"{len(rows)} of {len(UNITS)} units of the course map can be used now:"
    return "\n".join([count, "", "| unit | page | lab |", "|---|---|---|", *rows])


def pages(unit: Unit) -> str:
    """Links to the pages of a unit: "page", and further ones by the words of their names."""
    links = []
    for path in unit.pages(ROOT / "book"):
        word = path.stem.removeprefix(unit.stem).strip("-").replace("-", " ")
        links.append(f"[{word or 'page'}]({path.relative_to(ROOT).as_posix()})")
    return ", ".join(links)


def with_table(text: str) -> str:
    """`text` with the table of now between the two marks. Raises ValueError where they lack."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Returns 1 when `--check` finds another table than that of now."""
    text = README.read_text(encoding="utf-8")
    now = with_table(text)
    if arguments == ["--check"]:
        print("README.md is in step" if now == text else "README.md is out of step: `make labs`")
        return int(now != text)
    README.write_text(now, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
