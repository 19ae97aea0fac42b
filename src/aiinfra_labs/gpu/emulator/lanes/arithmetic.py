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

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LaneError, described
from ..translation.promotion import (
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT64,
    INTEGERS,
    UINT64,
    arithmetic_dtype,
    bitwise_dtype,
    division_dtype,
    divmod_dtype,
    extreme_dtype,
    floor_division_dtype,
    need_integers,
    power_dtype,
    shift_dtype,
)

COMPLEX64, COMPLEX128 = np.dtype(np.complex64), np.dtype(np.complex128)
Value = Any  # np.ndarray [L] or np.generic


def _wrong(operation: str, *values: Any) -> LaneError:
    return LaneError(f"{operation} does not work on {' and '.join(map(described, values))}")


_PYTHONS: dict[str, Callable] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}


def _binary(symbol: str, ufunc: Callable, rule: Callable) -> Callable[[Value, Value], Value]:
    """`ufunc` on operands cast to the type that `rule` gives; the plan is kept by dtype pair.

    Of two numbers that are the same for every thread and need no cast, Python's operator gives the
    same in a fraction of the time.
    """
    plan: dict[tuple[np.dtype, np.dtype], np.dtype | None] = {}
    quick: dict[tuple[type, type], Callable] = {}

    def apply(a: Value, b: Value) -> Value:
        operation = quick.get((type(a), type(b)))
        if operation is not None:
            return operation(a, b)
        try:
            key = (a.dtype, b.dtype)
            if key not in plan:
                wanted = rule(*key)
                # None where both operands have the type already: no cast is needed
                plan[key] = None if key == (wanted, wanted) else wanted
            dtype = plan[key]
            numbers = isinstance(a, np.generic) and isinstance(b, np.generic)
            if dtype is None and numbers and symbol in _PYTHONS:
                quick[type(a), type(b)] = _PYTHONS[symbol]
            if dtype is None:
                return ufunc(a, b)
            return ufunc(a.astype(dtype, copy=False), b.astype(dtype, copy=False))
        except LaneError:
            raise
        except (AttributeError, TypeError):
            raise _wrong(symbol, a, b) from None

    return apply


def _integer_power(a: Value, b: Value) -> Value:
    """Integer powers; a negative exponent gives 0 except for a base of 1 or -1 (as Numba does)."""
    result = np.power(a, np.abs(b))
    return np.where(b < 0, np.where(np.abs(a) == 1, result, 0), result)[()]


def power(a: Value, b: Value) -> Value:
    """a ** b of each lane."""
    need_numbers("**", a, b)
    dtype = power_dtype(a.dtype, b.dtype)
    if dtype.kind in INTEGERS:
        a, b = a.astype(dtype), b.astype(dtype)
        return np.power(a, b) if dtype.kind == "u" else _integer_power(a, b)
    a = a.astype(dtype)
    if b.dtype.kind not in INTEGERS:
        return np.power(a, b.astype(dtype)).astype(dtype, copy=False)
    small = np.abs(b.astype(FLOAT64)) <= 64
    squared = _by_squaring(a, np.where(small, b, 0).astype(INT64))
    if small.all():
        return squared
    return np.where(small, squared, np.power(a, b.astype(dtype))).astype(dtype)[()]


def _by_squaring(a: Value, n: Value) -> Value:
    """a ** n by repeated multiplication in a's own precision, as compiled code does it."""
    result, base = np.ones_like(a)[()], a
    left = np.abs(n)
    while left.any():
        result = np.where(left & 1, result * base, result)[()]
        base = base * base
        left = left >> 1
    if not (n < 0).any():
        return result if result.ndim >= n.ndim else np.broadcast_to(result, n.shape)
    return np.where(n < 0, np.ones_like(a)[()] / result, result)[()]


def negative(a: Value) -> Value:
    """-a of each lane."""
    need_numbers("-", a)
    if a.dtype == BOOL:
        a = a.astype(INT64)
    return _widened(np.negative(a))  # Numba negates first: -uint32(5) is 2**32 - 5


def positive(a: Value) -> Value:
    """+a of each lane."""
    need_numbers("+", a)
    return _widened(a.astype(INT64) if a.dtype == BOOL else a)


def invert(a: Value) -> Value:
    """~a of each lane."""
    need_numbers("~", a)
    need_integers("~", a.dtype)
    return _widened(np.invert(a))


