"""Joining values where control flow joins. Unit 3.2.

After `if c: x = 1.0` the lanes that took the branch hold the new x, the others the old one. A
compiler calls the place where both meet a phi. Its type is the unification of both sides, found
before the kernel runs (`inference.py`), so that it never depends on which branch the data took.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import UninitialisedRead, UnsupportedFeature
from ..lanes.mask import EMPTY, Mask
from ..lanes.views import ArrayView, common_window
from .promotion import unify


class Undefined:
    """What a local holds before its first assignment."""

    def __getattr__(self, name: str) -> Any:
        raise UninitialisedRead(
            "a local variable is read before it has a value",
            "on some way through the kernel no assignment comes first",
            "give the variable a value at the top of the kernel",
        )


UNDEFINED = Undefined()


@dataclass(frozen=True, eq=False)
class Partial:
    """A local that only some lanes have given a value: bool [L], True where they have."""

    value: Any
    lanes: np.ndarray


class Literal(np.int64):
    """An integer that the text of the kernel gives: a number, or the name of a global one.

    Only such a one is known when Numba compiles: the length of a shared array, the number of axes
    in `grid(2)`. What is computed from it, or joined with another, is a plain int64. A device
    function that is called with one has a version of its own for it.
    """


class Axes(NamedTuple):
    """`cuda.threadIdx` and its like as a whole."""

    x: Any
    y: Any
    z: Any


class LiteralBool(np.ndarray):
    """True or False as written in a call."""

    @staticmethod
    def of(value: bool) -> LiteralBool:
        """The value as an array of no axes."""
        return np.asarray(value).view(LiteralBool)


def tuple_like(value: tuple, items: Iterable[Any]) -> tuple:
    """A tuple of `items`; a namedtuple keeps its names."""
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)


def kind_of(value: Any) -> Any:
    """The type of a value: a dtype, a tuple of types, or None where nothing is to be unified."""
    if isinstance(value, tuple):
        return tuple(kind_of(v) for v in value)
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype
    return None


def unify_kinds(a: Any, b: Any) -> Any:
    """The kind of what may be either, part by part in a tuple; None stands for the other."""
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple(unify_kinds(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.dtype) and isinstance(b, np.dtype):
        return unify(a, b)
    return a if b is None else b


def conform(value: Any, kind: Any) -> Any:
    """`value` as the unified type."""
    if kind is None or value is UNDEFINED:
        return value
    if value is None:
        raise _mixed(None, np.bool_(False))  # a number, of whatever type
    if isinstance(value, Partial):
        return Partial(conform(value.value, kind), value.lanes)
    if isinstance(kind, tuple):
        if not isinstance(value, tuple):
            return value
        return tuple_like(value, (conform(v, k) for v, k in zip(value, kind, strict=True)))
    if not isinstance(value, np.ndarray | np.generic):
        raise _mixed(value, np.bool_(False))
    return value.astype(kind, copy=False)


def merge(mask_a: Mask, a: Any, mask_b: Mask, b: Any) -> Any:
    """`a` in the lanes of `mask_a`, `b` in those of `mask_b`; lanes of neither hold anything."""
    if a is b or mask_b is EMPTY:
        return a
    if mask_a is EMPTY:
        return b
    if any(v is UNDEFINED or isinstance(v, Partial) for v in (a, b)):
        return _merge_partial(mask_a, a, mask_b, b)
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple_like(a, (merge(mask_a, x, mask_b, y) for x, y in zip(a, b, strict=True)))
    if isinstance(a, ArrayView) and isinstance(b, ArrayView):
        return _merge_views(mask_a, a, b)
    if a is None and b is None:
        return None
    if a is None or b is None or isinstance(a, tuple | ArrayView | str):
        raise _mixed(a, b)
    return np.where(mask_a.lanes, a, b)


def _merge_partial(mask_a: Mask, a: Any, mask_b: Mask, b: Any) -> Any:
    """Where some lanes have no value yet: keep which ones have."""
    has_a, a = _defined_lanes(mask_a, a)
    has_b, b = _defined_lanes(mask_b, b)
    value = b if a is UNDEFINED else a
    if a is not UNDEFINED and b is not UNDEFINED:
        value = merge(mask_a, a, mask_b, b)
    has = has_a | has_b
    if np.count_nonzero(has) == mask_a.threads + mask_b.threads:
        return value
    return Partial(value, has)


def _defined_lanes(mask: Mask, value: Any) -> tuple[np.ndarray, Any]:
    if value is UNDEFINED:
        return np.zeros_like(mask.lanes), value
    if isinstance(value, Partial):
        return mask.lanes & value.lanes, value.value
    return mask.lanes, value


def _mixed(a: Any, b: Any) -> UnsupportedFeature:
    return UnsupportedFeature(
        "a variable or a result is a different kind of thing in different threads",
        f"one way leaves {_spoken(a)}, the other {_spoken(b)}",
        "give it the same kind of value on every way; a function returns one on every way, too",
    )


def _merge_views(mask: Mask, a: ArrayView, b: ArrayView) -> ArrayView:
    """An array that is `a` in some threads and `b` in others."""
    if a.window is not b.window:
        a, b = common_window(a, b)
    if a.strides != b.strides or a.dtype != b.dtype or a.space != b.space:
        raise UnsupportedFeature(
            f"a variable names the array {a.name} in some threads and {b.name} in others",
            "the two differ in dtype or in the steps from row to row, so that one instruction "
            "cannot reach into both",
            "load from both arrays in an if and an else, and keep the loaded value",
        )
    name = a.name if a.name == b.name else f"{a.name} or {b.name}"
    shape = tuple(np.where(mask.lanes, x, y) for x, y in zip(a.shape, b.shape, strict=True))
    return replace(a, start=np.where(mask.lanes, a.start, b.start), shape=shape, name=name)


def _spoken(value: Any) -> str:
    if value is None:
        return "None"
    return {tuple: "a tuple", ArrayView: "an array", str: "text"}.get(type(value), "a number")
