"""What the blocks of a launch do, in order: loads, stores and barriers. Unit 3.5.

A kernel overlaps its loads with its maths only if it asks for the next tile before it computes with
this one, and puts it into shared memory after. The order of a learner's own run says whether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.beside import emulated
from aiinfra_labs.gpu.emulator.counters.observing import Observer
from aiinfra_labs.gpu.emulator.lanes import dispatch

from .thread_map import ROUNDS

GLOBAL_LOAD, SHARED_LOAD, SHARED_STORE = "global load", "shared load", "shared store"
GLOBAL_STORE, BARRIER = "global store", "barrier"


@dataclass(frozen=True)
class Event:
    """One instruction of all warps of a batch of blocks. array: "" for a barrier."""

    what: str
    array: str
    line: int


class _Noting(Observer):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def forget(self) -> None:
        self.events.clear()

    def read(self, mask: Any, target: Any, line: Any) -> None:
        if target.space in ("global", "shared"):
            self.events.append(Event(f"{target.space} load", target.name, line.number))

    def write(self, mask: Any, target: Any, line: Any) -> None:
        if target.space in ("global", "shared"):
            self.events.append(Event(f"{target.space} store", target.name, line.number))

    def barrier(self, mask: Any, line: Any) -> None:
        self.events.append(Event(BARRIER, "", line.number))


class _Listener:
    """Asks each launch for its events; few blocks run as one batch, and so give one list."""

    def __init__(self) -> None:
        self.noting = _Noting()

    def observer(self, launch: Any) -> Observer:
        return self.noting

    def end(self, launch: Any, observer: Any) -> None:
        pass


def timeline(kernel: Any, grid: Any, block: Any, *args: Any) -> list[Event]:
    """The events of one launch of `kernel[grid, block](*args)` of a few blocks, in order."""
    listener = _Listener()
    dispatch._listeners.append(listener)
    try:
        with emulator.step_budget(ROUNDS):
            emulated(kernel)[grid, block](*args)
    finally:
        dispatch._listeners.remove(listener)
    return listener.noting.events


def maths_in_flight(events: Sequence[Event]) -> list[int]:
    """For each tile after the first: how many shared loads lie between the last global load of it
    and the next shared store, that is, how much of the maths before hides the wait.

    A tile that is loaded and stored in turns gives one figure for each turn.
    """
    found = []
    began, asked, since = False, False, 0  # the maths; a load that no store has used; loads since
    for event in events:
        if event.what == GLOBAL_LOAD:
            asked, since = True, 0
        elif event.what == SHARED_LOAD:
            began, since = True, since + 1
        elif event.what == SHARED_STORE and asked:
            asked = False
            if began:  # else it fills the first tile, before which there is nothing to hide in
                found.append(since)
    return found
