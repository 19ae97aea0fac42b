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
            text += f"\n  in block {_coordinate(self.block)}, thread {_coordinate(self.thread)}"
        return text


class LaneError(TypeError):
    """A value that an operation of a kernel cannot take, in plain words.

    It is raised where the operation is; the launch adds the kernel and the line.
    """

    def __init__(self, what: str, try_: str = "look at the types on the line named above"):
        super().__init__(what)
        self.try_ = try_


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


def _coordinate(index: tuple[int, ...] | None) -> str:
    """`(5, 0, 0)` is written 5: a learner of one dimension need not see three."""
    if index is None:
        return "?"
    return str(index[0]) if not any(index[1:]) else str(tuple(index))


class EmulatorError(Exception):
    """The root of all that the emulator raises. `place` is None for an error outside a kernel."""

    def __init__(self, what: str, why: str = "", try_: str = "", place: Place | None = None):
        self.what, self.why, self.try_, self.place = what, why, try_, place
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what]
        if self.place is not None:
            parts.append(f"  {self.place}")
        if self.why:
            parts.append(f"Why: {self.why}")
        if self.try_:
            parts.append(f"Try: {self.try_}")
        return "\n".join(parts)

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


class UnsupportedFeature(EmulatorError):
    """The kernel uses something that CUDA kernels, or the emulator, do not have."""


class DivergentBarrier(EmulatorError):
    """Some threads wait at a barrier that others never reach."""


class UninitialisedRead(EmulatorError):
    """A thread read a variable that it had never given a value."""


class StepBudgetExceeded(EmulatorError):
    """A loop went round so often that it would not end."""


class DeviceMemoryError(EmulatorError):
    """An array cannot live on the device: its dtype, its layout or its size."""
