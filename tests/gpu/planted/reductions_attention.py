"""Answers to 3.6.a to 3.6.c: the right ones differ, the wrong ones are common mistakes.

Those to 3.6.d and 3.6.e are in `attention_steps.py`. `WRONG` holds (exercise, answer, part of the
reason that the check must give); `RIGHT` holds (exercise, answer).
"""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.6.a the sum of a block ------------------------------------------------------------------


@right("3.6.a")
@cuda.jit
def sum_by_halves(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    cuda.syncthreads()
    half = 128
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@right("3.6.a")
@cuda.jit
def sum_by_shuffles(values, result):
    of_warp = cuda.shared.array(8, np.float32)
    thread = cuda.threadIdx.x
    i = cuda.blockIdx.x * 256 + thread
    value = np.float32(0)
    if i < values.size:
        value = values[i]
    for d in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, d)
    if thread % 32 == 0:
        of_warp[thread // 32] = value
    cuda.syncthreads()
    if thread == 0:
        total = of_warp[0]
        for w in range(1, 8):
            total += of_warp[w]
        result[cuda.blockIdx.x] = total


@right("3.6.a")
@cuda.jit
def sum_by_halves_of_registers(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    value = np.float32(0)
    if i < x.size:
        value = x[i]
    half = 128
    while half >= 1:
        partial[thread] = value
        cuda.syncthreads()
        if thread < half:
            value += partial[thread + half]
        cuda.syncthreads()
        half >>= 1
    if thread == 0:
        sums[cuda.blockIdx.x] = value


@wrong("3.6.a", "a race on partial")
@cuda.jit
def sum_without_a_barrier_in_the_loop(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    cuda.syncthreads()
    half = 128
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "a race on partial")
@cuda.jit
def sum_without_the_first_barrier(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    half = 128
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "split at 48 branches, where 16 are plenty")
@cuda.jit
def sum_of_neighbours(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    cuda.syncthreads()
    step = 1
    while step < 256:
        if thread % (2 * step) == 0:
            partial[thread] += partial[thread + step]
        cuda.syncthreads()
        step *= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "bank conflicts")
@cuda.jit
def sum_of_neighbours_by_the_first_threads(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    cuda.syncthreads()
    step = 1
    while step < 256:
        left = 2 * step * thread
        if left < 256:
            partial[left] += partial[left + step]
        cuda.syncthreads()
        step *= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "one thread reads 257 values")
@cuda.jit
def sum_by_one_thread(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    cuda.syncthreads()
    if thread == 0:
        total = np.float32(0)
        for k in range(256):
            total += partial[k]
        sums[cuda.blockIdx.x] = total


@wrong("3.6.a", "x[1000] is outside the array")
@cuda.jit
def sum_past_the_end(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread = cuda.threadIdx.x
    partial[thread] = x[cuda.grid(1)]
    cuda.syncthreads()
    half = 128
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "a nan was never stored")
@cuda.jit
def sum_of_what_was_never_stored(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    if i < x.size:
        partial[thread] = x[i]
    cuda.syncthreads()
    half = 128
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "sums")
@cuda.jit
def sum_that_stops_too_early(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    cuda.syncthreads()
    half = 128
    while half > 1:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "syncthreads")
@cuda.jit
def sum_with_a_barrier_in_the_if(x, sums):
    partial = cuda.shared.array(256, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    partial[thread] = x[i] if i < x.size else np.float32(0)
    cuda.syncthreads()
    half = 128
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
            cuda.syncthreads()
        half //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]


@wrong("3.6.a", "a race on sums")
@cuda.jit
def sum_into_global_memory(x, sums):
    i, block = cuda.grid(1), cuda.blockIdx.x
    if cuda.threadIdx.x == 0:
        sums[block] = 0
    cuda.syncthreads()
    if i < x.size:
        sums[block] += x[i]


# --- 3.6.b prefix sums of a warp ---------------------------------------------------------------


@right("3.6.b")
@cuda.jit
def prefix_by_doubling(x, out):
    i = cuda.grid(1)
    lane = cuda.threadIdx.x % 32
    value = np.float32(0)
    if i < x.size:
        value = x[i]
    d = 1
    while d < 32:
        before = cuda.shfl_up_sync(0xFFFFFFFF, value, d)
        if lane >= d:
            value += before
        d *= 2
    if i < out.size:
        out[i] = value


@right("3.6.b")
@cuda.jit
def prefix_by_selection(source, target):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    sum_ = source[i] if i < source.size else np.float32(0)
    for d in (1, 2, 4, 8, 16):
        lower = cuda.shfl_sync(0xFFFFFFFF, sum_, max(cuda.laneid - d, 0))
        sum_ += cuda.selp(cuda.laneid >= d, lower, np.float32(0))
    if i < target.size:
        target[i] = sum_


@wrong("3.6.b", "its shuffle gives it its own value")
@cuda.jit
def prefix_without_asking_the_lane(x, out):
    i = cuda.grid(1)
    value = x[i] if i < x.size else np.float32(0)
    for d in (1, 2, 4, 8, 16):
        value += cuda.shfl_up_sync(0xFFFFFFFF, value, d)
    if i < out.size:
        out[i] = value


@wrong("3.6.b", "shfl_down reads from higher lanes")
@cuda.jit
def suffix_sums(x, out):
    i = cuda.grid(1)
    value = x[i] if i < x.size else np.float32(0)
    for d in (1, 2, 4, 8, 16):
        after = cuda.shfl_down_sync(0xFFFFFFFF, value, d)
        if cuda.laneid + d < 32:
            value += after
    if i < out.size:
        out[i] = value


@wrong("3.6.b", "that is the exclusive scan")
@cuda.jit
def exclusive_prefix(x, out):
    i = cuda.grid(1)
    own = x[i] if i < x.size else np.float32(0)
    value = own
    for d in (1, 2, 4, 8, 16):
        before = cuda.shfl_up_sync(0xFFFFFFFF, value, d)
        if cuda.laneid >= d:
            value += before
    if i < out.size:
        out[i] = value - own


@wrong("3.6.b", "31 shuffles a warp, where 5 suffice")
@cuda.jit
def prefix_one_lane_at_a_time(x, out):
    i = cuda.grid(1)
    own = x[i] if i < x.size else np.float32(0)
    value = own
    for d in range(1, 32):
        before = cuda.shfl_up_sync(0xFFFFFFFF, own, d)
        if cuda.laneid >= d:
            value += before
    if i < out.size:
        out[i] = value


@wrong("3.6.b", "and that lane does not come here")
@cuda.jit
def prefix_that_shuffles_in_an_if(x, out):
    i = cuda.grid(1)
    value = x[i] if i < x.size else np.float32(0)
    for d in (1, 2, 4, 8, 16):
        if cuda.laneid >= d:
            value += cuda.shfl_up_sync(0xFFFFFFFF, value, d)
    if i < out.size:
        out[i] = value


@wrong("3.6.b", "and that lane does not come here")
@cuda.jit
def prefix_of_lanes_with_an_element(x, out):
    i = cuda.grid(1)
    if i < x.size:
        value = x[i]
        for d in (1, 2, 4, 8, 16):
            before = cuda.shfl_up_sync(0xFFFFFFFF, value, d)
            if cuda.laneid >= d:
                value += before
        out[i] = value


@wrong("3.6.b", "requests to shared memory")
@cuda.jit
def prefix_in_shared_memory(x, out):
    held = cuda.shared.array(1024, np.float32)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    value = x[i] if i < x.size else np.float32(0)
    for d in (1, 2, 4, 8, 16):
        held[thread] = value
        cuda.syncthreads()
        if thread % 32 >= d:
            value += held[thread - d]
        cuda.syncthreads()
    if i < out.size:
        out[i] = value


@wrong("3.6.b", "are read up to 32 times")
@cuda.jit
def prefix_from_global_memory(x, out):
    i = cuda.grid(1)
    if i < x.size:
        value = np.float32(0)
        for k in range(i - i % 32, i + 1):
            value += x[k]
        out[i] = value


@wrong("3.6.b", "out[i] is the sum of the values of its warp up to and with x[i]")
@cuda.jit
def prefix_of_sixteen(x, out):
    i = cuda.grid(1)
    value = x[i] if i < x.size else np.float32(0)
    for d in (1, 2, 4, 8):
        before = cuda.shfl_up_sync(0xFFFFFFFF, value, d)
        if cuda.laneid >= d:
            value += before
    if i < out.size:
        out[i] = value


# --- 3.6.c maximum and sum in one reading ------------------------------------------------------


@right("3.6.c")
@cuda.jit
def online(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-math.inf), np.float32(0)
    for column in range(lane, x.shape[1], 32):
        value = x[row, column]
        if value > m:
            s = s * math.exp(m - value) + np.float32(1)
            m = value
        elif value > -math.inf:
            s += math.exp(value - m)
    for d in (16, 8, 4, 2, 1):
        other_m = cuda.shfl_xor_sync(0xFFFFFFFF, m, d)
        other_s = cuda.shfl_xor_sync(0xFFFFFFFF, s, d)
        new = max(m, other_m)
        if new > -math.inf:
            s = s * math.exp(m - new) + other_s * math.exp(other_m - new)
        m = new
    if lane == 0:
        largest[row] = m
        total[row] = s


@right("3.6.c")
@cuda.jit
def online_through_shared_memory(scores, maxima, sums):
    of_lane = cuda.shared.array((2, 32), np.float32)
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-1e38), np.float32(0)  # less than any score, and no -inf to subtract
    for column in range(lane, scores.shape[1], 32):
        value = scores[row, column]
        new = max(m, value)
        s = s * math.exp(m - new) + math.exp(value - new)
        m = new
    of_lane[0, lane], of_lane[1, lane] = m, s
    cuda.syncthreads()
    if lane == 0:
        for other in range(1, 32):
            new = max(m, of_lane[0, other])
            s = s * math.exp(m - new) + of_lane[1, other] * math.exp(of_lane[0, other] - new)
            m = new
        maxima[row] = m if m > np.float32(-1e38) else np.float32(-math.inf)
        sums[row] = s


@wrong("3.6.c", "400 loads for 200 elements of x: the one read most is read 2 times")
@cuda.jit
def in_two_readings(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-math.inf), np.float32(0)
    for column in range(lane, x.shape[1], 32):
        m = max(m, x[row, column])
    for d in (16, 8, 4, 2, 1):
        m = max(m, cuda.shfl_xor_sync(0xFFFFFFFF, m, d))
    for column in range(lane, x.shape[1], 32):
        value = x[row, column]
        if value > -math.inf:
            s += math.exp(value - m)
    for d in (16, 8, 4, 2, 1):
        s += cuda.shfl_xor_sync(0xFFFFFFFF, s, d)
    if lane == 0:
        largest[row], total[row] = m, s


@wrong("3.6.c", "an exponential became inf, and inf x 0 is nan")
@cuda.jit
def without_the_largest(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-math.inf), np.float32(0)
    for column in range(lane, x.shape[1], 32):
        value = x[row, column]
        m = max(m, value)
        s += math.exp(value)
    for d in (16, 8, 4, 2, 1):
        m = max(m, cuda.shfl_xor_sync(0xFFFFFFFF, m, d))
        s += cuda.shfl_xor_sync(0xFFFFFFFF, s, d)
    if lane == 0:
        largest[row] = m
        total[row] = s * math.exp(-m) if m > -math.inf else np.float32(0)


@wrong("3.6.c", "an exponential became inf")
@cuda.jit
def relative_to_the_first_column(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s, first = np.float32(-math.inf), np.float32(0), np.float32(0)
    for column in range(lane, x.shape[1], 32):
        value = x[row, column]
        if column == lane and value > -math.inf:
            first = value
        m = max(m, value)
        s += math.exp(value - first)
    for d in (16, 8, 4, 2, 1):
        other_first = cuda.shfl_xor_sync(0xFFFFFFFF, first, d)
        s += cuda.shfl_xor_sync(0xFFFFFFFF, s, d) * math.exp(other_first - first)
        m = max(m, cuda.shfl_xor_sync(0xFFFFFFFF, m, d))
    if lane == 0:
        largest[row] = m
        total[row] = s * math.exp(first - m) if m > -math.inf else np.float32(0)


@wrong("3.6.c", "not one met on the way")
@cuda.jit
def without_rescaling(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-math.inf), np.float32(0)
    for column in range(lane, x.shape[1], 32):
        value = x[row, column]
        m = max(m, value)
        if value > -math.inf:
            s += math.exp(value - m)
    for d in (16, 8, 4, 2, 1):
        m = max(m, cuda.shfl_xor_sync(0xFFFFFFFF, m, d))
        s += cuda.shfl_xor_sync(0xFFFFFFFF, s, d)
    if lane == 0:
        largest[row], total[row] = m, s


@wrong("3.6.c", "-inf - -inf was taken")
@cuda.jit
def with_nothing_for_masked(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-1e30), np.float32(0)
    for column in range(lane, x.shape[1], 32):
        value = x[row, column]
        if column == lane:
            m = value
        new = max(m, value)
        s = s * math.exp(m - new) + math.exp(value - new)
        m = new
    for d in (16, 8, 4, 2, 1):
        other_m = cuda.shfl_xor_sync(0xFFFFFFFF, m, d)
        other_s = cuda.shfl_xor_sync(0xFFFFFFFF, s, d)
        new = max(m, other_m)
        s = s * math.exp(m - new) + other_s * math.exp(other_m - new)
        m = new
    if lane == 0:
        largest[row], total[row] = m, s


@wrong("3.6.c", "merge the lanes")
@cuda.jit
def of_the_first_lane(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-math.inf), np.float32(0)
    for column in range(lane, x.shape[1], 32):
        value = x[row, column]
        if value > m:
            s = s * math.exp(m - value) + np.float32(1)
            m = value
        elif value > -math.inf:
            s += math.exp(value - m)
    if lane == 0:
        largest[row], total[row] = m, s


@wrong("3.6.c", "each load of a warp touches 32 sectors of 32 bytes where 4 suffice")
@cuda.jit
def in_stretches(x, largest, total):
    row, lane = cuda.blockIdx.x, cuda.threadIdx.x
    m, s = np.float32(-math.inf), np.float32(0)
    length = (x.shape[1] + 31) // 32
    for column in range(lane * length, min((lane + 1) * length, x.shape[1])):
        value = x[row, column]
        if value > m:
            s = s * math.exp(m - value) + np.float32(1)
            m = value
        elif value > -math.inf:
            s += math.exp(value - m)
    for d in (16, 8, 4, 2, 1):
        other_m = cuda.shfl_xor_sync(0xFFFFFFFF, m, d)
        other_s = cuda.shfl_xor_sync(0xFFFFFFFF, s, d)
        new = max(m, other_m)
        if new > -math.inf:
            s = s * math.exp(m - new) + other_s * math.exp(other_m - new)
        m = new
    if lane == 0:
        largest[row], total[row] = m, s
