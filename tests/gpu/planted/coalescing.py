"""Answers to the exercises of unit 3.3: right ones that differ, and common mistakes."""

from __future__ import annotations

import numpy as np

from aiinfra_labs.gpu import cuda
from aiinfra_labs.gpu.float4 import load_float4, store_float4
from planting import plot

RIGHT, WRONG, right, wrong = plot()
ITEMS = 8


# --- 3.3.a a tile for each block -----------------------------------------------------------------


@right("3.3.a")
@cuda.jit
def tile_by_rounds(source, target):
    first = cuda.blockIdx.x * ITEMS * cuda.blockDim.x + cuda.threadIdx.x
    for k in range(ITEMS):
        i = first + k * cuda.blockDim.x
        if i < target.size:
            target[i] = source[i]


@right("3.3.a")
@cuda.jit
def tile_by_range(source, target):
    begin = cuda.blockIdx.x * ITEMS * cuda.blockDim.x
    end = min(begin + ITEMS * cuda.blockDim.x, target.size)
    for i in range(begin + cuda.threadIdx.x, end, cuda.blockDim.x):
        target[i] = source[i]


@right("3.3.a")
@cuda.jit
def tile_backwards(source, target):
    """Which lane has which of 32 neighbours does not matter."""
    for k in range(ITEMS):
        i = (cuda.blockIdx.x * ITEMS + k + 1) * cuda.blockDim.x - 1 - cuda.threadIdx.x
        if i < target.size:
            target[i] = source[i]


@right("3.3.a")
@cuda.jit
def tile_by_the_grid(source, target):
    """No tiles, but every element once, and neighbours together."""
    for i in range(cuda.grid(1), target.size, cuda.gridsize(1)):
        target[i] = source[i]


@wrong("3.3.a", "each load of a warp touches 32 sectors of source where 4 suffice")
@cuda.jit
def tile_in_stretches(source, target):
    first = cuda.grid(1) * ITEMS
    for k in range(ITEMS):
        if first + k < target.size:
            target[first + k] = source[first + k]


