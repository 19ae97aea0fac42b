"""Answers to 3.4.d and e, of barriers: right ones that differ, and common mistakes."""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.4.d two barriers --------------------------------------------------------------------------

THREADS, RADIUS = 128, 3
SPAN = THREADS + 2 * RADIUS


@right("3.4.d")
@cuda.jit
def smooth_with_two_barriers(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t = cuda.threadIdx.x
    for first in range(cuda.blockIdx.x * THREADS, x.size, cuda.gridDim.x * THREADS):
        for k in range(t, SPAN, THREADS):
            value = np.float32(0)
            if 0 <= first - RADIUS + k < x.size:
                value = x[first - RADIUS + k]
            tile[k] = value
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(2 * RADIUS + 1):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncthreads()


@right("3.4.d")
@cuda.jit
def smooth_waiting_at_the_top(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t = cuda.threadIdx.x
    for first in range(cuda.blockIdx.x * THREADS, x.size, cuda.gridDim.x * THREADS):
        cuda.syncthreads()
        for k in range(t, SPAN, THREADS):
            value = np.float32(0)
            if 0 <= first - RADIUS + k < x.size:
                value = x[first - RADIUS + k]
            tile[k] = value
        cuda.syncthreads()
        if first + t < x.size:
            total = np.float32(0)
            for k in range(2 * RADIUS + 1):
                total += tile[t + k]
            out[first + t] = total / 7


@wrong("3.4.d", "put cuda.syncthreads() between line")
@cuda.jit
def smooth_without_barriers(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t = cuda.threadIdx.x
    for first in range(cuda.blockIdx.x * THREADS, x.size, cuda.gridDim.x * THREADS):
        for k in range(t, SPAN, THREADS):
            value = np.float32(0)
            if 0 <= first - RADIUS + k < x.size:
                value = x[first - RADIUS + k]
            tile[k] = value
        total = np.float32(0)
        for k in range(2 * RADIUS + 1):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7


@wrong("3.4.d", "a barrier is needed in each round on both sides")
@cuda.jit
def smooth_with_the_first_barrier_only(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t = cuda.threadIdx.x
    for first in range(cuda.blockIdx.x * THREADS, x.size, cuda.gridDim.x * THREADS):
        for k in range(t, SPAN, THREADS):
            value = np.float32(0)
            if 0 <= first - RADIUS + k < x.size:
                value = x[first - RADIUS + k]
            tile[k] = value
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(2 * RADIUS + 1):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7


@wrong("3.4.d", "put cuda.syncthreads() between line")
@cuda.jit
def smooth_with_the_second_barrier_only(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t = cuda.threadIdx.x
    for first in range(cuda.blockIdx.x * THREADS, x.size, cuda.gridDim.x * THREADS):
        for k in range(t, SPAN, THREADS):
            value = np.float32(0)
            if 0 <= first - RADIUS + k < x.size:
                value = x[first - RADIUS + k]
            tile[k] = value
        total = np.float32(0)
        for k in range(2 * RADIUS + 1):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncthreads()


@wrong("3.4.d", "move syncthreads() out of the `if` or the loop")
@cuda.jit
def smooth_with_a_barrier_for_some(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t = cuda.threadIdx.x
    for first in range(cuda.blockIdx.x * THREADS, x.size, cuda.gridDim.x * THREADS):
        for k in range(t, SPAN, THREADS):
            value = np.float32(0)
            if 0 <= first - RADIUS + k < x.size:
                value = x[first - RADIUS + k]
            tile[k] = value
        cuda.syncthreads()
        if first + t < x.size:
            total = np.float32(0)
            for k in range(2 * RADIUS + 1):
                total += tile[t + k]
            out[first + t] = total / 7
            cuda.syncthreads()


@wrong("3.4.d", "put cuda.syncthreads() between line")
@cuda.jit
def smooth_with_barriers_for_warps(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t = cuda.threadIdx.x
    for first in range(cuda.blockIdx.x * THREADS, x.size, cuda.gridDim.x * THREADS):
        for k in range(t, SPAN, THREADS):
            value = np.float32(0)
            if 0 <= first - RADIUS + k < x.size:
                value = x[first - RADIUS + k]
            tile[k] = value
        cuda.syncwarp()
        total = np.float32(0)
        for k in range(2 * RADIUS + 1):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncwarp()


@wrong("3.4.d", "5,364 elements are loaded from global memory where 804 suffice")
@cuda.jit
def smooth_without_a_tile(x, out):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        total = np.float32(0)
        for k in range(i - RADIUS, i + RADIUS + 1):
            if 0 <= k < x.size:
                total += x[k]
        out[i] = total / 7


@wrong("3.4.d", "out is full of NaN before the launch")
@cuda.jit
def smooth_one_tile(x, out):
    tile = cuda.shared.array(SPAN, np.float32)
    t, first = cuda.threadIdx.x, cuda.blockIdx.x * THREADS
    for k in range(t, SPAN, THREADS):
        value = np.float32(0)
        if 0 <= first - RADIUS + k < x.size:
            value = x[first - RADIUS + k]
        tile[k] = value
    cuda.syncthreads()
    total = np.float32(0)
    for k in range(2 * RADIUS + 1):
        total += tile[t + k]
    if first + t < x.size:
        out[first + t] = total / 7


# --- 3.4.e a histogram for each block -----------------------------------------------------------

BINS = 256


@right("3.4.e")
@cuda.jit
def count_in_blocks(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])


@right("3.4.e")
@cuda.jit
def count_and_leave_out_the_empty(data, total):
    mine = cuda.shared.array(256, np.int32)
    step, b = cuda.blockDim.x, cuda.threadIdx.x
    while b < 256:
        mine[b] = 0
        b += step
    cuda.syncthreads()
    i = cuda.blockIdx.x * step + cuda.threadIdx.x
    while i < len(data):
        cuda.atomic.add(mine, data[i], 1)
        i += step * cuda.gridDim.x
    cuda.syncthreads()
    b = cuda.threadIdx.x
    while b < 256:
        if mine[b] > 0:
            cuda.atomic.add(total, b, mine[b])
        b += step


@wrong("3.4.e", "20,000 atomic additions to bins where 512 suffice")
@cuda.jit
def count_in_global_memory(values, bins):
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(bins, values[i], 1)


@wrong("3.4.e", "what is added without an atomic operation may be lost")
@cuda.jit
def count_without_atomics(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        own[values[i]] += 1
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])


@wrong("3.4.e", "counts that were not set to zero are not counts")
@cuda.jit
def count_from_anything(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])


@wrong("3.4.e", "an atomic operation is safe from other atomic operations, not from plain reads")
@cuda.jit
def count_without_waiting(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        own[b] = 0
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])


@wrong("3.4.e", "nothing says which comes first")
@cuda.jit
def count_and_read_at_once(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])


@right("3.4.e")
@cuda.jit
def count_and_let_one_thread_add(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for b in range(BINS):
            cuda.atomic.add(bins, b, own[b])


@right("3.4.e")
@cuda.jit
def count_all_in_thread_0_at_both_ends(values, bins):
    own = cuda.shared.array(256, np.int32)
    if cuda.threadIdx.x == 0:
        for b in range(256):
            own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for b in range(256):
            cuda.atomic.add(bins, b, own[b])


@right("3.4.e")
@cuda.jit
def count_in_four_parts(values, bins):
    own = cuda.shared.array((4, 256), np.int32)
    t = cuda.threadIdx.x
    part = (t // 32) % 4
    for j in range(t, 1024, cuda.blockDim.x):
        own[j // 256, j % 256] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, (part, values[i]), 1)
    cuda.syncthreads()
    for b in range(t, 256, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[0, b] + own[1, b] + own[2, b] + own[3, b])


@wrong("3.4.e", "2,048 atomic additions to bins where 512 suffice")
@cuda.jit
def count_in_four_parts_and_add_each(values, bins):
    own = cuda.shared.array((4, 256), np.int32)
    t = cuda.threadIdx.x
    part = (t // 32) % 4
    for j in range(t, 1024, cuda.blockDim.x):
        own[j // 256, j % 256] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, (part, values[i]), 1)
    cuda.syncthreads()
    for j in range(t, 1024, cuda.blockDim.x):
        cuda.atomic.add(bins, j % 256, own[j // 256, j % 256])


@wrong("3.4.e", "race on bins")
@cuda.jit
def count_and_add_to_bins_plainly(values, bins):
    own = cuda.shared.array(256, np.int32)
    for b in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        bins[b] += own[b]


@wrong("3.4.e", "is read before anything was stored in it")
@cuda.jit
def count_in_the_first_bins_alone(values, bins):
    own = cuda.shared.array(256, np.int32)
    t = cuda.threadIdx.x
    if t < 256:
        own[t] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    if t < 256:
        cuda.atomic.add(bins, t, own[t])


@wrong("3.4.e", "race on own")
@cuda.jit
def count_in_bytes_without_atomics(values, bins):
    own = cuda.shared.array(256, np.uint8)
    for b in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        own[values[i]] += 1
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])


@wrong("3.4.e", "add up bins: is the sum n?")
@cuda.jit
def count_with_as_many_threads_as_bins(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    t = cuda.threadIdx.x
    own[t] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    cuda.atomic.add(bins, t, own[t])


@wrong("3.4.e", "add up bins: is the sum n?")
@cuda.jit
def count_one_value_a_thread(values, bins):
    own = cuda.shared.array(BINS, np.int32)
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        own[b] = 0
    cuda.syncthreads()
    i = cuda.grid(1)
    if i < values.size:
        cuda.atomic.add(own, values[i], 1)
    cuda.syncthreads()
    for b in range(cuda.threadIdx.x, BINS, cuda.blockDim.x):
        cuda.atomic.add(bins, b, own[b])
