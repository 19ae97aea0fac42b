"""The products of unit 3.5 in CUDA C, launched by CuPy: naive, tiled, 8 x 8 in registers, wmma.

Unit 3.5. The first three are the Numba kernels of `matmul` and `matmul_registers`, line by line.
The fourth is what Numba cannot say: `nvcuda::wmma` hands a warp's 16 x 16 x 16 product to the
tensor cores (张量核心), float16 in, float32 sums. Nothing here imports CuPy until it is called;
`cupy_cuda_model.missing()` says why it cannot be. All arrays are CuPy's, C-contiguous, and below
2**31 elements. `benchmarks/registers.py` compiles both texts with NVRTC, without a GPU.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from .matmul_ladder import LADDER

if TYPE_CHECKING:
    import cupy

CUDA_C = r"""
extern "C" {  // the plain names, for get_function

#define TILE 16

__global__ void matmul_naive(const float *a, const float *b, float *c, int M, int K, int N) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (row < M && column < N) {
        float total = 0;
        for (int k = 0; k < K; k++) total += a[row * K + k] * b[k * N + column];
        c[row * N + column] = total;
    }
}

__global__ void matmul_tiled(const float *a, const float *b, float *c, int M, int K, int N) {
    __shared__ float tile_a[TILE][TILE], tile_b[TILE][TILE];
    int tx = threadIdx.x, ty = threadIdx.y;
    int column = blockIdx.x * TILE + tx, row = blockIdx.y * TILE + ty;
    float total = 0;
    for (int first = 0; first < K; first += TILE) {
        tile_a[ty][tx] = row < M && first + tx < K ? a[row * K + first + tx] : 0;
        tile_b[ty][tx] = first + ty < K && column < N ? b[(first + ty) * N + column] : 0;
        __syncthreads();  // the tiles are whole
        for (int k = 0; k < TILE; k++) total += tile_a[ty][k] * tile_b[k][tx];
        __syncthreads();  // and were read, before the next round overwrites them
    }
    if (row < M && column < N) c[row * N + column] = total;
}

#define BLOCK 128  // the block's tile of C is BLOCK x BLOCK, and a step along K is STEP
#define STEP 8
#define EACH 8  // a thread computes EACH x EACH elements, SIDE apart
#define SIDE 16

__global__ void __launch_bounds__(SIDE * SIDE, 2)  // two blocks an SM: at most 128 registers
matmul_registers_2d(const float *a, const float *b, float *c, int M, int K, int N) {
    __shared__ float tile_a[STEP][BLOCK + 4], tile_b[STEP][BLOCK];  // tile_a is transposed
    float sums[EACH][EACH] = {}, column_of_a[EACH], row_of_b[EACH];
    int t = threadIdx.x, x = t % SIDE, y = t / SIDE;
    int top = blockIdx.y * BLOCK, left = blockIdx.x * BLOCK;
    for (int first = 0; first < K; first += STEP) {
        for (int n = 0; n < 4; n++) {
            int row = t / STEP + n * (BLOCK / 4), k = t % STEP;
            bool there = top + row < M && first + k < K;
            tile_a[k][row] = there ? a[(top + row) * K + first + k] : 0;
        }
        for (int n = 0; n < 4; n++) {
            int k = t / BLOCK + n * (STEP / 4), column = t % BLOCK;
            bool there = first + k < K && left + column < N;
            tile_b[k][column] = there ? b[(first + k) * N + left + column] : 0;
        }
        __syncthreads();
        #pragma unroll
        for (int k = 0; k < STEP; k++) {
            for (int i = 0; i < EACH; i++) column_of_a[i] = tile_a[k][y + i * SIDE];
            for (int j = 0; j < EACH; j++) row_of_b[j] = tile_b[k][x + j * SIDE];
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) sums[i][j] += column_of_a[i] * row_of_b[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) {
            int row = top + y + i * SIDE, column = left + x + j * SIDE;
            if (row < M && column < N) c[row * N + column] = sums[i][j];
        }
}

}
"""

TENSOR_TILE, TENSOR_STEP, TENSOR_THREADS = 64, 16, 128
TENSOR_C = r"""
#include <cuda_fp16.h>
#include <mma.h>
using namespace nvcuda;

#define TILE 64  // of C, by 4 warps: each has 32 x 32, as 2 x 2 fragments of 16 x 16
#define STEP 16
#define PAD 8  // halves: rows begin at multiples of 16 bytes, and in other banks

