"""A stencil: each output is the mean of a neighbourhood, which neighbours share. Unit 3.4.

The block loads its elements and a halo of RADIUS on either side into shared memory once; each
element is then read 2 RADIUS + 1 times from there.
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

THREADS = 128
RADIUS = 3
WIDTH = np.float32(2 * RADIUS + 1)


@cuda.jit
def stencil_mean(x, out):
    """out[i] = the mean of x[i - RADIUS] to x[i + RADIUS], with zeros beyond the ends.

    x, out: float32 [n]. Launched with blocks of THREADS threads that cover n.
    """
    tile = cuda.shared.array(THREADS + 2 * RADIUS, np.float32)
    i, thread = cuda.grid(1), cuda.threadIdx.x
    first = cuda.blockIdx.x * THREADS - RADIUS  # the element at the tile's beginning
    for t in range(thread, THREADS + 2 * RADIUS, THREADS):
        value = np.float32(0)
        if 0 <= first + t < x.size:
            value = x[first + t]
        tile[t] = value
    cuda.syncthreads()
    if i < out.size:
        total = np.float32(0)
        for k in range(2 * RADIUS + 1):
            total += tile[thread + k]
        out[i] = total / WIDTH
