"""The CUDA C of unit 3.5 run on the CPU (`cuda_c`): each product, in the order of k."""

import cuda_c
import numpy as np
import pytest

from aiinfra_labs.gpu.kernels.cupy_matmul import CUDA_C, RAW, TENSOR_C, TENSOR_THREADS, TENSOR_TILE
from aiinfra_labs.gpu.kernels.matmul_ladder import LADDER

pytestmark = cuda_c.needs_compiler


def parameters(element):
    return f"const {element} *a, const {element} *b, float *c, int M, int K, int N"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    kernels = dict.fromkeys(RAW, parameters("float"))
    return cuda_c.built(tmp_path_factory.mktemp("raw"), CUDA_C, kernels)


@pytest.fixture(scope="module")
def tensor(tmp_path_factory):
    kernels = {"matmul_tensor": parameters("half")}
    return cuda_c.built(tmp_path_factory.mktemp("tensor"), TENSOR_C, kernels)


def multiplied(run, grid, block, a, b):
    c = np.full((a.shape[0], b.shape[1]), np.nan, np.float32)
    run(
        *grid, *block, cuda_c.pointer(a), cuda_c.pointer(b), cuda_c.pointer(c), *a.shape, b.shape[1]
    )
    return c


def matrices(m, k, n, dtype=np.float32):
    rng = np.random.default_rng(m + k + n)
    return rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 17, 40), (130, 9, 31)], ids=str)
@pytest.mark.parametrize("name", RAW)
def test_a_product_in_c_adds_in_the_order_of_k(raw, name, shape):
    (step,) = (step for step in LADDER if step.kernel.__name__ == name)
    a, b = matrices(*shape)
    block = step.block if isinstance(step.block, tuple) else (step.block, 1)
    grid = step.tiling.grid(a.shape[0], b.shape[1])
    got = multiplied(getattr(raw, f"run_{name}"), grid, block, a, b)
    expected = np.zeros_like(got)
    for column, row in zip(a.T, b, strict=True):
        expected += np.outer(column, row)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [(64, 16, 64), (64, 48, 128)], ids=str)
def test_the_tensor_kernel_multiplies_fragment_by_fragment(tensor, shape):
    a, b = matrices(*shape, dtype=np.float16)
    grid = shape[2] // TENSOR_TILE, shape[0] // TENSOR_TILE
    got = multiplied(tensor.run_matmul_tensor, grid, (TENSOR_THREADS, 1), a, b)
    exact = a.astype(float) @ b.astype(float)
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-4)
