"""Work on whole arrays in a kernel: every thread goes through all the elements. Unit 3.2."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaneError, UnsupportedFeature, described
from ..lanes import arithmetic
from ..lanes.views import ArrayView

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


ZERO = np.int64(0)


def indices(typing: bool, out: ArrayView) -> Iterator[tuple]:
    """Every index of `out`, in C's order; one while types are inferred."""
    if typing:
        yield (np.int64(0),) * out.ndim
        return
    if any(isinstance(n, np.ndarray) for n in out.shape):
        raise LaneError(
            f"{out.name} has another length in each thread",
            "write the loop over its elements",
        )
    if math.prod(map(int, out.shape)):
        for index in np.ndindex(*map(int, out.shape)):
            yield tuple(map(np.int64, index))


def fill(machine: Machine, mask: Mask, target: ArrayView, value: Any, line: Line) -> None:
    """`row[:] = 0.0` or `row[:2] = (x, y)`: each thread stores all the elements, one by one."""
    if isinstance(value, ArrayView):
        raise UnsupportedFeature(
            f"{value.name} is assigned to a part of {target.name} as a whole",
            "Numba copies rows and slices with a run-time of its own that is not on a GPU "
            "(NRT required but not enabled)",
            f"copy the elements in a loop: for j in range({target.name}.shape[-1]): ...",
        )
    if isinstance(value, tuple):
        _spread(machine, mask, target, value, line)
        return
    for index in indices(machine.typing, target):
        machine.store(mask, target, index, value, line)


def _spread(machine: Machine, mask: Mask, target: ArrayView, values: tuple, line: Line) -> None:
    """The items of a tuple, one to each element of a row."""
    if target.ndim > 1:
        raise LaneError(f"a tuple is assigned to a row of {target.name}, not to several")
    length = target.shape[0]
    if not machine.typing and (isinstance(length, np.ndarray) or int(length) != len(values)):
        raise LaneError(
            f"a tuple of {len(values)} is assigned to a row of {length}",
            "give it as many numbers as the row has elements",
        )
    arithmetic.need_numbers("an assignment to a row", *values)
    if len({value.dtype for value in values}) > 1:
        raise LaneError(
            f"a tuple of several types is assigned to a row of {target.name}: "
            + ", ".join(str(v.dtype) for v in values),
            "convert them to one type, as in np.float32(x)",
        )
    for k, value in enumerate(values):
        at = np.int64(0 if machine.typing else k)
        machine.store(mask, target, (at,), value, line)


def element(machine: Machine, mask: Mask, value: Any, index: tuple, ndim: int, line: Line) -> Any:
    """The element of an operand that meets `index` of the result (NumPy's broadcasting)."""
    if not isinstance(value, ArrayView):
        arithmetic.need_numbers("an operation on arrays", value)
        return value
    if value.ndim > ndim:
        raise LaneError(f"{value.name} has more axes than the array for the result")
    own = index[ndim - value.ndim :]
    at = tuple(
        np.int64(0) if not isinstance(n, np.ndarray) and n == 1 else i
        for n, i in zip(value.shape, own, strict=True)
    )
    return machine.load(mask, value, at, line)


def unpacked(machine: Machine, mask: Mask, array: ArrayView, count: int, line: Line) -> tuple:
    """`x, y, z = row`: as many elements as there are names."""
    length = array.shape[0]
    known = not machine.typing and not isinstance(length, np.ndarray)
    if known and int(length) != count:
        raise LaneError(
            f"{array.name} has {length} elements and is unpacked into {count} names",
            "give a name to each, or take a slice of the array first",
        )
    numbers = range(count)
    return tuple(machine.load(mask, array, (np.int64(k),), line) for k in numbers)


# --- one number of all the elements --------------------------------------------------------------
# Each thread goes through the whole array, in C's order, as Numba's loops do.


def _elements(machine: Machine, mask: Mask, line: Line, array: Any, name: str) -> Iterator[Any]:
    if not isinstance(array, ArrayView):
        raise LaneError(f"{name} goes through an array, not through {described(array)}")
    for index in indices(machine.typing, array):
        yield machine.load(mask, array, index, line)


def _total(dtype: np.dtype) -> np.dtype:
    """The type of a sum: 64 bits for integers, else that of the elements."""
    if dtype.kind in "bi":
        return np.dtype(np.int64)
    return np.dtype(np.uint64) if dtype.kind == "u" else dtype


def _folded(name: str, operation: Callable, start: int) -> Callable:
    def run(machine: Machine, mask: Mask, line: Line, array: Any) -> Any:
        values = list(_elements(machine, mask, line, array, name))
        dtype = _total(array.dtype)
        result = dtype.type(start)
        for value in values:
            result = machine.flop(
                mask, operation(result, value).astype(dtype), line, _COUNTED[name]
            )
        return _typed(machine, result)

    return run


