"""One unit's tests, for whoever writes it: `make test UNIT=3.3`.

The tests of its modules, its exercises with their planted answers, and its two notebooks. A module
belongs to the units that its docstring names.

    python tools/one_unit.py 3.3 [more arguments for pytest]
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

from aiinfra_labs.course.units import UNITS, Unit

ROOT = Path(__file__).resolve().parent.parent
SHARED = (  # tests of all units, each by the unit's id or its notebook in the test's own
    "tests/course/test_exercises.py",
    "tests/notebooks/test_labs.py",
    "tests/notebooks/test_stored.py",
)


@functools.cache
def docstrings(package: Path) -> dict[str, str]:
    """The docstrings of the package's modules by their names, less those of `course`."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        if not name.startswith("course."):  # they give units as examples
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found[name.removesuffix(".__init__")] = ast.get_docstring(tree) or ""
    return found


def modules_of(unit: Unit, package: Path) -> set[str]:
    """The names, such as `gpu.kernels.coalescing`, of the modules that name the unit."""
    named = re.compile(rf"\b[Uu]nits?\b[^.:]*(?:\d\.\d[^.:]*)*\b{re.escape(unit.id)}\b")
    return {name for name, said in docstrings(package).items() if named.search(said)}


def files_of(unit: Unit, root: Path = ROOT) -> list[Path]:
    """The test files that are the unit's: named after it, or after one of its modules."""
    names = {name.rpartition(".")[2] for name in modules_of(unit, root / "src" / "aiinfra_labs")}
    names.add(unit.stem.partition("-")[2].replace("-", "_"))
    its = re.compile(rf"test_({'|'.join(sorted(names))})(_\w+)?\.py")
    folder = root / "tests" / unit.chapter.name
    return sorted(path for path in folder.glob("test_*.py") if its.fullmatch(path.name))


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in UNITS:
        named = arguments[0] if arguments else "nothing"
        print(
            f"there is no unit {named}\nWhy: a unit has a number of the course map, such as 3.3\n"
            f"Try: one of {', '.join(UNITS)}",
            file=sys.stderr,
        )
        return 2
    unit, more = UNITS[arguments[0]], arguments[1:]
    pytest = [sys.executable, "-m", "pytest", *more]
    # Exercises are `3.3.a`, pages `3.3 ...`, notebooks `.../03-coalescing.ipynb`, and further pages
    # of the unit `.../03-coalescing-WORD.ipynb`.
    chosen = ["-k", f"{unit.id} or {unit.chapter.folder}/{unit.stem}"]
    codes = [subprocess.run([*pytest, *SHARED, *chosen], cwd=ROOT).returncode]
    if files := files_of(unit):
        codes.append(subprocess.run([*pytest, *map(str, files)], cwd=ROOT).returncode)
    return max(0 if code == 5 else code for code in codes)  # 5: the unit has none of these


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
