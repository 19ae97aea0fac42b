"""The types of results, by Numba's rules: what two operands of these types give. Unit 3.2."""

from __future__ import annotations

import numpy as np

from ..errors import LaneError

BOOL, INT32, INT64, UINT64, UINT16 = map(np.dtype, ("?", "i4", "i8", "u8", "u2"))
FLOAT16, FLOAT32, FLOAT64 = map(np.dtype, ("f2", "f4", "f8"))
INTEGERS = "biu"  # the kinds of NumPy dtypes that count as integers
# What Numba's overloads take for a float32: a float, or an integer that fits one; uint16 would fit,
# and is led to float64 all the same.
NARROW = frozenset(map(np.dtype, ("?", "i1", "i2", "u1", "f2", "f4")))


def unify(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a local that is assigned both an `a` and a `b` (Numba's unification)."""
    return a if a == b else np.promote_types(a, b)


def single_or_double(*dtypes: np.dtype) -> np.dtype:
    """The type in which the CUDA target computes a function of reals: float32 or float64."""
    return FLOAT32 if NARROW.issuperset(dtypes) else FLOAT64


def overload_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type in which Numba computes on an `a` and a `b` of which one is no integer."""
    if "c" in (a.kind, b.kind):
        common = unify(a, b)
        return np.promote_types(common, FLOAT64) if UINT16 in (a, b) else common
    if {a, b} <= _HALVES:
        return FLOAT16
    return single_or_double(a, b)


_HALVES = frozenset(map(np.dtype, ("?", "i1", "f2")))  # what fits a float16, to the overloads


def arithmetic_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The result of `+ - *` on `a` and `b`."""
    if a.kind in INTEGERS and b.kind in INTEGERS:
        return UINT64 if a.kind == b.kind == "u" else INT64
    return overload_dtype(a, b)


def division_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a / b."""
    if a.kind in INTEGERS and b.kind in INTEGERS:
        return FLOAT64
    return overload_dtype(a, b)


def floor_division_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The result of `//` and `%`, which Numba has for no float16."""
    if "c" in (a.kind, b.kind):
        raise LaneError("complex numbers have no // and no %")
    return _whole(arithmetic_dtype(a, b))


def divmod_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of both parts of `divmod(a, b)`, which goes by unification."""
    if "c" in (a.kind, b.kind):
        raise LaneError("complex numbers have no divmod")
    if a.kind in INTEGERS and b.kind in INTEGERS:
        common = unify(a, b)
        return FLOAT64 if common.kind == "f" else UINT64 if common.kind == "u" else INT64
    return single_or_double(a, b)


def _whole(dtype: np.dtype) -> np.dtype:
    return FLOAT32 if dtype == FLOAT16 else dtype


def power_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a ** b."""
    if a.kind == "f" and b.kind in INTEGERS:
        return _whole(a)
    if (a, b) == (BOOL, INT32):  # the overload float32 ** int32 is found before int64 ** int64
        return FLOAT32
    return _whole(arithmetic_dtype(a, b))


def shift_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a << b and a >> b."""
    need_integers("a shift", a, b)
    return UINT64 if a.kind == "u" else INT64


def bitwise_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a & b, a | b and a ^ b."""
    need_integers("a bitwise operation", a, b)
    return BOOL if a == b == BOOL else arithmetic_dtype(a, b)


def need_integers(what: str, *dtypes: np.dtype) -> None:
    """Refuse an operator of integers on anything else."""
    if any(d.kind not in INTEGERS for d in dtypes):
        raise LaneError(f"{what} needs integers, not {' and '.join(map(str, dtypes))}")


def two_reals_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """`math.fmod`, `copysign`, `remainder`, `nextafter`."""
    need_reals(a, b)
    return single_or_double(a, b)


def angle_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """`math.atan2` and `hypot`, which have an overload for integers: float64."""
    need_reals(a, b)
    return FLOAT64 if a.kind in INTEGERS and b.kind in INTEGERS else single_or_double(a, b)


def math_power_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """`math.pow`: its overloads have float32 and float64 to a float or to an int32."""
    need_reals(a, b)
    exponents = {*NARROW, INT32, *([UINT16] if a == FLOAT32 else [])}
    return FLOAT32 if a in NARROW and b in exponents else FLOAT64


def need_reals(*dtypes: np.dtype) -> None:
    """Refuse a function of math on complex numbers."""
    if any(d.kind == "c" for d in dtypes):
        raise LaneError("the functions of math take real numbers, not complex ones")


def ordered(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type in which two are compared by size; complex numbers have no order."""
    if "c" in (a.kind, b.kind):
        raise LaneError("complex numbers have no order")
    return unify(a, b)


def extreme_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """`min` and `max`: of bools with bools, or of other numbers."""
    if (a == BOOL) != (b == BOOL):
        raise LaneError(f"min and max do not take {a} with {b}: convert the bool with int(...)")
    return ordered(a, b)


def range_dtype(*bounds: np.dtype) -> np.dtype:
    """The type of a `range` of these: Numba's best overload of int32, int64 and uint64.

    It counts the bounds that an overload loses something of, those that change their kind, those
    that only become wider; of equal ones the first is taken.
    """
    return min((INT32, INT64, UINT64), key=lambda dtype: _losses(dtype, bounds))


def _losses(dtype: np.dtype, bounds: tuple[np.dtype, ...]) -> tuple[int, int, int]:
    lost = sum(not np.can_cast(b, dtype) for b in bounds)
    wider = sum(np.can_cast(b, dtype) and b.kind == dtype.kind and b != dtype for b in bounds)
    other = sum(np.can_cast(b, dtype) and b.kind != dtype.kind for b in bounds)
    return lost, other, wider
