"""The CUDA C of unit 3.5 run on the CPU: a thread of C++ for each of a block, one block at a time.

No GPU is needed to see that the text is right. Of `wmma` there is a stand-in here, in which each
lane does the whole warp's product: it holds the kernel to its tiles and edges, not to a layout of
fragments, which only the hardware knows.
"""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

from aiinfra_labs.gpu.kernels.cupy_matmul import CUDA_C, RAW, TENSOR_C, TENSOR_THREADS, TENSOR_TILE
from aiinfra_labs.gpu.kernels.matmul_ladder import LADDER

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
#define __global__
#define __shared__ static
#define __launch_bounds__(threads, blocks)
#define __syncthreads() block_barrier->arrive_and_wait()
typedef _Float16 half;
struct uint4 { unsigned x, y, z, w; };
namespace nvcuda { namespace wmma {
struct matrix_a {}; struct matrix_b {}; struct accumulator {}; struct row_major {};
enum layout { mem_row_major };
template <class Use, int, int, int, class T, class Order = void> struct fragment { T x[16][16]; };
template <class F> void fill_fragment(F &f, float v) {
    for (auto &row : f.x) for (auto &x : row) x = v;
}
template <class F, class T> void load_matrix_sync(F &f, const T *from, int pitch) {
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) f.x[i][j] = from[i * pitch + j];
}
template <class D, class A, class B> void mma_sync(D &d, const A &a, const B &b, const D &c) {
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) {
        float sum = c.x[i][j];
        for (int k = 0; k < 16; k++) sum += float(a.x[i][k]) * float(b.x[k][j]);
        d.x[i][j] = sum;
    }
}
template <class F> void store_matrix_sync(float *to, const F &f, int pitch, layout) {
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) to[i * pitch + j] = f.x[i][j];
}
} }
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


def built(folder, code, names, element):
    """The texts as a library, with `run_NAME(gx, gy, bx, by, a, b, c, M, K, N)` for each kernel."""
    calls = "".join(
        f'extern "C" void run_{name}(int gx, int gy, int bx, int by, const {element} *a, '
        f"const {element} *b, float *c, int M, int K, int N) "
        f"{{ run(gx, gy, bx, by, [=] {{ {name}(a, b, c, M, K, N); }}); }}\n"
        for name in names
    )
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(BEFORE + re.sub(r"#include.*", "", code) + AFTER + calls)
    # no contraction: products and sums round as on the emulator
    command = [COMPILER, "-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread"]
    done = subprocess.run([*command, source, "-o", library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return built(tmp_path_factory.mktemp("raw"), CUDA_C, RAW, "float")


@pytest.fixture(scope="module")
def tensor(tmp_path_factory):
    return built(tmp_path_factory.mktemp("tensor"), TENSOR_C, ["matmul_tensor"], "half")


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def multiplied(run, grid, block, a, b):
    c = np.full((a.shape[0], b.shape[1]), np.nan, np.float32)
    run(*grid, *block, pointer(a), pointer(b), pointer(c), *a.shape, b.shape[1])
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
