"""Loops on lanes that leave at different times. Unit 3.2.

Lanes go round together. One whose condition fails, or that breaks, leaves with the values that its
variables had; one that continues waits for the next round. After the loop all are joined again.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaneError, StepBudgetExceeded, described
from ..translation.promotion import INT64
from ..translation.values import UNDEFINED, conform, merge
from .mask import EMPTY, Mask
from .views import ArrayView
from .waiting import POLLS, one_element, unchanged

if TYPE_CHECKING:
    from ..translation.endings import Ends
    from .launching import Line
    from .protocol import Machine

Values = tuple[Any, ...]  # the loop's variables, in the translator's order


@dataclass(frozen=True)
class Range:
    """`range(start, stop, step)`; each bound may differ from thread to thread."""

    start: Any
    step: Any
    rounds: Any  # how often it goes round: int, or int64 [L]

    @staticmethod
    def of(bounds: Values) -> Range:
        if not 1 <= len(bounds) <= 3:
            raise LaneError("range takes 1 to 3 integers")
        for bound in bounds:
            if not isinstance(bound, np.ndarray | np.generic) or bound.dtype.kind not in "iub":
                raise LaneError(f"range takes integers, not {described(bound)}: use // or int(...)")
        # Numba: a range of int32 stays int32, all else is int64 (or uint64 throughout)
        kinds = {b.dtype for b in bounds}
        dtype = kinds.pop() if len(kinds) == 1 else INT64
        if dtype not in (np.dtype(np.int32), np.dtype(np.uint64)):
            dtype = INT64
        start, stop, step = dtype.type(0), None, dtype.type(1)
        match [b.astype(dtype, copy=False) for b in bounds]:
            case [stop]:
                pass
            case [start, stop]:
                pass
            case [start, stop, step]:
                pass
        return Range(start, step, _rounds(start, stop, step))


@dataclass(frozen=True)
class Together:
    """`zip` and `enumerate`: things looped over side by side, up to the end of the shortest."""

    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Indices:
    """`np.ndindex(2, 3)`: each index of a shape, the last axis fastest."""

    shape: tuple[Any, ...]


@dataclass(frozen=True)
class Elements:
    """`a.flat`, `np.nditer(a)`: each element of an array, in C's order."""

    array: ArrayView


def _need_one_type(items: Any) -> None:
    """Numba makes one loop of it, whose variable has one type."""
    kinds = {getattr(i, "dtype", type(i)) for i in items} if isinstance(items, tuple) else ()
    if len(kinds) > 1:
        raise LaneError(
            "a loop goes over a tuple of several types",
            "convert them to one type, as in (1.0, 0.5), or write the rounds out",
        )


def _unravelled(shape: tuple[Any, ...], at: Any) -> tuple[Any, ...]:
    """The index with number `at`: int64 for each axis."""
    index: list[Any] = []
    for length in reversed(shape):
        whole = np.maximum(np.int64(1) * length, 1)
        index.append(at % whole)
        at = at // whole
    return tuple(reversed(index))


def _size(shape: tuple[Any, ...]) -> Any:
    size: Any = np.int64(1)
    for length in shape:
        size = size * np.maximum(np.int64(1) * length, 0)
    return size


def items_in(items: Any) -> Any:
    """How many rounds a loop over `items` takes: int64, or one for each thread."""
    if isinstance(items, Range):
        return np.int64(1) * items.rounds
    if isinstance(items, tuple):
        return np.int64(len(items))
    if isinstance(items, ArrayView) and items.ndim:
        return np.int64(1) * items.shape[0]
    if isinstance(items, Indices):
        return _size(items.shape)
    if isinstance(items, Elements):
        return _size(items.array.shape)
    if isinstance(items, Together):
        return functools.reduce(np.minimum, map(items_in, items.parts))
    raise LaneError(
        f"a kernel loops over range(...), a tuple or an array, not over {described(items)}"
    )


ZERO = np.int64(0)


def enumerated(items: Any, start: Any = ZERO) -> Together:
    """`enumerate(items, start)`: each item with its number."""
    counter = Range(start, INT64.type(1), items_in(items))
    return Together((counter, items))


