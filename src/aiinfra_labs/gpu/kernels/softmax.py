"""Softmax of each row: exp(x - max) / sum, one block a row. Unit 3.6.

The largest value is subtracted first, so that no exponential overflows. Each of the two reductions
is a tree in shared memory, and the row is read three times.
"""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda

THREADS = 128  # of a block: a power of 2


@cuda.jit
def softmax_rows(x, out):
    """out[row] = softmax(x[row]). Launched with x.shape[0] blocks of THREADS threads.

    x, out: float32 [rows, columns].
    """
    partial = cuda.shared.array(THREADS, np.float32)
    row, thread, columns = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]

    largest = np.float32(-math.inf)
    for column in range(thread, columns, THREADS):
        largest = max(largest, x[row, column])
    partial[thread] = largest
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:
            partial[thread] = max(partial[thread], partial[thread + half])
        cuda.syncthreads()
        half //= 2
    largest = partial[0]
    cuda.syncthreads()  # every thread has read it, before `partial` is used again

    total = np.float32(0)
    for column in range(thread, columns, THREADS):
        total += math.exp(x[row, column] - largest)
    partial[thread] = total
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    total = partial[0]

    for column in range(thread, columns, THREADS):
        out[row, column] = math.exp(x[row, column] - largest) / total
