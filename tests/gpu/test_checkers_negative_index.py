"""An index that is worked out below 0: Numba wraps it, CUDA C does not, and `check` tells."""

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda


@cuda.jit
def differences(a, out):
    i = cuda.grid(1)
    if i < a.size:
        out[i] = a[i] - a[i - 1]


@cuda.jit
def by_rows(a, out):
    i = cuda.grid(1)
    out[i] = a[1, i - 2]


@cuda.jit
def counted_down(a, out):
    for k in range(3):
        out[k] = a[k - 1]  # the same for every thread


@cuda.jit
def stores_before(a, out):
    out[cuda.grid(1) - 1] = 1.0


@cuda.jit
def adds_before(a, out):
    cuda.atomic.add(out, cuda.grid(1) - 1, 1.0)


@pytest.mark.parametrize(
    ("kernel", "array", "index", "times"),
    [
        (differences, "a", -1, 1),
        (by_rows, "a", -2, 2),
        (counted_down, "a", -1, 1),
        (stores_before, "out", -1, 1),
        (adds_before, "out", -1, 1),
    ],
)
def test_an_index_below_zero_is_a_finding(kernel, array, index, times):
    a = np.arange(16.0).reshape(2, 8) if kernel is by_rows else np.arange(8.0)
    threads = 1 if kernel is counted_down else 8
    with cuda.check(raise_=False) as c:
        kernel[1, threads](a, np.zeros(8))
    (found,) = c.findings
    assert isinstance(found, cuda.NegativeIndex)
    assert (found.array, found.index, found.times) == (array, index, times)
    assert found.place.thread == (0, 0, 0) and found.place.source
    assert "the last element" in found.why and "foreign memory" in found.why


def test_a_check_raises_it_and_a_plain_launch_wraps():
    out = np.zeros(8)
    with pytest.raises(cuda.NegativeIndex), cuda.check():
        differences[1, 8](np.arange(8.0), out)
    differences[1, 8](np.arange(8.0), out)
    np.testing.assert_array_equal(out, [-7, *[1] * 7])  # as Numba computes it


def test_a_number_written_below_zero_means_the_end():
    @cuda.jit
    def last(a, out):
        out[cuda.grid(1)] = a[-1] + a[cuda.grid(1)]

    with cuda.check() as c:
        last[1, 8](np.arange(8.0), np.zeros(8))
    assert c.findings == []


def test_a_lane_that_takes_no_part_is_not_asked():
    @cuda.jit
    def guarded(a, out):
        i = cuda.grid(1)
        out[i] = a[i]
        if i > 0:
            out[i] -= a[i - 1]

    with cuda.check() as c:
        guarded[1, 8](np.arange(8.0), np.zeros(8))
    assert c.findings == []


def test_the_worked_out_one_is_told_of_where_both_are_on_a_line():
    @cuda.jit
    def both(a, out):
        i = cuda.grid(1)
        out[i] = a[-1] + a[i - 1]

    with cuda.check(raise_=False) as c:
        both[2, 4](np.arange(8.0), np.zeros(8))
    assert [(f.index, f.place.thread) for f in c.findings] == [(-1, (0, 0, 0))]
