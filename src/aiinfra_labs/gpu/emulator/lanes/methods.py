"""Methods of numbers and arrays in a kernel: `z.conjugate()`, `a.reshape(4, 4)`. Unit 3.2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import LaneError, described
from ..lanes import arithmetic
from ..lanes.views import ArrayView


def method_of(value: Any, name: str) -> Callable[..., Any] | None:
    """The method as a function of the value and its arguments; None where it has none."""
    if isinstance(value, ArrayView):
        return _OF_ARRAYS.get(name)
    if isinstance(value, np.ndarray | np.generic):
        return _OF_NUMBERS.get(name)
    if isinstance(value, np.dtype) and name == "type":  # a.dtype.type(3)
        return lambda dtype, number: arithmetic.cast(number, dtype)
    return None


def _bit_count(value: Any) -> Any:
    """How many bits are set in the absolute value: uint8 in NumPy, here in the value's type."""
    if value.dtype.kind not in "iu":
        raise LaneError("only integers have bit_count()")
    return np.bitwise_count(value).astype(value.dtype)


def _view_number(value: Any, dtype: Any) -> Any:
    """The same bits read as another type of the same size."""
    from ..translation.scalars import scalar_dtype

    wanted = scalar_dtype(dtype)
    if wanted is None or value.dtype.kind not in "iuf" or wanted.kind not in "iuf":
        raise LaneError("view reads an integer or a float as another: x.view(np.int32)")
    if wanted.itemsize != value.dtype.itemsize:
        raise LaneError(
            f"{described(value)} has {value.dtype.itemsize} bytes, and {wanted} has "
            f"{wanted.itemsize}",
            "view changes what the bits mean, not how many there are",
        )
    return value.view(wanted)


def _item(array: ArrayView) -> Any:
    if array.ndim:
        raise LaneError(f"{array.name} has more than one element: index it")
    return array.read()


def _reshape(array: ArrayView, *shape: Any) -> ArrayView:
    """Another shape for the same elements, which lie one behind the other."""
    lengths = _lengths(shape)
    size = _contiguous_size(array, "reshape")
    if -1 in lengths:
        known = math.prod(n for n in lengths if n != -1)
        lengths = tuple(size // known if n == -1 and known else n for n in lengths)
    if math.prod(lengths) != size:
        raise LaneError(f"{array.name} has {size} elements and cannot take the shape {lengths}")
    strides = tuple(math.prod(lengths[axis + 1 :]) for axis in range(len(lengths)))
    return replace(array, shape=lengths, strides=_scaled(array, strides))


def _lengths(shape: tuple) -> tuple[int, ...]:
    parts = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
    if any(getattr(part, "ndim", 1) for part in parts):
        return tuple(1 for _ in parts)  # while types are inferred only the number of axes counts
    return tuple(int(part) for part in parts)


def _ravel(array: ArrayView) -> ArrayView:
    raise LaneError(
        f"ravel and flatten of {array.name} would make an array, which a kernel on a GPU cannot",
        f"write {array.name}.reshape({array.name}.size): it looks at the same elements in one row",
    )


def _view(array: ArrayView, dtype: Any) -> ArrayView:
    """The same bytes read as another dtype."""
    from ..translation.scalars import scalar_dtype

    wanted = scalar_dtype(dtype)
    if wanted is None:
        raise LaneError("view takes a dtype", "write array.view(np.int32)")
    last = array.strides[-1] if array.ndim else 1
    if array.pitch != array.dtype.itemsize or last != 1 or array.ndim > 1:
        raise LaneError(f"{array.name} is not one unbroken row of elements; view needs one")
    memory = array.window.view(np.uint8)
    old, new = array.dtype.itemsize, wanted.itemsize
    if memory.size < new:  # not one whole element: there is nothing to see
        memory = np.zeros(new, np.uint8)
    window = np.lib.stride_tricks.as_strided(
        memory[:new].view(wanted),
        ((memory.size - new) // math.gcd(old, new) + 1,),
        (math.gcd(old, new),),
    )
    step = math.gcd(old, new)
    shape = tuple(n * old // new for n in array.shape)
    return replace(
        array,
        window=window,
        start=array.start * (old // step),
        shape=shape,
        strides=tuple(new // step for _ in array.shape),
        dtype=wanted,
    )


def _contiguous_size(array: ArrayView, what: str) -> int:
    """The number of elements of an array without gaps, in C's order."""
    if any(isinstance(n, np.ndarray) for n in array.shape):
        raise LaneError(f"{what} of an array whose length differs from thread to thread")
    if 0 in array.shape:
        return 0
    expected = _unit(array)
    for length, stride in zip(array.shape[::-1], array.strides[::-1], strict=True):
        if length != 1 and stride != expected:
            raise LaneError(f"{array.name} has gaps between its rows: {what} needs it whole")
        expected *= int(length)
    return math.prod(map(int, array.shape))


def _unit(array: ArrayView) -> int:
    """The entries of the window from one element to the next."""
    return max(array.dtype.itemsize // array.pitch, 1)


def _scaled(array: ArrayView, strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(s * _unit(array) for s in strides)


_OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "bit_count": _bit_count,
    "item": lambda value: value,
    "view": _view_number,
    "conj": np.conjugate,
    "conjugate": np.conjugate,
}
_OF_ARRAYS: dict[str, Callable[..., Any]] = {
    "flatten": _ravel,
    "item": _item,
    "ravel": _ravel,
    "reshape": _reshape,
    "transpose": ArrayView.transposed,
    "view": _view,
}