@wrong("3.3.a", "each load of a warp touches 8 sectors of source where 4 suffice")
@cuda.jit
def tile_in_pairs(source, target):
    first = cuda.blockIdx.x * ITEMS * cuda.blockDim.x + 2 * cuda.threadIdx.x
    for k in range(ITEMS // 2):
        for j in range(2):
            i = first + 2 * k * cuda.blockDim.x + j
            if i < target.size:
                target[i] = source[i]


@wrong("3.3.a", "is outside the array")
@cuda.jit
def tile_without_a_guard(source, target):
    first = cuda.blockIdx.x * ITEMS * cuda.blockDim.x + cuda.threadIdx.x
    for k in range(ITEMS):
        i = first + k * cuda.blockDim.x
        target[i] = source[i]


@wrong("3.3.a", "is outside the array")
@cuda.jit
def tile_with_one_guard(source, target):
    first = cuda.blockIdx.x * ITEMS * cuda.blockDim.x + cuda.threadIdx.x
    if first < target.size:
        for k in range(ITEMS):
            target[first + k * cuda.blockDim.x] = source[first + k * cuda.blockDim.x]


@wrong("3.3.a", "224 of 256 elements are not written: too few to judge who takes which")
@cuda.jit
def tile_of_one_round(source, target):
    i = cuda.grid(1)
    if i < target.size:
        target[i] = source[i]


@wrong("3.3.a", "written more than once: target[0] 2 times, by thread 0")
@cuda.jit
def tiles_that_overlap(source, target):
    for k in range(ITEMS):
        i = cuda.grid(1) + k * 32
        if i < target.size:
            target[i] = source[i]
    for i in range(cuda.grid(1), target.size, cuda.gridsize(1)):
        target[i] = source[i]


# --- 3.3.b column sums ---------------------------------------------------------------------------


@right("3.3.b")
@cuda.jit
def sums_by_loops(a, sums):
    x, y = cuda.grid(2)
    step_x, step_y = cuda.gridsize(2)
    for column in range(x, a.shape[1], step_x):
        total = np.float32(0)
        for row in range(y, a.shape[0], step_y):
            total += a[row, column]
        cuda.atomic.add(sums, column, total)


@right("3.3.b")
@cuda.jit
def sums_by_first_row_of_threads(matrix, result):
    """A thread for each column, and the threads of the other rows stay idle."""
    column, y = cuda.grid(2)
    if y == 0 and column < matrix.shape[1]:
        total = 0.0
        for row in range(matrix.shape[0]):
            total += matrix[row, column]
        result[column] = total


@right("3.3.b")
@cuda.jit
def sums_where_there_are_rows(a, sums):
    column, y = cuda.grid(2)
    if column >= a.shape[1] or y >= a.shape[0]:
        return
    total = a[y, column]
    row = y + cuda.blockDim.y * cuda.gridDim.y
    while row < a.shape[0]:
        total += a[row, column]
        row += cuda.blockDim.y * cuda.gridDim.y
    cuda.atomic.add(sums, column, total)


@wrong("3.3.b", "each load of a warp touches 32 sectors of a where 4 suffice")
@cuda.jit
def sums_down_the_rows(a, sums):
    x, y = cuda.grid(2)
    step_x, step_y = cuda.gridsize(2)
    for column in range(y, a.shape[1], step_y):
        total = np.float32(0)
        for row in range(x, a.shape[0], step_x):
            total += a[row, column]
        cuda.atomic.add(sums, column, total)


@wrong("3.3.b", "race")
@cuda.jit
def sums_that_race(a, sums):
    x, y = cuda.grid(2)
    step_x, step_y = cuda.gridsize(2)
    for column in range(x, a.shape[1], step_x):
        for row in range(y, a.shape[0], step_y):
            sums[column] += a[row, column]


@wrong("3.3.b", "the 16 warps made 512 atomic requests where 16 suffice")
@cuda.jit
def sums_with_an_atomic_each(a, sums):
    x, y = cuda.grid(2)
    step_x, step_y = cuda.gridsize(2)
    for column in range(x, a.shape[1], step_x):
        for row in range(y, a.shape[0], step_y):
            cuda.atomic.add(sums, column, a[row, column])


@wrong("3.3.b", "is outside the array")
@cuda.jit
def sums_without_a_guard(a, sums):
    x, y = cuda.grid(2)
    total = np.float32(0)
    for row in range(y, a.shape[0], cuda.gridDim.y * cuda.blockDim.y):
        total += a[row, x]
    cuda.atomic.add(sums, x, total)


@wrong("3.3.b", "each element of a column is added to its sum once")
@cuda.jit
def sums_of_every_row_in_every_thread(a, sums):
    x, y = cuda.grid(2)
    if x < a.shape[1]:
        total = np.float32(0)
        for row in range(a.shape[0]):
            total += a[row, x]
        cuda.atomic.add(sums, x, total)


# --- 3.3.c from structures to an array -----------------------------------------------------------


@right("3.3.c")
def advance_contiguous(kernel, requests, steps):
    position = cuda.to_device(np.ascontiguousarray(requests["position"]))
    for _ in range(steps):
        kernel[-(-requests.size // 128), 128](position)
    result = requests.copy()
    result["position"] = position.copy_to_host()
    return result


@right("3.3.c")
def advance_by_a_list_of_fields(kernel, requests, steps):
    fields = {name: requests[name].copy() for name in requests.dtype.names}
    device = cuda.to_device(fields["position"])
    for _ in range(steps):
        kernel[(requests.size + 255) // 256, 256](device)
    device.copy_to_host(fields["position"])
    result = np.empty_like(requests)
    for name, values in fields.items():
        result[name] = values
    return result


@wrong("3.3.c", "each load of a warp touches 32 sectors where 4 suffice")
def advance_a_field_of_the_device_array(kernel, requests, steps):
    device = cuda.to_device(requests)
    for _ in range(steps):
        kernel[-(-requests.size // 128), 128](device["position"])
    return device.copy_to_host()


@wrong("3.3.c", "is not contiguous")
def advance_a_view(kernel, requests, steps):
    result = requests.copy()
    position = cuda.to_device(result["position"])
    for _ in range(steps):
        kernel[-(-requests.size // 128), 128](position)
    result["position"] = position.copy_to_host()
    return result


@wrong("3.3.c", "16,384 bytes were copied to the device where 4,096 suffice")
def advance_copying_each_time(kernel, requests, steps):
    position = np.ascontiguousarray(requests["position"])
    for _ in range(steps):
        kernel[-(-requests.size // 128), 128](position)
    result = requests.copy()
    result["position"] = position
    return result


@wrong("3.3.c", "requests, which was given to your function, has changed")
def advance_in_place(kernel, requests, steps):
    position = cuda.to_device(np.ascontiguousarray(requests["position"]))
    for _ in range(steps):
        kernel[-(-requests.size // 128), 128](position)
    requests["position"] = position.copy_to_host()
    return requests


@wrong("3.3.c", "it returned a ndarray of int32")
def advance_and_forget_the_rest(kernel, requests, steps):
    position = cuda.to_device(np.ascontiguousarray(requests["position"]))
    for _ in range(steps):
        kernel[-(-requests.size // 128), 128](position)
    return position.copy_to_host()


@wrong("3.3.c", "each launch adds 1 to every position")
def advance_without_copying_back(kernel, requests, steps):
    position = cuda.to_device(np.ascontiguousarray(requests["position"]))
    for _ in range(steps):
        kernel[-(-requests.size // 128), 128](position)
    return requests.copy()


@wrong("3.3.c", "0 launches where 1 was asked for")
def advance_on_the_host(kernel, requests, steps):
    result = requests.copy()
    result["position"] += steps
    return result


@wrong("3.3.c", "the result shares its memory with requests")
def advance_giving_them_back_for_no_step(kernel, requests, steps):
    return advance_contiguous(kernel, requests, steps) if steps else requests


# --- 3.3.d four at once --------------------------------------------------------------------------


@right("3.3.d")
@cuda.jit
def four_with_a_tail(source, target):
    i = cuda.grid(1)
    fours = target.size // 4
    if i < fours:
        store_float4(target, 4 * i, load_float4(source, 4 * i))
    elif 3 * fours + i < target.size:
        target[3 * fours + i] = source[3 * fours + i]


@right("3.3.d")
@cuda.jit
def four_and_the_first_threads_do_the_tail(x, y):
    first = 4 * cuda.grid(1)
    if first + 3 < y.size:
        v = load_float4(x, first)
        store_float4(y, first, cuda.float32x4(v.x, v.y, v.z, v.w))
    tail = y.size // 4 * 4 + cuda.grid(1)
    if tail < y.size:
        y[tail] = x[tail]


@right("3.3.d")
@cuda.jit
def four_in_a_loop(source, target):
    fours = target.size // 4
    for i in range(cuda.grid(1), fours, cuda.gridsize(1)):
        store_float4(target, 4 * i, load_float4(source, 4 * i))
    for i in range(4 * fours + cuda.grid(1), target.size, cuda.gridsize(1)):
        target[i] = source[i]


@wrong("3.3.d", "4,096 elements took 128 load requests where 32 suffice")
@cuda.jit
def one_at_a_time(source, target):
    for i in range(cuda.grid(1), target.size, cuda.gridsize(1)):
        target[i] = source[i]


@wrong("3.3.d", "4,096 elements took 128 load requests where 32 suffice")
@cuda.jit
def four_loads_in_a_row(source, target):
    for k in range(4):
        i = 4 * cuda.grid(1) + k
        if i < target.size:
            target[i] = source[i]


@wrong("3.3.d", "4,096 elements took 64 load requests where 32 suffice")
@cuda.jit
def two_at_once(source, target):
    pairs = target.size // 2
    for i in range(cuda.grid(1), pairs, cuda.gridsize(1)):
        target[: 2 * pairs].view(np.float64)[i] = source[: 2 * pairs].view(np.float64)[i]
    if cuda.grid(1) == 0 and 2 * pairs < target.size:
        target[2 * pairs] = source[2 * pairs]


@wrong("3.3.d", "3 of 131 elements are still nan: target[128] and 2 more")
@cuda.jit
def four_without_a_tail(source, target):
    i = cuda.grid(1)
    if i < target.size // 4:
        store_float4(target, 4 * i, load_float4(source, 4 * i))


@wrong("3.3.d", "is outside the array")
@cuda.jit
def four_beyond_the_end(source, target):
    i = cuda.grid(1)
    if 4 * i < target.size:
        store_float4(target, 4 * i, load_float4(source, 4 * i))


@wrong("3.3.d", "is not at a multiple of 16 bytes")
@cuda.jit
def four_from_i_on(source, target):
    i = cuda.grid(1)
    if i + 3 < target.size:
        store_float4(target, i, load_float4(source, i))


@wrong("3.3.d", "is not at a multiple of 16 bytes")
@cuda.jit
def four_moved_back(source, target):
    first = 4 * cuda.grid(1)
    if first < target.size:
        first = max(min(first, target.size - 4), 0)
        store_float4(target, first, load_float4(source, first))


@wrong("3.3.d", "written more than once: target[0] 2 times")
@cuda.jit
def four_and_one(source, target):
    i = cuda.grid(1)
    if i < target.size // 4:
        store_float4(target, 4 * i, load_float4(source, 4 * i))
    for k in range(i, target.size, cuda.gridsize(1)):
        target[k] = source[k]


# --- 3.3.e embeddings ----------------------------------------------------------------------------


@right("3.3.e")
@cuda.jit
def embed_by_warp(table, tokens, out):
    t, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if t < tokens.size:
        for d in range(lane, table.shape[1], 32):
            out[t, d] = table[tokens[t], d]


@right("3.3.e")
@cuda.jit
def embed_by_lane(weights, ids, result):
    warp = cuda.blockIdx.x * (cuda.blockDim.x // cuda.warpsize) + cuda.threadIdx.x // cuda.warpsize
    if warp >= ids.size:
        return
    source, target = weights[ids[warp]], result[warp]
    d = cuda.laneid
    while d < target.size:
        target[d] = source[d]
        d += cuda.warpsize


@right("3.3.e")
@cuda.jit
def embed_element_by_element(table, tokens, out):
    """No warp has a row of its own, but neighbours have neighbours."""
    dim = table.shape[1]
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i // dim, i % dim] = table[tokens[i // dim], i % dim]


@wrong("3.3.e", "each load of a warp touches 32 sectors of table where 4 suffice")
@cuda.jit
def embed_by_thread(table, tokens, out):
    t = cuda.grid(1)
    if t < tokens.size:
        for d in range(table.shape[1]):
            out[t, d] = table[tokens[t], d]


@wrong("3.3.e", "sectors of table where 4 suffice")
@cuda.jit
def embed_in_stretches(table, tokens, out):
    t, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if t < tokens.size:
        width = (table.shape[1] + 31) // 32
        for d in range(lane * width, min((lane + 1) * width, table.shape[1])):
            out[t, d] = table[tokens[t], d]


@wrong("3.3.e", "is outside the array")
@cuda.jit
def embed_without_a_guard(table, tokens, out):
    t, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    for d in range(lane, table.shape[1], 32):
        out[t, d] = table[tokens[t], d]


@wrong("3.3.e", "row t of out is the row of the table that tokens[t] names")
@cuda.jit
def embed_by_place(table, tokens, out):
    t, lane = cuda.grid(1) // 32, cuda.grid(1) % 32
    if t < tokens.size:
        for d in range(lane, table.shape[1], 32):
            out[t, d] = table[t, d]


@wrong("3.3.e", "64 rows of 64 took 4,096 store requests where 128 suffice")
@cuda.jit
def embed_in_every_lane(table, tokens, out):
    t = cuda.grid(1) // 32
    if t < tokens.size:
        for d in range(table.shape[1]):
            out[t, d] = table[tokens[t], d]
