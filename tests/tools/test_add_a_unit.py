"""A unit is added with the files that CONTRIBUTING.md lists, and without touching any other.

A copy of the course gets a small unit, the next one of the course map. What CONTRIBUTING.md says is
run, and the tests of the copy hold the unit to all that a unit must have.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from aiinfra_labs.course import claims
from aiinfra_labs.course.rules import units_named
from aiinfra_labs.course.units import STANDING, UNITS

# The first that does not stand yet. Chapter 5 has its code in `course`, and is another matter.
LATER = [unit for unit in UNITS.values() if unit.chapter.name != "course"]
UNIT = next((unit for unit in LATER if unit.id not in STANDING), None)
pytestmark = pytest.mark.skipif(UNIT is None, reason="every unit of chapters 1 to 4 stands")

MODULE = '''
"""Which lane reads which element. Unit {id}."""


def strided(lane: int, stride: int) -> int:
    """The index that a lane reads, `stride` elements after its neighbour's."""
    return lane * stride
'''

EXERCISES = '''
"""The exercises of unit {id}."""

from __future__ import annotations

from typing import Any

from aiinfra_labs.course import examine, exercise

for claim in {claims}:
    examine(
        claim,
        verdict="opinion",
        figure="It depends.",
        how="not measured in a test",
        source="https://example.org/",
    )


@exercise(
    "{id}.a", title="Double", points=2, skill="Arithmetic", arguments=("n",), hints=("?", "n + n")
)
def double(function: Any, require: Any) -> None:
    """Twice n."""
    with require("doubles") as r:
        for n in (0, 1, 7):
            with r.input(f"n = {{n}}"):
                r.equal(function(n), 2 * n, why="twice n was asked for")


@exercise(
    "{id}.b", title="Square", points=2, skill="Arithmetic", arguments=("n",), hints=("?", "n * n")
)
def square(function: Any, require: Any) -> None:
    """n by n."""
    with require("squares") as r:
        for n in (0, 1, 7):
            with r.input(f"n = {{n}}"):
                r.equal(function(n), n * n, why="the square of n was asked for")
'''

PLANTED = '''
"""Answers to the exercises of unit {id}."""

