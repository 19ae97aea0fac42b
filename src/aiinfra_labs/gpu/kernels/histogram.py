"""Counting values with atomics: in global memory, and in shared memory first. Unit 3.6.

Threads that meet on one bin take turns. With a histogram of its own in shared memory a block
meets only its own threads there, and adds each bin to the global one once.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

BINS = 256  # of `histogram_shared`: the values of a byte


@cuda.jit
def histogram_global(values, bins):
    """bins[v] += 1 for every v, in global memory, with any number of threads.

    values: uint8 [n]. bins: int32 [BINS], zero before.
    """
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(bins, values[i], 1)


@cuda.jit
def histogram_shared(values, bins):
    """The same by way of one histogram a block in shared memory.

    values: uint8 [n]. bins: int32 [BINS], zero before.
    """
    own = cuda.shared.array(BINS, np.int32)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])
