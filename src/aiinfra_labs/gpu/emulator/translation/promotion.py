"""The types of results, by Numba's rules: what two operands of these types give. Unit 3.2."""

from __future__ import annotations

import numpy as np

from ..errors import LaneError

BOOL, INT64, UINT64, UINT16, FLOAT64 = map(np.dtype, ("?", "i8", "u8", "u2", "f8"))
INTEGERS = "biu"  # the kinds of NumPy dtypes that count as integers


def unify(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a local that is assigned both an `a` and a `b` (Numba's unification)."""
    return a if a == b else np.promote_types(a, b)


def overload_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type in which Numba computes on an `a` and a `b` of which one is no integer."""
    common = unify(a, b)
    if UINT16 in (a, b) and common.kind in "fc":
        # Numba's overloads lead from uint16 to float64, though every value would fit a float32
        return np.promote_types(common, FLOAT64)
    return common


def arithmetic_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The result of `+ - * // %` on `a` and `b`."""
    if a.kind in INTEGERS and b.kind in INTEGERS:
        return UINT64 if a.kind == b.kind == "u" else INT64
    return overload_dtype(a, b)


def division_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a / b."""
    if a.kind in INTEGERS and b.kind in INTEGERS:
        return FLOAT64
    return overload_dtype(a, b)


def power_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a ** b."""
    if a.kind == "f" and b.kind in INTEGERS:
        return a
    return arithmetic_dtype(a, b)


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


def no_complex(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a // b and a % b, which complex numbers have not."""
    if "c" in (a.kind, b.kind):
        raise LaneError("complex numbers have no // and no %")
    return arithmetic_dtype(a, b)


def math_power_dtype(a: np.dtype, b: np.dtype) -> np.dtype:
    """`math.pow` of a float32 and an integer is float64: Numba has it for float64 alone."""
    common = overload_dtype(a, b)
    return FLOAT64 if b.kind in "iu" and common.kind != "c" else common


def ordered(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type in which two are compared by size; complex numbers have no order."""
    if "c" in (a.kind, b.kind):
        raise LaneError("complex numbers have no order")
    return unify(a, b)
