"""Answers to the exercises of unit 3.2: right ones that differ, and common mistakes."""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.2.a vector add --------------------------------------------------------------------------


@right("3.2.a")
@cuda.jit
def add_by_grid(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@right("3.2.a")
@cuda.jit
def add_by_hand(first, second, result):
    number = cuda.threadIdx.x + cuda.blockIdx.x * cuda.blockDim.x
    if number >= len(result):
        return
    result[number] = first[number] + second[number]


@right("3.2.a")
@cuda.jit
def add_with_a_stride(a, b, out):
    for i in range(cuda.grid(1), out.shape[0], cuda.gridsize(1)):
        out[i] = a[i] + b[i]


@wrong("3.2.a", "a[1] is outside the array")
@cuda.jit
def add_without_a_guard(a, b, out):
    i = cuda.grid(1)
    out[i] = a[i] + b[i]


@wrong("3.2.a", "written more than once: out[0] 4 times, by threads 0, 64, 128, 192")
@cuda.jit
def add_by_thread_only(a, b, out):
    i = cuda.threadIdx.x
    if i < out.size:
        out[i] = a[i] + b[i]


@wrong("3.2.a", "a[1] is outside the array")
@cuda.jit
def add_one_too_far(a, b, out):
    i = cuda.grid(1)
    if i <= out.size:
        out[i] = a[i] + b[i]


@wrong("3.2.a", "1 of 32 elements is never written: out[31]")
@cuda.jit
def add_one_too_short(a, b, out):
    i = cuda.grid(1)
    if i < out.size - 1:
        out[i] = a[i] + b[i]


@wrong("3.2.a", "192 of 256 elements are never written: out[64] and 191 more")
@cuda.jit
def add_for_blocks_of_256(a, b, out):
    i = cuda.blockIdx.x * 256 + cuda.threadIdx.x
    if i < out.size:
        out[i] = a[i] + b[i]


@wrong("3.2.a", "written more than once: out[4]")
@cuda.jit
def add_with_grid_dim(a, b, out):
    i = cuda.blockIdx.x * cuda.gridDim.x + cuda.threadIdx.x
    if i < out.size:
        out[i] = a[i] + b[i]


@wrong("3.2.a", "written more than once: out[0] 32 times")
@cuda.jit
def add_all_in_each_thread(a, b, out):
    for i in range(out.size):
        out[i] = a[i] + b[i]


@wrong("3.2.a", "written more than once: out[0] 2 times, by thread 0")
@cuda.jit
def add_in_two_stores(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i]
        out[i] += b[i]


@wrong("3.2.a", "or that was read before it was written")
@cuda.jit
def add_to_what_is_there(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] += a[i] + b[i]


@wrong("3.2.a", "the input a was written to: 32 stores")
@cuda.jit
def add_in_place(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        a[i] = a[i] + b[i]


@wrong("3.2.a", "the loop never ends")
@cuda.jit
def add_for_ever(a, b, out):
    i = cuda.grid(1)
    while i < out.size:
        out[i] = a[i] + b[i]


# --- 3.2.b copy once ---------------------------------------------------------------------------


@right("3.2.b")
def add_in_one_device_array(kernel, x, y, times):
    d_total, d_y = cuda.to_device(x), cuda.to_device(y)
    threads = 128
    blocks = (x.size + threads - 1) // threads
    for _ in range(times):
        kernel[blocks, threads](d_total, d_y, d_total)
    return d_total.copy_to_host()


@right("3.2.b")
def add_in_turns(kernel, x, y, times):
    d_from, d_y = cuda.to_device(x), cuda.to_device(y)
    d_to = cuda.device_array_like(d_from)
    for _ in range(times):
        kernel[-(-x.size // 256), 256](d_from, d_y, d_to)
        d_from, d_to = d_to, d_from
    result = np.empty_like(x)
    d_from.copy_to_host(result)
    return result


@wrong(
    "3.2.b", "120,000 bytes were copied to the device where 8,000 suffice (15 times as much), in 10"
)
def add_host_arrays(kernel, x, y, times):
    total = x.copy()
    for _ in range(times):
        kernel[-(-x.size // 128), 128](total, y, total)
    return total


@wrong("3.2.b", "80,000 bytes were copied to the device where 8,000 suffice (10 times as much)")
def add_copying_in_the_loop(kernel, x, y, times):
    total = x
    for _ in range(times):
        d_total, d_y = cuda.to_device(total), cuda.to_device(y)
        kernel[-(-x.size // 128), 128](d_total, d_y, d_total)
        total = d_total.copy_to_host()
    return total.copy()


@wrong("3.2.b", "40,000 bytes were copied to the host where 4,000 suffice (10 times as much)")
def add_looking_each_time(kernel, x, y, times):
    d_total, d_y = cuda.to_device(x), cuda.to_device(y)
    total = x.copy()
    for _ in range(times):
        kernel[-(-x.size // 128), 128](d_total, d_y, d_total)
        total = d_total.copy_to_host()
    return total


@wrong("3.2.b", "12,000 bytes were copied to the device where 8,000 suffice (1.5 times as much)")
def add_copying_zeros(kernel, x, y, times):
    d_x, d_y, d_out = cuda.to_device(x), cuda.to_device(y), cuda.to_device(np.zeros_like(x))
    for _ in range(times):
        kernel[-(-x.size // 128), 128](d_x, d_y, d_out)
        d_x, d_out = d_out, d_x
    return d_x.copy_to_host()


@wrong("3.2.b", "it returned a device array")
def add_without_copying_back(kernel, x, y, times):
    d_total, d_y = cuda.to_device(x), cuda.to_device(y)
    for _ in range(times):
        kernel[-(-x.size // 128), 128](d_total, d_y, d_total)
    return d_total


@wrong("3.2.b", "it returned nothing")
def add_without_return(kernel, x, y, times):
    d_total, d_y = cuda.to_device(x), cuda.to_device(y)
    for _ in range(times):
        kernel[-(-x.size // 128), 128](d_total, d_y, d_total)
    d_total.copy_to_host()


@wrong("3.2.b", "x was changed")
def add_into_the_callers_array(kernel, x, y, times):
    for _ in range(times):
        kernel[-(-x.size // 128), 128](x, y, x)
    return x


@wrong("3.2.b", "launched with 0 blocks")
def add_rounding_down(kernel, x, y, times):
    d_total, d_y = cuda.to_device(x), cuda.to_device(y)
    for _ in range(times):
        kernel[x.size // 128, 128](d_total, d_y, d_total)
    return d_total.copy_to_host()


@wrong("3.2.b", "a float")
def add_in_half_a_block(kernel, x, y, times):
    d_total, d_y = cuda.to_device(x), cuda.to_device(y)
    for _ in range(times):
        kernel[x.size / 128, 128](d_total, d_y, d_total)
    return d_total.copy_to_host()


@wrong("3.2.b", "launch enough blocks for all n elements")
def add_in_one_block(kernel, x, y, times):
    d_total, d_y = cuda.to_device(x), cuda.to_device(y)
    for _ in range(times):
        kernel[1, 128](d_total, d_y, d_total)
    return d_total.copy_to_host()


@wrong("3.2.b", "each launch adds y once to what the launch before it left")
def add_always_to_x(kernel, x, y, times):
    d_x, d_y, d_out = cuda.to_device(x), cuda.to_device(y), cuda.device_array_like(x)
    for _ in range(times):
        kernel[-(-x.size // 128), 128](d_x, d_y, d_out)
    return d_out.copy_to_host() if times else x.copy()


@wrong("3.2.b", "0 launches where 1 was asked for")
def add_on_the_host(kernel, x, y, times):
    for _ in range(times):
        x = x + y
    return x.copy()


# --- 3.2.c grid-stride saxpy -------------------------------------------------------------------


@right("3.2.c")
@cuda.jit
def saxpy_by_range(alpha, x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = alpha * x[i] + y[i]


@right("3.2.c")
@cuda.jit
def saxpy_by_while(a, source, target):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    while i < target.shape[0]:
        target[i] += a * source[i]
        i += cuda.blockDim.x * cuda.gridDim.x


@right("3.2.c")
@cuda.jit
def saxpy_a_stretch_for_each_block(alpha, x, y):
    stretch = (y.size + cuda.gridDim.x - 1) // cuda.gridDim.x
    begin = cuda.blockIdx.x * stretch
    end = min(begin + stretch, y.size)
    for i in range(begin + cuda.threadIdx.x, end, cuda.blockDim.x):
        y[i] = alpha * x[i] + y[i]


@wrong("3.2.c", "68 of 100 elements are as before the launch: y[32] and 67 more")
@cuda.jit
def saxpy_once(alpha, x, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = alpha * x[i] + y[i]


@wrong("3.2.c", "each load of a warp touches 32 sectors of 32 bytes where 4 suffice")
@cuda.jit
def saxpy_in_stretches(alpha, x, y):
    per_thread = (y.size + cuda.gridsize(1) - 1) // cuda.gridsize(1)
    begin = cuda.grid(1) * per_thread
    for i in range(begin, min(begin + per_thread, y.size)):
        y[i] = alpha * x[i] + y[i]


@wrong("3.2.c", "written more than once: y[33] 2 times, by threads 0, 33")
@cuda.jit
def saxpy_by_block_size(alpha, x, y):
    for i in range(cuda.grid(1), y.size, cuda.blockDim.x):
        y[i] = alpha * x[i] + y[i]


@wrong("3.2.c", "written more than once: y[1] 2 times, by threads 0, 1")
@cuda.jit
def saxpy_by_ones(alpha, x, y):
    for i in range(cuda.grid(1), y.size):
        y[i] = alpha * x[i] + y[i]


@wrong("3.2.c", "written more than once: y[0] 3 times, by threads 0, 33, 66")
@cuda.jit
def saxpy_from_thread(alpha, x, y):
    for i in range(cuda.threadIdx.x, y.size, cuda.blockDim.x):
        y[i] = alpha * x[i] + y[i]


@wrong("3.2.c", "1 of 1 element is as before the launch: y[0]")
@cuda.jit
def saxpy_one_too_short(alpha, x, y):
    for i in range(cuda.grid(1), y.size - 1, cuda.gridsize(1)):
        y[i] = alpha * x[i] + y[i]


@wrong("3.2.c", "y[100] is outside the array")
@cuda.jit
def saxpy_with_guard_before(alpha, x, y):
    i = cuda.grid(1)
    rounds = (y.size + cuda.gridsize(1) - 1) // cuda.gridsize(1)
    if i < y.size:
        for k in range(rounds):
            y[i + k * cuda.gridsize(1)] += alpha * x[i + k * cuda.gridsize(1)]


@wrong("3.2.c", "once an element")
@cuda.jit
def saxpy_without_y(alpha, x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = alpha * x[i]


@wrong("3.2.c", "the loop never ends")
@cuda.jit
def saxpy_for_ever(alpha, x, y):
    i = cuda.grid(1)
    while i < y.size:
        y[i] = alpha * x[i] + y[i]


# --- 3.2.d grey --------------------------------------------------------------------------------


@right("3.2.d")
@cuda.jit
def grey_by_grid(rgb, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = 0.299 * rgb[y, x, 0] + 0.587 * rgb[y, x, 1] + 0.114 * rgb[y, x, 2]


WEIGHTS = (0.299, 0.587, 0.114)


@right("3.2.d")
@cuda.jit
def grey_by_channel(picture, result):
    column = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    row = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    rows, columns = result.shape
    if row >= rows or column >= columns:
        return
    light = np.float32(0)
    for channel in range(3):
        light += np.float32(WEIGHTS[channel]) * picture[row, column, channel]
    result[row, column] = light


@wrong("3.2.d", "x counts columns, y counts rows")
@cuda.jit
def grey_swapped(rgb, out):
    row, column = cuda.grid(2)
    if row < out.shape[0] and column < out.shape[1]:
        out[row, column] = (
            0.299 * rgb[row, column, 0] + 0.587 * rgb[row, column, 1] + 0.114 * rgb[row, column, 2]
        )


@wrong("3.2.d", "each store of a warp touches 32 sectors of 32 bytes where 4 suffice")
@cuda.jit
def grey_down_the_columns(rgb, out):
    row, column = cuda.grid(2)
    row_step, column_step = cuda.gridsize(2)
    for y in range(row, out.shape[0], row_step):
        for x in range(column, out.shape[1], column_step):
            out[y, x] = 0.299 * rgb[y, x, 0] + 0.587 * rgb[y, x, 1] + 0.114 * rgb[y, x, 2]


@wrong("3.2.d", "compare y with the number of rows, out.shape[0]")
@cuda.jit
def grey_shape_swapped(rgb, out):
    x, y = cuda.grid(2)
    width, height = out.shape
    if x < width and y < height:
        out[y, x] = 0.299 * rgb[y, x, 0] + 0.587 * rgb[y, x, 1] + 0.114 * rgb[y, x, 2]


@wrong("3.2.d", "the image 1 column and 1 row; a thread past")
@cuda.jit
def grey_one_guard(rgb, out):
    x, y = cuda.grid(2)
    if x < out.shape[1]:
        out[y, x] = 0.299 * rgb[y, x, 0] + 0.587 * rgb[y, x, 1] + 0.114 * rgb[y, x, 2]


@wrong("3.2.d", "(255, 0, 0) has the weights 0.299, 0.587, 0.114")
@cuda.jit
def grey_by_thirds(rgb, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = (rgb[y, x, 0] + rgb[y, x, 1] + rgb[y, x, 2]) / 3


@wrong("3.2.d", "(255, 0, 0) has the weights 0.299, 0.587, 0.114")
@cuda.jit
def grey_bgr(rgb, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = 0.114 * rgb[y, x, 0] + 0.587 * rgb[y, x, 1] + 0.299 * rgb[y, x, 2]


@wrong("3.2.d", "of (R, G, B) = (255, 0, 0)")
@cuda.jit
def grey_bt709(rgb, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = 0.2126 * rgb[y, x, 0] + 0.7152 * rgb[y, x, 1] + 0.0722 * rgb[y, x, 2]


@wrong("3.2.d", "of (R, G, B) = (255, 0, 0)")
@cuda.jit
def grey_whole_numbers(rgb, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        r, g, b = rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2]
        out[y, x] = (299 * r + 587 * g + 114 * b) // 1000


@wrong("3.2.d", "written more than once: out[0, 0] 3 times, by thread 0")
@cuda.jit
def grey_in_three_stores(rgb, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = 0.299 * rgb[y, x, 0]
        out[y, x] += 0.587 * rgb[y, x, 1]
        out[y, x] += 0.114 * rgb[y, x, 2]


# --- 3.2.e blur --------------------------------------------------------------------------------


@right("3.2.e")
@cuda.jit
def blur_asking_each(image, out):
    x, y = cuda.grid(2)
    rows, columns = image.shape
    if y < rows and x < columns:
        total = np.float32(0)
        inside = 0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if 0 <= y + dy < rows and 0 <= x + dx < columns:
                    total += image[y + dy, x + dx]
                    inside += 1
        out[y, x] = total / inside


@right("3.2.e")
@cuda.jit
def blur_within_bounds(source, target):
    x, y = cuda.grid(2)
    if y >= source.shape[0] or x >= source.shape[1]:
        return
    top, bottom = max(y - 1, 0), min(y + 2, source.shape[0])
    left, right = max(x - 1, 0), min(x + 2, source.shape[1])
    total = 0.0
    for row in range(top, bottom):
        for column in range(left, right):
            total += source[row, column]
    target[y, x] = total / ((bottom - top) * (right - left))


@wrong("3.2.e", "a pixel at the edge has neighbours that are not there")
@cuda.jit
def blur_past_the_edge(image, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        total = 0.0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                total += image[y + dy, x + dx]
        out[y, x] = total / 9


@wrong("3.2.e", "the sum was divided by 9, and only 4 pixels lie inside")
@cuda.jit
def blur_by_nine(image, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        total = 0.0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if 0 <= y + dy < out.shape[0] and 0 <= x + dx < out.shape[1]:
                    total += image[y + dy, x + dx]
        out[y, x] = total / 9


@wrong("3.2.e", "row -1 and column -1 are outside")
@cuda.jit
def blur_wrapping_round(image, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        total = 0.0
        inside = 0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if y + dy < out.shape[0] and x + dx < out.shape[1]:
                    total += image[y + dy, x + dx]
                    inside += 1
        out[y, x] = total / inside


@wrong("3.2.e", "the corner out[0, 0]: expected")
@cuda.jit
def blur_repeating_the_edge(image, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        total = 0.0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                row = min(max(y + dy, 0), out.shape[0] - 1)
                column = min(max(x + dx, 0), out.shape[1] - 1)
                total += image[row, column]
        out[y, x] = total / 9


@wrong("3.2.e", "of the nine pixels around it, 4 lie inside")
@cuda.jit
def blur_leaving_the_edge(image, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = image[y, x]
        if 0 < y < out.shape[0] - 1 and 0 < x < out.shape[1] - 1:
            total = 0.0
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    total += image[y + dy, x + dx]
            out[y, x] = total / 9


@wrong("3.2.e", "an inner pixel is the mean of nine")
@cuda.jit
def blur_two_by_two(image, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        total = 0.0
        inside = 0
        for dy in range(-1, 1):
            for dx in range(-1, 1):
                if y + dy >= 0 and x + dx >= 0:
                    total += image[y + dy, x + dx]
                    inside += 1
        out[y, x] = total / inside


@wrong("3.2.e", "the input image was written to: 64 stores")
@cuda.jit
def blur_in_place(image, out):
    x, y = cuda.grid(2)
    rows, columns = image.shape
    if y < rows and x < columns:
        total = 0.0
        inside = 0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if 0 <= y + dy < rows and 0 <= x + dx < columns:
                    total += image[y + dy, x + dx]
                    inside += 1
        image[y, x] = total / inside


@wrong("3.2.e", "x counts columns, y counts rows")
@cuda.jit
def blur_swapped(image, out):
    y, x = cuda.grid(2)
    rows, columns = image.shape
    if y < rows and x < columns:
        total = 0.0
        inside = 0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if 0 <= y + dy < rows and 0 <= x + dx < columns:
                    total += image[y + dy, x + dx]
                    inside += 1
        out[y, x] = total / inside


@wrong("3.2.e", "or that was read before it was written")
@cuda.jit
def blur_adding_to_out(image, out):
    x, y = cuda.grid(2)
    rows, columns = image.shape
    if y < rows and x < columns:
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if 0 <= y + dy < rows and 0 <= x + dx < columns:
                    out[y, x] += image[y + dy, x + dx] / 9


@wrong("3.2.b", "the result is one of the arrays that were given")
def add_giving_x_back_for_no_launch(kernel, x, y, times):
    return add_in_one_device_array(kernel, x, y, times) if times else x
