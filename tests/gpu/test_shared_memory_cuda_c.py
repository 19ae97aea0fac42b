"""The CUDA C of unit 3.4 run on the CPU: a thread of C++ for each of a block, one block at a time.

No GPU is needed to see that the text is right; what it costs, the Numba kernels show.
"""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from aiinfra_labs.gpu.kernels.cuda_model import blocks_for_image
from aiinfra_labs.gpu.kernels.cupy_shared_memory import CUDA_C, NAMES
from aiinfra_labs.gpu.kernels.transpose import ROWS, TILE

COMPILER = shutil.which("g++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ to compile CUDA C with")

# What CUDA gives to a kernel, for the CPU. A block's shared arrays are static: blocks take turns.
BEFORE = """
#include <barrier>
#include <thread>
#include <vector>
struct Dim3 { int x = 0, y = 0, z = 0; };
thread_local Dim3 threadIdx;
static Dim3 blockIdx, blockDim, gridDim;
static std::barrier<> *block_barrier;
extern "C" float window[1024];
float window[1024];
#define __global__
#define __shared__ static
#define __syncthreads() block_barrier->arrive_and_wait()
"""
AFTER = """
template <typename Body> void run(int gx, int gy, int bx, int by, Body body) {
    gridDim = {gx, gy, 1};
    blockDim = {bx, by, 1};
    for (int block = 0; block < gx * gy; block++) {
        blockIdx = {block % gx, block / gx, 0};
        std::barrier<> all(bx * by);
        block_barrier = &all;
        std::vector<std::thread> threads;
        for (int t = 0; t < bx * by; t++)
            threads.emplace_back([=] { threadIdx = {t % bx, t / bx, 0}; body(); });
        for (auto &thread : threads) thread.join();
    }
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda_c")
    calls = "".join(
        f'extern "C" void run_{name}(int gx, int gy, int bx, int by, const float *a, float *out, '
        "int rows, int columns) "
        f"{{ run(gx, gy, bx, by, [=] {{ {name}(a, out, rows, columns); }}); }}\n"
        for name in NAMES
    )
    calls += (
        'extern "C" void run_reverse_windows(int blocks, int threads, const float *x, float *out, '
        "int n) { run(blocks, 1, threads, 1, [=] { reverse_windows(x, out, n); }); }\n"
    )
    source = folder / "kernels.cpp"
    code = CUDA_C.replace("extern __shared__", "extern")
    source.write_text(BEFORE + code + AFTER + calls)
    built = folder / "kernels.so"
    command = [COMPILER, "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", source, "-o", built]
    subprocess.run(command, check=True, capture_output=True)
    return ctypes.CDLL(str(built))


def pointer(array):
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


@pytest.mark.parametrize("shape", [(1, 1), (33, 70)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("name", NAMES)
def test_a_transpose_in_c_is_numpys(library, name, shape):
    a = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    out = np.full(shape[::-1], np.nan, np.float32)
    grid = blocks_for_image(shape, (TILE, TILE))
    block = (TILE, ROWS if name == "transpose_32x8" else TILE)
    getattr(library, f"run_{name}")(*grid, *block, pointer(a), pointer(out), *shape)
    np.testing.assert_array_equal(out, a.T)


def test_windows_in_c_are_reversed(library):
    x = np.arange(640, dtype=np.float32)
    out = np.full_like(x, np.nan)
    library.run_reverse_windows(2, 64, pointer(x), pointer(out), x.size)
    np.testing.assert_array_equal(out, x.reshape(-1, 64)[:, ::-1].ravel())
