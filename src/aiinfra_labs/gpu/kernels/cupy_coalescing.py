"""Copies of unit 3.3 in CUDA C, launched by CuPy: strided, shifted, and with `float4`. Unit 3.3.

As in `cupy_cuda_model.py`, whose `missing()` says why CuPy cannot run here, nothing imports CuPy
until it is called. All arrays are CuPy's, float32, C-contiguous.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from .cuda_model import blocks_for
from .cupy_cuda_model import missing

if TYPE_CHECKING:
    import cupy

__all__ = ["CUDA_C", "copy_float4_raw", "copy_shifted_raw", "copy_strided_raw", "differences"]
__all__ += ["missing"]

THREADS = 256

CUDA_C = r"""
extern "C" {  // the plain names, for get_function

__global__ void copy_strided(const float *source, float *target, int n, int stride) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) target[i] = source[(size_t)i * stride];
}

__global__ void copy_shifted(const float *source, float *target, int n, int shift) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) target[i] = source[i + shift];
}

__global__ void copy_float4(const float *source, float *target, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int fours = n / 4;
    if (i < fours) {
        reinterpret_cast<float4 *>(target)[i] = reinterpret_cast<const float4 *>(source)[i];
    } else {
        int rest = 4 * fours + i - fours;
        if (rest < n) target[rest] = source[rest];
    }
}

}
"""


@functools.cache
def raw(name: str) -> cupy.RawKernel:
    """A kernel of CUDA_C, compiled by NVRTC at its first call."""
    import cupy

    return cupy.RawModule(code=CUDA_C).get_function(name)


def copy_strided_raw(source: cupy.ndarray, stride: int) -> cupy.ndarray:
    """source[::stride]. source: float32 [n * stride], n below 2**31."""
    import cupy

    n = source.size // stride
    out = cupy.empty(n, np.float32)
    raw("copy_strided")(_grid(n), (THREADS,), (source, out, np.int32(n), np.int32(stride)))
    return out


def copy_shifted_raw(source: cupy.ndarray, shift: int) -> cupy.ndarray:
    """source[shift:]. source: float32 [n + shift], below 2**31 elements."""
    import cupy

    n = source.size - shift
    out = cupy.empty(n, np.float32)
    raw("copy_shifted")(_grid(n), (THREADS,), (source, out, np.int32(n), np.int32(shift)))
    return out


def copy_float4_raw(source: cupy.ndarray) -> cupy.ndarray:
    """A copy, four elements a thread. source: float32 [n], n below 2**31, at a 16-byte boundary."""
    import cupy

    out = cupy.empty(source.size, np.float32)
    grid = _grid(source.size // 4 + source.size % 4)
    raw("copy_float4")(grid, (THREADS,), (source, out, np.int32(source.size)))
    return out


def _grid(n: int) -> tuple[int]:
    return (blocks_for(n, THREADS),)


def differences(source: np.ndarray) -> dict[str, int]:
    """How many elements of each copy differ from NumPy's: none should. source: float32 [n]."""
    import cupy

    d_source = cupy.asarray(source)
    found = {
        "copy_strided": (copy_strided_raw(d_source, 3), source[: source.size // 3 * 3 : 3]),
        "copy_shifted": (copy_shifted_raw(d_source, 1), source[1:]),
        "copy_float4": (copy_float4_raw(d_source), source),
    }
    return {name: int((cupy.asnumpy(got) != want).sum()) for name, (got, want) in found.items()}
