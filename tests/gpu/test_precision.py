"""The formats, held bit for bit to ml_dtypes and NumPy: all their numbers, and what lies between.

ml_dtypes has the formats of JAX and PyTorch (`float8_e4m3fn` is the Open Compute Project's E4M3).
It knows no tf32: that one is held to exact fractions.
"""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu.precision import (
    BF16,
    E4M3,
    E5M2,
    FORMATS,
    FP16,
    FP32,
    TF32,
    bits_of,
    round_to,
    value_of,
)

OTHERS = {
    FP32: np.float32,
    FP16: np.float16,
    BF16: ml_dtypes.bfloat16,
    E5M2: ml_dtypes.float8_e5m2,
    E4M3: ml_dtypes.float8_e4m3fn,
}
pairs = pytest.mark.parametrize(
    ("format", "dtype"), OTHERS.items(), ids=[format.name for format in OTHERS]
)
small = pytest.mark.parametrize("format", [FP16, BF16, E5M2, E4M3], ids=str)


def theirs(x, dtype):
    """What ml_dtypes or NumPy makes of x: the bits, and the value as float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.asarray(x).astype(dtype)
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32}[made.dtype.itemsize]
    return made.view(unsigned), made.astype(np.float64)


def agree(x, format, dtype):
    bits, values = theirs(x, dtype)
    ours = round_to(x, format)
    assert np.array_equal(ours, values, equal_nan=True)
    assert (np.signbit(ours) == np.signbit(values))[~np.isnan(values)].all()
    numbers = ~np.isnan(values)
    assert (bits_of(x, format)[numbers] == bits[numbers]).all()
    assert np.isnan(value_of(bits_of(x, format), format)[~numbers]).all()


@small
def test_every_pattern_means_what_ml_dtypes_says(format):
    bits = np.arange(2**format.bits, dtype=format.dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN, turned into a quiet one
        values = bits.view(OTHERS[format]).astype(np.float64)
    assert np.array_equal(value_of(bits, format), values, equal_nan=True)
    numbers = ~np.isnan(values)
    assert (bits_of(values, format)[numbers] == bits[numbers]).all()
    assert np.array_equal(round_to(values, format), values, equal_nan=True)


@small
def test_every_tie_and_its_neighbours(format):
    """Half-way between all neighbours, and one float64 to either side of it."""
    values = value_of(np.arange(2 ** (format.bits - 1)), format)
    values = values[np.isfinite(values)]
    ties = (values[:-1] + values[1:]) / 2
    edge = format.largest + (values[-1] - values[-2]) / 2  # from here on it overflows
    x = np.concatenate([ties, [edge]])
    # ml_dtypes rounds a float64 to bfloat16 and fp8 by way of float32, so it is asked in float32
    near = [x, np.nextafter(np.float32(x), 0), np.nextafter(np.float32(x), np.float32(np.inf))]
    for x in near:
        for sign in (1, -1):
            agree(np.float32(sign * x), format, OTHERS[format])


@pytest.mark.parametrize("high", range(0, 2**16, 2**12))
def test_float32_patterns_of_every_exponent(high):
    """Each of the 65,536 upper halves of a float32, with five lower halves: near every tie."""
    upper = np.arange(high, high + 2**12, dtype=np.uint32) << 16
    for lower in (0, 1, 0x7FFF, 0x8000, 0x8001):
        x = (upper | np.uint32(lower)).view(np.float32)
        for format in (FP16, BF16, E5M2, E4M3):
            agree(x, format, OTHERS[format])


@pairs
@settings(max_examples=300, deadline=None, derandomize=True)
@given(x=st.floats(width=32))
def test_any_float32(format, dtype, x):
    agree(np.array([x], np.float32), format, dtype)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(x=st.floats(allow_nan=False, allow_infinity=False))
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_no_number_of_the_format_is_nearer(format, x):
    """By exact fractions, from float64 and for every format, tf32 with the others."""
    got = float(round_to(x, format))
    if not np.isfinite(got):
        assert abs(x) > format.largest
        return
    distance = abs(Fraction(x) - Fraction(got))
    bits = int(bits_of(abs(got), format))
    for other in (bits - 1, bits + 1):
        if 0 <= other < 2 ** (format.bits - 1) and np.isfinite(value_of(other, format)):
            neighbour = Fraction(float(value_of(other, format)))
            further = abs(abs(Fraction(x)) - neighbour)
            assert distance < further or (distance == further and bits % 2 == 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(x=st.floats(allow_nan=False), y=st.floats(allow_nan=False))
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_rounding_keeps_order_and_sign(format, x, y):
    low, high = sorted((x, y))
    a, b = round_to(low, format, saturate=True), round_to(high, format, saturate=True)
    assert a <= b
    assert round_to(-low, format, saturate=True) == -a
    assert round_to(a, format) == a


@pytest.mark.parametrize(
    ("format", "largest", "normal", "smallest"),
    [
        # OFP8 1.0, table 2
        (E4M3, 448, 2**-6, 2**-9),
        (E5M2, 57344, 2**-14, 2**-16),
        # IEEE 754; NVIDIA and Google for bf16
        (FP16, 65504, 2**-14, 2**-24),
        (BF16, 3.3895313892515355e38, 2**-126, 2**-133),
        (TF32, 3.4011621342146535e38, 2**-126, 2**-136),
        (FP32, 3.4028234663852886e38, 2**-126, 2**-149),
    ],
    ids=str,
)
def test_published_limits(format, largest, normal, smallest):
    assert format.largest == largest
    assert format.smallest_normal == normal
    assert format.smallest == smallest
    assert value_of(bits_of(format.largest, format), format) == largest


def test_what_is_beyond_the_largest_number():
    """464 lies half-way between 448 and the 480 that E4M3 has not: 448 is the even one."""
    assert round_to(464, E4M3) == 448
    assert np.isnan(round_to(464.01, E4M3)) and np.isnan(round_to(np.inf, E4M3))
    assert bits_of(np.nan, E4M3) == 0x7F and bits_of(1e9, E4M3) == 0x7F
    assert bits_of(-1e9, E4M3) & 0x7F == 0x7F
    assert round_to(1e6, E5M2) == np.inf and bits_of(-np.inf, E5M2) == 0xFC
    # NVIDIA's __NV_SATFINITE: all that is beyond, infinity too, becomes the largest
    for x, largest in ((1e6, 448), (-1e6, -448), (np.inf, 448)):
        assert round_to(x, E4M3, saturate=True) == largest
    assert round_to(-np.inf, E5M2, saturate=True) == -57344
    assert np.isnan(round_to(np.nan, E4M3, saturate=True))


def test_arrays_keep_their_shape_and_zero_its_sign():
    x = np.zeros((2, 3, 4))
    assert round_to(x, FP16).shape == bits_of(x, FP16).shape == x.shape
    assert np.signbit(round_to(-0.0, E4M3)) and bits_of(-1e-30, E4M3) == 0x80
