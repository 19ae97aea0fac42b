"""The types of a kernel's locals, found before it runs. Unit 3.2.

Numba gives a variable one type where ways through the code join: the unification of what each way
assigns. To find them, the translated kernel runs once on no lanes at all. Every branch is taken,
every loop goes round until its types stay as they are, and each join notes its type in the table
that the real run then follows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checkers.endings import Ends
from ..errors import LaneError
from ..lanes import arithmetic
from ..lanes.items import Together
from ..lanes.loops import ForLoop, Loop, Values
from ..lanes.machine import Launch, Line, Machine
from ..lanes.mask import EMPTY, Mask
from ..lanes.views import ArrayView, converted
from .calling import Inner
from .values import UNDEFINED, LiteralBool, conform, kind_of, tuple_like, unify_kinds

MAX_ROUNDS = 16  # a type climbs at most bool, int8, ..., float64, complex128


class TypingMachine(Machine):
    """A machine of no lanes that takes every way through the code."""

    typing = True
    may_wait = False  # whether a loop may wait for what another thread writes

    def __init__(self, launch: Launch):
        super().__init__(launch, 0, 0)

    def _compute_index(self, what: str, axis: int) -> Any:
        return np.zeros(0, dtype=np.int32)

    def split(self, mask: Mask, condition: Any, line: Line) -> tuple[Mask, Mask]:
        if isinstance(condition, bool):  # known at compile time, as in `if x is None`
            return (mask, EMPTY) if condition else (EMPTY, mask)
        arithmetic.truth(condition)
        return Mask(mask.lanes), Mask(mask.lanes)

    def join(self, before: Mask, a: Mask, b: Mask) -> Mask:
        return EMPTY if a is EMPTY and b is EMPTY else before

    def phi(self, table: dict, site: int, mask_a: Mask, a: Any, mask_b: Mask, b: Any) -> Any:
        sides = [v for m, v in ((mask_a, a), (mask_b, b)) if m is not EMPTY and v is not UNDEFINED]
        if not sides:
            return UNDEFINED
        function = callable(sides[0]) or isinstance(sides[0], Inner)
        if function and sides[0] is not sides[-1]:
            raise LaneError(
                "a variable holds one function in some threads and another in others",
                "call each of them in a branch of its own, and keep what it gives",
            )
        kind = table.get(site)
        for side in sides:
            kind = unify_kinds(kind, kind_of(side))
        table[site] = kind
        return conform(_lanes(sides[0]), kind)

    def loop(
        self, table: dict, site: int, mask: Mask, line: Line, ends: Ends | None = None
    ) -> Loop:
        found = TypingLoop(self, table, site, mask, line, ends)
        self.may_wait |= found.waits
        return found

    def for_loop(
        self, table: dict, site: int, mask: Mask, items: Any, line: Line, ends: Ends | None = None
    ) -> ForLoop:
        found = TypingForLoop(self, table, site, mask, items, line, ends)
        self.may_wait |= found.waits
        return found

    def defined(self, mask: Mask, value: Any, name: str, line: Line) -> Any:
        """A local may be read in the text before it is assigned: bool unifies with all numbers."""
        return np.zeros(0, dtype=bool) if value is UNDEFINED else value

    def _read(self, mask: Mask, target: ArrayView, line: Line) -> Any:
        return np.zeros(0, target.dtype)

    def _write(self, mask: Mask, target: ArrayView, value: Any, line: Line) -> None:
        converted(value, target.dtype, target.name)

    def raise_(self, mask: Mask, kind: type[Exception], values: tuple, line: Line) -> None:
        pass

    def assert_(self, mask: Mask, condition: Any, values: tuple, line: Line) -> None:
        pass

    def print(self, mask: Mask, line: Line, *values: Any) -> None:
        pass

    def _tuple_item(self, mask: Mask, values: tuple, index: tuple, line: Line) -> Any:
        item = index[0] if index else None
        if isinstance(item, np.ndarray) and item.dtype.kind in "iu" and values:
            return _lanes(values[0])
        return super()._tuple_item(mask, values, index, line)


def _lanes(value: Any) -> Any:
    """A uniform number as a vector of no lanes: after a join it may differ by thread."""
    if isinstance(value, tuple):
        return tuple_like(value, map(_lanes, value))
    if isinstance(value, np.generic | LiteralBool):
        return np.zeros(0, value.dtype)
    return value


class _TypingRounds:
    """Goes round until the types of the loop's variables stay as they are."""

    stable = False
    least = 0  # rounds that must be gone through
    seen: Any = None  # the header's types a round ago

    def enter(self, values: Values) -> Values:
        self.values = self._widen(values, "header")
        return self.values

    def test(self, mask: Mask, condition: Any, values: Values) -> Mask:
        if condition is not True:  # `while True`, which only a break leaves
            arithmetic.truth(condition)
        if self.rounds >= self.least and (self.stable or self.rounds > MAX_ROUNDS):
            if condition is not True:
                self.leave(Mask(mask.lanes), values)
            return EMPTY
        return mask

    def foresee(self, mask: Mask, tests: tuple, sides: tuple) -> None:
        """There are no lanes that would count."""

    def leave(self, mask: Mask, values: Values) -> None:
        self.left, self.left_values = mask, self._widen(values, "exit")

    def wait(self, mask: Mask, values: Values) -> None:
        self.values = self._widen(values, "header")

    def again(self, mask: Mask, values: Values) -> tuple[Mask, Values]:
        if mask is not EMPTY:
            self.values = self._widen(values, "header")
        self.rounds += 1
        now = self.table.get((self.site, "header"))
        self.stable, self.seen = now == self.seen, now
        return self.entered, self.values

    def exit(self) -> tuple[Mask, Values]:
        if self.left is EMPTY:
            return EMPTY, self.values
        return self.entered, self._widen(self.left_values, "exit")

    def _widen(self, values: Values, where: str) -> Values:
        key = (self.site, where)
        kinds = tuple(None if v is UNDEFINED else kind_of(v) for v in values)
        if key in self.table:
            kinds = tuple(map(unify_kinds, self.table[key], kinds))
        self.table[key] = kinds
        return tuple(conform(_lanes(v), k) for v, k in zip(values, kinds, strict=True))


class TypingLoop(_TypingRounds, Loop):
    pass


class TypingForLoop(_TypingRounds, ForLoop):
    @property
    def least(self) -> int:
        """Each item of a tuple may have a type of its own."""
        return _tuple_length(self.items)

    def next(self, mask: Mask, values: Values) -> tuple[Mask, Any]:
        mask = self.test(mask, np.bool_(True), values)
        if mask is EMPTY or self.items is None:
            return mask, _lanes(self.value)
        return mask, _lanes(self._item(mask, self.items, np.int64(self.rounds)))

    def _item(self, mask: Mask, items: Any, at: Any) -> Any:
        if isinstance(items, tuple):
            return items[int(at) % len(items)] if items else at
        return super()._item(mask, items, at)


def _tuple_length(items: Any) -> int:
    """The length of the longest tuple that is looped over."""
    if isinstance(items, Together):
        return max(map(_tuple_length, items.parts))
    return len(items) if isinstance(items, tuple) else 0
