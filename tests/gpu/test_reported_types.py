"""Reported faults of Numba's typing, promotion and casts, each recreated on the emulator.

The numbers are those of the reports: `numba` for github.com/numba/numba, `numba-cuda` for
github.com/NVIDIA/numba-cuda, `numpy` for github.com/numpy/numpy; Numba's own tests (in
`numba.cuda.tests.cudapy`) name them. Each kernel leaves what it should, and each of its variables
and operators has the type that the CUDA target gives it today.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `fuzz` is a package of this folder

from fuzz import typed

from aiinfra_labs.gpu import compiled
from aiinfra_labs.gpu import emulator as cuda

NAN = np.nan


@cuda.jit
def a_range_of_one_uint32(out, v):  # numba 2194: test_ssa
    s = np.uint32(1)
    for i in range(s):
        v[i] = 1
    for i in range(s, 1):
        v[i] += 2
    out[0] = v[0]


@cuda.jit
def a_number_from_either_side(out, chosen):  # numba 3094: test_ssa
    x = 1 if chosen[0] else 0
    y = 0.5
    if chosen[1]:
        y = 1
    out[0] = x
    out[1] = y


@cuda.jit
def an_array_reshaped_in_a_loop(out, a):  # numba 3931: test_ssa
    for _ in range(1):
        a = a.reshape(3 * 2)
        a = a.reshape(3, 2)
    for i in range(a.shape[0]):
        out[i] = a[i, 0] + a[i, 1]


@cuda.jit
def the_last_of_two_arrays(out, a, b):  # numba 3979: test_ssa
    x = a[0]
    y = b[0]
    for i in a:
        x = i
    for i in b:
        y = i
    out[0] = x
    out[1] = y


@cuda.jit
def a_value_given_in_some_rounds(out, n):  # numba 5482: test_ssa
    for i in range(n[0]):
        if i == 0:
            if i == n[1]:
                pass
            else:
                problematic = n[2]
        else:
            if i == n[1]:
                pass
            else:
                problematic = problematic + n[2]
    out[0] = problematic


@cuda.jit
def a_loop_variable_that_becomes_an_array(out, b, n):  # numba 5493: test_ssa
    for t in range(1, n[0]):
        for k in range(n[1]):
            t = b
            if k == 0:
                if k == n[1] - 1:
                    pass
                else:
                    out[0] = t[0]
            else:
                if k == n[1] - 1:
                    pass
                else:
                    out[0] += t[0]


@cuda.jit
def equal_statements_in_one_block(out, chosen):  # numba 5623: test_ssa
    i = 0
    c = 1
    if chosen[0]:
        out[i] = c
        i += 1
        out[i] = c
        i += 1


@cuda.jit
def atomics_on_the_parts_of_complex_numbers(out):  # numba 8309: test_complex
    i = cuda.grid(1)
    cuda.atomic.add(out.real, i, 1)
    cuda.atomic.add(out.imag, i, 2)


@cuda.jit
def what_an_atomic_gives_back(out, x):  # numba 5458: test_atomics
    out[0] = cuda.atomic.add(x, 0, 1)
    out[1] = cuda.atomic.max(x, 1, 5)
    out[2] = cuda.atomic.max(x, 1, 1)
    out[3] = cuda.atomic.min(x, 2, 3)
    out[4] = cuda.atomic.max(x, 3, 1)  # of nan


@cuda.jit(device=True)
def is_equal(a, b):
    return a == b


@cuda.jit(device=True)
def as_a_byte(a, b):
    return np.uint8(a == b)


@cuda.jit
def comparisons_that_are_returned(out, a):  # numba-cuda 157: test_compiler
    same, byte = is_equal(a[0], a[1]), as_a_byte(a[0], a[0])
    out[0] = same
    out[1] = byte + np.uint8(255)
    out[2] = same + same


@cuda.jit
def a_complex_number_by_an_integer(out, a):  # numba-cuda 789: test_compiler
    x = a[0] / 2
    y = a[0] / np.int8(4)
    z = 2 / a[0]
    out[0] = x
    out[1] = y
    out[2] = z


@cuda.jit
def division_by_zero(out, a):  # numba 7806: test_exception
    x = a[0] / a[1]
    y = a[1] / a[1]
    out[0] = x
    out[1] = y
    out[2] = 1


@cuda.jit
def trunc_of_each_float(out, a, b):  # numpy 13375: test_math
    x = math.trunc(a[0])
    y = math.trunc(b[0])
    out[0] = x
    out[1] = y


@cuda.jit
def a_literal_beside_a_float16(out, a):  # numba's test_casting: int and float literals
    x = cuda.fp16.hmul(a[0], 2)
    y = cuda.fp16.hmul(a[0], 2.5)
    out[0] = x
    out[1] = y


@cuda.jit
def a_read_only_array(out, a):  # numba 5223: test_ssa
    if len(a) == 5:
        for i in range(len(a)):
            out[i] = a[i]
    else:
        for i in range(len(a)):
            out[i] = a[i] + 1


def locked(values):
    values.flags.writeable = False
    return values


SINGLE, DOUBLE = np.float32, np.float64
F = np.zeros
REPORTED = [  # the kernel, its arguments (the first is what it leaves), what is left
    (a_range_of_one_uint32, [F(1), F(1)], [1]),
    (a_number_from_either_side, [F(2), np.array([True, False])], [1, 0.5]),
    (an_array_reshaped_in_a_loop, [F(3), np.arange(6.0).reshape(3, 2)], [1, 5, 9]),
    (the_last_of_two_arrays, [F(2), np.array([1, 2]), np.array([3.5, 4], SINGLE)], [2, 4]),
    (a_value_given_in_some_rounds, [F(1, np.int64), np.array([3, 1, 5])], [10]),
    (a_loop_variable_that_becomes_an_array, [F(1), np.ones(1), np.array([10, 10])], [9]),
    (equal_statements_in_one_block, [F(3, np.int64), np.array([True])], [1, 1, 0]),
    (atomics_on_the_parts_of_complex_numbers, [F(32, np.complex128)], [1 + 2j] * 32),
    (
        what_an_atomic_gives_back,
        [F(5, SINGLE), np.array([10, 2, 7, NAN], SINGLE)],
        [10, 2, 5, 7, NAN],
    ),
    (comparisons_that_are_returned, [F(3), np.array([1, 2], np.int32)], [0, 256, 0]),
    (
        a_complex_number_by_an_integer,
        [F(3, np.complex128), np.array([2 + 2j])],
        [1 + 1j, 0.5 + 0.5j, 0.5 - 0.5j],
    ),
    (
        a_complex_number_by_an_integer,
        [F(3, np.complex64), np.array([2 + 2j], np.complex64)],
        [1 + 1j, 0.5 + 0.5j, 0.5 - 0.5j],
    ),
    (division_by_zero, [F(3), np.array([1, 0])], [np.inf, NAN, 1]),
    (division_by_zero, [F(3), np.array([1, 0], SINGLE)], [np.inf, NAN, 1]),
    (trunc_of_each_float, [F(2), np.array([-2.7]), np.array([2.7], SINGLE)], [-2, 2]),
    (a_literal_beside_a_float16, [F(2, np.float16), np.array([3], np.float16)], [6, 7.5]),
    (a_read_only_array, [F(5), locked(np.ones(5))], [1] * 5),
]
IDS = [f"{k.__name__}-{args[-1].dtype}" for k, args, _ in REPORTED]


@pytest.mark.parametrize(("kernel", "args", "left"), REPORTED, ids=IDS)
def test_it_leaves_what_it_should(kernel, args, left):
    out, *rest = args
    given = out.copy()
    threads = 32 if kernel is atomics_on_the_parts_of_complex_numbers else 1
    kernel[1, threads](given, *(a if not a.flags.writeable else a.copy() for a in rest))
    np.testing.assert_array_equal(given, np.array(left, given.dtype))


@pytest.mark.skipif(bool(compiled.missing()), reason=compiled.missing())
@pytest.mark.parametrize(("kernel", "args", "left"), REPORTED, ids=IDS)
def test_it_has_the_types_of_the_cuda_target(kernel, args, left):
    theirs = typed.of_numba(kernel, args)
    ours = typed.of_the_emulator(kernel, 1, 32, args)
    outcome, details = typed.compared(ours, theirs)
    # before a value is given, Numba's representation has one that is undefined
    assert outcome == "same types" and (not details or kernel is a_value_given_in_some_rounds)


def test_one_slip_in_a_rule_would_be_seen(monkeypatch):
    """The referee is judged, too."""
    import ast

    from aiinfra_labs.gpu.emulator.lanes import arithmetic
    from aiinfra_labs.gpu.emulator.translation import expressions

    if compiled.missing():
        pytest.skip(compiled.missing())
    wrong = {ast.Div: lambda a, b: arithmetic.divide(a, b).astype(np.float32)}
    monkeypatch.setattr(expressions, "BINARY", expressions.BINARY | wrong)
    args = [F(3), np.array([1, 0])]
    ours = typed.of_the_emulator(division_by_zero, 1, 32, args)
    assert typed.compared(ours, typed.of_numba(division_by_zero, args))[0] == "OTHER TYPES"


@pytest.mark.parametrize("dtype", [np.int32, SINGLE, DOUBLE])
def test_a_vectorized_function_is_cast_no_further_up_than_it_must(dtype):
    """numba 8400: the first signature that fits is taken, and no wider one."""

    @cuda.vectorize(
        ["int32(int32, int32)", "float32(float32, float32)", "float64(float64, float64)"]
    )
    def added(a, b):
        return a + b

    a = np.arange(40, dtype=dtype)
    result = added(a, a)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, a + a)


def test_the_type_of_a_gufuncs_scalar_is_its_own():
    """numba 2812: an argument of one type was taken for that of the result."""

    @cuda.guvectorize(["void(float64[:], int32, float64[:])"], "(n),()->(n)")
    def shifted(a, by, out):
        for i in range(a.shape[0]):
            out[i] = a[i] + by

    result = shifted(np.array([0.25, 0.5]), np.int32(2))
    assert result.dtype == DOUBLE and result.tolist() == [2.25, 2.5]
