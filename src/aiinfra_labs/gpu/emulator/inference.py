"""The types of a kernel's locals, found before it runs. Unit 3.2.

Numba gives a variable one type where ways through the code join: the unification of what each way
assigns. To find them, the translated kernel runs once on no lanes at all. Every branch is taken,
every loop goes round until its types stay as they are, and each join notes its type in the table
that the real run then follows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import arithmetic
from .loops import ForLoop, Loop, Values
from .machine import Launch, Line, Machine
from .mask import EMPTY, Mask
from .values import UNDEFINED, conform, kind_of, unify_kinds

MAX_ROUNDS = 16  # a type climbs at most bool, int8, ..., float64, complex128


class TypingMachine(Machine):
    """A machine of no lanes that takes every way through the code."""

    typing = True

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
        kind = table.get(site)
        for side in sides:
            kind = unify_kinds(kind, kind_of(side))
        table[site] = kind
        return conform(_lanes(sides[0]), kind)

    def loop(self, table: dict, site: int, mask: Mask, line: Line) -> Loop:
        return TypingLoop(self, table, site, mask, line)

    def for_loop(self, table: dict, site: int, mask: Mask, items: Any, line: Line) -> ForLoop:
        return TypingForLoop(self, table, site, mask, items, line)

    def print(self, mask: Mask, line: Line, *values: Any) -> None:
        pass

    def _tuple_item(self, values: tuple, index: tuple) -> Any:
        (item,) = index
        if not isinstance(item, slice) and (item.ndim or int(item) >= len(values)):
            return values[0]
        return super()._tuple_item(values, index)


def _lanes(value: Any) -> Any:
    """A uniform number as a vector of no lanes: after a join it may differ by thread."""
    if isinstance(value, tuple):
        return tuple(_lanes(v) for v in value)
    if isinstance(value, np.generic):
        return np.zeros(0, value.dtype)
    return value


class _TypingRounds:
    """Goes round until the types of the loop's variables stay as they are."""

    stable = False
    seen: Any = None  # the header's types a round ago

    def enter(self, values: Values) -> Values:
        self.values = self._widen(values, "header")
        return self.values

    def test(self, mask: Mask, condition: Any, values: Values) -> Mask:
        arithmetic.truth(condition)
        if self.stable or self.rounds > MAX_ROUNDS:
            self.leave(Mask(mask.lanes), values)
            return EMPTY
        return mask

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
    def next(self, mask: Mask, values: Values) -> tuple[Mask, Any]:
        mask, value = super().next(mask, values)
        return mask, _lanes(value)