def _rounds(start: Any, stop: Any, step: Any) -> Any:
    """ceil((stop - start) / step), or 0 where negative. A step of 0 is refused by the caller."""
    if start.ndim == stop.ndim == step.ndim == 0:
        distance = int(stop) - int(start)
        return min(max(0, -(-distance // int(step))), INT64_MAX) if step else 0
    # the distance may need 64 bits without a sign: between int64's ends
    up = step > 0
    begin, end = start.astype(np.uint64), stop.astype(np.uint64)
    distance = np.where(up, end - begin, begin - end)
    stride = np.where(up, step.astype(np.uint64), -step.astype(np.uint64))
    some = np.where(up, start < stop, start > stop) & (step != 0)
    if step.ndim == 0 and abs(int(step)) == 1:
        rounds = distance
    else:
        rounds = (distance - np.uint64(1)) // np.maximum(stride, np.uint64(1)) + np.uint64(1)
    return np.where(some, np.minimum(rounds, np.uint64(INT64_MAX)), 0).astype(INT64)


INT64_MAX = 2**63 - 1


STILL = 16  # the share of the step budget that a loop may spend with nothing changed that ends it
LANES_PER_STEP = 4096  # a round of more lanes costs more of the step budget


class Loop:
    """A loop in progress for the lanes of one mask."""

    counts = False  # a `for` has a length: its rounds are never all the same

    def __init__(
        self, machine: Machine, table: dict, site: int, mask: Mask, line: Line, ends: Ends | None
    ):
        self.machine, self.table, self.site, self.line = machine, table, site, line
        self.kinds = table.get((site, "header"))
        self.ends = None if ends is None or (self.counts and not ends.early) else ends
        self.waits = self.ends is not None and ends.memory
        machine.watching += self.waits
        self.began = (mask.threads, machine.changes)  # threads and changes when the round began
        self.still = 0  # rounds that have changed nothing which decides whether it ends
        self.looked: tuple[Any, ...] = (None, None, 0)  # the last element read, changes, times
        self.entered = mask
        self.left, self.left_values = EMPTY, ()
        self.waiting, self.waiting_values = EMPTY, ()
        self.values: Values = ()
        self.rounds = 0
        self.spent_before = machine.spent

    def enter(self, values: Values) -> Values:
        self.values = self._conform(values, "header")
        return self.values

    def _conform_header(self, values: Values) -> Values:
        """As `_conform`, for each round: mostly the values have their types."""
        kinds = self.kinds
        if kinds is None:
            return values
        for value, kind in zip(values, kinds, strict=True):
            if value is UNDEFINED or getattr(value, "dtype", None) is not kind:
                return self._conform(values, "header")
        return values

    def test(self, mask: Mask, condition: Any, values: Values) -> Mask:
        """The lanes that go round; the others leave."""
        stay, leave = self.machine.split(mask, condition, self.line)
        if leave is not EMPTY:
            self.leave(leave, values)
        return stay

    def leave(self, mask: Mask, values: Values) -> None:
        """`break`, or the condition failed."""
        if self.left is EMPTY:
            self.left, self.left_values = mask, values
        else:
            self.left_values = _merge_all(self.left, self.left_values, mask, values)
            self.left = self.left.union(mask)

    def wait(self, mask: Mask, values: Values) -> None:
        """`continue`: these lanes take part again in the next round."""
        if self.waiting is EMPTY:
            self.waiting, self.waiting_values = mask, values
        else:
            self.waiting_values = _merge_all(self.waiting, self.waiting_values, mask, values)
            self.waiting = self.waiting.union(mask)

    def again(self, mask: Mask, values: Values) -> tuple[Mask, Values]:
        """The end of the body: the lanes that take part in the next round."""
        if self.waiting is not EMPTY:
            values = _merge_all(self.waiting, self.waiting_values, mask, values)
            mask = self.waiting.union(mask)
            self.waiting, self.waiting_values = EMPTY, ()
        self.rounds += 1
        self.machine.spent += 1 + mask.threads // LANES_PER_STEP
        if self.machine.spent - self.spent_before > self.machine.launch.step_budget * self.worth:
            if self.waits:
                self.machine.spins(self, mask, for_ever=False)
            self._stop_endless(mask)
        before, self.values = self.values, self._conform_header(values)
        if self.ends is not None and mask is not EMPTY:
            if self.rounds % self.machine.patience == 0:
                self._ask(mask, before)
            if self.waits:
                self.machine.round(self, mask)
            self.began = mask.threads, self.machine.changes
        return mask, self.values

    def _ask(self, mask: Mask, before: Values) -> None:
        """Whether the round that ends changed anything which decides if the loop ends."""
        machine, (threads, changes) = self.machine, self.began
        quiet = not self.waits or changes == machine.changes
        same = not self.counts and all(
            unchanged(before[k], self.values[k], mask) for k in self.ends.places
        )
        if same and quiet and threads == mask.threads and not machine.odd_fields:
            if not self.waits:
                self._stop_unchanged(mask)
            machine.spins(self, mask, for_ever=True)
        elif self.waits and self._polls(mask):
            machine.spins(self, mask, for_ever=False)
        self.still = self.still + machine.patience if same else 0
        if self.still > machine.launch.step_budget // STILL and not machine.by_turns:
            if self.waits:
                machine.spins(self, mask, for_ever=False)
            self._stop_unchanged(mask)

    def _polls(self, mask: Mask) -> bool:
        """Whether it has read one element again and again, and nobody has written anything."""
        element, changes, times = self.looked
        now = self.machine.seen
        same = changes == self.machine.changes and now is not None and element is not None
        times = times + 1 if same and one_element(element, now, mask) else 0
        self.looked = now, self.machine.changes, times
        return times >= POLLS

    def exit(self) -> tuple[Mask, Values]:
        self.machine.watching -= self.waits
        if self.left is EMPTY:  # every lane returned from inside
            return EMPTY, self.values
        mask = self.entered if self.left.threads == self.entered.threads else self.left
        return mask, self._conform(self.left_values, "exit")

    worth = 1  # how many step budgets it may spend

    def _conform(self, values: Values, where: str) -> Values:
        kinds = self.table.get((self.site, where))
        if kinds is None:
            return values
        return tuple(conform(v, k) for v, k in zip(values, kinds, strict=True))

    def _stop_unchanged(self, mask: Mask) -> None:
        machine, names = self.machine, self.ends.names
        goes = "1 thread goes" if mask.threads == 1 else f"{mask.threads} threads go"
        if names:
            on = f"{names[0]} decides" if len(names) == 1 else f"{_listed(names)} decide"
            why = f"{on} whether it ends, and a round leaves {'it' if len(names) == 1 else 'them'}"
            why = f"{goes} round for ever: {why} as before"
            try_ = f"change {_either(names)} in the loop: is a line such as `i += 1` missing?"
        else:
            why = f"{goes} round for ever: its condition stays true, and nothing leaves it"
            try_ = "give it a condition that becomes false, or a `break`"
        raise StepBudgetExceeded(
            "the loop never ends", why, try_, machine.place(self.line, int(np.argmax(mask.lanes)))
        )

    def _stop_endless(self, mask: Mask) -> None:
        machine = self.machine
        threads = mask.threads
        raise StepBudgetExceeded(
            f"the loop went round {self.rounds:,} times and did not end; its budget of "
            f"{machine.launch.step_budget:,} steps is spent",
            f"{'1 thread still goes' if threads == 1 else f'{threads} threads still go'} "
            "round: the loop's condition stays true. A step is a round of up to 4,096 threads, of "
            "this loop or of one inside it",
            "check that each round brings the condition nearer to false; a longer loop is allowed "
            "by AIINFRA_STEP_BUDGET or cuda.step_budget(n)",
            machine.place(self.line, int(np.argmax(mask.lanes))),
        )


def _listed(names: Values) -> str:
    """`i`, `i and n`, `i, k and n`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _either(names: Values) -> str:
    return names[0] if len(names) == 1 else "one of them"


class ForLoop(Loop):
    """`for x in range(...)`, or over a tuple or a 1-d array."""

    counts = True
    worth = 16  # it has a length, so it is no endless loop; see `_stop_endless`

    def __init__(
        self,
        machine: Machine,
        table: dict,
        site: int,
        mask: Mask,
        items: Any,
        line: Line,
        ends: Ends | None,
    ):
        super().__init__(machine, table, site, mask, line, ends)
        if isinstance(items, ArrayView) and items.ndim:
            self.items, self.range = items, Range.of((np.int64(1) * items.shape[0],))
        elif isinstance(items, tuple | Together | Indices | Elements):
            _need_one_type(items)
            self.items, self.range = items, Range.of((items_in(items),))
        elif isinstance(items, Range):
            self.items, self.range = None, items
        else:
            raise LaneError(
                f"a kernel loops over range(...), a tuple or an array, not over {described(items)}"
            )
        self.value, rounds = self.range.start, self.range.rounds
        # where it is the same for all threads, there is nothing to ask each of them
        self.uniform = None if isinstance(rounds, np.ndarray) else int(rounds)
        if self.ends is None and not machine.typing:  # nothing leaves it before its end
            self._refuse_too_long(mask, int(np.max(self.range.rounds, initial=0)))

    def _refuse_too_long(self, mask: Mask, rounds: int) -> None:
        most = self.machine.launch.step_budget * self.worth
        if rounds * (1 + mask.threads // LANES_PER_STEP) > most:
            self._stop_long(mask, f"it goes round {rounds:,} times")

    def _stop_endless(self, mask: Mask) -> None:
        """It has a length, and others inside it: all rounds together are too many."""
        longest = int(np.max(self.range.rounds, initial=0))
        spent = self.machine.spent - self.spent_before
        self._stop_long(
            mask,
            f"it has gone round {self.rounds:,} of {longest:,} times, which took {spent:,} steps",
        )

    def _stop_long(self, mask: Mask, figure: str) -> None:
        most = self.machine.launch.step_budget * self.worth
        raise StepBudgetExceeded(
            f"the loop is too long for the emulator: {figure}",
            f"it would end, and the emulator goes round {most:,} times at most. A step is a round "
            "of up to 4,096 threads, of this loop or of one inside it",
            "launch more threads that do less each, or use smaller arrays; more rounds are allowed "
            "by AIINFRA_STEP_BUDGET or cuda.step_budget(n)",
            self.machine.place(self.line, int(np.argmax(mask.lanes))),
        )

    def next(self, mask: Mask, values: Values) -> tuple[Mask, Any]:
        if self.uniform is not None and not self.machine.observed:
            if self.rounds >= self.uniform:
                self.leave(mask, values)
                return EMPTY, self.value
            value = self.value
            self.value = value + self.range.step
            return mask, value if self.items is None else self._item(mask, self.items, value)
        more = self.range.rounds > self.rounds
        more = np.bool_(more) if isinstance(more, bool) else more  # a bool is one of the compiler's
        mask = self.test(mask, more, values)
        value = self.value
        if mask is EMPTY:
            return mask, value
        self.value = value + self.range.step
        if self.items is None:
            return mask, value
        return mask, self._item(mask, self.items, value)

    def _item(self, mask: Mask, items: Any, at: Any) -> Any:
        """The item that this round is about."""
        if isinstance(items, Together):
            return tuple(self._item(mask, part, at) for part in items.parts)
        if isinstance(items, Indices):
            return _unravelled(items.shape, at)
        if isinstance(items, Elements):
            index = _unravelled(items.array.shape, at)
            return self.machine.load(mask, items.array, index, self.line)
        if isinstance(items, Range):
            return items.start + items.step * at.astype(np.asarray(items.start).dtype)
        return self.machine.load(mask, items, (at,), self.line)


def _merge_all(mask_a: Mask, a: Values, mask_b: Mask, b: Values) -> Values:
    return tuple(merge(mask_a, x, mask_b, y) for x, y in zip(a, b, strict=True))
