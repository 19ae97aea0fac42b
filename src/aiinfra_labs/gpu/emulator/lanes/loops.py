"""Loops on lanes that leave at different times. Unit 3.2.

Lanes go round together. One whose condition fails, or that breaks, leaves with the values that its
variables had; one that continues waits for the next round. After the loop all are joined again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checkers.counted import Outlook, Sides, nearer, outlook
from ..checkers.waiting import POLLS, one_element, unchanged
from ..errors import LaneError, StepBudgetExceeded, described
from ..translation.values import UNDEFINED, conform, merge
from .items import (
    INT64_MAX,
    Elements,
    Indices,
    Range,
    Together,
    items_in,
    need_one_type,
    unravelled,
)
from .mask import EMPTY, Mask
from .views import ArrayView

if TYPE_CHECKING:
    from ..checkers.counted import Counted
    from ..checkers.endings import Ends
    from .launching import Line
    from .protocol import Machine

Values = tuple[Any, ...]  # the loop's variables, in the translator's order


FORESEEN = 4096  # rounds until a loop that will never end, or too late, is told of
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
        self.kept: tuple[int, int, Values] = (0, 0, ())  # a round, its threads, its values
        self.looked: tuple[Any, ...] = (None, None, 0)  # the last element read, changes, times
        self.entered = mask
        self.left, self.left_values = EMPTY, ()
        self.waiting, self.waiting_values = EMPTY, ()
        self.values: Values = ()
        self.rounds = 0
        self.spent_before = machine.spent
        self.limit = self._first_limit()  # steps
        self.look = 0  # the round in which the sides of its tests are looked at again
        self.looked_at: Any = None  # the sides, when they were last
        self.outlook: Outlook | None = None
        self.nearer = False  # whether they have come nearer since then

    def enter(self, values: Values) -> Values:
        """The loop's variables as they are before its first round, in their types."""
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
        if self.machine.spent - self.spent_before > self.limit:
            self._overspent(mask)
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
        elif not (self.waits or self.counts or machine.odd_fields):
            self._compare(mask)
        self.still = self.still + machine.patience if same else 0
        if self.still > machine.launch.step_budget // STILL and not machine.by_turns:
            if self.waits:
                machine.spins(self, mask, for_ever=False)
            self._stop_unchanged(mask)

    def _compare(self, mask: Mask) -> None:
        """Whether all that decides is as it was some rounds ago: then the same comes again."""
        turn, threads, values = self.kept
        if threads == mask.threads and all(
            unchanged(values[k], self.values[k], mask) for k in self.ends.places
        ):
            self._stop_unchanged(mask, self.rounds - turn)
        if self.rounds & (self.rounds - 1) == 0:  # to be kept for as many rounds again
            self.kept = self.rounds, mask.threads, self.values

    def _polls(self, mask: Mask) -> bool:
        """Whether it has read one element again and again, and nobody has written anything."""
        element, changes, times = self.looked
        now = self.machine.seen
        same = changes == self.machine.changes and now is not None and element is not None
        times = times + 1 if same and one_element(element, now, mask) else 0
        self.looked = now, self.machine.changes, times
        return times >= POLLS

    def foresee(self, mask: Mask, found: Counted, sides: Sides) -> None:
        """The loop comes to its tests: what do their sides tell since they were last looked at?"""
        before, self.looked_at = self.looked_at, (sides, self.rounds)
        self.look = 2 * self.rounds or 1
        if before is None or self.machine.odd_fields:
            return
        if not found.even:
            self.nearer = nearer(before[0], sides, mask)
            return
        outcome = outlook(found.tests, before[0], sides, (before[1], self.rounds), mask)
        if outcome is None:
            return
        self.look = INT64_MAX
        if outcome.never and not found.alone:
            return
        self.outlook = outcome
        budget, cost = self.machine.launch.step_budget, 1 + mask.threads // LANES_PER_STEP
        ends = outcome.rounds * cost <= budget * ForLoop.worth
        self.limit = budget * ForLoop.worth if ends else min(budget, FORESEEN * cost)

    def _first_limit(self) -> int:
        """Steps that it may take before anything is known of its end."""
        budget = self.machine.launch.step_budget
        if self.counts:
            return budget * self.worth
        known = self.waits and (self.ends.scans or self.machine.by_turns)
        return budget if known else self.machine.launch.blind_budget

    def _overspent(self, mask: Mask) -> None:
        if self.nearer and self.limit < self.machine.launch.step_budget:
            self.limit *= 2
            return
        if self.waits:
            self.machine.spins(self, mask, for_ever=False)
        self._stop_endless(mask)

    def exit(self) -> tuple[Mask, Values]:
        """The lanes that come out, and the loop's variables behind it."""
        self.machine.watching -= self.waits
        if self.left is EMPTY:  # every lane returned from inside
            return EMPTY, self.values
        mask = self.entered if self.left.threads == self.entered.threads else self.left
        return mask, self._conform(self.left_values, "exit")

    def _conform(self, values: Values, where: str) -> Values:
        kinds = self.table.get((self.site, where))
        if kinds is None:
            return values
        return tuple(conform(v, k) for v, k in zip(values, kinds, strict=True))

    def _stop_unchanged(self, mask: Mask, ago: int = 1) -> None:
        machine, names = self.machine, self.ends.names
        goes = "1 thread goes" if mask.threads == 1 else f"{mask.threads} threads go"
        if names:
            on = f"{names[0]} decides" if len(names) == 1 else f"{_listed(names)} decide"
            they = "it" if len(names) == 1 else "them"
            why = f"{on} whether it ends, and " + (
                f"a round leaves {they} as before"
                if ago == 1
                else f"{ago:,} rounds bring {they} back"
            )
            why = f"{goes} round for ever: {why}"
            try_ = (
                f"change {_either(names)} in the loop: is a line such as `i += 1` missing?"
                if ago == 1
                else "follow one thread from round to round: which value should end the loop?"
            )
        else:
            why = f"{goes} round for ever: its condition stays true, and nothing leaves it"
            try_ = "give it a condition that becomes false, or a `break`"
        raise StepBudgetExceeded(
            "the loop never ends", why, try_, machine.place(self.line, int(np.argmax(mask.lanes)))
        )

    def _stop_long(self, mask: Mask, longest: int) -> None:
        most = self.machine.launch.step_budget * ForLoop.worth
        if longest * (1 + mask.threads // LANES_PER_STEP) > most:
            figure = f"it goes round {longest:,} times"
        else:  # others are inside it: all rounds together are too many
            spent = self.machine.spent - self.spent_before
            figure = f"it has gone round {self.rounds:,} of {longest:,} times, "
            figure += f"which took {spent:,} steps"
        raise StepBudgetExceeded(
            f"the loop is too long for the emulator: {figure}",
            f"it would end, and the emulator goes round {most:,} times at most. A step is a round "
            "of up to 4,096 threads, of this loop or of one inside it",
            "launch more threads that do less each, or use smaller arrays; more rounds are allowed "
            "by AIINFRA_STEP_BUDGET or cuda.step_budget(n)",
            self.machine.place(self.line, int(np.argmax(mask.lanes))),
        )

    def _stop_foreseen(self, mask: Mask, found: Outlook) -> None:
        if not found.never:
            self._stop_long(mask, int(found.rounds))
        goes = "1 thread goes" if found.never == 1 else f"{found.never} threads go"
        raise StepBudgetExceeded(
            "the loop never ends",
            f"{goes} round for ever: {found.why}",
            found.try_,
            self.machine.place(self.line, found.lane),
        )

    def _stop_endless(self, mask: Mask) -> None:
        machine = self.machine
        threads = mask.threads
        if self.outlook is not None:
            self._stop_foreseen(mask, self.outlook)
        raise StepBudgetExceeded(
            f"the loop went round {self.rounds:,} times and did not end; its budget of "
            f"{self.limit:,} steps is spent",
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
            need_one_type(items)
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
        if rounds * (1 + mask.threads // LANES_PER_STEP) > self.limit:
            self._stop_long(mask, rounds)

    def _stop_endless(self, mask: Mask) -> None:
        self._stop_long(mask, int(np.max(self.range.rounds, initial=0)))

    def next(self, mask: Mask, values: Values) -> tuple[Mask, Any]:
        """The lanes that go round once more, and the item of this round."""
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
            return unravelled(items.shape, at)
        if isinstance(items, Elements):
            index = unravelled(items.array.shape, at)
            return self.machine.load(mask, items.array, index, self.line)
        if isinstance(items, Range):
            return items.start + items.step * at.astype(np.asarray(items.start).dtype)
        return self.machine.load(mask, items, (at,), self.line)


def _merge_all(mask_a: Mask, a: Values, mask_b: Mask, b: Values) -> Values:
    return tuple(merge(mask_a, x, mask_b, y) for x, y in zip(a, b, strict=True))
