"""Integer and floating-point instructions that Python has no operator for. Unit 3.7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaneError, described
from ..lanes.arithmetic import need_numbers
from ..translation.promotion import need_reals, single_or_double
from .intrinsics import Intrinsic

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


def _unsigned(name: str, value: Any) -> Any:
    """An integer's bits as uint32 or uint64; narrower ones are widened to 32 bits."""
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "iub":
        raise LaneError(f"{name} takes an integer, not {described(value)}")
    wide = np.uint64 if value.dtype.itemsize == 8 else np.uint32
    signed = np.int64 if wide is np.uint64 else np.int32
    if value.dtype.kind == "i":
        return value.astype(signed).view(wide)
    return value.astype(wide)


def _as_given(value: Any, count: Any) -> Any:
    """Numba gives a count in the type of what is counted: int8 for a bool."""
    return count.astype(np.int8 if value.dtype.kind == "b" else value.dtype)


def _ones(value: Any) -> Any:
    """How many bits are set (NumPy's bitwise_count)."""
    return np.bitwise_count(value)


def _popc(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    return _as_given(value, _ones(_unsigned("popc", value)))


def _brev(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    """The bits in reverse order: uint64 of a uint64, else uint32, of an int64's lower half, too."""
    bits = _unsigned("brev", value)
    if value.dtype != np.uint64:
        bits = bits.astype(np.uint32)
    result, one = np.zeros_like(bits), bits.dtype.type(1)
    width = bits.dtype.itemsize * 8
    for k in range(width):
        step = bits.dtype.type
        result = result | ((bits >> step(k) & one) << step(width - 1 - k))
    return result


def _clz(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    """How many bits are 0 above the highest that is set, of 32 or 64."""
    bits = _unsigned("clz", value)
    width = bits.dtype.itemsize * 8
    for shift in (1, 2, 4, 8, 16, 32)[: 6 if width == 64 else 5]:
        bits = bits | bits >> bits.dtype.type(shift)  # all bits below the highest become 1
    return _as_given(value, width - _ones(bits).astype(np.int32))


def _ffs(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    """The place of the lowest bit that is set, counted from 1; 0 where none is: uint32."""
    bits = _unsigned("ffs", value)
    if value.dtype.itemsize < 4:
        raise LaneError(
            f"ffs takes integers of 32 or 64 bits, not {described(value)}",
            "write cuda.ffs(np.int32(x))",
        )
    lowest = bits & (~bits + bits.dtype.type(1))
    place = _ones(lowest - bits.dtype.type(1)).astype(np.uint32) + np.uint32(1)
    return np.where(bits == 0, np.uint32(0), place)[()]


def _selp(machine: Machine, mask: Mask, line: Line, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b; both are evaluated, and of one type."""
    need_numbers("selp", condition, a, b)
    if a.dtype != b.dtype or a.dtype.itemsize < 2 or a.dtype.kind == "c" or a.dtype == np.float16:
        raise LaneError(
            f"selp chooses between two numbers of one type of 16 bits or more, not between "
            f"{described(a)} and {described(b)}",
            "convert one of them, or write a if condition else b",
        )
    return np.where(condition != 0, a, b)[()]


def _fma(machine: Machine, mask: Mask, line: Line, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    need_numbers("fma", a, b, c)
    need_reals(a.dtype, b.dtype, c.dtype)
    dtype = single_or_double(a.dtype, b.dtype, c.dtype)
    return _fma_as(dtype, machine, mask, line, a, b, c)


def fma_of_halves(machine: Machine, mask: Mask, line: Line, *values: Any) -> Any:
    """a * b + c of three float16, rounded to one once."""
    return _fma_as(np.dtype(np.float16), machine, mask, line, *values)


def _fma_as(dtype: np.dtype, machine: Machine, mask: Mask, line: Line, *values: Any) -> Any:
    x, y, z = (v.astype(np.float64) for v in values)
    if dtype.itemsize < 8:  # the product is exact in float64
        return machine.flop(mask, _odd_sum(x * y, z).astype(dtype)[()], line, "fma")
    return machine.flop(mask, _fma64(x, y, z), line, "fma")


def _fma64(a: Any, b: Any, c: Any) -> Any:
    """Boldo and Melquiond (2008): exact product and sums, then one rounding to odd, one to even.

    Exact while nothing over- or underflows; a result that is not finite is the plain one.
    """
    high, low = _two_product(a, b)
    t_high, t_low = _two_sum(c, low)
    v_high, v_low = _two_sum(high, t_high)
    result = v_high + _odd_sum(t_low, v_low)
    return np.where(np.isfinite(result), result, a * b + c)[()]


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Knuth: a + b as its rounded value and what the rounding lost."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Dekker: a * b as its rounded value and what the rounding lost."""
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    product = a * b
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _halves(a: Any) -> tuple[Any, Any]:
    """Veltkamp: a as a sum of two numbers of 26 bits."""
    scaled = a * 134217729.0  # 2**27 + 1
    high = scaled - (scaled - a)
    return high, a - high


def _odd_sum(a: Any, b: Any) -> Any:
    """a + b in float64, rounded to odd: what a second, coarser rounding needs to come out right."""
    total, lost = _two_sum(a, b)
    bits = np.asarray(total).view(np.int64)
    inexact = np.isfinite(total) & (lost != 0) & ((bits & 1) == 0)
    outward = (lost > 0) == (total > 0)
    return np.where(inexact, bits + np.where(outward, 1, -1), bits).view(np.float64)[()]


def _cbrt(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    need_numbers("cbrt", value)
    need_reals(value.dtype)
    return np.cbrt(value.astype(single_or_double(value.dtype)))


popc, brev = Intrinsic("popc", _popc), Intrinsic("brev", _brev)
clz, ffs = Intrinsic("clz", _clz), Intrinsic("ffs", _ffs)
selp, fma, cbrt = Intrinsic("selp", _selp), Intrinsic("fma", _fma), Intrinsic("cbrt", _cbrt)
