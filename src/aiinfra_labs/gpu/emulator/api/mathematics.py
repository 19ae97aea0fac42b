"""Python's `math`, and functions of NumPy's, on lanes, with the CUDA target's types. Unit 3.2.

A function of reals computes in float32 where every operand fits one by Numba's overloads, else in
float64. Some have a version for float16, the others take it as float32. `math.floor` and its like
give floats: a GPU rounds a float to a float in one instruction. All of it is compared with Numba's
compiler in `tests/gpu/test_typing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LaneError
from ..lanes import arithmetic
from ..lanes.arithmetic import Value, need_numbers
from ..translation.promotion import (
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT64,
    INTEGERS,
    angle_dtype,
    math_power_dtype,
    need_reals,
    single_or_double,
    two_reals_dtype,
)


def round_(a: Value, digits: Value | None = None) -> Value:
    """`round(x)` is an int64, `round(x, n)` a float; halves go to the even neighbour."""
    need_reals(a.dtype)
    if digits is None:
        return np.rint(a).astype(INT64)
    need_reals(digits.dtype)
    scale = np.power(10.0, digits.astype(FLOAT64))
    return (np.rint(a.astype(FLOAT64) * scale) / scale).astype(single_or_double(a.dtype))


def _of_one(ufunc: Callable, halves: bool = False) -> Callable:
    """A function of one real. halves: there is a version of it for float16."""

    def apply(a: Value) -> Value:
        need_reals(a.dtype)
        dtype = FLOAT64 if a.dtype.kind in INTEGERS else a.dtype
        if dtype == FLOAT16 and not halves:
            dtype = FLOAT32
        return ufunc(a.astype(dtype, copy=False)).astype(dtype, copy=False)

    return apply


def _of_two(ufunc: Callable, rule: Callable) -> Callable:
    def apply(a: Value, b: Value) -> Value:
        dtype = rule(a.dtype, b.dtype)
        found = ufunc(a.astype(dtype, copy=False), b.astype(dtype, copy=False))
        return found.astype(dtype, copy=False)

    return apply


def by_lane(function: Callable) -> Callable:
    """For what NumPy lacks (erf, gamma): one lane at a time, in float64."""

    def apply(*values: Value) -> Value:
        lanes = np.broadcast_arrays(*values)
        rows = zip(*(lane.flat for lane in lanes), strict=True)
        found = [_guarded(function, *map(float, row)) for row in rows]
        return np.array(found, dtype=FLOAT64).reshape(lanes[0].shape)[()]

    return apply


def _guarded(function: Callable, *x: float) -> float:
    try:
        return function(*x)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def _modf(a: Value) -> tuple[Value, Value]:
    """The fraction and the whole part: float32 of a float32, else float64."""
    need_reals(a.dtype)
    fraction, whole = np.modf(a.astype(a.dtype if a.dtype == FLOAT32 else FLOAT64))
    return fraction, whole


def _frexp(a: Value) -> tuple[Value, Value]:
    need_reals(a.dtype)
    mantissa, exponent = np.frexp(a.astype(single_or_double(a.dtype)))
    return mantissa, exponent.astype(np.int32)


def _ldexp(a: Value, n: Value) -> Value:
    need_reals(a.dtype, n.dtype)
    return np.ldexp(a.astype(single_or_double(a.dtype)), n.astype(np.int32))


def _real_test(ufunc: Callable) -> Callable:
    def apply(a: Value) -> Value:
        need_reals(a.dtype)
        return ufunc(a)

    return apply


def counted(name: str, function: Callable, most: int = 1, least: int = 0) -> Callable:
    """`function`, for `least` (by default `most`) to `most` numbers and for nothing else."""
    least = least or most

    def apply(*args: Value) -> Value:
        if not least <= len(args) <= most:
            count = str(most) if least == most else f"{least} or {most}"
            raise LaneError(f"{name} takes {count} number(s), not {len(args)}")
        need_numbers(name, *args)
        return function(*args)

    return apply


_WITH_HALVES = {
    "ceil": np.ceil,
    "cos": np.cos,
    "exp": np.exp,
    "fabs": np.abs,
    "floor": np.floor,
    "log": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "trunc": np.trunc,
    "exp2": np.exp2,  # Python 3.11
}
_WITHOUT_HALVES = {
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "cosh": np.cosh,
    "degrees": np.degrees,
    "erf": by_lane(math.erf),
    "erfc": by_lane(math.erfc),
    "expm1": np.expm1,
    "gamma": by_lane(math.gamma),
    "lgamma": by_lane(math.lgamma),
    "log1p": np.log1p,
    "radians": np.radians,
    "sinh": np.sinh,
    "tan": np.tan,
}
_UNARY = (
    {name: _of_one(ufunc, halves=True) for name, ufunc in _WITH_HALVES.items()}
    | {name: _of_one(ufunc) for name, ufunc in _WITHOUT_HALVES.items()}
    | {"frexp": _frexp, "modf": _modf}
    | {name: _real_test(getattr(np, name)) for name in ("isfinite", "isinf", "isnan")}
)
_BINARY = {
    "atan2": _of_two(np.arctan2, angle_dtype),
    "copysign": _of_two(np.copysign, two_reals_dtype),
    "fmod": _of_two(np.fmod, two_reals_dtype),
    "hypot": _of_two(np.hypot, angle_dtype),
    "ldexp": _ldexp,
    "nextafter": _of_two(np.nextafter, two_reals_dtype),
    "pow": _of_two(np.power, math_power_dtype),
    # IEEE 754's: the quotient is rounded to the nearest integer, halves to even
    "remainder": _of_two(by_lane(math.remainder), two_reals_dtype),
}
MATH: dict[Any, Callable] = {
    getattr(math, name): counted(f"math.{name}", function, count)
    for count, table in ((1, _UNARY), (2, _BINARY))
    for name, function in table.items()
    if hasattr(math, name)
}

# --- NumPy's ufuncs ------------------------------------------------------------------------------
# Numba's CUDA target has these alone (no np.sqrt, np.exp, np.abs), and none of them for float16.


def _small(dtype: np.dtype) -> np.dtype:
    """The float in which a ufunc of floats computes on a `dtype`."""
    if dtype.kind in INTEGERS:
        return FLOAT32 if dtype.itemsize <= 2 else FLOAT64
    return dtype


def ufunc_on_numbers(ufunc: np.ufunc, floats: bool) -> Callable:
    """A ufunc on numbers. floats: it computes on floats, whatever it is given."""

    def apply(*args: Value) -> Value:
        need_numbers(f"np.{ufunc.__name__}", *args)
        if any(a.dtype == FLOAT16 for a in args):
            raise LaneError(
                f"np.{ufunc.__name__} has no version for float16 in Numba's kernels",
                f"convert it first: np.{ufunc.__name__}(np.float32(x))",
            )
        real = [a.dtype for a in args if a.dtype.kind in "fc"]
        if real and any(a.dtype.kind in "iu" for a in args):
            # Numba takes any integer for exact beside a float: int64 and float32 give float32
            args = tuple(a.astype(np.result_type(*real)) for a in args)
        elif floats:
            common = np.result_type(*(_small(a.dtype) for a in args))
            args = tuple(a.astype(common) for a in args)
        elif ufunc is np.conjugate and args[0].dtype == BOOL:
            args = (args[0].astype(np.int8),)
        return ufunc(*args)

    return counted(f"np.{ufunc.__name__}", apply, ufunc.nin)


_OF_FLOATS = (
    *(np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan, np.arctan2, np.hypot),
    *(np.sinh, np.cosh, np.tanh, np.arcsinh, np.arccosh, np.arctanh),
    *(np.log, np.log2, np.log10, np.degrees, np.rad2deg, np.radians, np.deg2rad, np.divide),
)
_OTHERS = (
    *(np.conjugate, np.isnan, np.invert, np.maximum, np.minimum, np.fmax, np.fmin),
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift),
)
NUMPY: dict[Any, Callable] = {u: ufunc_on_numbers(u, True) for u in _OF_FLOATS}
NUMPY |= {u: ufunc_on_numbers(u, False) for u in _OTHERS}

BUILTINS: dict[Any, Callable] = {
    min: arithmetic.minimum,
    max: arithmetic.maximum,
    abs: counted("abs", arithmetic.absolute),
    round: counted("round", round_, 2, 1),
    pow: counted("pow", arithmetic.power, 2),
    divmod: counted("divmod", arithmetic.pair_of_division, 2),
    int: counted("int", arithmetic.integer_of),
    float: counted("float", arithmetic.float_of),
    complex: counted("complex", arithmetic.complex_of, 2, 1),
}
