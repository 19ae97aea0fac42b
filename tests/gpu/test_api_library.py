"""The library beside the language: random numbers, fp16, reduce, vectorize, copies, events."""

import os
import subprocess
import sys

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

NUMBAS = """
import numpy as np
from numba import cuda
from numba.cuda.random import (create_xoroshiro128p_states, xoroshiro128p_uniform_float32,
                               xoroshiro128p_uniform_float64, xoroshiro128p_normal_float64)
states = create_xoroshiro128p_states(6, seed=42, subsequence_start=3)
out = np.zeros((6, 6))
@cuda.jit
def draw(states, out):
    i = cuda.grid(1)
    for k in range(2):
        out[i, 3 * k] = xoroshiro128p_uniform_float32(states, i)
        out[i, 3 * k + 1] = xoroshiro128p_uniform_float64(states, i)
        out[i, 3 * k + 2] = xoroshiro128p_normal_float64(states, i)
draw[1, 6](states, out)
np.save(r"{file}", out)
"""


def test_random_numbers_are_numbas_bit_for_bit(tmp_path):
    file, script = tmp_path / "numba.npy", tmp_path / "draw.py"
    script.write_text(NUMBAS.replace("{file}", str(file)), encoding="utf-8")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    subprocess.run([sys.executable, "-W", "ignore", script], check=True, env=environment)

    @cuda.jit
    def draw(states, out):
        i = cuda.grid(1)
        for k in range(2):
            out[i, 3 * k] = cuda.random.xoroshiro128p_uniform_float32(states, i)
            out[i, 3 * k + 1] = cuda.random.xoroshiro128p_uniform_float64(states, i)
            out[i, 3 * k + 2] = cuda.random.xoroshiro128p_normal_float64(states, i)

    states = cuda.random.create_xoroshiro128p_states(6, seed=42, subsequence_start=3)
    out = np.zeros((6, 6))
    draw[1, 6](states, out)
    expected = np.load(file)
    np.testing.assert_array_equal(out[:, [0, 1, 3, 4]], expected[:, [0, 1, 3, 4]])
    # Numba's simulator takes the logarithm in float64, its compiler in float32, as here
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_each_generator_is_a_jump_after_the_one_before():
    many = cuda.random.create_xoroshiro128p_states(300, seed=5).copy_to_host()
    for start in (1, 2, 7, 255):
        one = cuda.random.create_xoroshiro128p_states(1, 5, subsequence_start=start)
        assert one.copy_to_host()[0] == many[start]


def test_half_precision_rounds_once():
    @cuda.jit
    def kernel(a, b, c, out):
        i = cuda.grid(1)
        out[0, i] = cuda.fp16.hadd(a[i], b[i])
        out[1, i] = cuda.fp16.hmul(a[i], b[i])
        out[2, i] = cuda.fp16.hfma(a[i], b[i], c[i])
        out[3, i] = cuda.fp16.hmax(a[i], b[i])
        out[4, i] = cuda.fp16.hlt(a[i], b[i])

    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 64)).astype(np.float16)
    out = np.zeros((5, 64), np.float16)
    kernel[1, 64](a, b, c, out)
    np.testing.assert_array_equal(out[0], a + b)
    np.testing.assert_array_equal(out[1], a * b)
    # the sum of an 22-bit product and a half of like size is exact in float64
    exact = a.astype(float) * b.astype(float) + c.astype(float)
    np.testing.assert_array_equal(out[2], exact.astype(np.float16))
    np.testing.assert_array_equal(out[3], np.maximum(a, b))
    np.testing.assert_array_equal(out[4], a < b)


@pytest.mark.parametrize("n", [1, 2, 31, 127, 128, 129, 1000, 8192, 34567])
def test_reduce(n):
    total = cuda.reduce(lambda a, b: a + b)
    largest = cuda.Reduce(lambda a, b: max(a, b))
    a = np.random.default_rng(n).integers(-1000, 1000, n)
    assert total(a) == a.sum()
    assert total(cuda.to_device(a), init=10) == a.sum() + 10
    assert largest(a, init=-2000) == a.max()
    into = cuda.device_array(1, np.int64)
    assert total(a, size=(n + 1) // 2, res=into) is None
    assert into.copy_to_host()[0] == a[: (n + 1) // 2].sum()


def test_vectorize_broadcasts_and_chooses_a_signature():
    @cuda.vectorize(["int32(int32, int32)", "float64(float64, float64)"])
    def product(a, b):
        return a * b

    column, row = np.arange(5, dtype=np.int32)[:, None], np.arange(300, dtype=np.int32)
    found = product(column, row)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, column * row)
    assert product(np.float32(2), 1.5) == 3.0
    on_device = product(cuda.to_device(row), cuda.to_device(row))
    assert isinstance(on_device, cuda.DeviceArray)
    np.testing.assert_array_equal(on_device.copy_to_host(), row * row)
    assert product.reduce(np.arange(1, 11, dtype=np.float64)) == 3628800
    with pytest.raises(cuda.LaunchError, match="no signature for complex128"):
        product(1j * row, row)


def test_guvectorize_works_on_many_small_matrices():
    @cuda.guvectorize(["void(float64[:, :], float64[:, :], float64[:, :])"], "(m,n),(n,p)->(m,p)")
    def matmul(a, b, c):
        for i in range(c.shape[0]):
            for j in range(c.shape[1]):
                c[i, j] = 0
                for k in range(a.shape[1]):
                    c[i, j] += a[i, k] * b[k, j]

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 1, 2, 3)), rng.normal(size=(4, 3, 5))
    np.testing.assert_allclose(matmul(a, b), a @ b)


def test_copies_go_the_way_that_is_asked_for():
    @cuda.jit
    def kernel(a):
        a[cuda.grid(1)] += 1

    a = np.zeros(4)
    kernel[1, 4](cuda.In(a))
    assert a.tolist() == [0, 0, 0, 0]
    kernel[1, 4](cuda.InOut(a))
    assert a.tolist() == [1, 1, 1, 1]


def test_arrays_like_others_keep_the_order_of_their_axes():
    view = np.zeros((4, 6, 8)).transpose(1, 0, 2)[:, ::2]
    for make in (cuda.device_array_like, cuda.pinned_array_like, cuda.mapped_array_like):
        assert make(view).strides == np.empty_like(view, order="K").strides


def test_atomic_maximum_never_stores_nan():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1)
        cuda.atomic.max(out, 0, a[i])
        cuda.atomic.nanmin(out, 1, a[i])

    a = np.random.default_rng(0).normal(size=256)
    a[::3] = np.nan
    out = np.array([-5.0, 5.0])
    kernel[2, 128](a, out)
    assert out.tolist() == [np.nanmax(a), np.nanmin(a)]


def test_the_list_of_devices_is_the_one_that_is_stood_for():
    assert len(cuda.gpus) == len(cuda.list_devices()) == 1
    before = cuda.get_current_device().key
    try:
        cuda.select_device("a100")
        assert cuda.gpus.current.name == cuda.gpus[0].name == cuda.device_profiles()["a100"].name
    finally:
        cuda.select_device(before)
    with cuda.gpus[0] as gpu:
        assert [g.compute_capability for g in cuda.gpus] == [gpu.compute_capability]
    with pytest.raises(cuda.LaunchError, match="no device 1"):
        cuda.gpus[1]