RIGHT = [
    ("{id}.a", lambda n: n + n),
    ("{id}.a", lambda n: 2 * n),
    ("{id}.b", lambda n: n * n),
    ("{id}.b", lambda n: n**2),
]
WRONG = [
    *[("{id}.a", wrong, "twice n") for wrong in (lambda n: n, lambda n: n * n, lambda n: 3 * n)],
    *[("{id}.b", wrong, "square") for wrong in (lambda n: n, lambda n: 2 * n, lambda n: n + 2)],
]
'''

TEST = """
from aiinfra_labs.{chapter}.{module} import strided


def test_lanes_are_a_stride_apart():
    assert [strided(lane, 3) for lane in range(4)] == [0, 3, 6, 9]
"""


def as_text(root, name, unit):
    """CONTRIBUTING.md's own text of the page or the lab, for this unit."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"<!-- the {name}, as .*? -->\n````\n(.*?)\n````\n", text, re.DOTALL)
    for old, new in (("3.3 Coalesced access", f"{unit.id} {unit.title}"), ("3.3", unit.id)):
        found = found.replace(old, new)
    return found.replace("3-3-", unit.id.replace(".", "-") + "-") + "\n"


def page(unit, root):
    """The page: it links to every module that names its unit, and names every claim of it."""
    chapter = root / "src" / "aiinfra_labs" / unit.chapter.name
    links = [
        f"[{path.stem}](../../{path.relative_to(root).as_posix()})"
        for path in sorted(chapter.rglob("*.py"))
        if unit.id in units_named(path)
    ]
    named = [claim.id for claim in claims.all_claims() if unit.id in claim.units]
    text = as_text(root, "page", unit)
    lines = (
        (r"\[each module that names the unit\]\(.*?\)", ", ".join(links)),
        ("the id of each claim of the unit", ", ".join(named)),
    )
    for pattern, instead in lines:
        text, count = re.subn(pattern, lambda _, instead=instead: instead, text)
        assert count == 1, pattern
    return text


def contents(folder):
    """The hash of every file that git would keep."""
    left = {"__pycache__", "_build", ".hypothesis", ".pytest_cache", ".ruff_cache"}
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not left & set(path.relative_to(folder).parts)
    }


@pytest.fixture
def copy(root, tmp_path):
    """A copy of the course, in which the code of the copy counts."""
    left = shutil.ignore_patterns(
        ".*", "work", "_build", "shared", "__pycache__", "*.egg-info", "node_modules"
    )
    return shutil.copytree(root, tmp_path / "copy", ignore=left)


@pytest.fixture
def run(copy):
    """`run(...)` runs this Python in the copy, as CONTRIBUTING.md has it run `.venv/bin/python`."""

    def begin(*arguments):
        environment = os.environ | {"PYTHONPATH": str(copy / "src")}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    return begin


def write(copy, unit, run):
    """The files of the unit, and none else; their paths."""
    name = unit.stem[3:].replace("-", "_")
    named = tuple(claim.id for claim in claims.all_claims() if unit.id in claim.units)
    chapter, module = unit.chapter.name, f"{name}_of_this_test"
    words = {"id": unit.id, "chapter": chapter, "module": module, "claims": named}
    exercises = f"src/aiinfra_labs/{chapter}/exercises"
    files = {
        f"src/aiinfra_labs/{chapter}/{module}.py": MODULE,
        f"{exercises}/{module}.py": EXERCISES,
        f"tests/{chapter}/planted/{module}.py": PLANTED,
        f"tests/{chapter}/test_{module}.py": TEST,
    }
    if not (copy / exercises).exists():  # the first unit of its chapter
        files[f"{exercises}/__init__.py"] = '"""The exercises of chapter 2, one module a unit."""\n'
    for path, text in files.items():
        assert not (copy / path).exists()
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(text.format(**words).lstrip())
    further = unit.notebook.replace(".ipynb", "-more.ipynb")  # a second page, under one number
    texts = {
        f"book/{unit.notebook}": page(unit, copy),
        f"book/{further}": as_text(copy, "page", unit).replace(unit.title, "One thing more"),
        f"solutions/{unit.notebook}": as_text(copy, "lab", unit),
    }
    texts[f"book/{further}"] = re.sub(r"\[each module.*?\)", "above", texts[f"book/{further}"])
    notebooks = list(texts)
    for path, text in texts.items():
        source = (copy / path).with_suffix(".md")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text, encoding="utf-8")
    texts_to_run = [str((copy / path).with_suffix(".md")) for path in texts]
    run("-m", "aiinfra_labs.course.page", *texts_to_run)
    toc = (copy / "_toc.yml").read_text()
    before = re.search(rf"^ *- file: book/{unit.chapter.folder}/.*\n", toc, re.MULTILINE)
    files_of_pages = [name.removesuffix(".ipynb") for name in notebooks if name.startswith("book/")]
    line = "".join(f"      - file: {name}\n" for name in files_of_pages)
    if before:
        toc = toc.replace(before[0], before[0] + line)
    else:  # a part of its own, before the last
        part = f"  - caption: {unit.chapter.title}\n    chapters:\n{line}"
        toc = toc.replace("  - caption: The talk\n", f"{part}  - caption: The talk\n")
    (copy / "_toc.yml").write_text(toc)
    return [*files, *notebooks], notebooks


def test_a_unit_is_added_with_its_own_files(copy, run):
    before = contents(copy)
    written, notebooks = write(copy, UNIT, run)
    drawn = ["book/intro.ipynb", "book/claims.ipynb"]
    run("-m", "aiinfra_labs.course.page", *drawn)
    run("-m", "aiinfra_labs.course.release")
    run("tools/standing.py")

    after = contents(copy)
    touched = {path for path in after if after[path] != before.get(path)}
    made = {f"labs/{UNIT.notebook}", "src/aiinfra_labs/course/cards.toml", "README.md"}
    if not any(UNIT.id in claim.units for claim in claims.all_claims()):
        drawn.remove("book/claims.ipynb")  # no claim of the talk's has its verdict now
    assert touched == {*written, "_toc.yml", *drawn, *made} and set(before) <= set(after)

    # All that a unit is held to, for this one; and the pages that say which units stand.
    # nbval is left to the course's own notebooks: here they were run a moment ago.
    name = UNIT.stem[3:]
    chosen = f"{name} or {name.replace('-', '_')} or {UNIT.id} or claims or intro"
    whole = "in_step or answer_is_in or stands or there_are or names_the_unit or claim"
    chapter = UNIT.chapter
    places = [
        "tests/course/test_exercises.py",
        f"tests/{chapter.name}",
        "tests/tools/test_front.py",
    ]
    options = ["-v", "-p", "no:cacheprovider", "-p", "no:xdist"]
    said = run("-m", "pytest", *options, *places, "tests/notebooks",
               "-k", f"({chosen} or {whole}) and not nbval")  # fmt: skip
    assert re.search(r"\d\d passed", said), said
    for part in (
        f"test_{name}_of_this_test.py",
        "test_labs.py",
        "test_stored.py",
        "test_exercises",
    ):
        assert part.replace("-", "_") in said, said
    run("-m", "aiinfra_labs.course.site")
    for stem in (UNIT.stem, f"{UNIT.stem}-more"):
        assert (copy / "_build" / "html" / "book" / chapter.folder / f"{stem}.html").is_file()
    assert (
        f"[more](book/{chapter.folder}/{UNIT.stem}-more.ipynb)" in (copy / "README.md").read_text()
    )


def test_plain_markdown_gives_no_code_cell(root, tmp_path):
    """What CONTRIBUTING.md says of a fence: only a `{code-cell}` of jupytext's MyST runs."""
    import jupytext

    text = as_text(root, "lab", UNIT)
    cells = jupytext.reads(text, fmt="md:myst").cells
    assert sum(cell.cell_type == "code" for cell in cells) == 6
    graded = [c.metadata["nbgrader"] for c in cells if "nbgrader" in c.metadata]
    assert [g["grade"] for g in graded] == [False, True, False, True]
    fenced = text.replace("```{code-cell} ipython3", "```python")
    assert not any(c.cell_type == "code" for c in jupytext.reads(fenced, fmt="md:myst").cells)
