"""Kernels that run under the emulator and, in a process of its own, under Numba's simulator.

`python simulated_kernels.py FILE` with NUMBA_ENABLE_CUDASIM=1 writes what Numba's simulator makes
of every case to FILE; `test_emulator_simulator.py` compares. The simulator runs kernels as plain
Python on NumPy scalars, so the data are small whole numbers, on which every typing agrees.
"""

import math
import os
import sys

import numpy as np

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    from numba import cuda
else:
    from aiinfra_labs.gpu import emulator as cuda

CASES = {}
INTS = np.arange(-9, 40) % 23 - 7  # int64 [49], of both signs
TABLE = np.array([5, 3, 8, 1])
STEP = 3


def case(grid, block, *arrays):
    """Launch the kernel below on copies of `arrays`; what they hold afterwards is the result."""

    def register(kernel):
        CASES[f"{kernel.__name__}-{len(CASES)}"] = (kernel, grid, block, arrays)
        return kernel

    return register


def zeros(*shape, dtype=np.int64):
    return np.zeros(shape, dtype)


# --- where a thread is ----------------------------------------------------------------------


@case(7, 37, zeros(230, 8))
@case((4, 1), (50, 1, 1), zeros(199, 8))
@cuda.jit
def one_axis(out):
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i, 0] = i
        out[i, 1] = cuda.threadIdx.x
        out[i, 2] = cuda.blockIdx.x
        out[i, 3] = cuda.blockDim.x
        out[i, 4] = cuda.gridDim.x
        out[i, 5] = cuda.gridsize(1)
        out[i, 6] = cuda.threadIdx.y + cuda.blockIdx.z + cuda.blockDim.y
        out[i, 7] = cuda.laneid


@case((3, 2), (5, 7), zeros(13, 14, 4))
@cuda.jit
def two_axes(out):
    x, y = cuda.grid(2)
    sx, sy = cuda.gridsize(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x, 0] = x * 100 + y
        out[y, x, 1] = cuda.threadIdx.y * 10 + cuda.threadIdx.x
        out[y, x, 2] = cuda.blockIdx.y * 10 + cuda.blockIdx.x
        out[y, x, 3] = sx * 100 + sy


@case((2, 3, 2), (3, 2, 5), zeros(9, 6, 5))
@cuda.jit
def three_axes(out):
    x, y, z = cuda.grid(3)
    sx, sy, sz = cuda.gridsize(3)
    if z < out.shape[0] and y < out.shape[1] and x < out.shape[2]:
        out[z, y, x] = x + 10 * y + 100 * z + 1000 * (sx + sy + sz) + cuda.gridDim.z


# --- control flow ---------------------------------------------------------------------------


@case(2, 32, INTS, zeros(49))
@cuda.jit
def nested_loops_with_every_exit(a, out):
    i = cuda.grid(1)
    if i >= a.size:
        return
    total = 0
    for j in range(abs(a[i])):
        k = 0
        while True:
            k += 1
            if k * j > 20:
                break
            if k % 2:
                continue
            total += k
            if k > j + 4:
                break
        if total > 60:
            out[i] = -total
            return
        if j == 7:
            continue
        total += j
    out[i] = total


@case(2, 32, INTS, zeros(49))
@cuda.jit
def loop_variable_after_the_loop(a, out):
    i = cuda.grid(1)
    if i < a.size:
        last = -1
        for k in range(i % 6):
            if k == a[i]:
                break
            last = k
        out[i] = last * 10


@case(2, 32, INTS, zeros(49))
@cuda.jit
def locals_of_some_threads(a, out):
    i = cuda.grid(1)
    inside = i < a.size
    if inside:
        value = a[i] * 2
    if inside and a[i] > 0:
        value += 1
    if inside:
        out[i] = value


@case(1, 49, INTS, zeros(49))
@cuda.jit
def tuples_through_branches(a, out):
    i = cuda.grid(1)
    pair = (a[i], i)
    if a[i] > 3:
        pair = (pair[1], pair[0])
    elif a[i] < -3:
        pair = (7, pair[0] * pair[1])
    x, y = pair
    out[i] = x * 100 + y


@case(1, 49, INTS, INTS[::-1].copy(), zeros(49))
@cuda.jit
def arrays_through_branches(a, b, out):
    i = cuda.grid(1)
    if i % 3 == 0:  # noqa: SIM108
        chosen = a
    else:
        chosen = b
    out[i] = chosen[i] + chosen[48 - i] * chosen.shape[0]


@case(1, 12, np.arange(36).reshape(12, 3), zeros(12))
@cuda.jit
def rows_through_branches(a, out):
    i = cuda.grid(1)
    row = a[i] if i % 2 else a[11 - i]
    total = 0
    for value in row:
        total += value
    out[i] = total + row[-1]


