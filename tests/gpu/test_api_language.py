"""What a kernel can say beyond numbers and arrays: records, tuples, functions as values, raise."""

import cmath
import enum
import math
import operator
from collections import namedtuple

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

RECORD = np.dtype([("tag", "i4"), ("at", "f4", (2, 3)), ("z", "c8")], align=True)
Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1
    GREEN = 7


def test_records_have_fields_that_are_arrays_and_parts_of_complex_numbers():
    @cuda.jit
    def kernel(records, out):
        i = cuda.grid(1)
        if i < records.size:
            records[i].at[1, 2] = i
            records[i]["z"] = 2j * records[i].tag
            out[i] = records[i].at[0, 1] + records[i].z.imag

    records = np.zeros(40, RECORD)
    records["tag"] = np.arange(40)
    records["at"][:, 0, 1] = 0.5
    out = np.zeros(40)
    kernel[2, 32](records, out)
    np.testing.assert_array_equal(records["at"][:, 1, 2], np.arange(40))
    np.testing.assert_array_equal(out, 0.5 + 2 * np.arange(40))


def test_a_record_as_an_argument_is_changed_in_place():
    @cuda.jit
    def kernel(record):
        record.tag += 5
        record.at[0, :] = 3.0

    records = np.zeros(3, RECORD)
    kernel[1, 1](records[1])
    assert records["tag"].tolist() == [0, 5, 0]
    assert records["at"][1].tolist() == [[3, 3, 3], [0, 0, 0]]


def test_shared_and_local_arrays_of_records():
    @cuda.jit
    def kernel(out):
        tile = cuda.shared.array(32, RECORD)
        own = cuda.local.array(2, RECORD)
        i = cuda.threadIdx.x
        tile[i].tag = i
        own[1].tag = 100 * i
        cuda.syncthreads()
        out[i] = tile[31 - i].tag + own[1].tag

    out = np.zeros(32, np.int64)
    kernel[1, 32](out)
    np.testing.assert_array_equal(out, 31 - np.arange(32) + 100 * np.arange(32))


def test_tuples_keep_their_names_through_branches():
    @cuda.jit
    def kernel(point, out):
        i = cuda.grid(1)
        place = point
        if i % 2:
            place = Point(i, 2.5)
        out[i] = place.x + place.y

    out = np.zeros(4)
    kernel[1, 4](Point(10, 0.5), out)
    assert out.tolist() == [10.5, 3.5, 10.5, 5.5]


def test_enums_closures_and_constant_text():
    def of(factor, word):
        @cuda.jit
        def kernel(colour, out):
            if word == "twice":
                out[0] = colour * factor
            else:
                out[0] = Colour.GREEN

        return kernel

    out = np.zeros(1, np.int64)
    of(3, "twice")[1, 1](Colour.GREEN, out)
    assert out[0] == 21
    of(3, "never")[1, 1](Colour.RED, out)
    assert out[0] == 7


def test_functions_are_values_and_may_be_defined_inside():
    @cuda.jit(device=True)
    def apply(function, *args):
        return function(*args)

    @cuda.jit
    def kernel(counts, out):
        i = cuda.grid(1)

        def shifted(x, by=1):
            return x + by + i

        apply(cuda.atomic.add, counts, i % 2, 1)
        square = lambda x: x * x  # noqa: E731
        out[i] = apply(operator.add, shifted(10), square(i)) + shifted(0, 100)

    counts, out = np.zeros(2, np.int32), np.zeros(8, np.int64)
    kernel[1, 8](counts, out)
    i = np.arange(8)
    assert counts.tolist() == [4, 4]
    np.testing.assert_array_equal(out, 11 + i + i * i + 100 + i)


def test_recursion_by_each_thread():
    @cuda.jit(device=True)
    def fibonacci(n):
        if n < 2:
            return n
        return fibonacci(n - 1) + fibonacci(n - 2)

    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        out[i] = fibonacci(i)

    out = np.zeros(13, np.int64)
    kernel[1, 13](out)
    assert out.tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]


def test_recursion_without_an_end_is_cut_off():
    @cuda.jit(device=True)
    def deeper(n):
        if n < 0:
            return n
        return deeper(n + 1)

    @cuda.jit
    def kernel(out):
        out[0] = deeper(np.int64(0))

    with pytest.raises(cuda.StepBudgetExceeded, match="calls deep"):
        kernel[1, 1](np.zeros(1))


