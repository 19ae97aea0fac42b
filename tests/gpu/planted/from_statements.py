"""Answers to the exercises of units 3.2 and 3.4, written from their statements alone.

Some are right in a way that nobody foresaw; some are wrong in a way that only an odd shape shows.
"""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()


@right("3.2.a")
@cuda.jit
def add_early_return_shape_0(a, b, out):
    i = cuda.grid(1)
    if i >= out.shape[0]:
        return
    out[i] = a[i] + b[i]


@right("3.2.a")
@cuda.jit
def add_grid_stride(a, b, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = a[i] + b[i]


@right("3.2.a")
@cuda.jit
def add_from_the_end(a, b, out):
    i = out.size - 1 - cuda.grid(1)
    if i >= 0:
        out[i] = a[i] + b[i]


@right("3.2.a")
@cuda.jit
def add_thread_major_numbering(a, b, out):
    try_i = cuda.threadIdx.x * cuda.gridDim.x + cuda.blockIdx.x
    if try_i < out.size:
        out[try_i] = a[try_i] + b[try_i]


@wrong("3.2.a", "the arrays are float64 here")
@cuda.jit
def add_rounds_to_float32(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = np.float32(a[i]) + np.float32(b[i])


@right("3.2.a")
@cuda.jit
def add_b(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = b[i] - (-a[i])


@right("3.2.b")
def add_many_ping_pong(kernel, x, y, times):
    if times == 0:
        return x.copy()
    dx, dy = cuda.to_device(x), cuda.to_device(y)
    do = cuda.device_array_like(x)
    for _ in range(times):
        kernel[-(-x.size // 256), 256](dx, dy, do)
        dx, do = do, dx
    return dx.copy_to_host()


@right("3.2.b")
def add_many_copy_to_host_into_own_array(kernel, x, y, times):
    dx, dy = cuda.to_device(x), cuda.to_device(y)
    for _ in range(times):
        kernel[-(-x.size // 1024) or 1, 1024](dy, dx, dx)
    out = np.empty_like(x)
    dx.copy_to_host(out)
    return out


@wrong("3.2.b", "the result at [0] is 5.9417663, expected 8.941767; 1,000 of 1,000 elements differ")
def add_many_host_computes_device_result_thrown_away(kernel, x, y, times):
    dx, dy = cuda.to_device(x), cuda.to_device(y)
    for _ in range(times):
        kernel[x.size, 1](dx, dy, dx)
    dx.copy_to_host()
    r = x.copy()
    for _ in range(times):
        r = r + y
    return r


@wrong(
    "3.2.b",
    "the result at [10000] is 1.9011259, expected 3.1254911; 30,000 of 40,000 elements differ",
)
def add_many_fixed_10_000_blocks_of_1(kernel, x, y, times):
    dx, dy = cuda.to_device(x), cuda.to_device(y)
    tot = cuda.to_device(x) if times > 99 else dx
    for _ in range(times):
        kernel[10_000, 1](tot, dy, tot)
    return tot.copy_to_host()


@right("3.2.b")
def add_many_configured_once_synchronize(kernel, x, y, times):
    dx, dy = cuda.to_device(x), cuda.to_device(y)
    go = kernel[math.ceil(x.size / 128), 128]
    for _ in range(times):
        go(dx, dy, dx)
    cuda.synchronize()
    return np.asarray(dx.copy_to_host())


@right("3.2.c")
@cuda.jit
def saxpy_while_plus_equals(alpha, x, y):
    i = cuda.grid(1)
    while i < y.size:
        y[i] += alpha * x[i]
        i += cuda.gridsize(1)


@right("3.2.c")
@cuda.jit
def saxpy_backwards(alpha, x, y):
    n = y.size
    i = n - 1 - cuda.grid(1)
    while i >= 0:
        y[i] = alpha * x[i] + y[i]
        i -= cuda.gridDim.x * cuda.blockDim.x


@right("3.2.c")
@cuda.jit
def saxpy_a_stretch_a_block_coalesced_within(alpha, x, y):
    # each block a stretch, its threads side by side
    per = (y.size + cuda.gridDim.x - 1) // cuda.gridDim.x
    lo = cuda.blockIdx.x * per
    hi = min(lo + per, y.size)
    for i in range(lo + cuda.threadIdx.x, hi, cuda.blockDim.x):
        y[i] = alpha * x[i] + y[i]


@right("3.2.c")
@cuda.jit
def saxpy_fma(alpha, x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = cuda.fma(alpha, x[i], y[i])


@right("3.2.d")
@cuda.jit
def grey_grid_stride_on_both_axes(rgb, out):
    x, y = cuda.grid(2)
    for r in range(y, out.shape[0], cuda.gridsize(2)[1]):
        for c in range(x, out.shape[1], cuda.gridsize(2)[0]):
            out[r, c] = (
                np.float32(0.299) * rgb[r, c, 0]
                + np.float32(0.587) * rgb[r, c, 1]
                + np.float32(0.114) * rgb[r, c, 2]
            )


@wrong("3.2.d", "out[0, 0] is 76.69922, expected 76.245; 64 of 64 elements differ")
@cuda.jit
def grey_integer_weights_77_150_29(rgb, out):
    x, y = cuda.grid(2)
    if x < out.shape[1] and y < out.shape[0]:
        out[y, x] = (77 * rgb[y, x, 0] + 150 * rgb[y, x, 1] + 29 * rgb[y, x, 2]) / 256


@right("3.2.d")
@cuda.jit
def grey_thousandths(rgb, out):
    x, y = cuda.grid(2)
    if x < out.shape[1] and y < out.shape[0]:
        out[y, x] = (
            299 * np.int32(rgb[y, x, 0])
            + 587 * np.int32(rgb[y, x, 1])
            + 114 * np.int32(rgb[y, x, 2])
        ) / 1000


@right("3.2.e")
@cuda.jit
def blur_one_loop_of_nine(image, out):
    x, y = cuda.grid(2)
    if x < out.shape[1] and y < out.shape[0]:
        s = 0.0
        n = 0
        for d in range(9):
            r = y + d // 3 - 1
            c = x + d % 3 - 1
            if r >= 0 and c >= 0 and r < image.shape[0] and c < image.shape[1]:
                s += image[r, c]
                n += 1
        out[y, x] = s / n


@wrong("3.2.e", "64 of 64 elements are written more than once: out[0, 0] 6 times")
@cuda.jit
def blur_accumulates_in_global_memory(image, out):
    x, y = cuda.grid(2)
    if x < out.shape[1] and y < out.shape[0]:
        out[y, x] = 0
        n = 0
        for r in range(y - 1, y + 2):
            for c in range(x - 1, x + 2):
                if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                    out[y, x] += image[r, c]
                    n += 1
        out[y, x] /= n


@wrong(
    "3.2.e",
    "33 of 273 elements are written more than once: out[0, 20] 4 times",
)
@cuda.jit
def blur_idle_threads_clamp_pixels_written_several_times_when_ragged(image, out):
    # threads beyond the image work on a clamped pixel too
    x, y = cuda.grid(2)
    x = min(x, out.shape[1] - 1)
    y = min(y, out.shape[0] - 1)
    s = 0.0
    n = 0
    for r in range(max(0, y - 1), min(y + 2, out.shape[0])):
        for c in range(max(0, x - 1), min(x + 2, out.shape[1])):
            s += image[r, c]
            n += 1
    out[y, x] = s / n


@wrong(
    "3.2.a",
    "1 of 1 element is written more than once: out[0] 32 times",
)
@cuda.jit
def add_idle_threads_clamp_to_the_last_element(a, b, out):
    i = min(cuda.grid(1), out.size - 1)
    if out.size:
        out[i] = a[i] + b[i]


@wrong(
    "3.2.d",
    "55 of 703 elements are written more than once: out[0, 18] 14 times",
)
@cuda.jit
def grey_idle_threads_clamp(rgb, out):
    x, y = cuda.grid(2)
    x = min(x, out.shape[1] - 1)
    y = min(y, out.shape[0] - 1)
    out[y, x] = 0.299 * rgb[y, x, 0] + 0.587 * rgb[y, x, 1] + 0.114 * rgb[y, x, 2]


@right("3.4.a")
@cuda.jit
def turn_the_1_d_tile_turned_on_store(a, out):
    tile = cuda.shared.array(1024, np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        tile[tx * 32 + ty] = a[y, x]
    cuda.syncthreads()
    c = cuda.blockIdx.y * 32 + tx
    r = cuda.blockIdx.x * 32 + ty
    if r < out.shape[0] and c < out.shape[1]:
        out[r, c] = tile[ty * 32 + tx]


@wrong("3.4.a", "1 of the block's threads waits at syncthreads(), and 1023 never come to it")
@cuda.jit
def turn_barrier_inside_the_if(a, out):
    tile = cuda.shared.array((32, 32), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        tile[ty, tx] = a[y, x]
        cuda.syncthreads()
    c = cuda.blockIdx.y * 32 + tx
    r = cuda.blockIdx.x * 32 + ty
    if r < out.shape[0] and c < out.shape[1]:
        out[r, c] = tile[tx, ty]


@wrong("3.4.b", "1 of the block's threads waits at syncthreads(), and 1023 never come to it")
@cuda.jit
def padded_barrier_inside_the_if(a, out):
    tile = cuda.shared.array((32, 32), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        tile[ty, tx] = a[y, x]
        cuda.syncthreads()
    c = cuda.blockIdx.y * 32 + tx
    r = cuda.blockIdx.x * 32 + ty
    if r < out.shape[0] and c < out.shape[1]:
        out[r, c] = tile[tx, ty]


@wrong(
    "3.4.a",
    "102 of 2,310 elements are written more than once: out[0, 32] 32 times",
)
@cuda.jit
def turn_clamped_stores_at_ragged_edges(a, out):
    tile = cuda.shared.array((32, 32), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    v = np.float32(0)
    if y < a.shape[0] and x < a.shape[1]:
        v = a[y, x]
    tile[ty, tx] = v
    cuda.syncthreads()
    c = min(cuda.blockIdx.y * 32 + tx, out.shape[1] - 1)
    r = min(cuda.blockIdx.x * 32 + ty, out.shape[0] - 1)
    out[r, c] = tile[c - cuda.blockIdx.y * 32, r - cuda.blockIdx.x * 32]


@right("3.4.b")
@cuda.jit
def padded_rotation_instead_of_a_pad(a, out):
    tile = cuda.shared.array((32, 32), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    if y < a.shape[0] and x < a.shape[1]:
        tile[ty, (tx + ty) % 32] = a[y, x]
    cuda.syncthreads()
    c = cuda.blockIdx.y * 32 + tx
    r = cuda.blockIdx.x * 32 + ty
    if r < out.shape[0] and c < out.shape[1]:
        out[r, c] = tile[tx, (ty + tx) % 32]


@right("3.4.c")
@cuda.jit
def swizzled_rotation_instead_of_xor(a, out):
    tile = cuda.shared.array((32, 32), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x0, y0 = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for j in range(4):
        r = ty + 8 * j
        if y0 + r < a.shape[0] and x0 + tx < a.shape[1]:
            tile[r, (tx + r) % 32] = a[y0 + r, x0 + tx]
    cuda.syncthreads()
    for j in range(4):
        r = ty + 8 * j
        if x0 + r < out.shape[0] and y0 + tx < out.shape[1]:
            out[x0 + r, y0 + tx] = tile[tx, (r + tx) % 32]


@right("3.4.c")
@cuda.jit
def swizzled_barrier_inside_the_loop(a, out):
    tile = cuda.shared.array((32, 32), np.float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x0, y0 = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for j in range(4):
        r = ty + 8 * j
        if y0 + r < a.shape[0] and x0 + tx < a.shape[1]:
            tile[r, tx ^ r] = a[y0 + r, x0 + tx]
        cuda.syncthreads()
    for j in range(4):
        r = ty + 8 * j
        if x0 + r < out.shape[0] and y0 + tx < out.shape[1]:
            out[x0 + r, y0 + tx] = tile[tx, r ^ tx]


@right("3.4.d")
@cuda.jit
def smooth_plain(x, out):
    tile = cuda.shared.array(134, np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[k] = value
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(7):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncthreads()


@right("3.4.d")
@cuda.jit
def smooth_double_buffer_one_barrier_a_round(x, out):
    tile = cuda.shared.array((2, 134), np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    b = 0
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[b, k] = value
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(7):
            total += tile[b, t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        b = 1 - b


@wrong("3.4.d", "6 of the block's threads wait at syncthreads(), and 122 never come to it")
@cuda.jit
def smooth_barrier_inside_the_fill_loop(x, out):
    tile = cuda.shared.array(134, np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[k] = value
            cuda.syncthreads()
        total = np.float32(0)
        for k in range(7):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncthreads()


@wrong("3.4.d", "104 of the block's threads wait at syncthreads(), and 24 never come to it")
@cuda.jit
def smooth_the_2nd_barrier_inside_if_first_t_x_size(x, out):
    tile = cuda.shared.array(134, np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[k] = value
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(7):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
            cuda.syncthreads()


@wrong(
    "3.4.d",
    "a race on tile[32]",
)
@cuda.jit
def smooth_syncwarp_only(x, out):
    tile = cuda.shared.array(134, np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[k] = value
        cuda.syncwarp()
        total = np.float32(0)
        for k in range(7):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncthreads()


@wrong(
    "3.4.d",
    "a race on tile[32]",
)
@cuda.jit
def smooth_threadfence_block_only(x, out):
    tile = cuda.shared.array(134, np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[k] = value
        cuda.threadfence_block()
        total = np.float32(0)
        for k in range(7):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncthreads()


@wrong(
    "3.4.d",
    "a race on tile[32]",
)
@cuda.jit
def smooth_only_first(x, out):
    tile = cuda.shared.array(134, np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[k] = value
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(7):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7


@right("3.4.d")
@cuda.jit
def smooth_three_barriers(x, out):
    tile = cuda.shared.array(134, np.float32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    for first in range(cuda.blockIdx.x * threads, x.size, cuda.gridsize(1)):
        for k in range(t, 134, threads):
            value = np.float32(0)
            if 0 <= first - 3 + k < x.size:
                value = x[first - 3 + k]
            tile[k] = value
        cuda.syncthreads()
        cuda.syncthreads()
        total = np.float32(0)
        for k in range(7):
            total += tile[t + k]
        if first + t < x.size:
            out[first + t] = total / 7
        cuda.syncthreads()


@right("3.4.e")
@cuda.jit
def count_skips_empty_bins(values, bins):
    s = cuda.shared.array(256, np.int32)
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        s[k] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(s, values[i], 1)
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        if s[k]:
            cuda.atomic.add(bins, k, s[k])


@wrong("3.4.e", "bins[0] is 12, expected 30; 97 of 256 elements differ")
@cuda.jit
def count_plain_plus_equals_on_bins(values, bins):
    s = cuda.shared.array(256, np.int32)
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        s[k] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(s, values[i], 1)
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        bins[k] += s[k]


@wrong(
    "3.4.e",
    "a race on s[38]",
)
@cuda.jit
def count_no_barrier_after_zeroing(values, bins):
    s = cuda.shared.array(256, np.int32)
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        s[k] = 0
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(s, values[i], 1)
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        cuda.atomic.add(bins, k, s[k])


@right("3.4.e")
@cuda.jit
def count_thread_0_zeroes_and_adds_alone(values, bins):
    s = cuda.shared.array(256, np.int32)
    if cuda.threadIdx.x == 0:
        for k in range(256):
            s[k] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(s, values[i], 1)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for k in range(256):
            cuda.atomic.add(bins, k, s[k])


@wrong("3.4.e", "bins[128] is 0, expected 1; 12 of 256 elements differ")
@cuda.jit
def count_right_only_for_blocks_of_at_least_256_threads(values, bins):
    s = cuda.shared.array(256, np.int32)
    t = cuda.threadIdx.x
    if t < 256:
        s[t] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(s, values[i], 1)
    cuda.syncthreads()
    if t < 256:
        cuda.atomic.add(bins, t, s[t])


@right("3.4.e")
@cuda.jit
def count_four_sub_histograms(values, bins):
    s = cuda.shared.array((4, 256), np.int32)
    t = cuda.threadIdx.x
    w = (t // 32) % 4
    for j in range(t, 1024, cuda.blockDim.x):
        s[j // 256, j % 256] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(s, (w, values[i]), 1)
    cuda.syncthreads()
    for j in range(t, 256, cuda.blockDim.x):
        cuda.atomic.add(bins, j, s[0, j] + s[1, j] + s[2, j] + s[3, j])


@wrong("3.4.e", "bins[0] is 1, expected 9; 52 of 256 elements differ")
@cuda.jit
def count_uint8_shared_non_atomic(values, bins):
    s = cuda.shared.array(256, np.uint8)
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        s[k] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        s[values[i]] += 1
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        cuda.atomic.add(bins, k, s[k])
