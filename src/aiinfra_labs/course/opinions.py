"""A second opinion on an answer that passed: a compiler's, for one.

A chapter gives one for its own exercises. It watches the check, and is asked once the answer has
passed: it adds a note, or objects, and then the answer has not passed. What it needs may be missing
here; then it says nothing, and no right answer fails for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from .parts import Parts


@dataclass(frozen=True)
class Opinion:
    """note: a line for the result. objection: why the answer has not passed after all, or None.
    about: the requirement that the objection stands under."""

    note: str = ""
    objection: Parts | None = None
    about: str = ""


# by chapter: makes what watches a check, and gives an `Opinion` when it is called afterwards
_givers: dict[str, Callable[[], AbstractContextManager]] = {}


def give(chapter: str, giver: Callable[[], AbstractContextManager]) -> None:
    """Let `giver` watch each check of a chapter, "3". Its `with` gives a function of nothing that
    is called after the check has passed, and answers with an `Opinion`."""
    _givers[chapter] = giver


def watching(unit: str) -> AbstractContextManager[Any]:
    """A `with` for a check of an exercise of `unit`, "3.2"; gives None where nobody watches."""
    giver = _givers.get(unit.partition(".")[0])
    return nullcontext() if giver is None else giver()
