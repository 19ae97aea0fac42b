"""The kernel language against `numba.njit`: the same function, the same arguments, the same bits.

Each function below runs once a lane in the emulator and once an argument under Numba's own
compiler, whose rules for integers, unification and control flow are those of its CUDA target.
"""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda

SCALE = 3  # a global
PAIR = (2, 0.5)


def if_elif_else(x, y):
    if x > 10:
        r = x - y
    elif x > 0 and y != 0:
        r = x * y
    else:
        r = -x
    return r


def early_return(x, y):
    if x < 0:
        return y
    if y < 0:
        return x
    return x + y


def while_with_break_and_continue(x, y):
    total, k = 0, 0
    while True:
        if k > abs(x) % 17:
            break
        k += 1
        if k % 3 == 0:
            continue
        total += k * y
    return total


def nested_loops(x, y):
    total = 0
    for i in range(x % 7):
        for j in range(i, y % 5 + i):
            if j == 4:
                break
            total = total * 3 + i * j
        if total > 5000:
            return -1
    return total


def return_inside_loop(x, y):
    for k in range(20):
        if k * k > abs(x) % 200:
            return k
    return 100


def range_with_step(x, y):
    total = 0
    for k in range(x % 9, y % 30, 4):
        total += k
    for k in range(y % 12, -3, -2):
        total = total * 2 + k
    return total


def floor_division_and_remainder(x, y):
    return x // (y + 0) * 1000003 + x % y


def shifts_and_bits(x, y):
    return (x << (y & 7)) ^ (x >> (y & 3)) | ~y


def conditional_expression(x, y):
    return (x if x > y else y) + (1 if x else 2)


def short_circuit(x, y):
    return (x or y) + (x and y)


def chained_comparison(x, y):
    return 1 if -5 < x <= y < 50 else 0


def tuples(x, y):
    a, b = y, x
    a, b = b, a + b
    p = (a, b, SCALE)
    return p[0] * p[1] + p[2] + len(p)


def loop_over_tuple(x, y):
    total = 0
    for v in (x, y, 7):
        total = total * 2 + v
    return total


def membership(x, y):
    return 5 if x % 5 in (1, 3) else (7 if y not in (0, 2) else 9)


def unified_local(x, y):
    r = 0
    if x > y:
        r = 0.5
    return r * 3 + PAIR[1]


def variable_lives_on_after_loop(x, y):
    k = -1
    for k in range(x % 6):  # noqa: B007
        pass
    return k * 10 + y


def private_in_branch(x, y):
    total = 0
    for k in range(5):
        if k % 2 == x % 2:
            t = k * y
            total += t
        else:
            t = 1
            total -= t
    return total


def loop_carried_swap(x, y):
    a, b = 0, 1
    for _ in range(x % 40):
        a, b = b, a + b
    return a


def boolean_logic(x, y):
    flag = not (x > 0) or y == 3
    flag = flag != (x < y)
    return int(flag) + (x > 0)


def integer_functions(x, y):
    return min(x, y, 3) + max(x, 2) + abs(y) + int(x / 7)


INTEGER_FUNCTIONS = [
    f for f in list(globals().values()) if getattr(f, "__module__", "") == __name__
]


def float_mix(x, y):
    return x * 2 + y / 3 - 0.25


def float_remainder(x, y):
    return x % y + x // y


def float_functions(x, y):
    whole = np.float64(math.floor(y))  # an int64 on the CPU, a float on a GPU
    return math.sqrt(abs(x)) + whole + math.fabs(x) + round(y)


def float_loop(x, y):
    s = abs(x)
    while s < 1e5:
        s = s * 1.5 + abs(y) + 1
    return s


def float_casts(x, y):
    return np.float32(x) * np.float32(y) + int(x)


def float_powers(x, y):
    return x**2 + y**3


FLOAT_FUNCTIONS = [
    float_mix,
    float_remainder,
    float_functions,
    float_loop,
    float_casts,
    float_powers,
]


