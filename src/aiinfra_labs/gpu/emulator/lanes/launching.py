"""A launch, and the lines of its kernel. Unit 3.2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..errors import Place
from .mask import WARP_SIZE

PRINT_LIMIT = 4096  # lines; CUDA's own print buffer holds about as many


@dataclass(frozen=True)
class Line:
    """A line of a kernel's source."""

    file: str
    number: int
    text: str = ""
    function: str = ""


@dataclass
class NegativeIndices:
    """The indices below 0 of one array on one line: how many threads, and the first of them.

    written: each is a number in the source, as in a[-1], and none was worked out.
    """

    place: Place
    index: int
    times: int = 0
    written: bool = True


@dataclass
class Launch:
    """One launch: `kernel[grid, block](...)`."""

    # from a `cuda.jit` object to the `protocol.Function` behind it; `dispatch` knows how
    function_of: ClassVar[Callable[[Any], Any]]

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    step_budget: int
    blind_budget: int  # for a `while` of which nothing tells that it will end
    shared: int = 0  # bytes of dynamic shared memory
    cooperative: bool = False  # its blocks wait for each other, so they run in one batch
    arrays: tuple[Any, ...] = ()  # the views of its arguments that are arrays
    tracked: bool = False  # a checker notes which device memory is written
    negative_indices: dict[tuple[str, Line], NegativeIndices] = field(default_factory=dict)
    printed: int = 0
    may_wait: bool = False  # a loop of the kernel may wait for what another thread writes
    waited: bool = False  # one did: blocks, warps or lanes ran by turns (`waiting`)
    held: list[str] | None = None  # what the kernel has printed, if it may have to begin anew

    def say(self, *values: Any) -> None:
        """Print values, or keep the line until the launch has ended."""
        if self.held is None:
            print(*values)
        else:
            self.held.append(" ".join(map(str, values)))

    def begin_anew(self) -> None:
        """Forget what the kernel has done so far."""
        self.negative_indices.clear()
        self.printed = 0
        if self.held is not None:
            self.held.clear()

    @property
    def threads_per_block(self) -> int:
        """Threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def lanes_per_block(self) -> int:
        """Threads of a block, rounded up to whole warps."""
        return -(-self.threads_per_block // WARP_SIZE) * WARP_SIZE


def as_printed(value: Any, lane: int) -> Any:
    """What one thread prints of a value."""
    if isinstance(value, tuple):
        return tuple(as_printed(v, lane) for v in value)
    item = value[lane] if getattr(value, "ndim", 0) else value
    if not isinstance(item, np.generic):
        return item
    # a float32 as its own shortest decimals, not as the float64 nearest to it
    return float(str(item)) if item.dtype.kind == "f" else item.item()