extern "C" __global__ void matmul_tensor(
    const half *a, const half *b, float *c, int M, int K, int N) {
    alignas(32) __shared__ half tile_a[TILE][STEP + PAD], tile_b[STEP][TILE + PAD];
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> of_a[2];
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> of_b[2];
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums[2][2];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) wmma::fill_fragment(sums[i][j], 0.0f);

    int t = threadIdx.x, warp = t / 32, down = warp / 2 * 32, across = warp % 2 * 32;
    int top = blockIdx.y * TILE, left = blockIdx.x * TILE;
    int a_row = t / 2, a_k = t % 2 * 8, b_k = t / 8, b_column = t % 8 * 8;  // 8 halves: 16 bytes
    for (int first = 0; first < K; first += STEP) {
        *(uint4 *)&tile_a[a_row][a_k] = *(const uint4 *)&a[(top + a_row) * K + first + a_k];
        *(uint4 *)&tile_b[b_k][b_column] = *(const uint4 *)&b[(first + b_k) * N + left + b_column];
        __syncthreads();
        for (int i = 0; i < 2; i++) {
            wmma::load_matrix_sync(of_a[i], &tile_a[down + i * 16][0], STEP + PAD);
            wmma::load_matrix_sync(of_b[i], &tile_b[0][across + i * 16], TILE + PAD);
        }
        for (int i = 0; i < 2; i++)  // each is 4,096 multiply-adds, by the whole warp
            for (int j = 0; j < 2; j++) wmma::mma_sync(sums[i][j], of_a[i], of_b[j], sums[i][j]);
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            float *corner = &c[(top + down + i * 16) * N + left + across + j * 16];
            wmma::store_matrix_sync(corner, sums[i][j], N, wmma::mem_row_major);
        }
}
"""

RAW = ("matmul_naive", "matmul_tiled", "matmul_registers_2d")


@functools.cache
def raw(name: str) -> cupy.RawKernel:
    """A kernel of CUDA_C or TENSOR_C: `raw(name)(grid, block, arguments)`."""
    import cupy

    return cupy.RawModule(code=TENSOR_C if name == "matmul_tensor" else CUDA_C).get_function(name)


def matmul_raw(name: str, a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """a @ b by one of the kernels RAW. a: float32 [M, K]. b: float32 [K, N]. Any sides."""
    import cupy

    (step,) = (step for step in LADDER if step.kernel.__name__ == name)
    c = cupy.empty((a.shape[0], b.shape[1]), np.float32)
    block = step.block if isinstance(step.block, tuple) else (step.block,)
    raw(name)(step.tiling.grid(*c.shape), block, (a, b, c, *_sides(a, b)))
    return c


def matmul_tensor(a: cupy.ndarray, b: cupy.ndarray) -> cupy.ndarray:
    """a @ b by tensor cores, as float32 [M, N]: products of float16 are exact, sums float32.

    a: float16 [M, K]. b: float16 [K, N]. M and N are multiples of 64, K of 16. Compute capability
    7.0 (Volta) or later.
    """
    import cupy

    (m, k), n = a.shape, b.shape[1]
    if m % TENSOR_TILE or n % TENSOR_TILE or k % TENSOR_STEP:
        raise ValueError(
            f"matmul_tensor takes M and N in multiples of {TENSOR_TILE} and K of {TENSOR_STEP}, "
            f"not [{m}, {k}] by [{k}, {n}]: pad the matrices with zeros"
        )
    c = cupy.empty((m, n), np.float32)
    grid = n // TENSOR_TILE, m // TENSOR_TILE
    raw("matmul_tensor")(grid, (TENSOR_THREADS,), (a, b, c, *_sides(a, b)))
    return c


def differences(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """The largest difference of each kernel's product from NumPy's in float64.

    a: float32 [M, K]. b: float32 [K, N], on the host, with sides that `matmul_tensor` takes; it is
    given them rounded to float16, and compared with the product of what it was given.
    """
    import cupy

    exact = a.astype(float) @ b.astype(float)
    found = {}
    for name in RAW:
        got = matmul_raw(name, cupy.asarray(a), cupy.asarray(b))
        found[name] = float(abs(cupy.asnumpy(got) - exact).max())
    halves = a.astype(np.float16), b.astype(np.float16)
    got = matmul_tensor(*map(cupy.asarray, halves))
    exact = halves[0].astype(float) @ halves[1].astype(float)
    found["matmul_tensor"] = float(abs(cupy.asnumpy(got) - exact).max())
    return found


def _sides(a: cupy.ndarray, b: cupy.ndarray) -> tuple[np.int32, ...]:
    """M, K and N: an `int` of C takes an np.int32, as CuPy passes a Python int as 64 bits."""
    return np.int32(a.shape[0]), np.int32(a.shape[1]), np.int32(b.shape[1])