def _widened(a: Value) -> Value:
    """An integer in 64 bits."""
    if a.dtype.kind in "iu":
        return a.astype(UINT64 if a.dtype.kind == "u" else INT64, copy=False)
    return a


def truth(a: Value) -> Value:
    """The value as a condition."""
    if type(a) is np.bool_:
        return a
    if isinstance(a, tuple):
        return np.bool_(len(a) > 0)
    need_numbers("a condition", a)
    return a if a.dtype == BOOL else a != 0


def not_(a: Value) -> Value:
    """not a, of each lane."""
    return np.logical_not(truth(a))


def _compare(symbol: str, ufunc: Callable) -> Callable[[Value, Value], Value]:
    def apply(a: Value, b: Value) -> Value:
        if isinstance(a, tuple) and isinstance(b, tuple) and symbol in ("==", "!="):
            same = _tuples_equal(a, b)
            return same if symbol == "==" else np.logical_not(same)
        if isinstance(a, tuple) and isinstance(b, tuple):
            return _tuples_ordered(a, b, ufunc)
        if isinstance(a, str) and isinstance(b, str) and symbol in ("==", "!="):
            return (a == b) is (symbol == "==")  # known before the kernel runs
        try:
            if "c" in (a.dtype.kind, b.dtype.kind) and symbol not in ("==", "!="):
                raise LaneError("complex numbers have no order")
            return ufunc(a, b)
        except LaneError:
            raise
        except (AttributeError, TypeError):
            raise _wrong(symbol, a, b) from None

    return apply


def _tuples_equal(a: tuple, b: tuple) -> Value:
    same: Value = np.bool_(len(a) == len(b))
    for x, y in zip(a, b, strict=False):
        same = np.logical_and(same, equal(x, y))
    return same


def _tuples_ordered(a: tuple, b: tuple, ufunc: Callable) -> Value:
    """As in a dictionary: the first items that differ decide, or the lengths."""
    result: Value = np.bool_(ufunc(len(a), len(b)))
    for x, y in reversed(list(zip(a, b, strict=False))):
        need_numbers("a comparison of tuples", x, y)
        result = np.where(equal(x, y), result, ufunc(x, y))[()]
    return result


_add_numbers = _binary("+", np.add, arithmetic_dtype)


