"""Arithmetic on lanes with Numba's types. Unit 3.2.

A value is a NumPy scalar (the same for every thread) or a vector with one lane a thread; both have
a dtype. NumPy and Numba agree on most result types. Where they differ, Numba decides, because it is
what the GPU would run:

- an operation on integers gives int64, or uint64 where both operands are unsigned, so
  int32 * int32 does not overflow at 32 bits;
- integer / integer is float64; a shift keeps the signedness of its left operand;
- float32 ** integer stays float32.

The table of types is compared with Numba's own in `tests/gpu/test_typing.py`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

Value = Any  # np.ndarray [L] or np.generic

BOOL, INT64, UINT64, UINT16, FLOAT64 = map(np.dtype, ("?", "i8", "u8", "u2", "f8"))
_INTEGERS = "biu"


def unify(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a local that is assigned both an `a` and a `b` (Numba's unification)."""
    if a == b:
        return a
    if UINT16 in (a, b) and (a.kind in "fc" or b.kind in "fc"):
        # Numba has no way from uint16 to float32, though every value would fit
        return np.promote_types(np.promote_types(a, b), FLOAT64)
    return np.promote_types(a, b)


def arithmetic_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The result of `+ - * // %` on `a` and `b`."""
    if a.kind in _INTEGERS and b.kind in _INTEGERS:
        return UINT64 if a.kind == b.kind == "u" else INT64
    return unify(a, b)


def division_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    if a.kind in _INTEGERS and b.kind in _INTEGERS:
        return FLOAT64
    return unify(a, b)


def power_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    if a.kind == "f" and b.kind in _INTEGERS:
        return a
    return arithmetic_dtype(a, b)


def shift_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    _need_integers("a shift", a, b)
    return UINT64 if a.kind == "u" else INT64


def bitwise_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    _need_integers("a bitwise operation", a, b)
    return BOOL if a == b == BOOL else arithmetic_dtype(a, b)


def _need_integers(what: str, *dtypes: np.dtype) -> None:
    if any(d.kind not in _INTEGERS for d in dtypes):
        raise TypeError(f"{what} needs integers, not {' and '.join(map(str, dtypes))}")


def _no_complex(a: np.dtype, b: np.dtype) -> np.dtype:
    if "c" in (a.kind, b.kind):
        raise TypeError("complex numbers have no // and no %")
    return arithmetic_dtype(a, b)


def _ordered(a: np.dtype, b: np.dtype) -> np.dtype:
    if "c" in (a.kind, b.kind):
        raise TypeError("complex numbers have no order")
    return unify(a, b)


def _binary(ufunc: Callable, rule: Callable) -> Callable[[Value, Value], Value]:
    """`ufunc` on operands cast to the type that `rule` gives; the plan is kept by dtype pair."""
    plan: dict[tuple[np.dtype, np.dtype], np.dtype | None] = {}

    def apply(a: Value, b: Value) -> Value:
        key = (a.dtype, b.dtype)
        try:
            dtype = plan[key]
        except KeyError:
            wanted = rule(*key)
            # None where both operands have the type already: no cast is needed
            dtype = plan[key] = None if key == (wanted, wanted) else wanted
        if dtype is None:
            return ufunc(a, b)
        return ufunc(a.astype(dtype, copy=False), b.astype(dtype, copy=False))

    return apply


def _integer_power(a: Value, b: Value) -> Value:
    """Integer powers; a negative exponent gives 0 except for a base of 1 or -1 (as Numba does)."""
    result = np.power(a, np.abs(b))
    return np.where(b < 0, np.where(np.abs(a) == 1, result, 0), result)[()]


def power(a: Value, b: Value) -> Value:
    dtype = power_dtype(a.dtype, b.dtype)
    if dtype.kind in _INTEGERS:
        a, b = a.astype(dtype), b.astype(dtype)
        return np.power(a, b) if dtype.kind == "u" else _integer_power(a, b)
    a = a.astype(dtype)
    if b.dtype.kind in _INTEGERS and b.ndim == 0 and abs(int(b)) <= 64:
        return _by_squaring(a, int(b))
    return np.power(a, b.astype(dtype)).astype(dtype, copy=False)


def _by_squaring(a: Value, n: int) -> Value:
    """a ** n by repeated multiplication in a's own precision, as compiled code does it."""
    result, base = np.ones_like(a)[()], a
    for bit in reversed(bin(abs(n))[2:]):
        if bit == "1":
            result = result * base
        base = base * base
    return (np.ones_like(a)[()] / result) if n < 0 else result


