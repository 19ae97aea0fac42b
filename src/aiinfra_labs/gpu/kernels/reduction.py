"""Adding up an array: a tree in shared memory, and shuffles within a warp. Unit 3.6.

Both leave one sum a block; the host, or a second launch, adds those. Floats are added in the order
of the tree, not of the array: the result differs from a plain loop's in its last bits, and is the
same in every launch.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

THREADS = 256  # of a block: a power of 2
WARPS = THREADS // 32
WHOLE_WARP = 0xFFFFFFFF


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
