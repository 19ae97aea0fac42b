"""What the checkers found, in words: what happened, why it is wrong, what to change. Unit 3.4."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import (
    GlobalMemoryRace,
    InactiveLane,
    NegativeIndex,
    Place,
    Race,
    SharedMemoryRace,
    UninitialisedRead,
    coordinate,
)
from ..lanes.launching import Line, NegativeIndices

VERBS = {"read": "reads it", "write": "writes it", "atomic": "changes it atomically"}


@dataclass(frozen=True)
class Side:
    """One of the two accesses of a race."""

    kind: str  # "read", "write" or "atomic"
    line: Line
    array: str  # by the name that it has in this access
    place: Place
    thread: str  # as a kernel of so many axes counts: 5, or (5, 0)
    block: str


@dataclass
class RaceSeen:
    """A race on one pair of lines: the instance to tell of, and what holds for all."""

    shared: bool
    times: int = 0
    same_value: bool = True  # each store stored what was there already
    same_warp: bool = True
    same_block: bool = True
    both_write: bool = False  # two threads write one element: an update may get lost
    distance: int = 0  # of the two threads shown: the same warp, the same block, two blocks
    atomics: bool = False  # whether the kernel uses any

    def show(self, before: Side, after: Side, index: tuple[int, ...], distance: int) -> None:
        """Take this instance for the one to tell of; index: of the element of `after.array`."""
        self.before, self.after, self.index, self.distance = before, after, index, distance

    def error(self) -> Race:
        """The race as an error in three parts, which names the element and both lines."""
        before, after = self.before, self.after
        kinds = {before.kind, after.kind}
        element = f"{after.array}[{', '.join(map(str, self.index))}]"
        one_line = before.line == after.line
        block = "the same block" if before.block == after.block else f"block {after.block}"
        also = "" if before.array == after.array else f" (which {before.array} holds, too)"
        what = (
            f"a race on {element}{also}: thread {before.thread} of block {before.block} "
            f"{VERBS[before.kind]} (line {before.line.number}), thread {after.thread} of "
            f"{block} {VERBS[after.kind]} "
            f"({'the same line' if one_line else f'line {after.line.number}'}), and nothing says "
            "which comes first"
        )
        kind = SharedMemoryRace if self.shared else GlobalMemoryRace
        error = kind(what, self._why(), self._advice(one_line, element), after.place)
        error.array, error.index, error.times = after.array, self.index, self.times
        error.kind = "write-write" if kinds == {"write"} else "read-write"
        error.places, error.same_value = (before.place, after.place), self.stored_same
        return error

    @property
    def stored_same(self) -> bool:
        """Whether both accesses store, and the value that was there already."""
        return self.same_value and self.before.kind == self.after.kind == "write"

    def _why(self) -> str:
        often = f"It happened {self.times:,} times" if self.times > 1 else "It happened once"
        if self.stored_same:
            return (
                "each of them stores the same value, so the result is right on most GPUs; it is a "
                f"race in CUDA's terms all the same, and a waste of stores. {often}"
            )
        if "atomic" in (self.before.kind, self.after.kind):
            return (
                "an atomic operation is safe from other atomic operations, not from plain reads "
                f"and writes. {often}"
            )
        who = "threads of a block" if self.same_block else "blocks, and the threads in them,"
        until = " between two barriers" if self.same_block else ""
        if self.both_write and _updates(self.after.line.text):
            so = "two can read the old value before either stores, and one update is lost"
        elif self.before.kind == self.after.kind == "write":
            so = "nobody knows whose value stays"
        else:
            so = "the read may come before or after the write"
        return f"{who} run in any order{until}, so {so}. {often}"

    def _advice(self, one_line: bool, element: str) -> str:
        before, after = self.before, self.after
        first, second = before.line.number, after.line.number
        atomics = "atomic" in (before.kind, after.kind)
        if self.stored_same:
            return f"let one thread store it, for example `if cuda.{self._first_thread()}:`"
        if one_line and self.both_write and _updates(after.line.text):
            return (
                f"cuda.atomic.add({after.array}, index, value), or another of cuda.atomic, which "
                "reads, changes and writes the element in one step"
            )
        if before.kind == after.kind == "write" and one_line and self.same_block:
            return (
                "give each thread an element of its own to write, or combine the values with one "
                "of cuda.atomic"
            )
        if not self.same_block:
            return self._between_blocks(atomics)
        barrier = "cuda.syncthreads()"
        if self.same_warp:
            barrier += " (cuda.syncwarp() is enough: these threads are of one warp)"
        if one_line and before.kind == "write":  # a later round of a loop reads it
            return (
                f"put {barrier} at the end of each round of the loop, outside any `if`, where "
                "every thread of the block passes"
            )
        if one_line:
            return (
                f"read {element} into a variable first, put {barrier} on the next line, and store "
                "after it"
            )
        if before.line.function != after.line.function or before.line.file != after.line.file:
            return f"put {barrier} between the two, where every thread of the block passes"
        if first < second:
            return f"put {barrier} between line {first} and line {second}"
        return (
            f"put {barrier} after line {first}, before the loop comes back to line {second}: a "
            "barrier is needed in each round on both sides"
        )

    def _between_blocks(self, atomics: bool) -> str:
        if atomics:
            return (
                "make the plain access atomic too, or move it to a second kernel: a launch waits "
                "for the launch before it"
            )
        if {self.before.kind, self.after.kind} == {"write"}:
            return (
                "give each thread of the grid an element of its own to write (is blockIdx in the "
                "index?), or combine the values with one of cuda.atomic"
            )
        fence = "; or call cuda.threadfence() before the atomic operation that tells the others"
        return (
            "write to another array than the one that is read; or split the kernel in two at this "
            "place, for cuda.syncthreads() waits for one block only, and a launch waits for the "
            f"launch before it{fence if self.atomics else ''}"
        )

    def _first_thread(self) -> str:
        return "threadIdx.x == 0" if self.same_block else "grid(1) == 0"


def _updates(text: str) -> bool:
    """Whether a line reads an element, changes it and writes it back, as `a[i] += 1` does."""
    return any(f"{operator}=" in text for operator in ("+", "-", "*", "/", "|", "&", "^"))


@dataclass
class UnwrittenSeen:
    """Reads of elements that nobody wrote, on one line."""

    array: str
    index: tuple[int, ...]
    space: str  # "shared", "local" or "global"
    place: Place
    times: int = 0

    def error(self) -> UninitialisedRead:
        """The reads as an error in three parts, which names the first element."""
        element = f"{self.array}[{', '.join(map(str, self.index))}]"
        before, advice = _UNWRITTEN[self.space]
        error = UninitialisedRead(
            f"{element} is read before anything was stored in it",
            f"{before}. It happened {self.times:,} time{'s' if self.times > 1 else ''}",
            advice.format(array=self.array),
            self.place,
        )
        error.array, error.index, error.times = self.array, self.index, self.times
        return error


_UNWRITTEN = {
    "shared": (
        "shared memory begins with whatever the block before left in it",
        "store to every element of {array} that is read, also where the data ends: store 0 there, "
        "and put cuda.syncthreads() between the stores and this line",
    ),
    "local": (
        "a local array begins with whatever was in that memory",
        "fill {array} in a loop before this line",
    ),
    "global": (
        "cuda.device_array gives memory with whatever was in it",
        "make it with cuda.to_device(np.zeros(...)), or let a kernel store to it first",
    ),
}


def inactive_lane(name: str, lane: int, source: int, place: Place, times: int) -> InactiveLane:
    """A shuffle that reads from a lane which does not take part."""
    return InactiveLane(
        f"lane {lane} reads lane {source} in {name}, and lane {source} takes no part in it",
        "what it gets is undefined: the lane is in another branch, has returned, or is past the "
        f"end of the block. It happened {times:,} time{'s' if times > 1 else ''}",
        f"let every lane that is read from call {name}, too, with a value that does no harm, such "
        "as 0 in a sum; and make the block a multiple of 32 threads",
        place,
    )


def negative_index(array: str, seen: NegativeIndices) -> NegativeIndex:
    """An index that was worked out below 0, as a[i - 1] in thread 0."""
    who = "thread" if seen.times == 1 else f"{seen.times:,} times, first in thread"
    block, thread = coordinate(seen.place.block), coordinate(seen.place.thread)
    error = NegativeIndex(
        f"the index {seen.index} of {array} is below 0 ({who} {thread} of block {block})",
        "Numba counts from the end, so that -1 is the last element; CUDA C and most other "
        "languages read foreign memory there",
        "let only threads whose index is 0 or more come to this line, as in `if i > 0:`; where "
        "counting from the end is meant, add the length: a[i - 1 + a.size] says so",
        seen.place,
    )
    error.array, error.index, error.times = array, seen.index, seen.times
    return error
