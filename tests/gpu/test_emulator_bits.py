"""`fma` rounds once: its result is the exact product and sum, rounded, by Python's fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda


@cuda.jit
def fused(a, b, c, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = cuda.fma(a[i], b[i], c[i])


def rounded(exact, dtype):
    """The float of `dtype` nearest to a fraction; of two as near, the even one."""
    near = dtype(float(exact))
    around = (np.nextafter(near, dtype(-np.inf)), near, np.nextafter(near, dtype(np.inf)))
    bits = np.int32 if dtype is np.float32 else np.int64
    return min(around, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(bits)) & 1))


numbers = st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(triples=st.lists(st.tuples(numbers, numbers, numbers, st.booleans()), min_size=1))
def test_fma_rounds_once(dtype, triples):
    a, b, c = (np.array([t[k] for t in triples], dtype) for k in range(3))
    cancels = np.array([t[3] for t in triples])
    c = np.where(cancels, -(a * b), c)  # what is left is the product's own rounding error
    out = np.empty_like(a)
    fused[-(-a.size // 32), 32](a, b, c, out)
    exact = [
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        for x, y, z in zip(a, b, c, strict=True)
    ]
    np.testing.assert_array_equal(out, np.array([rounded(q, dtype) for q in exact], dtype))


def test_a_plain_product_and_sum_round_twice():
    """What the test above would miss if fma were a * b + c."""
    a = np.full(32, 1 + 2.0**-30)
    out = np.empty_like(a)
    fused[1, 32](a, a, -(a * a), out)
    assert (out == 2.0**-60).all() and (a * a - a * a == 0).all()


@pytest.mark.parametrize(
    ("a", "b", "dtype"),
    [
        # The product lies halfway between two floats; the addend, far too small to be seen
        # beside it, decides which of them is the nearer one.
        (1 + 2.0**-12, 1 + 2.0**-12, np.float32),  # 1 + 2**-11 + 2**-24
        (1 + 2.0**-26, 1 + 2.0**-27, np.float64),  # 1 + 2**-26 + 2**-27 + 2**-53
    ],
)
def test_what_is_too_small_to_add_still_breaks_a_tie(a, b, dtype):
    a, b = (np.full(32, x, dtype) for x in (a, b))
    c = np.array([2.0**-90, -(2.0**-90)] * 16, dtype)
    out = np.empty_like(a)
    fused[1, 32](a, b, c, out)
    exact = Fraction(float(a[0])) * Fraction(float(b[0]))
    expected = [rounded(exact + Fraction(float(x)), dtype) for x in c]
    assert expected[0] > expected[1]
    np.testing.assert_array_equal(out, np.array(expected, dtype))
