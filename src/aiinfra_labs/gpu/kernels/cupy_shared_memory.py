"""The transposes of unit 3.4 in CUDA C, launched by CuPy. Unit 3.4.

As in `cupy_cuda_model.py`, whose `missing()` says why CuPy cannot run here, nothing imports CuPy
until it is called. All arrays are CuPy's, C-contiguous.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from .cuda_model import blocks_for_image
from .cupy_cuda_model import missing
from .transpose import ROWS, TILE

if TYPE_CHECKING:
    import cupy

__all__ = ["CUDA_C", "NAMES", "differences", "missing", "reverse_raw", "transpose_raw"]

CUDA_C = r"""
#define TILE 32
#define ROWS 8

extern "C" {  // the plain names, for get_function

__global__ void transpose_naive(const float *a, float *out, int rows, int columns) {
    int x = blockIdx.x * TILE + threadIdx.x;
    int y = blockIdx.y * TILE + threadIdx.y;
    if (y < rows && x < columns) out[x * rows + y] = a[y * columns + x];
}

__global__ void transpose_tiled(const float *a, float *out, int rows, int columns) {
    __shared__ float tile[TILE][TILE];
    int tx = threadIdx.x, ty = threadIdx.y;
    int left = blockIdx.x * TILE, top = blockIdx.y * TILE;
    if (top + ty < rows && left + tx < columns)
        tile[ty][tx] = a[(top + ty) * columns + left + tx];
    __syncthreads();
    if (left + ty < columns && top + tx < rows)
        out[(left + ty) * rows + top + tx] = tile[tx][ty];  // 32 words of one bank
}

__global__ void transpose_padded(const float *a, float *out, int rows, int columns) {
    __shared__ float tile[TILE][TILE + 1];
    int tx = threadIdx.x, ty = threadIdx.y;
    int left = blockIdx.x * TILE, top = blockIdx.y * TILE;
    if (top + ty < rows && left + tx < columns)
        tile[ty][tx] = a[(top + ty) * columns + left + tx];
    __syncthreads();
    if (left + ty < columns && top + tx < rows)
        out[(left + ty) * rows + top + tx] = tile[tx][ty];
}

__global__ void transpose_swizzled(const float *a, float *out, int rows, int columns) {
    __shared__ float tile[TILE][TILE];
    int tx = threadIdx.x, ty = threadIdx.y;
    int left = blockIdx.x * TILE, top = blockIdx.y * TILE;
    if (top + ty < rows && left + tx < columns)
        tile[ty][tx ^ ty] = a[(top + ty) * columns + left + tx];
    __syncthreads();
    if (left + ty < columns && top + tx < rows)
        out[(left + ty) * rows + top + tx] = tile[tx][ty ^ tx];
}

__global__ void transpose_32x8(const float *a, float *out, int rows, int columns) {
    __shared__ float tile[TILE][TILE];
    int tx = threadIdx.x;
    int left = blockIdx.x * TILE, top = blockIdx.y * TILE;
    for (int y = threadIdx.y; y < TILE; y += ROWS)
        if (top + y < rows && left + tx < columns)
            tile[y][tx ^ y] = a[(top + y) * columns + left + tx];
    __syncthreads();
    for (int y = threadIdx.y; y < TILE; y += ROWS)
        if (left + y < columns && top + tx < rows)
            out[(left + y) * rows + top + tx] = tile[tx][y ^ tx];
}

__global__ void reverse_windows(const float *x, float *out, int n) {
    extern __shared__ float window[];  // as long as the launch says
    int t = threadIdx.x, threads = blockDim.x;
    for (int first = blockIdx.x * threads; first < n; first += gridDim.x * threads) {
        window[t] = x[first + t];
        __syncthreads();  // the window is whole
        out[first + t] = window[threads - 1 - t];
        __syncthreads();  // and was read, before the next one overwrites it
    }
}

}
"""

NAMES = (
    "transpose_naive",
    "transpose_tiled",
    "transpose_padded",
    "transpose_swizzled",
    "transpose_32x8",
)


@functools.cache
def raw(name: str) -> cupy.RawKernel:
    """A kernel of CUDA_C, compiled by NVRTC at its first call."""
    import cupy

    return cupy.RawModule(code=CUDA_C).get_function(name)


def transpose_raw(name: str, a: cupy.ndarray) -> cupy.ndarray:
    """The transpose by one of NAMES. a: float32 [rows, columns], fewer than 2**31 elements."""
    import cupy

    out = cupy.empty(a.shape[::-1], np.float32)
    block = (TILE, ROWS if name == "transpose_32x8" else TILE)
    grid = blocks_for_image(a.shape, (TILE, TILE))
    raw(name)(grid, block, (a, out, *map(np.int32, a.shape)))
    return out


def reverse_raw(x: cupy.ndarray, window: int, blocks: int) -> cupy.ndarray:
    """Each window of x turned round, by so many blocks. x: float32 [n], n a multiple of window."""
    import cupy

    out = cupy.empty_like(x)
    kernel, shared = raw("reverse_windows"), window * x.itemsize
    kernel((blocks,), (window,), (x, out, np.int32(x.size)), shared_mem=shared)
    return out


def differences(a: np.ndarray) -> dict[str, int]:
    """How many elements of each CuPy kernel's result differ from Numba's: only moved, so none.

    a: float32 [rows, columns], on the host; its size must be a multiple of 64.
    """
    import cupy

    from . import shared_memory, transpose

    d_a, found = cupy.asarray(a), {}
    grid = blocks_for_image(a.shape, (TILE, TILE))
    for name in NAMES:
        out = np.empty(a.shape[::-1], np.float32)
        block = (TILE, ROWS if name == "transpose_32x8" else TILE)
        getattr(transpose, name)[grid, block](a, out)
        found[name] = int((cupy.asnumpy(transpose_raw(name, d_a)) != out).sum())
    flat, window = a.reshape(-1), 64
    reversed_ = np.empty_like(flat)
    shared_memory.reverse_windows[4, window, 0, window * flat.itemsize](flat, reversed_)
    got = cupy.asnumpy(reverse_raw(d_a.reshape(-1), window, blocks=4))
    found["reverse_windows"] = int((got != reversed_).sum())
    return found
