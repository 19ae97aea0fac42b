"""What a loop goes over: `range(n)`, a tuple, an array, `zip`, `enumerate`. Unit 3.2."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import LaneError, described
from ..translation.promotion import range_dtype
from .arithmetic import convert
from .views import ArrayView


@dataclass(frozen=True)
class Range:
    """`range(start, stop, step)`; each bound may differ from thread to thread."""

    start: Any
    step: Any
    rounds: Any  # how often it goes round: int, or int64 [L]

    @staticmethod
    def of(bounds: tuple[Any, ...]) -> Range:
        """The range of 1 to 3 integers. Raises `LaneError` for other bounds."""
        if not 1 <= len(bounds) <= 3:
            raise LaneError("range takes 1 to 3 integers")
        for bound in bounds:
            number = isinstance(bound, np.ndarray | np.generic)
            if not number or bound.dtype.kind == "c":
                raise LaneError(f"range takes integers, not {described(bound)}: use // or int(...)")
        dtype = range_dtype(*(b.dtype for b in bounds))
        start, stop, step = dtype.type(0), None, dtype.type(1)
        match [convert(b, dtype) for b in bounds]:
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


def need_one_type(items: Any) -> None:
    """Numba makes one loop of it, whose variable has one type."""
    if not isinstance(items, tuple):
        return
    kinds = {i if callable(i) else getattr(i, "dtype", type(i)) for i in items}
    if len(kinds) > 1:
        raise LaneError(
            "a loop goes over a tuple of several types",
            "convert them to one type, as in (1.0, 0.5), or write the rounds out",
        )


def unravelled(shape: tuple[Any, ...], at: Any) -> tuple[Any, ...]:
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
    counter = Range(start, np.int64(1), items_in(items))
    return Together((counter, items))


def _rounds(start: Any, stop: Any, step: Any) -> Any:
    """How often Numba goes round: its difference of the ends has the width that they have."""
    if start.ndim == stop.ndim == step.ndim == 0 and start.dtype == np.int64:
        distance, stride = int(stop) - int(start), int(step)
        if abs(distance) <= INT64_MAX:
            return max(0, -(-distance // stride)) if stride else 0
    signed = np.dtype(f"i{start.dtype.itemsize}")
    distance, stride = (np.asarray(stop - start).view(signed), np.asarray(step).view(signed))
    length, width = (np.abs(v.astype(np.int64)).view(np.uint64) for v in (distance, stride))
    rounds = length // np.maximum(width, np.uint64(1)) + (
        length % np.maximum(width, np.uint64(1)) > 0
    )
    along = ((distance > 0) == (stride > 0)) & (stride != 0)
    found = np.where(along, np.minimum(rounds, np.uint64(INT64_MAX)), 0).astype(np.int64)
    return found if found.ndim else int(found)


INT64_MAX = 2**63 - 1
