"""Barriers: where threads wait for each other. Units 3.4 and 3.6.

All lanes of a batch advance together, so a barrier has nothing to wait for. It has two things to
do: to check that the whole block has come, and to say that an interval has ended, which is what
the race checker needs to know.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arithmetic
from .errors import DivergentBarrier, LaneError, described
from .intrinsics import Intrinsic

if TYPE_CHECKING:
    from .machine import Line, Machine
    from .mask import Mask


def arrive(machine: Machine, mask: Mask, line: Line, name: str = "syncthreads") -> None:
    """Every thread of a block that has not returned must be here, or none of the block."""
    if machine.typing:
        return
    lanes = machine.launch.lanes_per_block
    here = mask.lanes.reshape(-1, lanes)  # [blocks, lanes]
    missing = machine.alive.reshape(-1, lanes) & ~here
    stuck = here.any(axis=1) & missing.any(axis=1)
    if stuck.any():
        block = int(np.argmax(stuck))
        first, other = int(np.argmax(here[block])), int(np.argmax(missing[block]))
        waiting, away = int(here[block].sum()), int(missing[block].sum())
        raise DivergentBarrier(
            f"{waiting} of the block's threads wait at {name}(), and {away} never come to it",
            f"a barrier ends when every thread of the block has reached it; thread {other}, for "
            "one, went another way, so a GPU would wait for ever or go on with wrong data",
            f"move {name}() out of the `if` or the loop that some threads do not enter, and put "
            "only the work inside",
            machine.place(line, block * lanes + first),
        )


def _syncthreads(machine: Machine, mask: Mask, line: Line) -> None:
    arrive(machine, mask, line)
    machine.barrier(mask, line)


def _reduced(name: str, reduction: Any) -> Intrinsic:
    """A barrier that also combines a value of every thread: int32, the same for the block."""

    def run(machine: Machine, mask: Mask, line: Line, predicate: Any) -> Any:
        if not isinstance(predicate, np.ndarray | np.generic):
            raise LaneError(f"{name} takes a number, not {described(predicate)}")
        arrive(machine, mask, line, name)
        machine.barrier(mask, line)
        lanes = machine.launch.lanes_per_block
        holds = np.broadcast_to(arithmetic.truth(predicate), (machine.size,)).reshape(-1, lanes)
        result = reduction(holds, mask.lanes.reshape(-1, lanes)).astype(np.int32)
        return np.repeat(result, lanes)

    return Intrinsic(name, run)


def _syncwarp(machine: Machine, mask: Mask, line: Line, members: Any = None) -> None:
    machine.warp_barrier(mask, line)


def _nothing(machine: Machine, mask: Mask, line: Line, *_: Any) -> None:
    """A fence orders memory between threads; here every store is seen at once."""


class GridGroup:
    """What `cuda.cg.this_grid()` gives: all blocks of the launch."""

    METHODS = ("sync",)  # what a kernel may call on it

    def sync(self, machine: Machine, mask: Mask, line: Line) -> np.int32:
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
threadfence = Intrinsic("threadfence", _nothing)
threadfence_block = Intrinsic("threadfence_block", _nothing)
threadfence_system = Intrinsic("threadfence_system", _nothing)
nanosleep = Intrinsic("nanosleep", _nothing)
cg = types.SimpleNamespace(this_grid=Intrinsic("cg.this_grid", _this_grid))
