"""Comparing what a learner's code gave with what was expected, and naming the first difference."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from .parts import Parts, a_kind


@dataclass(frozen=True)
class Measure:
    """How to compare, and what to say of a wrong value.

    `tolerance` is absolute below 1 and relative above: |got - expected| <= tolerance *
    max(1, |expected|). NaN equals NaN. With `dtype`, arrays must agree in dtype, too.
    """

    tolerance: float = 0.0
    dtype: bool = True
    why: str = ""
    try_: str = ""

    def wrong(self, what: str, why: str, try_: str) -> Parts:
        """A wrong value: the exercise's own words, where it has any."""
        return Parts(what, self.why or why, self.try_ or try_)


def difference(got: Any, expected: Any, name: str, measure: Measure) -> Parts | None:
    """What is wrong with `got`, in three parts; None when it equals `expected`."""
    if got is None and expected is not None:
        return Parts(
            f"{name} is None, expected {_kind(expected)}",
            "a function without a return statement returns None",
            "return the result at the end of the function",
            slip=True,
        )
    if isinstance(expected, np.ndarray):
        return _array_difference(got, expected, name, measure)
    if isinstance(expected, bool | np.bool_):
        same_kind = isinstance(got, bool | np.bool_)
    elif isinstance(expected, Number | np.number):
        same_kind = isinstance(got, Number | np.number) and not isinstance(got, bool | np.bool_)
        if same_kind:
            close = _close(np.asarray(got), np.asarray(expected), measure.tolerance)
            return None if bool(close) else _unequal(name, got, expected, measure)
    elif isinstance(expected, list | tuple):
        same_kind = isinstance(got, list | tuple)
        if same_kind:
            return _sequence_difference(got, expected, name, measure)
    else:
        same_kind = expected is None or isinstance(got, type(expected))
    if not same_kind:
        return Parts(
            f"{name} is {_kind(got)}, expected {_kind(expected)}",
            "the type is not the one that was asked for",
            "print the value and its type on this input",
            slip=True,
        )
    return None if _same(got, expected) else _unequal(name, got, expected, measure)


def _array_difference(got: Any, expected: np.ndarray, name: str, measure: Measure) -> Parts | None:
    if not isinstance(got, np.ndarray):
        return Parts(
            f"{name} is {_kind(got)}, expected {_kind(expected)}",
            "an array was asked for",
            "return a NumPy array; np.asarray makes one from a list",
            slip=True,
        )
    if got.shape != expected.shape:
        return Parts(
            f"{name} has shape {got.shape}, expected {expected.shape}",
            "each axis must have the length that was asked for",
            "print the shapes of the arrays that it is made from",
        )
    if measure.dtype and got.dtype != expected.dtype:
        return Parts(
            f"{name} has dtype {got.dtype}, expected {expected.dtype}",
            "the dtype says how many bytes an element takes and how it is rounded",
            f"make the array with dtype={expected.dtype}",
        )
    wrong = ~_close(got, expected, measure.tolerance)
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    index = ", ".join(map(str, first))
    elements = "element" if expected.size == 1 else "elements"
    share = f"{count:,} of {expected.size:,} {elements} {'differs' if count == 1 else 'differ'}"
    at = f"{name}[{index}]" if name.isidentifier() else f"{name} at [{index}]"
    if not first:
        return _unequal(name, got[()], expected[()], measure)
    return measure.wrong(
        f"{at} is {shown(got[first])}, expected {shown(expected[first])}; {share}",
        "the first element that differs is named",
        "work out by hand what your code does for this one element",
    )


def _sequence_difference(got: Any, expected: Any, name: str, measure: Measure) -> Parts | None:
    if len(got) != len(expected):
        return measure.wrong(
            f"{name} has {len(got)} elements, expected {len(expected)}",
            f"it is {shown(got)}, expected {shown(expected)}",
            "compare the two lists from the left: where do they part?",
        )
    for i, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        found = difference(mine, theirs, f"{name}[{i}]", measure)
        if found is not None:
            return found
    return None


def _close(got: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        same = np.asarray(got == expected)
        if got.dtype.kind in "fc" and expected.dtype.kind in "fc":
            same |= np.isnan(got) & np.isnan(expected)
        if tolerance and got.dtype.kind in "fciu" and expected.dtype.kind in "fciu":
            wide = np.result_type(got.dtype, expected.dtype, np.float64)
            gap = np.abs(got.astype(wide) - expected.astype(wide))
            same |= gap <= tolerance * np.maximum(1.0, np.abs(expected.astype(wide)))
    return same


def is_whole(value: Any) -> bool:
    """Whether a value is one whole number: an int, NumPy's or a tensor's; a bool is none."""
    if isinstance(value, bool | np.bool_) or "bool" in str(getattr(value, "dtype", "")):
        return False
    try:
        operator.index(value)
    except Exception:  # a float, a text, an array of several
        return False
    return True


def _same(got: Any, expected: Any) -> bool:
    try:
        return bool(got == expected)
    except Exception:  # a learner's __eq__ may do anything
        return False


def _unequal(name: str, got: Any, expected: Any, measure: Measure) -> Parts:
    return measure.wrong(
        f"{name} is {shown(got)}, expected {shown(expected)}",
        "the value differs from the reference's on this input",
        "follow this input through your code by hand, and find the first step that differs",
    )


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return a_kind(value) + (f" ({shown(value)})" if _is_short(value) else "")


def _is_short(value: Any) -> bool:
    return isinstance(value, Number | str | np.generic) and len(shown(value)) <= 40


def shown(value: Any, limit: int = 120) -> str:
    """A value as it is told in a message: cut after `limit` characters."""
    try:
        if isinstance(value, np.number | np.bool_):
            text = str(value)  # of a float32, no more digits than it holds
        else:
            text = repr(value.item() if isinstance(value, np.generic) else value)
    except Exception:  # a learner's __repr__ may do anything
        text = f"{a_kind(value)} that cannot be shown"
    return text if len(text) <= limit else text[:limit] + " ..."
