"""What can go wrong in a kernel, said in three parts: what happened, why, what to try.

Unit 3.2. Every exception carries the parts as attributes (`what`, `why`, `try_`), so that a check
or a report can lay them out; `str` joins them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where in a kernel: its name, the source line and, when known, the block and the thread."""

    kernel: str
    line: int | None = None
    source: str = ""
    block: tuple[int, ...] | None = None
    thread: tuple[int, ...] | None = None

    def __str__(self) -> str:
        text = f"kernel {self.kernel}"
        if self.line is not None:
            text += f", line {self.line}"
        if self.source:
            text += f": {self.source.strip()}"
        if self.block is not None:
            text += f"\n  in block {_coordinate(self.block)}, thread {_coordinate(self.thread)}"
        return text


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


class StepBudgetExceeded(EmulatorError):
    """A loop went round so often that it would not end."""


class DeviceMemoryError(EmulatorError):
    """An array cannot live on the device: its dtype, its layout or its size."""
