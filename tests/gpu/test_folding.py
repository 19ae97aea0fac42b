"""What CPython folds and what Numba leaves out, before a kernel is typed."""

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

OFF, ON, SIZE, NOTHING, PAIR = False, True, 3, None, (1, 2)


def run(kernel, *args):
    cuda.jit(kernel)[1, 1](*args)


def test_a_function_that_only_returns_from_an_endless_loop_returns_a_number():
    @cuda.jit(device=True)
    def climb(x):
        while True:
            if x > 10:
                return x
            x += 3

    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        out[i] = climb(i)

    out = np.zeros(3, np.int64)
    kernel[1, 3](out)
    assert out.tolist() == [12, 13, 11]


def test_an_endless_loop_may_still_be_left_by_break():
    def kernel(out):
        n = 0
        while 1:
            n += 1
            if n > 4:
                break
        out[0] = n

    out = np.zeros(1)
    run(kernel, out)
    assert out[0] == 5


def test_constants_are_folded_with_pythons_numbers():
    def kernel(ints, reals, unsigned):
        ints[0] = -7 // 2
        ints[1] = 7 % -3
        ints[2] = (4, 5, 6)[1]
        ints[3] = ~0 & 0xFFFFFFFF
        ints[4] = True + True
        ints[5] = 0x7FFFFFFFFFFFFFFF * 2 // 2
        reals[0] = 2**-1
        reals[1] = 2**63 / 2**62
        reals[2] = 10**18 * 10 * 1.0
        unsigned[0] = 2**63
        unsigned[1] = 1 << 63

    ints, reals, unsigned = np.zeros(6, np.int64), np.zeros(3), np.zeros(2, np.uint64)
    run(kernel, ints, reals, unsigned)
    assert ints.tolist() == [-4, -2, 5, 0xFFFFFFFF, 2, 2**63 - 1]
    assert reals.tolist() == [0.5, 2.0, 1e19]
    assert unsigned.tolist() == [2**63, 2**63]


def test_a_number_beyond_64_bits_is_refused_as_numba_refuses_it():
    def kernel(out):
        out[0] = 2**64

    with pytest.raises(cuda.UnsupportedFeature, match="more than 64 bits"):
        run(kernel, np.zeros(1))


def test_what_would_fail_is_left_to_the_run():
    def kernel(out):
        out[0] = 1 if SIZE > 2 else 1 // 0

    out = np.zeros(1)
    run(kernel, out)
    assert out[0] == 1


def by_global(out):
    x = 1
    if OFF:
        x = (1, 2)
    out[0] = x


def by_comparison(out):
    if SIZE == 4:
        x = "text"
    elif 1 < SIZE < 5:
        x = 1
    else:
        x = (1, 2)
    out[0] = x


def by_none(out):
    x = 1 if NOTHING is None else (1, 2)
    out[0] = x


def by_local(out):
    debug = 0
    x = 1
    if debug:
        x = None
    out[0] = x


def by_both(out):
    x = 1
    if OFF and out[0] > 1:
        x = None
    if not ON or OFF:
        x = None
    out[0] = x


def by_loop(out):
    x = 1
    while OFF:
        x = None
    out[0] = x


def by_bits(out):
    x = 1
    if SIZE & 4:
        x = None
    out[0] = x


def by_axes(out):
    x = 1
    if out.ndim == 2:
        x = out[0, 0, 0]
    out[0] = x


@pytest.mark.parametrize(
    "kernel",
    [by_global, by_comparison, by_none, by_local, by_both, by_loop, by_bits, by_axes],
    ids=lambda k: k.__name__,
)
def test_a_branch_that_constants_decide_is_left_out_types_and_all(kernel):
    out = np.zeros(1)
    run(kernel, out)
    assert out[0] == 1


def test_a_branch_on_an_argument_is_typed_on_both_sides():
    """Numba takes `f(x, True)` for a version, and types both branches all the same."""

    @cuda.jit(device=True)
    def f(flag):
        x = 7
        if flag:
            x = 2.5
        return x

    def kernel(out):
        out[0] = f(False) / 2
        out[1] = f(False) // 2

    out = np.zeros(2)
    run(kernel, out)
    assert out.tolist() == [3.5, 3.0]


def test_a_list_that_is_only_looped_over_is_a_tuple():
    def kernel(out):
        for k in [1, 2, 3]:
            out[0] += k
        for x in [out[0], 0.5]:
            out[1] += x
        out[2] = 2 in [1, 2, 3]

    out = np.zeros(3)
    run(kernel, out)
    assert out.tolist() == [6.0, 6.5, 1.0]