def add(a: Value, b: Value) -> Value:
    """A sum, or two tuples joined."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return a + b
    return _add_numbers(a, b)


subtract = _binary("-", np.subtract, arithmetic_dtype)
multiply = _binary("*", np.multiply, arithmetic_dtype)
divide = _binary("/", np.true_divide, division_dtype)
floor_divide = _binary("//", np.floor_divide, floor_division_dtype)
remainder = _binary("%", np.remainder, floor_division_dtype)
left_shift = _binary("<<", np.left_shift, shift_dtype)
right_shift = _binary(">>", np.right_shift, shift_dtype)
bitwise_and = _binary("&", np.bitwise_and, bitwise_dtype)
bitwise_or = _binary("|", np.bitwise_or, bitwise_dtype)
bitwise_xor = _binary("^", np.bitwise_xor, bitwise_dtype)
# CUDA's fmin and fmax, as of IEEE 754-2008's minNum: a NaN gives way to a number
minimum2 = _binary("min", np.fmin, extreme_dtype)
maximum2 = _binary("max", np.fmax, extreme_dtype)
equal, not_equal = _compare("==", np.equal), _compare("!=", np.not_equal)
less, less_equal = _compare("<", np.less), _compare("<=", np.less_equal)
greater, greater_equal = _compare(">", np.greater), _compare(">=", np.greater_equal)


def minimum(*values: Value) -> Value:
    """The smaller of two, in each lane."""
    return _fold(minimum2, values)


def maximum(*values: Value) -> Value:
    """The larger of two, in each lane."""
    return _fold(maximum2, values)


def _fold(operation: Callable, values: tuple[Value, ...]) -> Value:
    if len(values) == 1 and isinstance(values[0], tuple):
        values = values[0]
    if not values:
        raise LaneError("min and max need at least one number")
    need_numbers("min or max", *values)
    result = values[0]
    for value in values[1:]:
        result = operation(result, value)
    return result


def convert(value: Value, dtype: np.dtype) -> Value:
    """`value` as `dtype`, by CUDA's rules where C leaves the result open.

    A float that does not fit an integer takes the nearest end of its range, and NaN gives 0 (the
    sign bit alone where 64 bits are involved): PTX ISA, cvt. Types of 8 bits go through 16.
    """
    if value.dtype.kind != "f" or dtype.kind not in "iu":
        return value.astype(dtype, copy=False)
    wide = dtype if dtype.itemsize > 1 else np.dtype(f"{dtype.kind}2")
    limits = np.iinfo(wide)
    real = value.astype(FLOAT64, copy=False)
    whole = real.astype(wide)
    above, below = real >= float(limits.max) + 1.0, real <= float(limits.min) - 1.0
    if wide.itemsize == 8:
        above, below = real >= float(limits.max), real < float(limits.min)
    odd = above | below | np.isnan(real)
    if odd.any():
        doubled = value.dtype == FLOAT64 or wide.itemsize == 8
        nan = (limits.min or limits.max // 2 + 1) if doubled else 0
        fixed = np.where(above, limits.max, np.where(below, limits.min, nan).astype(wide))
        whole = np.where(odd, fixed, whole).astype(wide)[()]
    return whole.astype(dtype, copy=False)


def cast(value: Value, dtype: np.dtype | type) -> Value:
    """`np.float32(value)`, `int(value)`, ...: a conversion written in the kernel."""
    dtype = np.dtype(dtype)
    need_numbers(f"a conversion to {dtype}", value)
    if dtype == BOOL:
        return truth(value)
    if value.dtype.kind == "c" and dtype.kind != "c":
        raise LaneError(f"a complex number cannot become {dtype}: take .real or .imag")
    return convert(value, dtype)


def integer_of(value: Value) -> Value:
    """`int(value)`: an integer keeps its type, a float becomes an int64."""
    need_numbers("int", value)
    return value[()] if value.dtype.kind in "iu" else cast(value, INT64)


def float_of(value: Value) -> Value:
    """`float(value)`: a float keeps its type, an integer becomes a float64."""
    need_numbers("float", value)
    if value.dtype == BOOL:
        raise LaneError(
            "float() takes no bool in Numba's kernels",
            "write 1.0 if condition else 0.0, or float(int(condition))",
        )
    return value[()] if value.dtype.kind == "f" else cast(value, FLOAT64)


def complex_of(real: Value, imaginary: Value | None = None) -> Value:
    """`complex(re, im)`: of float32 numbers complex64, else complex128."""
    parts = [real] if imaginary is None else [real, imaginary]
    need_numbers("complex", *parts)
    if any(
        p.dtype in (BOOL, FLOAT16) or (p.dtype.kind == "c" and imaginary is not None) for p in parts
    ):
        raise LaneError(
            f"complex does not work on {' and '.join(map(described, parts))}",
            "give it integers, float32 or float64",
        )
    if imaginary is None:
        return real.astype(COMPLEX64 if real.dtype == FLOAT32 else COMPLEX128)
    half = FLOAT32 if real.dtype == imaginary.dtype == FLOAT32 else FLOAT64
    return joined(real.astype(half), imaginary.astype(half))


def joined(real: Value, imaginary: Value) -> Value:
    """A complex number of its parts, each of which may be infinite or NaN."""
    result = np.empty(np.broadcast(real, imaginary).shape, np.result_type(real, np.complex64))
    result.real, result.imag = real, imaginary
    return result[()]


def same(a: Value, b: Value) -> Any:
    """`a is b`: of numbers, whether they are equal and of one type."""
    if not all(isinstance(v, np.ndarray | np.generic) for v in (a, b)):
        return a is b
    return equal(a, b) if a.dtype == b.dtype else np.bool_(False)


def absolute(a: Value) -> Value:
    """|a| of each lane."""
    return np.abs(a.astype(np.int8) if a.dtype == BOOL else a)  # to Numba a bool is an int8 here


def pair_of_division(a: Value, b: Value) -> tuple[Value, Value]:
    """`divmod(a, b)`: the quotient, rounded down, and the remainder."""
    need_numbers("divmod", a, b)
    dtype = divmod_dtype(a.dtype, b.dtype)
    a, b = a.astype(dtype), b.astype(dtype)
    return np.floor_divide(a, b), np.remainder(a, b)


def need_numbers(operation: str, *values: Any) -> None:
    """Raise unless every value is a number."""
    if not all(isinstance(v, np.ndarray | np.generic) for v in values):
        raise _wrong(operation, *values)
