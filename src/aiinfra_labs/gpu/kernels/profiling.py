"""out = W x with weights of 4 bits, the step of a decode: a slow kernel and its way up. Unit 3.8.

Two weights a byte, one scale for GROUP of them, as quantised models keep them; the weight is
(q - 8) * scale. Each kernel differs from the one before by one change, and the unit's page shows
the figure of the report by which it was chosen. `profiling_words.py` has the last of them, and
`profiling_steps.py` their order. All add in an order of their own: results differ in the last bits.

Every kernel takes
    packed: uint8 [rows, columns / 2], the column 2 b in the low 4 bits of byte b, 2 b + 1 in the
            high ones
    scales: float32 [rows, columns / GROUP]
    x:      float32 [columns], a multiple of GROUP
    out:    float32 [rows], zero before the launch
"""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda

GROUP = 128  # weights that share a scale, as in GPTQ and AWQ
WHOLE_WARP = 0xFFFFFFFF


@cuda.jit
def row_a_thread(packed, scales, x, out):
    """The loop of a CPU, one row to a thread. Launched with a thread a row. Unit 3.8.

    packed: uint8 [rows, bytes]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    row = cuda.grid(1)
    if row < out.size:
        total = 0.0
        for k in range(x.size):
            byte = packed[row, k // 2]
            q = byte & 15 if k % 2 == 0 else byte >> 4
            scale = scales[row, k // GROUP]
            total += (q - 8.0) * scale * x[k]
        out[row] = total


@cuda.jit
def row_a_warp(packed, scales, x, out):
    """Neighbouring lanes take neighbouring columns. Launched with 32 threads a row. Unit 3.8.

    packed: uint8 [rows, bytes]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < out.size:
        total = 0.0
        for k in range(lane, x.size, 32):
            byte = packed[row, k // 2]
            q = byte & 15 if k % 2 == 0 else byte >> 4
            scale = scales[row, k // GROUP]
            total += (q - 8.0) * scale * x[k]
        cuda.atomic.add(out, row, total)


@cuda.jit
def float32_literals(packed, scales, x, out):
    """A wrong turn: the literals are float32, and q, an integer, makes float64 of them. Unit 3.8.

    packed: uint8 [rows, bytes]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < out.size:
        total = np.float32(0)
        for k in range(lane, x.size, 32):
            byte = packed[row, k // 2]
            q = byte & 15 if k % 2 == 0 else byte >> 4
            scale = scales[row, k // GROUP]
            total += (q - np.float32(8)) * scale * x[k]
        cuda.atomic.add(out, row, total)


@cuda.jit
def float32_weight(packed, scales, x, out):
    """The weight is made a float32 before anything is multiplied with it. Unit 3.8.

    packed: uint8 [rows, bytes]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < out.size:
        total = np.float32(0)
        for k in range(lane, x.size, 32):
            byte = packed[row, k // 2]
            q = byte & 15 if k % 2 == 0 else byte >> 4
            scale = scales[row, k // GROUP]
            total += np.float32(q - 8) * scale * x[k]
        cuda.atomic.add(out, row, total)


@cuda.jit
def nibble_by_shift(packed, scales, x, out):
    """One expression for both halves of a byte: no branch, and one type for q. Unit 3.8.

    packed: uint8 [rows, bytes]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < out.size:
        total = np.float32(0)
        for k in range(lane, x.size, 32):
            q = packed[row, k // 2] >> (4 * (k % 2)) & 15
            scale = scales[row, k // GROUP]
            total += np.float32(q - 8) * scale * x[k]
        cuda.atomic.add(out, row, total)


@cuda.jit
def sum_by_shuffle(packed, scales, x, out):
    """The lanes' sums meet in registers, and one lane stores. Unit 3.8.

    packed: uint8 [rows, bytes]. scales: float32 [rows, groups]. x, out: float32 [n].
    """
    row, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if row < out.size:  # the same for all lanes of a warp: they meet at each shuffle
        total = np.float32(0)
        for k in range(lane, x.size, 32):
            q = packed[row, k // 2] >> (4 * (k % 2)) & 15
            scale = scales[row, k // GROUP]
            total += np.float32(q - 8) * scale * x[k]
        step = 16
        while step > 0:
            total += cuda.shfl_down_sync(WHOLE_WARP, total, step)
            step //= 2
        if lane == 0:
            out[row] = total
