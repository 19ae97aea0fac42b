"""What Numba's CUDA target refuses, the emulator refuses too, in three parts and with the line.

`test_compiled.py` asks Numba's compiler; here the emulator's own answers are read.
"""

import math

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

TABLE = np.arange(20_000.0)  # 160,000 bytes; a kernel has 65,536 of constant memory
SMALL = np.arange(5_000.0)  # 40,000 bytes: one fits, two do not
OTHER = SMALL + 1


def answer(kernel, *args, grid=1, block=32):
    with pytest.raises(cuda.EmulatorError) as caught:
        cuda.jit(kernel)[grid, block](*args)
    error = caught.value
    assert error.what and error.why and error.try_
    return error


def refuses(kernel, *args, says=""):
    error = answer(kernel, *args)
    assert isinstance(error, cuda.UnsupportedFeature)
    assert error.place.line and says in str(error)


ATOMICS = {
    "add": "?bBhHe" + "FD",
    "max": "bBhHe",
    "and_": "bBhHefd",
    "exch": "bBhHefd",
    "cas": "bBhHefd",
    "inc": "bBhHefdil",
    "dec": "il",
}


def written(lines, tmp_path):
    """A function `kernel(a)` of this text, in a file of its own."""
    file = tmp_path / "kernel.py"
    file.write_text(f"def kernel(a):\n    {lines}\n")
    scope = {"cuda": cuda, "np": np, "math": math}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    return scope["kernel"]


@pytest.mark.parametrize("name", ATOMICS)
def test_atomics_are_those_that_numba_has(name, tmp_path):
    values = "1, 2" if name == "cas" else "1"
    kernel = written(f"cuda.atomic.{name}(a, 0, {values})", tmp_path)
    for kind in ATOMICS[name]:
        refuses(kernel, np.ones(2, kind), says=f"atomic.{name} on a, which holds")
    cuda.jit(kernel)[1, 32](np.ones(2, np.uint32))


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i2", "u4", "u8", "f2", "c8"])
@pytest.mark.parametrize("name", ["shfl_sync", "shfl_up_sync", "shfl_down_sync", "shfl_xor_sync"])
def test_shuffles_exchange_four_types(name, kind):
    shuffle = getattr(cuda, name)

    def kernel(a):
        a[0] = shuffle(0xFFFFFFFF, a[0], 1)

    refuses(kernel, np.ones(32, kind), says="int32, int64, float32 and float64")


def test_a_barrier_counts_integers_and_no_conditions():
    def kernel(a):
        a[0] = cuda.syncthreads_count(a[0] > 1)

    refuses(kernel, np.ones(1), says="write cuda.syncthreads_count(int(condition))")


@pytest.mark.parametrize(
    ("ufunc", "instead"),
    [
        (np.sqrt, "math.sqrt(x)"),
        (np.exp, "math.exp(x)"),
        (np.abs, "abs(x)"),
        (np.floor, "math.floor(x)"),
        (np.power, "a ** b"),
        (np.isinf, "math.isinf(x)"),
        (np.rint, "round(x)"),
        (np.add, "a + b"),
        (np.sign, "the math module"),
    ],
)
def test_ufuncs_that_the_cuda_target_lacks(ufunc, instead):
    if ufunc.nin == 1:

        def on_numbers(a):
            a[0] = ufunc(a[0])

        def on_arrays(a):
            ufunc(a, a)

    else:

        def on_numbers(a):
            a[0] = ufunc(a[0], 2)

        def on_arrays(a):
            ufunc(a, a, a)

    refuses(on_numbers, np.ones(2), says=instead)
    refuses(on_arrays, np.ones(2), says=instead)


def test_rows_and_slices_are_not_assigned_whole():
    def row(a, b):
        b[0] = a[1]

    def part(a, b):
        b[0, :2] = a[1, 1:]

    def column(a, b):
        b[:, 0] = a[:, 1]

    for kernel in (row, part, column):
        refuses(kernel, np.ones((2, 3)), np.ones((2, 3)), says="copy the elements in a loop")


def test_a_field_that_is_not_aligned():
    packed = np.dtype([("a", np.int8), ("b", np.float64)])

    def load(r, out):
        out[0] = r[0].b

    def store(r, out):
        r[0].b = out[0]

    def first(r, out):
        out[0] = r[0].a

    for kernel in (load, store):
        refuses(kernel, np.zeros(2, packed), np.zeros(1), says="align=True")
    cuda.jit(first)[1, 1](np.zeros(2, packed), np.zeros(1))
    aligned = np.dtype([("a", np.int8), ("b", np.float64)], align=True)
    cuda.jit(load)[1, 1](np.zeros(2, aligned), np.zeros(1))


def test_constants_beyond_64_kilobytes():
    def one(out):
        out[0] = cuda.const.array_like(TABLE)[3]

    def plain(out):
        out[0] = TABLE[3]

    def two(out):
        out[0] = SMALL[0] + OTHER[0]

    for kernel in (one, plain, two):
        refuses(kernel, np.zeros(1), says="65,536 bytes")

    def twice(out):
        out[0] = SMALL[1] + SMALL[2]

    out = np.zeros(1)
    cuda.jit(twice)[1, 1](out)
    assert out[0] == 3


def test_more_blocks_than_can_wait_for_each_other():
    def kernel(out):
        cuda.cg.this_grid().sync()
        out[0] = 1

    error = answer(kernel, np.zeros(1), grid=400, block=1024)
    assert isinstance(error, cuda.LaunchError)
    most = cuda.get_current_device().multiprocessors * 2  # of 2,048 threads each
    assert f"{most:,}" in error.why
    cuda.jit(kernel)[most, 1024](np.zeros(1))


def test_floor_and_its_like_give_floats():
    def indexed(x, a):
        a[math.floor(x[0])] = 1

    refuses(indexed, np.ones(1, np.float32), np.zeros(4), says="an index is an integer")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("float(a[0] > 1)", "1.0 if condition else 0.0"),
        ("complex(a[0] > 1)", "complex does not work"),
        ("min(a[0] > 1, 2)", "min and max"),
        ("cuda.selp(a[0] > 1, 1, 2.5)", "of one type"),
        ("cuda.ffs(np.int16(3))", "32 or 64 bits"),
        ("math.sqrt(1j)", "real numbers"),
    ],
)
def test_numbers_that_a_function_does_not_take(text, says, tmp_path):
    refuses(written(f"a[0] = {text}", tmp_path), np.ones(2), says=says)
