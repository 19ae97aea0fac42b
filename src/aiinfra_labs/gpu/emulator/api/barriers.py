"""Barriers: where threads wait for each other. Units 3.4 and 3.6.

All lanes of a batch advance together, so a barrier has nothing to wait for. It has two things to
do: to check that the whole block has come, and to say that an interval has ended, which is what
the race checker needs to know (`shadow.py`). A thread that has returned is not waited for: so it
is on a GPU since Volta. Two calls in two places of the text are two barriers, even where each is
reached by whole warps: CUDA C++ Programming Guide, 10.6, asks that a barrier in conditional code
be reached by the whole block or by none of it.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DivergentBarrier, LaneError, described
from ..lanes import arithmetic
from .intrinsics import Intrinsic
from .warp import by_warp, meet_warp

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


def arrive(
    machine: Machine, mask: Mask, line: Line, name: str = "syncthreads", value: Any = None
) -> tuple[np.ndarray, Any]:
    """Every thread of a block that has not returned must be here, or none of the block.

    Returns who is here, bool [blocks, lanes], and the value that each brings.
    """
    lanes = machine.launch.lanes_per_block
    if machine.typing:
        return mask.lanes.reshape(-1, lanes), value
    met, value = machine.meet(mask, line, name, value)
    here = met.reshape(-1, lanes)  # [blocks, lanes]
    missing = machine.alive.reshape(-1, lanes) & ~here
    stuck = here.any(axis=1) & missing.any(axis=1)
    if stuck.any():
        block = int(np.argmax(stuck))
        first, other = int(np.argmax(here[block])), int(np.argmax(missing[block]))
        waiting, away = int(here[block].sum()), int(missing[block].sum())
        raise DivergentBarrier(
            f"{waiting} of the block's threads wait{'s' * (waiting == 1)} at {name}(), and {away} "
            f"never come{'s' * (away == 1)} to it",
            f"a barrier ends when every thread of the block has reached it; thread {other}, for "
            "one, went another way, so a GPU would wait for ever or go on with wrong data",
            f"move {name}() out of the `if` or the loop that some threads do not enter, and put "
            "only the work inside",
            machine.place(line, block * lanes + first),
        )
    return here, value


def _syncthreads(machine: Machine, mask: Mask, line: Line) -> None:
    arrive(machine, mask, line)
    machine.barrier(mask, line)


def _reduced(name: str, reduction: Any) -> Intrinsic:
    """A barrier that also combines a value of every thread: int32, the same for the block."""

    def run(machine: Machine, mask: Mask, line: Line, predicate: Any) -> Any:
        if not isinstance(predicate, np.ndarray | np.generic):
            raise LaneError(f"{name} takes an integer, not {described(predicate)}")
        if predicate.dtype.kind not in "iu":
            raise LaneError(
                f"{name} takes an integer, not {described(predicate)}",
                f"write cuda.{name}(int(condition))",
            )
        truth = np.broadcast_to(arithmetic.truth(predicate), (machine.size,))
        here, holds = arrive(machine, mask, line, name, truth)
        machine.barrier(mask, line)
        lanes = machine.launch.lanes_per_block
        result = reduction(holds.reshape(-1, lanes), here).astype(np.int32)
        return np.repeat(result, lanes)

    return Intrinsic(name, run)


def _syncwarp(machine: Machine, mask: Mask, line: Line, members: Any = None) -> None:
    """Lanes of a warp wait for those that `members` names: all 32, if it is left out."""
    named = np.uint32(0xFFFFFFFF) if members is None else members
    mask, named = machine.converge(mask, line, "syncwarp", named)
    meet_warp(machine, mask, line, named, "syncwarp()")
    if not machine.typing:
        machine.warp_barrier(mask, line, by_warp(machine, named).astype(np.int64) & 0xFFFFFFFF)


def _fence(machine: Machine, mask: Mask, line: Line) -> None:
    """A fence orders memory between threads; here every store is seen at once."""
    if not machine.typing:
        machine.fence(mask, line)


def _nothing(machine: Machine, mask: Mask, line: Line, *_: Any) -> None:
    """Nothing to do."""


class GridGroup:
    """What `cuda.cg.this_grid()` gives: all blocks of the launch."""

    METHODS = ("sync",)  # what a kernel may call on it

    def sync(self, machine: Machine, mask: Mask, line: Line) -> np.int32:
        """Wait for all threads of the grid. Returns int32 0, as Numba's does."""
        arrive(machine, mask, line, "this_grid().sync")
        machine.grid_barrier(mask, line)
        return np.int32(0)


def _this_grid(machine: Machine, mask: Mask, line: Line) -> GridGroup:
    machine.launch.cooperative = True
    return _GRID


_GRID = GridGroup()

syncthreads = Intrinsic("syncthreads", _syncthreads)
syncthreads_count = _reduced("syncthreads_count", lambda p, m: (p & m).sum(axis=1))
syncthreads_and = _reduced("syncthreads_and", lambda p, m: (p | ~m).all(axis=1))
syncthreads_or = _reduced("syncthreads_or", lambda p, m: (p & m).any(axis=1))
syncwarp = Intrinsic("syncwarp", _syncwarp)
threadfence = Intrinsic("threadfence", _fence)
threadfence_block = Intrinsic("threadfence_block", _fence)
threadfence_system = Intrinsic("threadfence_system", _fence)
nanosleep = Intrinsic("nanosleep", _nothing)
cg = types.SimpleNamespace(this_grid=Intrinsic("cg.this_grid", _this_grid))
