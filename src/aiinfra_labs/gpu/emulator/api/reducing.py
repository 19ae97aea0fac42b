"""`cuda.reduce`: one number from an array, by a kernel of its own. Unit 3.6.

    total = cuda.reduce(lambda a, b: a + b)
    total(array)

A block of 128 threads walks over the array in strides; then each of its 4 warps halves 32 partial
results until one is left. The order of the operations is that of Numba's `Reduce`, so that a sum
of floats has the same last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DeviceMemoryError
from ..lanes.dispatch import Kernel, jit
from .arrays import shared
from .barriers import syncthreads, syncwarp
from .intrinsics import blockDim, blockIdx, gridDim, threadIdx
from .memory import DeviceArray, device_array, to_device

WARP, WARPS = 32, 4
BLOCK = WARP * WARPS
PADDED = WARP + 1  # one column more: no bank conflicts
MOST_BLOCKS = 64


class Reduce:
    """A function of two numbers as a reduction of arrays; also a decorator."""

    def __init__(self, functor: Callable[[Any, Any], Any]):
        self.functor = functor
        self._kernels: dict[np.dtype, Kernel] = {}

    def __call__(
        self,
        arr: Any,
        size: int | None = None,
        res: DeviceArray | None = None,
        init: Any = 0,
        stream: Any = 0,
    ) -> Any:
        """The reduction of the 1-d `arr` (its first `size` elements) and `init`.

        Returns a number of the array's dtype, or None where `res` takes it: res[0].
        """
        array = to_device(arr)
        if array.ndim != 1:
            raise DeviceMemoryError(
                f"a reduction of an array with {array.ndim} axes",
                "cuda.reduce goes along one axis",
                "pass array.ravel()",
            )
        array = array if size is None else array[:size]
        init = array.dtype.type(init)
        if not array.size:
            return init
        kernel = self._kernels.setdefault(array.dtype, _kernel_for(self.functor, array.dtype))
        whole = array.size // BLOCK * BLOCK
        blocks = min(whole // BLOCK, MOST_BLOCKS)
        partials = device_array(blocks + (array.size > whole), array.dtype)
        if whole:
            kernel[blocks, BLOCK](array[:whole], partials[:blocks], init, True)
        if array.size > whole:
            rest = array[whole:]
            kernel[1, rest.size](rest, partials[blocks:], init, not blocks)
        if partials.size > 1:
            kernel[1, partials.size](partials, partials, init, False)
        if res is None:
            return partials[0]
        res[:1].copy_to_device(partials[:1])
        return None


def _kernel_for(functor: Callable[[Any, Any], Any], dtype: np.dtype) -> Kernel:
    combine = jit(device=True)(functor)

    @jit(device=True)
    def reduce_warp(row, lane, value):
        """The 32 values of a warp into row[0]."""
        row[lane] = value
        syncwarp()
        width = WARP // 2
        while width:
            if lane < width:
                mine = row[lane]
                row[lane] = combine(mine, row[lane + width])
            syncwarp()
            width //= 2

    @jit(device=True)
    def reduce_full(arr, partials, rows):
        """Blocks of 128 threads, each over its share of the array."""
        tid, block = threadIdx.x, blockIdx.x
        start = tid + BLOCK * block
        value = arr[start]
        for i in range(start + BLOCK * gridDim.x, arr.size, BLOCK * gridDim.x):
            value = combine(value, arr[i])
        reduce_warp(rows[tid // WARP], tid % WARP, value)
        syncthreads()
        if tid < 2:
            rows[tid, 0] = combine(rows[tid, 0], rows[tid + 2, 0])
        syncwarp()
        if tid == 0:
            partials[block] = combine(rows[0, 0], rows[1, 0])

    @jit(device=True)
    def reduce_rest(arr, partials, rows):
        """One block with a thread for each of less than 128 elements."""
        tid, size = threadIdx.x, arr.size
        warp, lane = tid // WARP, tid % WARP
        value = arr[tid]
        rows[warp, lane] = value
        syncthreads()
        if (warp + 1) * WARP < size:
            reduce_warp(rows[warp], lane, value)
        elif lane == 0:
            for i in range(1, size - warp * WARP):
                rows[warp, 0] = combine(rows[warp, 0], rows[warp, i])
        syncthreads()
        if tid == 0:
            result = rows[0, 0]
            for i in range(1, (size + WARP - 1) // WARP):
                result = combine(result, rows[i, 0])
            partials[0] = result

    @jit
    def reduce_array(arr, partials, init, use_init):
        rows = shared.array((WARPS, PADDED), dtype)
        if blockDim.x == BLOCK:
            reduce_full(arr, partials, rows)
        else:
            reduce_rest(arr, partials, rows)
        if use_init and threadIdx.x == 0 and blockIdx.x == 0:
            partials[0] = combine(partials[0], init)

    return reduce_array