def test_loops_over_zip_and_enumerate():
    def body(a, b, out):
        total = 0
        for k, (x, y) in enumerate(zip(a, b)):  # noqa: B905
            total += k * x - y
        for x in a[::-1]:
            total = 3 * total + x
        for k in range(8, 1, -3):
            total = 2 * total + k
        out[0] = total

    a, b = np.arange(5), np.arange(7) ** 2
    got, expected = np.zeros(1, np.int64), np.zeros(1, np.int64)
    cuda.jit(body)[1, 1](a, b, got)
    body(a, b, expected)
    assert got[0] == expected[0]


def test_slices_backwards_and_whole_rows():
    @cuda.jit
    def kernel(a, rows, out):
        back = a[::-2]
        for k in range(back.size):
            out[k] = back[k]
        rows[0, :] = 7
        rows[1] = (a[1], a[2], 3.0)
        flat = rows.reshape(6)
        out[5] = flat[3]

    a, rows, out = np.arange(9.0), np.zeros((2, 3)), np.zeros(6)
    kernel[1, 1](a, rows, out)
    assert out.tolist() == [8, 6, 4, 2, 0, 1]
    assert rows.tolist() == [[7, 7, 7], [1, 2, 3]]


@pytest.mark.parametrize(
    "name", ["acos", "asin", "atan", "cos", "cosh", "exp", "log", "sin", "sqrt", "tanh", "phase"]
)
def test_complex_functions(name):
    function = getattr(cmath, name)

    @cuda.jit
    def kernel(z, out):
        i = cuda.grid(1)
        out[i] = function(z[i]) + z[i].conjugate()

    z = np.array([1 + 2j, -0.5j, 3, -2 + 0.25j])
    out = np.zeros(4, np.complex128)
    kernel[1, 4](z, out)
    np.testing.assert_allclose(out, [function(v) + v.conjugate() for v in z.tolist()], rtol=1e-13)


def test_ufuncs_of_arrays_write_to_an_array():
    @cuda.jit
    def kernel(a, b, out):
        np.hypot(a, b, out)

    a, b, out = np.arange(6.0).reshape(2, 3), np.array([3.0, 4.0, 5.0]), np.zeros((2, 3))
    kernel[1, 1](a, b, out)
    np.testing.assert_array_equal(out, np.hypot(a, b))


@pytest.mark.emulator_only("pytest writes the assert in the kernel anew")
def test_raise_and_assert_reach_the_host_with_the_thread():
    @cuda.jit(debug=True)
    def kernel(a, n):
        i = cuda.grid(1)
        assert a[i] >= 0, "negative"
        if i == n:
            raise ValueError("no", 7)

    kernel[2, 4](np.zeros(8), 100)
    with pytest.raises(ValueError, match=r"tid=\[1, 0, 0\] ctaid=\[1, 0, 0\]: no, 7"):
        kernel[2, 4](np.zeros(8), 5)
    with pytest.raises(AssertionError, match=r"tid=\[3, 0, 0\] ctaid=\[0, 0, 0\]: negative"):
        kernel[2, 4](np.array([1, 1, 1, -1, 1, 1, 1, 1.0]), 100)


def test_a_name_may_hold_a_number_here_and_an_array_there():
    @cuda.jit
    def kernel(a, out):
        for t in range(3):
            out[0] += t
        t = a
        out[0] += t[1]

    out = np.zeros(1)
    kernel[1, 1](np.array([5.0, 50.0]), out)
    assert out[0] == 53


def test_a_signature_is_checked_when_the_kernel_is_made():
    with pytest.raises(cuda.UnsupportedFeature, match="indexed with a number"):

        @cuda.jit("void(float32[:], float32)")
        def kernel(a, x):
            a[x] = 1


def test_vectors_are_made_of_numbers_and_vectors():
    @cuda.jit
    def kernel(out):
        pair = cuda.float32x2(1.5, 2)
        four = cuda.float4(pair, 3, math.sqrt(16.0))
        out[0], out[1], out[2], out[3] = four.x, four.y, four.z, four.w

    out = np.zeros(4)
    kernel[1, 1](out)
    assert out.tolist() == [1.5, 2, 3, 4]
