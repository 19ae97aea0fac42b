"""A schedule that is against the kernel: warps run one by one, in a random order. Unit 3.4.

All threads together is one order of many, and a kind one: a missing barrier does no harm in it.
Here each warp of a block runs alone, in a Python thread of its own, until it waits at a barrier;
then another one that can go on is drawn. Blocks come in a random order, too. CUDA allows every such
order: a correct kernel gives the same result under every seed, and a race soon gives a wrong one.
Lanes of one warp still advance together, so a race within a warp does not show in this way.

Each warp works on vectors of the whole block, with a mask that holds its own lanes: so all that the
machine knows of threads, addresses and places stays as it is. Only one warp runs at a time.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counters.observing import ObservedMachine, Observer
from ..lanes.machine import Launch, Line
from ..lanes.mask import WARP_SIZE, Mask

if TYPE_CHECKING:
    from ..lanes.dispatch import Function

GRID = "this_grid().sync"  # the barrier that all blocks wait at


class Adversary:
    """Runs launches in orders drawn from `seed`."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def run(
        self, function: Function, launch: Launch, values: list[Any], observers: Sequence[Observer]
    ) -> None:
        """Block by block; blocks that wait for each other run side by side."""
        draw = random.Random(self.seed)
        blocks = math.prod(launch.grid)
        if launch.cooperative:
            _Residents(launch, 0, blocks, observers, draw).run(function, values)
            return
        for block in draw.sample(range(blocks), blocks):
            _Residents(launch, block, 1, observers, draw).run(function, values)


@dataclass
class _Waiting:
    """Warps at a barrier: which lanes have come, and the value that each brought."""

    mask: Mask
    line: Line
    name: str
    value: Any

    @property
    def at(self) -> tuple[Line, str]:
        return self.line, self.name


@dataclass
class _Meeting:
    """Warps that a barrier lets go together."""

    lanes: np.ndarray  # bool [L]: all that came
    value: Any
    told: bool = False  # whether the observers know


class _Residents:
    """Blocks that are on the device together, and the warps that run them in turn."""

    def __init__(
        self,
        launch: Launch,
        first: int,
        blocks: int,
        observers: Sequence[Observer],
        draw: random.Random,
    ):
        self.draw, self.stopped = draw, False
        # the one that the observers know; it holds what the threads share
        self.machine = ObservedMachine(launch, first, blocks, observers)
        self.warps = [
            _Warp(self, launch, first, blocks, number)
            for number in range(self.machine.size // WARP_SIZE)
        ]

    def run(self, function: Function, values: list[Any]) -> None:
        for warp in self.warps:
            warp.start(function, values)
        try:
            while True:
                self._let_go()
                running = [w for w in self.warps if not w.done]
                if not running:
                    return
                ready = [w for w in running if w.waiting is None]
                # none: some wait here and some there, for ever. Go on, so that the barrier tells
                warp = self.draw.choice(ready or running)
                if warp.waiting is not None:
                    warp.let_go([warp])
                warp.resume()
                if warp.error is not None:
                    raise warp.error
        finally:
            self.stopped = True  # a warp that is resumed now ends at once
            for warp in self.warps:
                warp.resume()

    def _let_go(self) -> None:
        """End each barrier that all warps have come to which it waits for."""
        for warp in self.warps:
            if warp.waiting is None:
                continue
            scope = [w for w in self.warps if not w.done and w.near(warp)]
            if all(w.waiting is not None and w.waiting.at == warp.waiting.at for w in scope):
                warp.let_go(scope)


class _Stopped(BaseException):
    """Ends a warp whose launch has failed elsewhere."""


@dataclass(eq=False)
class _Turn:
    """Hands the one right to run back and forth between the schedule and a warp."""

    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    back: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class _Warp(ObservedMachine):
    """One warp: the machine of its blocks, with a mask that holds its own lanes."""

    def __init__(self, residents: _Residents, launch: Launch, first: int, blocks: int, number: int):
        self.residents = residents
        super().__init__(launch, first, blocks, ())
        self.observers = residents.machine.observers
        self.arrays, self._indices = residents.machine.arrays, residents.machine._indices
        own = np.arange(self.size) // WARP_SIZE == number
        self.lanes = self.all.lanes & own  # bool [L]
        self.block = number * WARP_SIZE // launch.lanes_per_block
        self.waiting: _Waiting | None = None
        self.meeting: _Meeting | None = None
        self.done, self.error = False, None
        self.turn = _Turn()

    @property
    def alive(self) -> np.ndarray:
        """bool [L]: of all warps, for a barrier asks who is missing."""
        return self.residents.machine.alive

    @alive.setter
    def alive(self, lanes: np.ndarray) -> None:
        self.residents.machine.alive = lanes

    # --- taking turns --------------------------------------------------------------------

    def start(self, function: Function, values: list[Any]) -> None:
        self.thread = threading.Thread(target=self._run, args=(function, values), daemon=True)
        self.thread.start()

    def resume(self) -> None:
        """Let the warp run until it waits or ends. Called by the schedule."""
        if self.thread.is_alive() and not self.done:
            self.turn.go.release()
            self.turn.back.acquire()

    def _run(self, function: Function, values: list[Any]) -> None:
        self.turn.go.acquire()
        try:
            if not self.residents.stopped and self.lanes.any():
                with np.errstate(all="ignore"):
                    function.run(self, Mask(self.lanes), values)
            self.alive = self.alive & ~self.lanes
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self.turn.back.release()

    def meet(self, mask: Mask, line: Line, name: str, value: Any = None) -> tuple[np.ndarray, Any]:
        self.waiting = _Waiting(mask, line, name, value)
        self.turn.back.release()
        self.turn.go.acquire()
        if self.residents.stopped:
            raise _Stopped
        return self.meeting.lanes, self.meeting.value

    def near(self, other: _Warp) -> bool:
        """Whether the barrier that `other` waits at waits for this warp."""
        return self.block == other.block or other.waiting.name == GRID

    def let_go(self, warps: list[_Warp]) -> None:
        """These warps, which wait at one barrier, may go on."""
        waiting = [w.waiting for w in warps]
        value = waiting[0].value
        if value is not None:  # each warp brings the values of its own lanes
            value = np.logical_or.reduce([w.waiting.value & w.lanes for w in warps])
        meeting = _Meeting(np.logical_or.reduce([w.mask.lanes for w in waiting]), value)
        for warp in warps:
            warp.meeting, warp.waiting = meeting, None

    # --- a barrier is told once, for all who met at it --------------------------------------

    def barrier(self, mask: Mask, line: Line) -> None:
        if not self.meeting.told:
            self.meeting.told = True
            super().barrier(Mask(self.meeting.lanes), line)

    def grid_barrier(self, mask: Mask, line: Line) -> None:
        if not self.meeting.told:
            self.meeting.told = True
            super().grid_barrier(Mask(self.meeting.lanes), line)
