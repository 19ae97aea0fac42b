"""Running a learner's code so that it cannot take the notebook with it.

What it prints is captured and cut, an endless loop is stopped, and of a traceback only the
learner's own lines are kept.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import linecache
import traceback
from collections.abc import Iterator
from types import TracebackType

from .alarm import PATIENCE, Alarm, TimeLimit, Waited, is_learners
from .parts import Parts, has_parts

__all__ = ["Alarm", "Captured", "TimeLimit", "captured", "explain", "is_learners", "learners_lines"]

_KEPT = 2000  # characters of a learner's output that are kept


class Captured(io.TextIOBase):
    """A text stream that keeps the beginning of what is written and counts the lines."""

    def __init__(self) -> None:
        self.kept, self.lines, self._open = "", 0, False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if len(self.kept) < _KEPT:
            self.kept += text[: _KEPT - len(self.kept)]
        self.lines += text.count("\n")
        if text:
            self._open = not text.endswith("\n")
        return len(text)

    @property
    def note(self) -> str:
        """One line about what was printed; empty when nothing was."""
        count = self.lines + self._open
        if not count:
            return ""
        first = self.kept.split("\n", 1)[0][:80]
        lines = "1 line" if count == 1 else f"{count:,} lines"
        rest = "" if count == 1 else " (only the first is shown)"
        return f"Your code printed {lines} during the check{rest}: {first}"


@contextlib.contextmanager
def captured() -> Iterator[Captured]:
    """Within the block, what is printed goes into the stream that is given; nobody is asked."""
    stream = Captured()
    ask, builtins.input = builtins.input, _nobody_answers
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            yield stream
    finally:
        builtins.input = ask


def _nobody_answers(prompt: object = "") -> str:
    raise EOFError(f"input({str(prompt)!r:.60}) asks a person, and a check has none")


def learners_lines(trace: TracebackType | None, last: int = 4) -> tuple[str, ...]:
    """The learner's own lines of a traceback, outermost first; of many, the `last`."""
    lines = []
    for frame, number in traceback.walk_tb(trace):
        code = frame.f_code
        if is_learners(code.co_filename):
            source = linecache.getline(code.co_filename, number, frame.f_globals).strip()
            lines.append(f"{code.co_name}, line {number}" + (f": {source}" if source else ""))
    if len(lines) > last:
        return (f"... {len(lines) - last} lines above ...", *lines[-last:])
    return tuple(lines)


_WHY = {
    NameError: (
        "this name has no value when the line runs",
        "look for a misspelling, or a cell that defines it and was not run",
    ),
    IndexError: (
        "an index lies outside what it indexes",
        "print the index and the length on this input; compare the last index with length - 1",
    ),
    ZeroDivisionError: (
        "the divisor is 0 on this input",
        "ask which input makes it 0, and what the answer is there",
    ),
    RecursionError: (
        "the function calls itself and never reaches an end",
        "write down the case that ends it, and check that each call comes nearer to it",
    ),
    TypeError: (
        "an operation or a call got a value of a type, or a number of arguments, it cannot take",
        "print the types of the values in this line",
    ),
    AttributeError: (
        "the object has nothing of that name",
        "print the object's type in this line, and look for a misspelling",
    ),
    MemoryError: (
        "more memory was asked for than there is",
        "work out the bytes of the array in this line: its elements times the bytes of each",
    ),
    EOFError: (
        "a check calls your function many times, and nobody sits there to answer",
        "take what you need from the parameters",
    ),
    SystemExit: ("your code asked Python to end", "remove the call of exit or quit"),
}


# What is wrong with the code, and not with what the exercise asks: no hint is spent on it.
_SLIPS = (
    NameError,
    ImportError,
    SyntaxError,
    AttributeError,
    TypeError,
    MemoryError,
    SystemExit,
    EOFError,
)


def explain(error: BaseException, seconds: float) -> Parts:
    """The three parts of whatever came out of a learner's code."""
    code = learners_lines(error.__traceback__)
    if isinstance(error, TimeLimit) and getattr(error, "place", None):  # in another process
        code = tuple(error.place.split("\n"))
    if isinstance(error, Waited):
        return Parts(
            f"your code was stopped: it had not ended after {PATIENCE * seconds:g} s, "
            "and computed only in a part of them",
            "it waits for something that does not come (a lock, a message, the end of a sleep), "
            "or the machine is so busy that your code hardly gets a processor",
            "look at the line named here: what does it wait for? "
            "If for nothing, check again when the machine is less busy",
            code,
            slip=True,
        )
    if isinstance(error, TimeLimit):
        return Parts(
            f"your code was stopped: it had run for {seconds:g} s of processor time",
            "a loop does not end, or takes far more rounds than the task needs",
            "look at the line named here: what must change in each round, so that the loop ends?",
            code,
            slip=True,
        )
    if has_parts(error):
        place = getattr(error, "place", None)
        where = tuple(str(place).split("\n")) if place is not None else code
        if both := getattr(error, "places", ()):  # a race has two lines, and says who in words
            where = tuple(dict.fromkeys(str(place).split("\n")[0] for place in both))
        return Parts(error.what, error.why, error.try_, where, isinstance(error, _SLIPS))
    why, try_ = next(
        (text for kind, text in _WHY.items() if isinstance(error, kind)),
        ("your code raised it while the check ran it", ""),
    )
    # How Python words this one depends on where it stops.
    deep = isinstance(error, RecursionError)
    message = "maximum recursion depth exceeded" if deep else _shortened(error)
    return Parts(
        f"{type(error).__name__}: {message}" if message else type(error).__name__,
        why,
        try_ or "call your function on this input in a cell of its own, and look at the values",
        code,
        isinstance(error, _SLIPS),
    )


def _shortened(error: BaseException, limit: int = 400) -> str:
    try:
        text = str(error)
    except Exception:  # a learner's exception may fail even at this
        return "(its message cannot be shown)"
    return text if len(text) <= limit else text[:limit] + " ..."
