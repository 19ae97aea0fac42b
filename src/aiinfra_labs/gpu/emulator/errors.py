"""What can go wrong in a kernel, said in three parts: what happened, why, what to try.

Unit 3.2. Every exception carries the parts as attributes (`what`, `why`, `try_`), so that a check
or a report can lay them out; `str` joins them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where in a kernel: its name, the source line and, when known, the block and the thread."""

    kernel: str
    line: int | None = None
    source: str = ""
    block: tuple[int, ...] | None = None
    thread: tuple[int, ...] | None = None
    function: str = ""  # the device function that the line is in, where it is in one

    def __str__(self) -> str:
        text = f"kernel {self.kernel}"
        if self.function:
            text += f", function {self.function}"
        if self.line is not None:
            text += f", line {self.line}"
        if self.source:
            text += f": {self.source.strip()}"
        if self.block is not None:
            text += f"\n  in block {coordinate(self.block)}, thread {coordinate(self.thread)}"
        return text


class LaneError(TypeError):
    """A value that an operation of a kernel cannot take, in plain words.

    It is raised where the operation is; the launch adds the kernel and the line.
    """

    def __init__(self, what: str, try_: str = ""):
        super().__init__(what)
        self.advised = bool(try_)
        self.try_ = try_ or "look at the types on the line named above"


def described(value: Any) -> str:
    """A value of a kernel in words: an array by its name, a number by its type."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if hasattr(value, "window"):
        if value.shape:
            return f"the array {value.name}"
        return f"a record of {value.name}"
    if hasattr(value, "dtype") and hasattr(value, "astype"):
        return f"a number ({value.dtype})"
    return {"Range": "a range"}.get(type(value).__name__, f"a {type(value).__name__}")


def coordinate(index: tuple[int, ...] | None) -> str:
    """`(5, 0, 0)` is written 5: a learner of one dimension need not see three."""
    if index is None:
        return "?"
    return str(index[0]) if not any(index[1:]) else str(tuple(index))


class RaisedInKernel(Exception):
    """Carries what a kernel raised to the host, which raises it: `raised`."""

    def __init__(self, raised: Exception):
        super().__init__(str(raised))
        self.raised = raised


class EmulatorError(Exception):
    """The root of all that the emulator raises. `place` is None for an error outside a kernel."""

    def __init__(self, what: str, why: str = "", try_: str = "", place: Place | None = None):
        self.what, self.why, self.try_, self.place = what, why, try_, place
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what, *self._where()]
        if self.why:
            parts.append(f"Why: {self.why}")
        if self.try_:
            parts.append(f"Try: {self.try_}")
        return "\n".join(parts)

    def _where(self) -> list[str]:
        return [] if self.place is None else [f"  {self.place}"]

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message. The way through the emulator teaches nothing."""
        return f"{type(self).__name__}: {self}".splitlines()


class LaunchError(EmulatorError):
    """The launch asks for what the device, or CUDA itself, does not allow."""


class OutOfBounds(EmulatorError, IndexError):
    """A thread read or wrote outside an array. `array`, `index` and `shape` name it."""

    def __init__(
        self,
        what: str,
        why: str = "",
        try_: str = "",
        place: Place | None = None,
        array: str = "",
        index: tuple[int, ...] = (),
        shape: tuple[int, ...] = (),
    ):
        super().__init__(what, why, try_, place)
        self.array, self.index, self.shape = array, index, shape


class NegativeIndex(EmulatorError):
    """An index was worked out below 0: Numba counts from the end, CUDA C leaves the array.

    `array`, `index` (of the axis) and `times` name it.
    """

    array: str = ""
    index: int = 0
    times: int = 1


class UnsupportedFeature(EmulatorError):
    """The kernel uses something that CUDA kernels, or the emulator, do not have."""


class DivergentBarrier(EmulatorError):
    """Some threads wait at a barrier that others never reach."""


class InactiveLane(EmulatorError):
    """A lane reads, in a shuffle, from a lane that takes no part in it: the value is undefined."""


class UninitialisedRead(EmulatorError):
    """A thread read what nobody had given a value: a variable, or an element of an array.

    For an element: `array`, `index`, and `times`, how often it happened on this line.
    """

    array: str = ""
    index: tuple[int, ...] = ()
    times: int = 1


class Race(EmulatorError):
    """Two threads touch one element, one of them writes, and nothing puts them in order.

    array, index: the element. kind: "read-write" or "write-write". places: where the two accesses
    are, in the order in which the emulator happened to run them; `lines` are their lines.
    times: how many accesses raced on these two lines. same_value: whether all of them stored what
    was there already.
    """

    array: str = ""
    index: tuple[int, ...] = ()
    kind: str = ""
    places: tuple[Place, ...] = ()
    times: int = 1
    same_value: bool = False

    @property
    def lines(self) -> tuple[int | None, ...]:
        """The numbers of the two lines, in the order of `places`."""
        return tuple(place.line for place in self.places)

    def _where(self) -> list[str]:
        """Both lines, each once."""
        shown = dict.fromkeys((p.function, p.line, p.source.strip()) for p in self.places)
        inside = [f", function {function}" if function else "" for function, _, _ in shown]
        return [
            f"  kernel {self.places[0].kernel}{where}, line {number}: {source}"
            for where, (_, number, source) in zip(inside, shown, strict=True)
        ]


class SharedMemoryRace(Race):
    """A race of two threads of one block on shared memory."""


class GlobalMemoryRace(Race):
    """A race of two threads on global memory."""


class StepBudgetExceeded(EmulatorError):
    """A loop went round so often that it would not end."""


class Deadlock(StepBudgetExceeded):
    """Threads wait for each other, or for a store that nobody makes, and none can get on."""


class DeviceMemoryError(EmulatorError):
    """An array cannot live on the device: its dtype, its layout or its size."""


SPOKEN = {  # what a kernel's language lacks, in words, by the names of Python's syntax tree
    "AsyncFor": "async for",
    "Await": "await",
    "ClassDef": "a class",
    "Delete": "del",
    "Dict": "a dict",
    "DictComp": "a dict",
    "GeneratorExp": "a generator",
    "Global": "global",
    "Import": "import",
    "ImportFrom": "import",
    "JoinedStr": "an f-string",
    "List": "a list",
    "ListComp": "a list",
    "Match": "a match with a pattern of more than values and names",
    "Nonlocal": "nonlocal",
    "Set": "a set",
    "SetComp": "a set",
    "Try": "try",
    "With": "with",
    "Yield": "yield",
}
