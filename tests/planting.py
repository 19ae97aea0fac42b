"""Planted answers: how a test plants them, finds them, and tries them.

The answers to a unit's exercises stand in `tests/<chapter>/planted/<unit>.py`:

    RIGHT, WRONG, right, wrong = plot()

    @right("3.2.a")
    def by_index(...): ...

    @wrong("3.2.a", "part of the reason that the check must give")
    def without_a_guard(...): ...

`tests/course/test_exercises.py` tries every one of them. Tests of what a unit's `show` draws find
them here by name.
"""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from aiinfra_labs.course import rules
from aiinfra_labs.course.checking import try_out
from aiinfra_labs.course.merging import source
from aiinfra_labs.course.registry import find
from aiinfra_labs.course.results import Result
from aiinfra_labs.course.units import UNITS
from by_path import loaded

TESTS = Path(__file__).parent
KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
Right = list[tuple[str, Any]]  # exercise, answer
Wrong = list[tuple[str, Any, str]]  # exercise, answer, part of the reason


def plot() -> tuple[Right, Wrong, Callable[..., Any], Callable[..., Any]]:
    """Two empty lists, and `right(id, ...)` and `wrong(id, reason)`, decorators that fill them."""
    right_ones: Right = []
    wrong_ones: Wrong = []

    def right(*exercises: str) -> Callable[[Any], Any]:
        def keep(answer: Any) -> Any:
            right_ones.extend((exercise, answer) for exercise in exercises)
            return answer

        return keep

    def wrong(exercise: str, reason: str) -> Callable[[Any], Any]:
        def keep(answer: Any) -> Any:
            wrong_ones.append((exercise, answer, reason))
            return answer

        return keep

    return right_ones, wrong_ones, right, wrong


def planted(chapter: str, stem: str) -> ModuleType:
    """The module `tests/<chapter>/planted/<stem>.py`, run once."""
    return module_of(TESTS / chapter / "planted" / f"{stem}.py")


def module_of(path: Path) -> ModuleType:
    """A file of planted answers as a module: kernels are translated from its source."""
    name = f"planted_{path.parent.parent.name}_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    return loaded(path, name)


@functools.cache
def tried(exercise: str, answer: Any) -> Result:
    """What the check says of an answer; an answer is tried once in a run of the tests."""
    assert find(exercise).objection(answer) is None, "it must be right or wrong in what it does"
    return try_out(find(exercise), answer)


def reasons(result: Result) -> str:
    """All that is said of the requirements that failed."""
    return "\n".join(
        f"{r.name}\n{r.input}\n{r.what}\n{r.why}\n{r.try_}"
        for r in result.requirements
        if not r.passed
    )


def name_of(value: Any) -> str:
    """The name of an answer, to tell a test by."""
    return getattr(value, "__name__", "") if not isinstance(value, str) else ""


def from_notebook(exercise, tree):
    """The learner's object as the notebook of `tree` defines it: from its definitions alone."""
    path = TESTS.parent / tree / UNITS[exercise.unit].notebook
    notebook = rules.read(path)
    names = {name for _, id, name in rules.checked(notebook) if id == exercise.id}
    assert len(names) == 1, f"{path.name} must check {exercise.id} once"
    space = {"__name__": f"{tree}_{exercise.unit}"}
    for cell in rules.code_cells(notebook):
        body = [node for node in ast.parse(source(cell)).body if isinstance(node, KEPT)]
        if body:
            # Compiled from a file that holds the cell, for kernels are translated from source.
            _run(source(cell), body, space)
    return space[names.pop()]


def _run(text, body, space):
    name = f"<cell {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(ast.Module(body, []), name, "exec"), space)


@functools.cache
def all_planted() -> tuple[dict[str, list], dict[str, list]]:
    """Right and wrong answers by id, from every `planted` folder."""
    right: dict[str, list] = {}
    wrong: dict[str, list] = {}
    for path in sorted(TESTS.glob("*/planted/*.py")):
        module = module_of(path)
        for id, *rest in entries(getattr(module, "RIGHT", [])):
            right.setdefault(id, []).append(rest[0])
        for id, *rest in entries(getattr(module, "WRONG", [])):
            wrong.setdefault(id, []).append((rest[0], rest[1]))
    return right, wrong


def entries(listed: Any) -> list[tuple]:
    """(id, answer, ...) of either form."""
    if not isinstance(listed, dict):
        return list(listed)
    found = []
    for id, answers in listed.items():
        for answer in answers:
            make, *reason = answer if isinstance(answer, tuple) else (answer,)
            found.append((id, make(), *reason))
    return found
