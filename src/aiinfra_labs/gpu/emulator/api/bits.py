"""Integer and floating-point instructions that Python has no operator for. Unit 3.7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaneError, described
from ..lanes.arithmetic import convert
from ..translation.promotion import unify
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


def _ones(value: Any) -> Any:
    """How many bits are set (NumPy's bitwise_count)."""
    return np.bitwise_count(value)


def _popc(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    return _ones(_unsigned("popc", value)).astype(np.int32)


def _brev(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    """The bits in reverse order, in the type of the value's width."""
    bits = _unsigned("brev", value)
    result, one = np.zeros_like(bits), bits.dtype.type(1)
    width = bits.dtype.itemsize * 8
    for k in range(width):
        step = bits.dtype.type
        result = result | ((bits >> step(k) & one) << step(width - 1 - k))
    return result


def _clz(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    """How many bits are 0 above the highest that is set: int32."""
    bits = _unsigned("clz", value)
    width = bits.dtype.itemsize * 8
    for shift in (1, 2, 4, 8, 16, 32)[: 6 if width == 64 else 5]:
        bits = bits | bits >> bits.dtype.type(shift)  # all bits below the highest become 1
    return (width - _ones(bits).astype(np.int32)).astype(np.int32)


def _ffs(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    """The place of the lowest bit that is set, counted from 1; 0 where none is: int32."""
    bits = _unsigned("ffs", value)
    lowest = bits & (~bits + bits.dtype.type(1))
    place = _ones(lowest - bits.dtype.type(1)).astype(np.int32) + np.int32(1)
    return np.where(bits == 0, np.int32(0), place)[()]


def _selp(machine: Machine, mask: Mask, line: Line, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b; both are evaluated."""
    dtype = unify(a.dtype, b.dtype)
    return np.where(condition != 0, convert(a, dtype), convert(b, dtype))[()]


def _fma(machine: Machine, mask: Mask, line: Line, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    dtype = unify(unify(a.dtype, b.dtype), c.dtype)
    if dtype.kind not in "f":
        return convert(a, dtype) * convert(b, dtype) + convert(c, dtype)
    x, y, z = (v.astype(np.float64) for v in (a, b, c))
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
    return np.cbrt(value if value.dtype.kind == "f" else value.astype(np.float64))


popc, brev = Intrinsic("popc", _popc), Intrinsic("brev", _brev)
clz, ffs = Intrinsic("clz", _clz), Intrinsic("ffs", _ffs)
selp, fma, cbrt = Intrinsic("selp", _selp), Intrinsic("fma", _fma), Intrinsic("cbrt", _cbrt)