_COUNTED = {"sum": "add", "prod": "mul"}


def _typed(machine: Machine, value: Any) -> Any:
    """While types are inferred, a result is a vector of no lanes: it is no constant."""
    return np.zeros(0, value.dtype) if machine.typing else value


def _mean(machine: Machine, mask: Mask, line: Line, array: Any) -> Any:
    dtype = array.dtype if array.dtype in _KEPT else np.dtype(np.float64)
    result = dtype.type(0)
    for value in _elements(machine, mask, line, array, "mean"):
        result = machine.flop(mask, (result + value).astype(dtype), line, "add")
    return machine.flop(mask, (result / dtype.type(_count(array))).astype(dtype), line, "div")


_KEPT = frozenset(map(np.dtype, ("f4", "f8", "c8", "c16")))


def _count(array: ArrayView) -> Any:
    return math.prod(map(int, array.shape)) if not isinstance(array.shape[0], np.ndarray) else 1


def _variance(machine: Machine, mask: Mask, line: Line, array: Any) -> Any:
    mean = _mean(machine, mask, line, array)
    total = np.float64(0)
    for value in _elements(machine, mask, line, array, "var"):
        distance = value - mean
        total = total + np.real(distance * np.conj(distance))
    return total / np.float64(_count(array))


def _deviation(machine: Machine, mask: Mask, line: Line, array: Any) -> Any:
    return np.sqrt(_variance(machine, mask, line, array))


def _any(machine: Machine, mask: Mask, line: Line, array: Any) -> Any:
    found: Any = np.bool_(False)
    for value in _elements(machine, mask, line, array, "any"):
        found = np.logical_or(found, arithmetic.truth(value))
    return _typed(machine, found)


def _all(machine: Machine, mask: Mask, line: Line, array: Any) -> Any:
    found: Any = np.bool_(True)
    for value in _elements(machine, mask, line, array, "all"):
        found = np.logical_and(found, arithmetic.truth(value))
    return _typed(machine, found)


def _place_of(name: str, better: Callable) -> Callable:
    """argmin and argmax: the first of the best; a NaN is the best, as in NumPy."""

    def run(machine: Machine, mask: Mask, line: Line, array: Any) -> Any:
        best, place = None, np.int64(0)
        for k, value in enumerate(_elements(machine, mask, line, array, name)):
            if best is None:
                best = value
                continue
            improved = (better(value, best) | (value != value)) & (best == best)
            best = np.where(improved, value, best)
            place = np.where(improved, np.int64(k), place)
        return _typed(machine, np.asarray(place)[()])

    return run


def extreme(name: str, operation: Callable) -> Callable:
    """`min(a)` of an array, `min(a, b, ...)` of numbers."""

    def run(machine: Machine, mask: Mask, line: Line, *values: Any) -> Any:
        if len(values) == 1 and isinstance(values[0], ArrayView) and values[0].ndim == 1:
            values = (tuple(_elements(machine, mask, line, values[0], name)),)
        return operation(*values)

    return run


def sum_of(machine: Machine, mask: Mask, line: Line, items: Any, start: Any = ZERO) -> Any:
    """Python's `sum`: from an int64 0 on, so that of float32 numbers it is a float64."""
    values = items
    if not isinstance(items, tuple):
        values = list(_elements(machine, mask, line, items, "sum"))
    result = start
    for value in values:
        result = machine.flop(mask, arithmetic.add(result, value), line, "add")
    return result if isinstance(items, tuple) else _typed(machine, result)


def contains(machine: Machine, mask: Mask, item: Any, values: Any, line: Line) -> Any:
    """`item in values`: a tuple, or an array, all of which each thread goes through."""
    found: Any = np.bool_(False)
    items = values
    if not isinstance(values, tuple):
        items = _elements(machine, mask, line, values, "in")
    for value in items:
        found = np.logical_or(found, arithmetic.equal(item, value))
    return found


def _fill_all(machine: Machine, mask: Mask, line: Line, array: ArrayView, value: Any) -> None:
    fill(machine, mask, array, value, line)


REDUCTIONS: dict[str, Callable] = {
    "sum": _folded("sum", arithmetic.add, 0),
    "prod": _folded("prod", arithmetic.multiply, 1),
    "mean": _mean,
    "var": _variance,
    "std": _deviation,
    "any": _any,
    "all": _all,
    "argmin": _place_of("argmin", np.less),
    "argmax": _place_of("argmax", np.greater),
}
# the methods of an array that touch its elements: called with machine, mask, line, array
METHODS: dict[str, Callable] = REDUCTIONS | {"fill": _fill_all}