def negative(a: Value) -> Value:
    if a.dtype.kind in _INTEGERS:
        a = a.astype(UINT64 if a.dtype.kind == "u" else INT64, copy=False)
    return np.negative(a)


def positive(a: Value) -> Value:
    return a.astype(INT64, copy=False) if a.dtype.kind == "b" else a


def invert(a: Value) -> Value:
    _need_integers("~", a.dtype)
    if a.dtype.kind in "iu":
        a = a.astype(UINT64 if a.dtype.kind == "u" else INT64, copy=False)
    return np.invert(a)


def truth(a: Value) -> Value:
    """The value as a condition."""
    if isinstance(a, tuple):
        return np.bool_(len(a) > 0)
    return a if a.dtype == BOOL else a != 0


def not_(a: Value) -> Value:
    return np.logical_not(truth(a))


def _compare(ufunc: Callable) -> Callable[[Value, Value], Value]:
    def apply(a: Value, b: Value) -> Value:
        if isinstance(a, tuple) or isinstance(b, tuple):
            return np.bool_(_TUPLE_COMPARE[ufunc](a, b))
        if "c" in (a.dtype.kind, b.dtype.kind) and ufunc not in (np.equal, np.not_equal):
            raise TypeError("complex numbers have no order")
        return ufunc(a, b)

    return apply


_TUPLE_COMPARE = {np.equal: operator.eq, np.not_equal: operator.ne}

add = _binary(np.add, arithmetic_dtype)
subtract = _binary(np.subtract, arithmetic_dtype)
multiply = _binary(np.multiply, arithmetic_dtype)
divide = _binary(np.true_divide, division_dtype)
floor_divide = _binary(np.floor_divide, _no_complex)
remainder = _binary(np.remainder, _no_complex)
left_shift = _binary(np.left_shift, shift_dtype)
right_shift = _binary(np.right_shift, shift_dtype)
bitwise_and = _binary(np.bitwise_and, bitwise_dtype)
bitwise_or = _binary(np.bitwise_or, bitwise_dtype)
bitwise_xor = _binary(np.bitwise_xor, bitwise_dtype)
minimum2 = _binary(np.minimum, _ordered)
maximum2 = _binary(np.maximum, _ordered)
equal, not_equal = _compare(np.equal), _compare(np.not_equal)
less, less_equal = _compare(np.less), _compare(np.less_equal)
greater, greater_equal = _compare(np.greater), _compare(np.greater_equal)


def minimum(*values: Value) -> Value:
    return _fold(minimum2, values)


def maximum(*values: Value) -> Value:
    return _fold(maximum2, values)


def _fold(operation: Callable, values: tuple[Value, ...]) -> Value:
    if len(values) == 1 and isinstance(values[0], tuple):
        values = values[0]
    result = values[0]
    for value in values[1:]:
        result = operation(result, value)
    return result


def cast(value: Value, dtype: np.dtype | type) -> Value:
    """`np.float32(value)`, `int(value)`, ...: a conversion written in the kernel."""
    dtype = np.dtype(dtype)
    if value.dtype.kind == "c" and dtype.kind != "c":
        raise TypeError(f"a complex number cannot become {dtype}: take .real or .imag")
    return value.astype(dtype, copy=False)


def absolute(a: Value) -> Value:
    return np.abs(a)


def round_(a: Value, digits: Value | None = None) -> Value:
    """`round(x)` is an int64, `round(x, n)` keeps the type; halves go to the even neighbour."""
    if digits is None:
        return np.rint(a).astype(INT64)
    scale = np.power(10.0, digits.astype(FLOAT64))
    return (np.rint(a.astype(FLOAT64) * scale) / scale).astype(a.dtype)


# --- the math module -------------------------------------------------------------------------


def _real_function(ufunc: Callable) -> Callable:
    """A function of reals: integers become float64, floats keep their precision."""

    def apply(*args: Value) -> Value:
        dtype = args[0].dtype
        for arg in args[1:]:
            dtype = unify(dtype, arg.dtype)
        if dtype.kind in _INTEGERS:
            dtype = FLOAT64
        if dtype.kind == "c":
            raise TypeError("the functions of math take real numbers, not complex ones")
        return ufunc(*(a.astype(dtype, copy=False) for a in args)).astype(dtype, copy=False)

    return apply


