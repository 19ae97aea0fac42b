"""Two small kernels that show what shared memory is: its banks, and its barriers. Unit 3.4."""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

LANES = 32  # of the warp that asks
WORDS = 1024  # of 4 bytes, 32 in each bank


@cuda.jit
def load_with_stride(stride, out):
    """Lane i of one warp loads word i * stride (mod WORDS) of shared memory; stride 0 broadcasts.

    stride: int, from 0. out: float32 [LANES], the numbers of the words.
    """
    words = cuda.shared.array(WORDS, np.float32)
    lane = cuda.threadIdx.x
    for word in range(lane, WORDS, LANES):
        words[word] = word
    cuda.syncthreads()
    out[lane] = words[lane * stride % WORDS]


@cuda.jit
def reverse_windows(x, out):
    """Each window of x, as long as a block, turned round; any grid, whole windows.

    The window is in shared memory of a size that the launch names: `kernel[blocks, threads, 0,
    4 * threads](x, out)`. A block that takes several windows uses it again for each, so it waits
    twice: until the window is whole, and until all have read it.
    x, out: float32 [n], n a multiple of the block.
    """
    window = cuda.shared.array(0, np.float32)  # 0: as many as the launch asks for
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        window[t] = x[first + t]
        cuda.syncthreads()  # the window is whole
        out[first + t] = window[threads - 1 - t]
        cuda.syncthreads()  # and was read, before the next one overwrites it
