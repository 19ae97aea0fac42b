"""The CUDA C of unit 3.4 run on the CPU by `cuda_c`. What it costs, the Numba kernels show."""

import cuda_c
import numpy as np
import pytest

from aiinfra_labs.gpu.kernels.cuda_model import blocks_for_image
from aiinfra_labs.gpu.kernels.cupy_shared_memory import CUDA_C, NAMES
from aiinfra_labs.gpu.kernels.transpose import ROWS, TILE

pytestmark = cuda_c.needs_compiler


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    kernels = dict.fromkeys(NAMES, "const float *a, float *out, int rows, int columns")
    kernels["reverse_windows"] = "const float *x, float *out, int n"
    folder = tmp_path_factory.mktemp("cuda_c")
    return cuda_c.built(folder, CUDA_C, kernels, dynamic="float window[1024]")


@pytest.mark.parametrize("shape", [(1, 1), (33, 70)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("name", NAMES)
def test_a_transpose_in_c_is_numpys(library, name, shape):
    a = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    out = np.full(shape[::-1], np.nan, np.float32)
    grid = blocks_for_image(shape, (TILE, TILE))
    block = (TILE, ROWS if name == "transpose_32x8" else TILE)
    getattr(library, f"run_{name}")(*grid, *block, cuda_c.pointer(a), cuda_c.pointer(out), *shape)
    np.testing.assert_array_equal(out, a.T)


def test_windows_in_c_are_reversed(library):
    x = np.arange(640, dtype=np.float32)
    out = np.full_like(x, np.nan)
    library.run_reverse_windows(2, 1, 64, 1, cuda_c.pointer(x), cuda_c.pointer(out), x.size)
    np.testing.assert_array_equal(out, x.reshape(-1, 64)[:, ::-1].ravel())
