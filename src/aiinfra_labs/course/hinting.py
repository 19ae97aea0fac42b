"""Hints: one more with each new failure, and all that were given so far at any time.

`hints("3.2.a")` shows those again. A hint is about the exercise, so a misspelt name, a wrong type
or a loop that had to be stopped takes none: what is said of it is help enough. The same code that
fails in the same way takes no further one.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from types import CodeType
from typing import Any

from . import progress, registry
from .registry import Exercise
from .results import Result, marked


@dataclass(frozen=True)
class Hints:
    """The hints that were given for an exercise, the first one first, of `total` that it has."""

    id: str
    given: tuple[str, ...]
    total: int
    note: str = ""

    @property
    def _head(self) -> str:
        if self.note:
            return self.note
        if not self.given:
            return f"{self.id}: no hint was given yet. A check that fails gives the first."
        return f"{self.id}: {len(self.given)} of {self.total} hints were given"

    def __repr__(self) -> str:
        lines = [f"  {number}. {text}" for number, text in enumerate(self.given, 1)]
        return "\n".join([self._head, *lines])

    def _repr_html_(self) -> str:
        listed = "".join(f"<li>{marked(text)}</li>" for text in self.given)
        return f"<p>{escape(self._head)}</p>" + (f"<ol>{listed}</ol>" if listed else "")


def hints(id: str) -> Hints:
    """All hints that were given for exercise `id` so far. It gives no new one."""
    exercise = registry.find(id) if isinstance(id, str) else None
    if exercise is None:
        near = " or ".join(registry.nearest(str(id)))
        return Hints(str(id), (), 0, f"there is no exercise {id!r}: did you mean {near}?")
    return Hints(id, given(exercise), len(exercise.hints))


def given(exercise: Exercise) -> tuple[str, ...]:
    """The texts of the hints that were given, in the order in which they were."""
    texts = exercise.hints_for({name for name, _ in _pairs(exercise) if name is not None})
    numbers = progress.current().hints(exercise.id)
    return tuple(texts[number] for number in numbers if number in texts)


def _pairs(exercise: Exercise) -> list[tuple[str | None, str]]:
    return [(None, hint) if isinstance(hint, str) else hint for hint in exercise.hints]


def with_hint(exercise: Exercise, obj: Any, result: Result) -> Result:
    """Keep the attempt, and add to its result the hint that helps, and those given before."""
    failed = [outcome for outcome in result.requirements if not outcome.passed]
    # What is said of a slip mends it. Where all that failed are slips, no hint is spent.
    helped = {outcome.name for outcome in failed if not outcome.slip}
    useful = exercise.hints_for(helped) if helped else {}
    before = given(exercise)
    number = progress.current().attempt(
        exercise.id,
        result.score,
        result.points,
        result.passed,
        tuple(useful),
        same=f"{fingerprint(obj)} {sorted((o.name, o.input) for o in failed)}",
    )
    if result.passed:
        return result
    hint = useful.get(number, "")
    earlier = tuple(text for text in before if text != hint)
    which = f"{list(useful).index(number) + 1} of {len(useful)}" if hint else ""
    return replace(result, hint=hint, hint_number=which, earlier=earlier)


def fingerprint(obj: Any) -> str:
    """A name for what a learner's object computes: the same code has the same one."""
    return hashlib.sha256(repr(list(_code_of(obj))).encode()).hexdigest()[:16]


def _code_of(obj: Any) -> Iterator[Any]:
    while isinstance(obj, functools.partial):
        yield repr((obj.args, obj.keywords))
        obj = obj.func
    function = inspect.unwrap(getattr(obj, "py_func", obj)) if callable(obj) else None
    function = getattr(obj, "py_func", function)
    if inspect.isclass(function):
        for name, member in sorted(vars(function).items()):
            if inspect.isfunction(member):
                yield name, list(_code_of(member))
        return
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        yield from _parts_of(code)
    elif function is None:
        yield repr(obj)[:2000]
    elif inspect.isbuiltin(function):
        yield function.__name__
    else:  # an object that can be called
        yield from _code_of(type(function))


def _parts_of(code: CodeType) -> Iterator[Any]:
    yield code.co_code, code.co_names, code.co_varnames
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield list(_parts_of(constant))
        else:
            yield repr(constant)