@case(2, 20, zeros(40))
@cuda.jit
def ranges_of_every_kind(out):
    i = cuda.grid(1)
    total = 0
    for k in range(i, 40, STEP):
        total += k
    for k in range(40, i, -7):
        total += k * 2
    for k in range(i % 3, -i, -1):
        total -= k
    for k in range(5, 5):
        total += 1000 + k
    for k in range(cuda.threadIdx.x, cuda.blockDim.x, 4):
        total += k
    out[i] = total


@case(2, 20, zeros(40))
@cuda.jit
def conditions(out):
    i = cuda.grid(1)
    a = (i > 3 and i % 2 == 0) or i == 1
    b = not a
    c = 2 < i <= 20 < i + 15
    d = i in (1, 2, 30) and i not in (2, 3)
    out[i] = (1 if a else 0) + (10 if b else 20) + 100 * c + 1000 * d


@case(2, 20, np.arange(40) % 7, zeros(40))
@cuda.jit
def short_circuit_spares_the_index(a, out):
    i = cuda.grid(1)
    if i + 1 < a.size and a[i + 1] > 2:
        out[i] = 1
    if i + 1 >= a.size or a[i + 1] == 0:
        out[i] += 2
    if 0 <= i - 39 + a.size < a.size and 0 < i < a[i - 1] + 10:
        out[i] += 4


# --- device functions -----------------------------------------------------------------------


@cuda.jit(device=True)
def clamp(x, low, high):
    if x < low:
        return low
    if x > high:
        return high
    return x


@cuda.jit(device=True)
def divide(x, y):
    return x // y, x % y


@cuda.jit(device=True)
def put(out, i, value):
    out[i] = value


@cuda.jit(device=True)
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


@case(2, 32, INTS, zeros(49))
@cuda.jit
def device_functions(a, out):
    i = cuda.grid(1)
    if i < a.size:
        q, r = divide(clamp(a[i], -4, 9) * 5, 3)
        put(out, i, q * 100 + r + gcd(i, 36))


# --- memory ---------------------------------------------------------------------------------


@case(1, 49, INTS, zeros(49))
@cuda.jit
def indices_from_the_end(a, out):
    i = cuda.grid(1)
    out[-1 - i] = a[i] + a[-1] + TABLE[i % 4] + TABLE[-1]


@case((2, 2), (4, 3), np.arange(35).reshape(7, 5), np.asfortranarray(np.zeros((7, 5))))
@cuda.jit
def layouts(a, out):
    x, y = cuda.grid(2)
    if y < out.shape[0] and x < out.shape[1]:
        out[y, x] = a[y, x] * 2
        out[y, x] += a[y][x]


@case(1, 8, np.array(5.0), zeros(8, dtype=np.float64))
@cuda.jit
def no_axes(a, out):
    i = cuda.grid(1)
    out[i] = a[()] + i


@case(1, 6, np.zeros(6, [("x", "f4"), ("n", "i2")]), np.arange(6))
@cuda.jit
def records(r, a):
    i = cuda.grid(1)
    r[i].x = a[i] * 2
    r[i].n = a[i] - 3
    r[i].n += 1
    a[i] = r[i].x + r[i].n


@case(1, 4, np.arange(24).reshape(2, 3, 4), zeros(4))
@cuda.jit
def partial_indices(a, out):
    i = cuda.grid(1)
    plane = a[1]
    row = plane[2]
    part = row[1:]
    out[i] = row[i] + part.size + part[0] + len(plane) + a.ndim + a.size


@case(1, 4, zeros(4))
@cuda.jit
def mathematics(out):
    i = cuda.grid(1)
    x = math.sqrt(i * i * 1.0) + math.floor(i + 0.5) + math.ceil(i - 0.5)
    out[i] = x + max(i, 2) + min(i, 2, 1) + abs(i - 3) + round(i + 0.25) + int(i * 1.75)


def _of_every_dtype():
    @cuda.jit
    def arithmetic(a, b, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = a[i] + b[i] * a[i]

    numbers = np.arange(1, 11)
    for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "c8", "c16"):
        arrays = (numbers.astype(dtype), (numbers % 3).astype(dtype), zeros(10, dtype=dtype))
        case(2, 6, *arrays)(arithmetic)

    @cuda.jit
    def logic(a, b, out):
        i = cuda.grid(1)
        out[i] = a[i] != b[i] or (a[i] and i > 2)

    case(1, 6, np.array([1, 1, 0, 0, 1, 1], "?"), np.array([1, 0, 1, 0, 1, 1], "?"), zeros(6))(
        logic
    )


_of_every_dtype()


def results():
    """Every array of every case after its launch: {"name/k": array}."""
    found = {}
    for name, (kernel, grid, block, arrays) in CASES.items():
        copies = [a.copy(order="K") for a in arrays]
        kernel[grid, block](*copies)
        found |= {f"{name}/{k}": a for k, a in enumerate(copies)}
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())
