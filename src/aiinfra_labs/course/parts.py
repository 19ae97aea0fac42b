"""An error in three parts: what happened, why, what to try.

Whatever carries `what`, `why` and `try_` is taken as it is: the emulator's errors do, so that
`course` need not know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parts:
    """What went wrong. `what` has the figures; `code` holds the learner's lines it came from.

    A `slip` is mended by what is said of it, such as a misspelt name: it takes no hint.
    """

    what: str
    why: str = ""
    try_: str = ""
    code: tuple[str, ...] = ()
    slip: bool = False

    def __str__(self) -> str:
        lines = [self.what, *(f"  {line}" for line in self.code)]
        if self.why:
            lines.append(f"Why: {self.why}")
        if self.try_:
            lines.append(f"Try: {self.try_}")
        return "\n".join(lines)


class CourseError(Exception):
    """The root of what the course's own tools raise, in three parts."""

    def __init__(self, what: str, why: str = "", try_: str = ""):
        self.what, self.why, self.try_ = what, why, try_
        super().__init__(what, why, try_)  # so that it can be made anew in another process

    def __str__(self) -> str:
        return str(Parts(self.what, self.why, self.try_))


def has_parts(error: Any) -> bool:
    """Whether an exception brings its own three parts."""
    return all(isinstance(getattr(error, name, None), str) for name in ("what", "why", "try_"))


def a_kind(value: Any) -> str:
    """The type of a value with its article: "an int", "a list"."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
