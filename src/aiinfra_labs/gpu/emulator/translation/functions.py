"""What a kernel may call by a name of Python's own: operators, `cmath`, `math`, NumPy. Unit 3.2."""

from __future__ import annotations

import cmath
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..api import mathematics
from ..errors import LaneError, described
from ..lanes import arithmetic
from ..lanes.items import Elements, Indices, Together, enumerated
from ..lanes.views import ArrayView

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


def _tuple(value: Any = ()) -> tuple:
    if not isinstance(value, tuple):
        raise LaneError("tuple() takes a tuple in a kernel")
    return value


def _ndindex(*shape: Any) -> Indices:
    lengths = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
    arithmetic.need_numbers("np.ndindex", *lengths)
    return Indices(tuple(lengths))


def _ndenumerate(array: Any) -> Together:
    return Together((Indices(_array("np.ndenumerate", array).shape), Elements(array)))


def _array(name: str, value: Any) -> ArrayView:
    if not isinstance(value, ArrayView):
        raise LaneError(f"{name} takes an array, not {described(value)}")
    return value


def _slice(*bounds: Any) -> slice:
    if not 1 <= len(bounds) <= 3:
        raise LaneError("slice takes 1 to 3 integers")
    return slice(*bounds)


def _type(value: Any) -> np.dtype:
    """`type(x)` of a number, which may be called in turn."""
    arithmetic.need_numbers("type", value)
    return value.dtype


_KINDS = {int: "iu", float: "f", complex: "c", bool: "b"}


def _isinstance(value: Any, kinds: Any) -> np.bool_:
    """Numba's: an int32 is an int, a float32 a float. It is known before the kernel runs."""
    answer = False
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if kind in _KINDS:
            dtype = getattr(value, "dtype", None)
            number = isinstance(value, np.ndarray | np.generic)
            answer |= number and dtype is not None and dtype.kind in _KINDS[kind]
        elif kind in (tuple, str):
            answer |= isinstance(value, kind)
        else:
            raise LaneError(
                "isinstance asks for int, float, complex, bool, str or tuple in a kernel"
            )
    return np.bool_(answer)


LOOPED: dict[Any, Callable] = {
    enumerate: enumerated,
    zip: lambda *parts: Together(parts),
    tuple: _tuple,
    np.ndindex: _ndindex,
    np.ndenumerate: _ndenumerate,
    np.nditer: lambda array: Elements(_array("np.nditer", array)),
    slice: _slice,
    type: _type,
    isinstance: _isinstance,
}

# what a kernel calls, by the object that its name stands for
FUNCTIONS: dict[Any, Callable] = {
    **mathematics.MATH,
    **mathematics.NUMPY,
    **mathematics.BUILTINS,
    **OPERATORS,
    **CMATH,
    **LOOPED,
}


def negate(value: Any) -> Any:
    """`not value`, also where it is known before the kernel runs."""
    if isinstance(value, bool):
        return not value
    return np.logical_not(value)