def _to_integer(ufunc: Callable) -> Callable:
    """math.floor, ceil, trunc: floats become int64; integers stay integers."""

    def apply(a: Value) -> Value:
        if a.dtype.kind in _INTEGERS:
            return positive(a.astype(UINT64 if a.dtype.kind == "u" else INT64))
        return ufunc(a).astype(INT64)

    return apply


def _by_python(function: Callable) -> Callable:
    """For the few functions that NumPy lacks (erf, gamma): one lane at a time, in float64."""

    def apply(a: Value) -> Value:
        dtype = FLOAT64 if a.dtype.kind in _INTEGERS else a.dtype
        flat = np.atleast_1d(a)
        result = np.array([_guarded(function, float(x)) for x in flat], dtype=dtype)
        return result if a.ndim else result[0]

    return apply


def _guarded(function: Callable, x: float) -> float:
    try:
        return function(x)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def _pair(function: Callable) -> Callable:
    def apply(a: Value) -> tuple[Value, Value]:
        return function(a.astype(FLOAT64) if a.dtype.kind in _INTEGERS else a)

    return apply


def _modf(a: Value) -> tuple[Value, Value]:
    fraction, whole = np.modf(a)
    return fraction, whole


def _frexp(a: Value) -> tuple[Value, Value]:
    mantissa, exponent = np.frexp(a)
    return mantissa, exponent.astype(np.int32)


MATH: dict[Any, Callable] = {
    getattr(math, name): _real_function(ufunc)
    for name, ufunc in {
        "acos": np.arccos,
        "acosh": np.arccosh,
        "asin": np.arcsin,
        "asinh": np.arcsinh,
        "atan": np.arctan,
        "atan2": np.arctan2,
        "atanh": np.arctanh,
        "copysign": np.copysign,
        "cos": np.cos,
        "cosh": np.cosh,
        "exp": np.exp,
        "expm1": np.expm1,
        "fabs": np.abs,
        "fmod": np.fmod,
        "hypot": np.hypot,
        "log": np.log,
        "log10": np.log10,
        "log1p": np.log1p,
        "log2": np.log2,
        "pow": np.power,
        "sin": np.sin,
        "sinh": np.sinh,
        "sqrt": np.sqrt,
        "tan": np.tan,
        "tanh": np.tanh,
        "degrees": np.degrees,
        "radians": np.radians,
    }.items()
}
MATH |= {
    math.floor: _to_integer(np.floor),
    math.ceil: _to_integer(np.ceil),
    math.trunc: _to_integer(np.trunc),
    math.erf: _by_python(math.erf),
    math.erfc: _by_python(math.erfc),
    math.gamma: _by_python(math.gamma),
    math.lgamma: _by_python(math.lgamma),
    math.isnan: np.isnan,
    math.isinf: np.isinf,
    math.isfinite: np.isfinite,
    math.modf: _pair(_modf),
    math.frexp: _pair(_frexp),
    math.ldexp: lambda a, n: np.ldexp(a, n.astype(np.int32)),
}

# NumPy's scalar functions that Numba accepts in a kernel
NUMPY: dict[Any, Callable] = {
    np.sqrt: MATH[math.sqrt],
    np.exp: MATH[math.exp],
    np.log: MATH[math.log],
    np.log2: MATH[math.log2],
    np.log10: MATH[math.log10],
    np.sin: MATH[math.sin],
    np.cos: MATH[math.cos],
    np.tan: MATH[math.tan],
    np.tanh: MATH[math.tanh],
    np.arctan2: MATH[math.atan2],
    np.abs: absolute,
    np.fabs: MATH[math.fabs],
    np.isnan: np.isnan,
    np.isinf: np.isinf,
    np.minimum: minimum2,
    np.maximum: maximum2,
    np.floor: _real_function(np.floor),
    np.ceil: _real_function(np.ceil),
}

BUILTINS: dict[Any, Callable] = {
    min: minimum,
    max: maximum,
    abs: absolute,
    round: round_,
    pow: power,
}