def on_lanes(function, x, y):
    """`function` for each pair, by the emulator. x, y: arrays [n]."""
    device = cuda.jit(function, device=True)

    @cuda.jit
    def kernel(x, y, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = device(x[i], y[i])

    out = np.full(x.size, -77, dtype=np.float64 if x.dtype.kind == "f" else np.int64)
    if function is unified_local:
        out = out.astype(np.float64)
    kernel[-(-x.size // 32), 32](x, y, out)
    return out


@pytest.fixture(scope="module")
def compiled():
    """Each function compiled once by Numba."""
    return {f: numba.njit(error_model="numpy")(f) for f in INTEGER_FUNCTIONS + FLOAT_FUNCTIONS}


integers = st.lists(
    st.tuples(
        st.integers(-(2**62), 2**62) | st.integers(-20, 60),
        st.integers(-(2**31), 2**31) | st.integers(-9, 40),
    ),
    min_size=1,
    max_size=70,
)
floats = st.lists(
    st.tuples(
        st.floats(-1e6, 1e6, width=32),
        st.floats(-1e3, 1e3, width=32),
    ),
    min_size=1,
    max_size=70,
)


@pytest.mark.parametrize("function", INTEGER_FUNCTIONS, ids=lambda f: f.__name__)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(pairs=integers)
def test_integers_like_njit(function, pairs, compiled):
    x, y = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    expected = [compiled[function](a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(on_lanes(function, x, y), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", FLOAT_FUNCTIONS, ids=lambda f: f.__name__)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(pairs=floats)
def test_floats_like_njit(function, dtype, pairs, compiled):
    x, y = (np.array(column, dtype=dtype) for column in zip(*pairs, strict=True))
    expected = [compiled[function](a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(on_lanes(function, x, y), expected)


def test_a_local_has_one_type_whatever_the_data():
    """`r` is float32 in one branch and float64 in the other: all lanes compute in float64."""

    def unify(x, flag):
        r = x
        if flag:
            r = 1.0
        return r * r

    njit = numba.njit(unify)
    x = np.float32(1.1)
    device = cuda.jit(unify, device=True)

    @cuda.jit
    def kernel(x, flag, out):
        out[cuda.grid(1)] = device(x, flag[cuda.grid(1)])

    out = np.zeros(32)
    kernel[1, 32](x, np.zeros(32, dtype=bool), out)  # no lane takes the branch
    assert out[0] == njit(x, False) == np.float64(x) ** 2


def test_a_loop_goes_over_a_tuple_of_one_type():
    @cuda.jit
    def kernel(out):
        for value in (1, 2, 3, 0.5):
            out[0] = value

    with pytest.raises(cuda.UnsupportedFeature, match="a tuple of several types"):
        kernel[1, 1](np.zeros(1))


def test_minimum_and_maximum_prefer_a_number_to_nan():
    """As CUDA's fmin and fmax do, which Numba's CUDA target calls; its CPU target does not."""

    @cuda.jit
    def kernel(a, out):
        out[0], out[1] = min(a[0], a[1]), min(a[1], a[0])
        out[2], out[3] = max(a[0], a[1]), max(a[1], a[0])

    out = np.zeros(4)
    kernel[1, 1](np.array([np.nan, 1.0]), out)
    np.testing.assert_array_equal(out, np.ones(4))


def test_closures_globals_and_nested_device_functions():
    @cuda.jit(device=True)
    def square(x):
        return x * x

    @cuda.jit(device=True)
    def sum_of_squares(a, b):
        return square(a) + square(b), a

    def make(offset):
        @cuda.jit
        def kernel(out):
            i = cuda.grid(1)
            total, first = sum_of_squares(i, offset)
            out[i] = total + first * SCALE

        return kernel

    for offset in (2, 5):
        out = np.zeros(40, dtype=np.int64)
        make(offset)[1, 40](out)
        i = np.arange(40)
        np.testing.assert_array_equal(out, i * i + offset * offset + i * 3)


def test_names_are_recognised_by_what_they_are():
    from aiinfra_labs.gpu.emulator import grid as where

    grid = max  # the spelling means nothing

    @cuda.jit
    def kernel(out):
        i = where(1)
        out[i] = grid(cuda.threadIdx.x, 3)

    out = np.zeros(8)
    kernel[1, 8](out)
    np.testing.assert_array_equal(out, np.maximum(np.arange(8), 3))


def test_print_comes_lane_by_lane_and_is_cut(capsys):
    @cuda.jit
    def kernel(a):
        i = cuda.grid(1)
        if i % 2 == 0:
            print("thread", i, a[i])

    kernel[1, 6](np.arange(6.0))
    assert capsys.readouterr().out == "thread 0 0.0\nthread 2 2.0\nthread 4 4.0\n"
    kernel[100, 256](np.zeros(25600))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4097
    assert "the rest is left out" in lines[-1]


def test_the_lane_code_can_be_read():
    @cuda.jit
    def kernel(a):
        a[cuda.grid(1)] = 1

    kernel[1, 1](np.zeros(1))
    assert "R.store(m, v_a" in kernel.function.translation.source
