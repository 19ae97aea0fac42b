"""Adding up an array: three trees in shared memory, shuffles within a warp, a grid. Unit 3.6.

The first four leave one sum a block, and differ only in which threads add at each step (Harris,
"Optimizing Parallel Reduction in CUDA", NVIDIA 2007). `total` adds those sums by a second launch,
`add_all` by atomic additions. Floats are added in the order of the tree, not of the array: the
result differs from a plain loop's in its last bits. It is the same in every launch, but for
`add_all`, whose blocks end in any order.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

THREADS = 256  # of a block: a power of 2
WARPS = THREADS // 32
MOST_BLOCKS = 1024  # of the first of two launches: enough to fill any GPU
WHOLE_WARP = 0xFFFFFFFF


@cuda.jit
def block_sums_interleaved(x, sums):
    """Neighbours first: at each step the threads that add lie further apart, and warps diverge.

    x: float32 [n]. sums: float32 [blocks], blocks x THREADS >= n.
    """
    partial = cuda.shared.array(THREADS, np.float32)
    thread = cuda.threadIdx.x
    i = cuda.grid(1)
    value = np.float32(0)
    if i < x.size:
        value = x[i]
    partial[thread] = value
    cuda.syncthreads()
    step = 1
    while step < THREADS:
        if thread % (2 * step) == 0:  # every second, fourth, eighth ...
            partial[thread] += partial[thread + step]
        cuda.syncthreads()
        step *= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@cuda.jit
def block_sums_strided(x, sums):
    """The same sums by the first threads: warps stay together, and their words share banks.

    x: float32 [n]. sums: float32 [blocks], blocks x THREADS >= n.
    """
    partial = cuda.shared.array(THREADS, np.float32)
    thread = cuda.threadIdx.x
    i = cuda.grid(1)
    value = np.float32(0)
    if i < x.size:
        value = x[i]
    partial[thread] = value
    cuda.syncthreads()
    step = 1
    while step < THREADS:
        left = 2 * step * thread  # neighbouring threads are 2, 4, 8 ... words apart
        if left < THREADS:
            partial[left] += partial[left + step]
        cuda.syncthreads()
        step *= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@cuda.jit
def block_sums_tree(x, sums):
    """sums[block] = the sum of the block's THREADS elements, halving the threads at each step.

    x: float32 [n]. sums: float32 [blocks], blocks x THREADS >= n.
    """
    partial = cuda.shared.array(THREADS, np.float32)
    thread = cuda.threadIdx.x
    i = cuda.grid(1)
    value = np.float32(0)
    if i < x.size:
        value = x[i]
    partial[thread] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:  # the active threads stay together: whole warps drop out
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@cuda.jit
def block_sums_shuffle(x, sums):
    """The same with shuffles: within a warp without memory, then one value a warp through it.

    x: float32 [n]. sums: float32 [blocks], blocks x THREADS >= n.
    """
    of_warp = cuda.shared.array(WARPS, np.float32)
    thread = cuda.threadIdx.x
    i = cuda.grid(1)
    value = np.float32(0)
    if i < x.size:
        value = x[i]
    step = 16
    while step > 0:
        value += cuda.shfl_down_sync(WHOLE_WARP, value, step)
        step //= 2
    if thread % 32 == 0:
        of_warp[thread // 32] = value
    cuda.syncthreads()
    if thread < 32:  # one whole warp, so that all of its lanes meet at each shuffle
        value = np.float32(0)
        if thread < WARPS:
            value = of_warp[thread]
        step = WARPS // 2
        while step > 0:
            value += cuda.shfl_down_sync(WHOLE_WARP, value, step)
            step //= 2
        if thread == 0:
            sums[cuda.blockIdx.x] = value


@cuda.jit(device=True)
def warp_sum(value):
    """The sum of a value over the 32 lanes of a warp; every lane gets it, and every lane calls."""
    step = 16
    while step > 0:  # lane and lane ^ step swap their sums, and add
        value += cuda.shfl_xor_sync(WHOLE_WARP, value, step)
        step //= 2
    return value


@cuda.jit
def add_all(x, out):
    """out[0] += the sum of x, in one launch of any number of blocks of THREADS threads.

    Each thread adds up a grid-stride share in a register, each warp by shuffles, and the first
    lane of each warp once in global memory. x: float32 [n]. out: float32 [1], 0 before.
    """
    value = np.float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        value += x[i]
    value = warp_sum(value)
    if cuda.threadIdx.x % 32 == 0:
        cuda.atomic.add(out, 0, value)


@cuda.jit
def block_sums_stride(x, sums):
    """sums[block] = the sum of the block's grid-stride share of x, whatever the grid.

    x: float32 [n]. sums: float32 [blocks].
    """
    of_warp = cuda.shared.array(WARPS, np.float32)
    thread = cuda.threadIdx.x
    value = np.float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        value += x[i]
    value = warp_sum(value)
    if thread % 32 == 0:
        of_warp[thread // 32] = value
    cuda.syncthreads()
    if thread < 32:
        value = np.float32(0)
        if thread < WARPS:
            value = of_warp[thread]
        value = warp_sum(value)
        if thread == 0:
            sums[cuda.blockIdx.x] = value


def total(x: np.ndarray) -> np.float32:
    """The sum of x, float32 [n], by two launches: one sum a block, then one block for those.

    A launch waits for the launch before it: it is the barrier of the whole grid.
    """
    blocks = min(max(1, -(-x.size // THREADS)), MOST_BLOCKS)
    sums = cuda.device_array(blocks, np.float32)
    out = cuda.device_array(1, np.float32)
    block_sums_stride[blocks, THREADS](x, sums)
    block_sums_stride[1, THREADS](sums, out)
    return out.copy_to_host()[0]
