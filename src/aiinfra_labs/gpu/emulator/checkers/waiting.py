"""How it is seen that threads wait for each other, and told if they do so for ever. Unit 3.2.

All lanes advance together, and those that leave a loop wait behind it for the rest: so a thread
that holds a lock may stand behind the very loop in which others wait for it. A GPU gets on: blocks
and warps run on their own, and since Volta the lanes of a warp do, too (CUDA C++ Programming Guide,
"Independent Thread Scheduling"). A loop tells that it waits: its end depends on memory
(`endings`), and a round has changed neither its variables nor memory. Then the launch
begins anew, with blocks, warps or lanes that run by turns: `checkers.progress`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import Deadlock, Place, coordinate
from ..lanes.mask import Mask
from ..lanes.views import ArrayView

POLLS = 64  # times that a loop is seen to read one element, and nobody writes, until it yields


class Waits(BaseException):
    """Some lanes wait for others that cannot get on, as they advance together. Never seen outside:
    the launch catches it."""


@dataclass(frozen=True)
class Waiter:
    """Threads that wait. element: what they last read, as `lock[0]`; value: what it holds."""

    place: Place
    threads: int
    element: str = ""
    value: Any = None
    barrier: str = ""  # where they wait at one

    def __str__(self) -> str:
        block, thread = coordinate(self.place.block), coordinate(self.place.thread)
        who = f"thread {thread} of block {block}"
        if self.threads > 1:
            who += f" (and {self.threads - 1} more)"
        at = f"line {self.place.line}"
        if self.barrier:
            return f"{who} waits at {self.barrier}() in {at}"
        if not self.element:
            return f"{who} goes round in {at}"
        return f"{who} goes round in {at} while {self.element} is {self.value}"


SHOWN = 4


def deadlock(waiters: Sequence[Waiter], more: str = "") -> Deadlock:
    """Every thread that is left waits, and none can end another's waiting."""
    threads = sum(w.threads for w in waiters)
    waiters = _alike(waiters)
    shown = "; ".join(map(str, waiters[:SHOWN]))
    if len(waiters) > SHOWN:
        shown += f"; and so on, for {len(waiters)} things in all"
    return Deadlock(
        f"{'1 thread waits' if threads == 1 else f'{threads:,} threads wait'} for ever: nobody is "
        "left to write what would end it",
        f"{shown}. {more or 'All other threads have ended'}",
        "look for the store that should end the wait: does a thread come to it before it waits "
        "itself, and on every way? A lock is given back on every way, too",
        waiters[0].place,
    )


def _alike(waiters: Sequence[Waiter]) -> list[Waiter]:
    """One waiter for all who wait on one line for one element; the first stands for them."""
    found: dict[Any, Waiter] = {}
    for waiter in waiters:
        key = (waiter.place.line, waiter.element, str(waiter.value), waiter.barrier)
        first = found.get(key)
        threads = waiter.threads + (first.threads if first else 0)
        found[key] = replace(first or waiter, threads=threads)
    return list(found.values())


def contents(target: ArrayView, mask: Mask) -> bytes:
    """The elements that the lanes of `mask` touch, as bytes to compare: NaN equals itself."""
    if not isinstance(target.start, np.ndarray):
        return target.window[target.start].tobytes()
    return target.window[target.start[mask.lanes]].tobytes()


def unchanged(before: Any, now: Any, mask: Mask) -> bool:
    """Whether a variable is what it was, in all lanes of `mask`."""
    if before is now:
        return True
    if isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
        return all(unchanged(a, b, mask) for a, b in zip(before, now, strict=True))
    if isinstance(before, ArrayView) and isinstance(now, ArrayView):
        return one_element(before, now, mask)
    if not all(isinstance(v, np.ndarray | np.generic) for v in (before, now)):
        return False
    same = (before == now) | ((before != before) & (now != now))  # nan is as it was, too
    return bool(np.all(same[mask.lanes] if same.ndim else same))


def one_element(a: ArrayView, b: ArrayView, mask: Mask) -> bool:
    """Whether both are the same elements of the same memory, in all lanes of `mask`."""
    return a.window is b.window and unchanged(np.asarray(a.start), np.asarray(b.start), mask)


def named_element(target: ArrayView, start: int) -> str:
    """`lock[0]`: the element of an array that begins `start` entries into its memory.

    The view is the element itself, so that the axes of its array are not known: the place counts
    along its memory.
    """
    return f"{target.name}[{start}]" if target.space == "global" else target.name
