"""What a kernel may call by a name of Python's own: operators, `cmath`, `math`, NumPy. Unit 3.2."""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LaneError
from ..lanes import arithmetic
from ..lanes.loops import Together, backwards, enumerated

_OPERATORS: dict[str, Callable] = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "floordiv": arithmetic.floor_divide,
    "mod": arithmetic.remainder,
    "pow": arithmetic.power,
    "lshift": arithmetic.left_shift,
    "rshift": arithmetic.right_shift,
    "and_": arithmetic.bitwise_and,
    "or_": arithmetic.bitwise_or,
    "xor": arithmetic.bitwise_xor,
    "eq": arithmetic.equal,
    "ne": arithmetic.not_equal,
    "lt": arithmetic.less,
    "le": arithmetic.less_equal,
    "gt": arithmetic.greater,
    "ge": arithmetic.greater_equal,
    "neg": arithmetic.negative,
    "pos": arithmetic.positive,
    "invert": arithmetic.invert,
    "not_": arithmetic.not_,
    "abs": arithmetic.absolute,
    "truth": arithmetic.truth,
}
OPERATORS = {getattr(operator, name): function for name, function in _OPERATORS.items()}
OPERATORS |= {  # operator.iadd and its like: a number is never changed in place
    getattr(operator, f"i{name.removesuffix('_')}"): function
    for name, function in _OPERATORS.items()
    if hasattr(operator, f"i{name.removesuffix('_')}")
}


def _complex(name: str, ufunc: Callable, test: bool = False) -> Callable:
    """A function of cmath: complex64 stays so, real numbers become complex128."""

    def apply(*args: Any) -> Any:
        arithmetic.need_numbers(f"cmath.{name}", *args)
        values = [a if a.dtype.kind == "c" else a.astype(np.complex128) for a in args]
        return ufunc(*values)

    return apply


def _phase(z: Any) -> Any:
    return np.arctan2(z.imag, z.real)


def _polar(z: Any) -> tuple[Any, Any]:
    return np.abs(z), _phase(z)


def _rect(r: Any, phi: Any) -> Any:
    """r * (cos phi + i sin phi); what is not finite follows C's annex G, as in Python."""
    arithmetic.need_numbers("cmath.rect", r, phi)
    dtype = np.result_type(r, phi)
    dtype = dtype if dtype.kind == "f" else np.dtype(np.float64)
    r, phi = r.astype(dtype), phi.astype(dtype)
    nothing, straight = (r == 0) & ~np.isfinite(phi), phi == 0
    real = np.where(nothing, 0, np.where(straight, r, r * np.cos(phi)))
    imaginary = np.where(nothing, 0, np.where(straight, np.copysign(1, r) * phi, r * np.sin(phi)))
    return arithmetic.joined(real.astype(dtype), imaginary.astype(dtype))


def _exp(z: Any) -> Any:
    """e ** z; where the real part is -inf it is 0 whatever the other part is, as in Python."""
    nothing = (z.real == -np.inf) & ~np.isfinite(z.imag)
    return np.where(nothing, 0, np.exp(z)).astype(z.dtype)[()]


def _log(z: Any, base: Any = None) -> Any:
    return np.log(z) if base is None else np.log(z) / np.log(base)


CMATH: dict[Any, Callable] = {
    getattr(cmath, name): _complex(name, getattr(np, ufunc))
    for name, ufunc in (
        *((name, name) for name in ("cos", "cosh", "log10", "sin", "sinh", "sqrt")),
        *((name, name) for name in ("tan", "tanh", "isfinite", "isinf", "isnan")),
        *((name, f"arc{name[1:]}") for name in ("acos", "acosh", "asin", "asinh")),
        *((name, f"arc{name[1:]}") for name in ("atan", "atanh")),
    )
} | {
    cmath.exp: _complex("exp", _exp),
    cmath.log: _complex("log", _log),
    cmath.phase: _complex("phase", _phase),
    cmath.polar: _complex("polar", _polar),
    cmath.rect: _rect,
}


def _remainder(a: Any, b: Any) -> Any:
    """IEEE 754's remainder: the quotient is rounded to the nearest integer, halves to even."""
    a, b = np.broadcast_arrays(a, b)
    found = [_exact_remainder(float(x), float(y)) for x, y in zip(a.flat, b.flat, strict=True)]
    return np.array(found, dtype=np.float64).reshape(a.shape)[()]


def _exact_remainder(x: float, y: float) -> float:
    try:
        return math.remainder(x, y)
    except ValueError:
        return math.nan


MORE_MATH: dict[Any, Callable] = {
    getattr(math, name): arithmetic.real(f"math.{name}", ufunc, count)
    for name, ufunc, count in (
        ("nextafter", np.nextafter, 2),
        ("remainder", _remainder, 2),
        *((("exp2", np.exp2, 1),) if hasattr(math, "exp2") else ()),  # Python 3.11
        *((("cbrt", np.cbrt, 1),) if hasattr(math, "cbrt") else ()),
    )
}


def _tuple(value: Any = ()) -> tuple:
    if not isinstance(value, tuple):
        raise LaneError("tuple() takes a tuple in a kernel")
    return value


LOOPED: dict[Any, Callable] = {
    enumerate: enumerated,
    zip: lambda *parts: Together(parts),
    reversed: backwards,
    complex: arithmetic.complex_of,
    tuple: _tuple,
}

# what a kernel calls, by the object that its name stands for
FUNCTIONS: dict[Any, Callable] = {
    **arithmetic.MATH,
    **MORE_MATH,
    **arithmetic.NUMPY,
    **arithmetic.BUILTINS,
    **OPERATORS,
    **CMATH,
    **LOOPED,
}


def contains(item: Any, values: Any) -> Any:
    """`item in values`."""
    if not isinstance(values, tuple):
        raise LaneError("`in` looks through a tuple in a kernel, not through an array")
    found = np.bool_(False)
    for value in values:
        found = np.logical_or(found, arithmetic.equal(item, value))
    return found


def negate(value: Any) -> Any:
    """`not value`, also where it is known before the kernel runs."""
    if isinstance(value, bool):
        return not value
    return np.logical_not(value)
