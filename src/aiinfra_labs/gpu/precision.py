"""The floating-point formats of AI, rounded to the bit: fp32, tf32, fp16, bf16, two fp8. Unit 3.7.

A format has a sign, `exponent_bits` and `mantissa_bits`. Its finite numbers are

    (-1)^sign * 1.mantissa * 2^(exponent - bias)     normal: exponent not 0
    (-1)^sign * 0.mantissa * 2^(1 - bias)            subnormal: exponent 0

as in IEEE 754. Rounding is to the nearest, and from half-way to the even neighbour. fp8 is that of
the Open Compute Project (OFP8 revision 1.0; Micikevicius et al., "FP8 Formats for Deep Learning",
arXiv:2209.05433): E5M2 is IEEE's in small; E4M3 gives up infinity and all NaNs but one for a
larger range. float64 holds every number of every format here, so values are float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Format:
    """One format. infinity: whether it has one; without, all bits set is the only NaN (E4M3)."""

    name: str
    exponent_bits: int
    mantissa_bits: int
    infinity: bool = True

    @property
    def bits(self) -> int:
        """Bits of a number: sign, exponent and mantissa."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """What is taken off the exponent's bits: 127 for fp32."""
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def lowest_exponent(self) -> int:
        """Of the smallest normal number; the subnormal ones share it."""
        return 1 - self.bias

    @property
    def largest(self) -> float:
        """The largest finite number."""
        top = 2**self.exponent_bits - 1 - self.bias  # the exponent whose bits are all set
        if self.infinity:
            return 2.0 ** (top - 1) * (2 - 2.0**-self.mantissa_bits)
        return 2.0**top * (2 - 2 * 2.0**-self.mantissa_bits)  # the last pattern is the NaN

    @property
    def smallest_normal(self) -> float:
        """The smallest number above 0 that has all bits of its mantissa."""
        return 2.0**self.lowest_exponent

    @property
    def smallest(self) -> float:
        """The smallest number above 0, a subnormal one."""
        return 2.0 ** (self.lowest_exponent - self.mantissa_bits)

    @property
    def unit_roundoff(self) -> float:
        """The largest relative error of one rounding in the normal range: half a last place."""
        return 2.0 ** -(self.mantissa_bits + 1)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The unsigned integer that holds its bits."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    def __str__(self) -> str:
        return self.name


FP32 = Format("fp32", 8, 23)
TF32 = Format("tf32", 8, 10)  # a tensor core's reading of an fp32: 19 bits
FP16 = Format("fp16", 5, 10)
BF16 = Format("bf16", 8, 7)
E5M2 = Format("fp8 E5M2", 5, 2)
E4M3 = Format("fp8 E4M3", 4, 3, infinity=False)
FORMATS = (FP32, TF32, FP16, BF16, E5M2, E4M3)


def round_to(x: Any, format: Format, saturate: bool = False) -> np.ndarray:
    """The numbers of `format` nearest to x: float64, of x's shape.

    x: floats of any dtype. saturate: what lies beyond the largest number, infinity included,
    becomes the largest, as NVIDIA's conversions to fp8 do (`__NV_SATFINITE`); else it becomes
    infinity, or NaN where the format has none. NaN stays NaN, and zero keeps its sign.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        x = np.asarray(x, np.float64)
        exponent = np.frexp(x)[1] - 1  # x = 1.xxx * 2^exponent
        place = np.maximum(exponent, format.lowest_exponent) - format.mantissa_bits
        # dividing by a power of two is exact; rint goes from half-way to the even integer
        rounded = np.ldexp(np.rint(np.ldexp(x, -place)), place)
        beyond = np.abs(rounded) > format.largest
        overflowed = format.largest if saturate else np.inf if format.infinity else np.nan
        return np.where(beyond, np.copysign(overflowed, x), rounded)


def bits_of(x: Any, format: Format, saturate: bool = False) -> np.ndarray:
    """The bits of the numbers of `format` nearest to x, as unsigned integers. See `round_to`.

    A NaN becomes the quiet one with only the top mantissa bit set, or E4M3's own.
    """
    value = round_to(x, format, saturate)
    size = np.abs(np.where(np.isfinite(value), value, 0.0))
    exponent = np.maximum(np.frexp(size)[1] - 1, format.lowest_exponent)
    # the implicit 1 of a normal number adds one to the exponent's bits, a subnormal has none:
    # so the fields of both are one sum
    mantissa = np.ldexp(size, format.mantissa_bits - exponent).astype(np.int64)
    field = (exponent - format.lowest_exponent).astype(np.int64) << format.mantissa_bits
    magnitude = np.where(size == 0, 0, field + mantissa)
    special = (2**format.exponent_bits - 1) << format.mantissa_bits
    nan = (
        special + 2 ** (format.mantissa_bits - 1) if format.infinity else 2 ** (format.bits - 1) - 1
    )
    magnitude = np.where(np.isinf(value), special, magnitude)
    magnitude = np.where(np.isnan(value), nan, magnitude)
    sign = np.signbit(value).astype(np.int64) << (format.bits - 1)
    return (sign + magnitude).astype(format.dtype)


def value_of(bits: Any, format: Format) -> np.ndarray:
    """The numbers that these bits of `format` stand for: float64."""
    bits = np.asarray(bits).astype(np.int64)
    mantissa = bits & (2**format.mantissa_bits - 1)
    exponent = bits >> format.mantissa_bits & (2**format.exponent_bits - 1)
    normal = exponent > 0
    fraction = np.where(normal, mantissa + 2**format.mantissa_bits, mantissa)
    power = np.maximum(exponent, 1) - format.bias - format.mantissa_bits
    size = np.ldexp(fraction.astype(np.float64), power.astype(np.int32))
    if format.infinity:
        top = exponent == 2**format.exponent_bits - 1
        size = np.where(top, np.where(mantissa == 0, np.inf, np.nan), size)
    else:
        size = np.where(
            bits & (2 ** (format.bits - 1) - 1) == 2 ** (format.bits - 1) - 1, np.nan, size
        )
    return np.where(bits >> (format.bits - 1) & 1 == 1, -size, size)
