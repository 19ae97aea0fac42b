"""Textbook races, and kernels that look like them and are right.

In a racy kernel the comments `# A` and `# B` mark the two lines of the race; `# AB` is a line that
races with itself. Every launch writes its result into the last argument.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aiinfra_labs.gpu import emulator as cuda

T = 64  # threads of most blocks: two warps
HALO = T + 2
f4, f8, i4, i8 = np.float32, np.float64, np.int32, np.int64


@dataclass
class Case:
    kernel: Callable
    grid: object
    block: object
    make: Callable[[], list]  # fresh arguments; the last one is the result
    shared: int = 0
    error: type = cuda.SharedMemoryRace
    kind: str = "read-write"
    advice: str = ""
    shows: bool = True  # whether a random order of warps and blocks makes the result wrong

    @property
    def name(self) -> str:
        return self.kernel.__name__

    @property
    def lines(self) -> tuple[int, int]:
        """The numbers of the lines marked A and B."""
        return marked(self.kernel, "A"), marked(self.kernel, "B")

    def launch(self) -> np.ndarray:
        args = self.make()
        self.kernel[self.grid, self.block, 0, self.shared](*args)
        last = args[-1]
        return last if isinstance(last, np.ndarray) else last.copy_to_host()


def marked(kernel, letter):
    """The number of the line that ends in a comment with this letter; also of a device function."""
    for function in (kernel, *HELPERS):
        text, first = inspect.getsourcelines(function.py_func)
        for number, line in enumerate(text, first):
            if "# " in line and letter in line.rpartition("# ")[2].strip().split()[0]:
                return number
    raise AssertionError(f"no line of {kernel} is marked {letter}")


RACY: list[Case] = []
CORRECT: list[Case] = []


def racy(grid, block, make, **facts):
    return _register(RACY, grid, block, make, facts)


def correct(grid, block, make, **facts):
    return _register(CORRECT, grid, block, make, facts)


def _register(cases, grid, block, make, facts):
    def add(kernel):
        cases.append(Case(kernel, grid, block, make, **facts))
        return kernel

    return add


def numbers(*shape, dtype=f4):
    return np.random.default_rng(1).integers(1, 100, shape).astype(dtype)


def zeros(*shape, dtype=f4):
    return np.zeros(shape, dtype)


# --- races on shared memory -------------------------------------------------------------------


@racy(
    (2, 2),
    (16, 16),
    lambda: [numbers(32, 32), zeros(32, 32)],
    advice="put cuda.syncthreads() between line",
)
@cuda.jit
def transpose_without_barrier(a, out):
    tile = cuda.shared.array((16, 16), f4)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    tile[ty, tx] = a[y, x]  # A
    x = cuda.blockIdx.y * 16 + tx
    y = cuda.blockIdx.x * 16 + ty
    out[y, x] = tile[tx, ty]  # B


@racy(2, 256, lambda: [numbers(512), zeros(2)], advice="at the end of each round")
@cuda.jit
def tree_without_barrier_in_the_loop(a, out):
    s = cuda.shared.array(256, f4)
    t = cuda.threadIdx.x
    s[t] = a[cuda.grid(1)]
    cuda.syncthreads()
    step = 128
    while step > 0:
        if t < step:
            s[t] = s[t] + s[t + step]  # AB
        step //= 2
    if t == 0:
        out[cuda.blockIdx.x] = s[0]


@racy(
    (2, 2),
    (16, 16),
    lambda: [numbers(32, 32), numbers(32, 32), zeros(32, 32)],
    advice="before the loop comes back to line",
)
@cuda.jit
def matmul_without_second_barrier(a, b, out):
    sa = cuda.shared.array((16, 16), f4)
    sb = cuda.shared.array((16, 16), f4)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = f4(0)
    for k in range(2):
        sa[ty, tx] = a[y, tx + k * 16]
        sb[ty, tx] = b[ty + k * 16, x]  # B
        cuda.syncthreads()
        for j in range(16):
            total += sa[ty, j] * sb[j, tx]  # A
    out[y, x] = total


@racy(2, T, lambda: [numbers(2 * T) % 8, zeros(2, 8, dtype=i4)], advice="cuda.atomic.add(bins")
@cuda.jit
def shared_histogram_without_atomics(a, out):
    bins = cuda.shared.array(8, i4)
    t = cuda.threadIdx.x
    if t < 8:
        bins[t] = 0
    cuda.syncthreads()
    bins[int(a[cuda.grid(1)])] += 1  # AB
    cuda.syncthreads()
    if t < 8:
        out[cuda.blockIdx.x, t] = bins[t]


@racy(3, T, lambda: [numbers(3 * T + 2), zeros(3 * T)], advice="between line")
@cuda.jit
def stencil_without_barrier(a, out):
    s = cuda.shared.array(HALO, f4)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    if t == 0:
        s[0] = a[i]
    if t == T - 1:
        s[T + 1] = a[i + 2]
    s[t + 1] = a[i + 1]  # A
    out[i] = s[t] + s[t + 1] + s[t + 2]  # B


@racy(1, 128, lambda: [numbers(128), zeros(128)], advice="into a variable first")
@cuda.jit
def scan_in_place(a, out):
    s = cuda.shared.array(128, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]
    cuda.syncthreads()
    step = 1
    while step < 128:
        if t >= step:
            s[t] += s[t - step]  # AB
        cuda.syncthreads()
        step *= 2
    out[t] = s[t]


@racy(1, 32, lambda: [numbers(32), zeros(1)], advice="cuda.syncwarp()", shows=False)
@cuda.jit
def warp_without_syncwarp(a, out):
    s = cuda.shared.array(32, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]
    cuda.syncthreads()
    if t < 16:
        s[t] += s[t + 16]  # A
    if t < 8:
        s[t] += s[t + 8]  # B
    cuda.syncthreads()
    if t == 0:
        out[0] = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7]


@racy(1, T, lambda: [numbers(T), zeros(T)], advice="put cuda.syncthreads() between line")
@cuda.jit
def syncwarp_between_two_warps(a, out):
    s = cuda.shared.array(T, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]  # A
    cuda.syncwarp()
    out[t] = s[(t + 1) % T]  # B


@racy(1, T, lambda: [numbers(T), zeros(T)], advice="between line", shows=False)
@cuda.jit
def shuffle_is_no_memory_barrier(a, out):
    s = cuda.shared.array(T, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]  # A
    other = cuda.shfl_xor_sync(0xFFFFFFFF, a[t], 1)
    out[t] = s[t ^ 1] - other  # B


@racy(4, 96, lambda: [numbers(4), zeros(4 * 96)], advice="between line")
@cuda.jit
def broadcast_without_barrier(a, out):
    s = cuda.shared.array(1, f4)
    if cuda.threadIdx.x == 95:
        s[0] = a[cuda.blockIdx.x]  # A
    out[cuda.grid(1)] = s[0]  # B


@racy(1, T, lambda: [numbers(T), zeros(T, dtype=i8)], shared=8 * T, advice="between line")
@cuda.jit
def bytes_of_two_sizes(a, out):
    halves = cuda.shared.array(0, f4)
    wholes = cuda.shared.array(0, i8)
    t = cuda.threadIdx.x
    halves[2 * t + 1] = a[t]
    halves[2 * t] = a[t]  # A
    out[t] = wholes[T - 1 - t]  # B


@racy(1, T, lambda: [numbers(8, T), zeros(8, T)], advice="before the loop comes back to line")
@cuda.jit
def one_buffer_for_two_rounds(a, out):
    s = cuda.shared.array((2, T), f4)
    t = cuda.threadIdx.x
    for k in range(8):
        s[0, t] = a[k, t]  # B
        cuda.syncthreads()
        out[k, t] = s[0, T - 1 - t]  # A


@racy(1, T, lambda: [numbers(T, dtype=i4), zeros(T, dtype=i4)], advice="between line")
@cuda.jit
def atomic_and_plain_read(a, out):
    total = cuda.shared.array(1, i4)
    t = cuda.threadIdx.x
    if t == 0:
        total[0] = 0
    cuda.syncthreads()
    cuda.atomic.add(total, 0, a[t])  # A
    out[t] = total[0]  # B


@racy(1, T, lambda: [zeros(T)], kind="write-write", advice="let one thread", shows=False)
@cuda.jit
def all_store_one_value(out):
    s = cuda.shared.array(1, f4)
    s[0] = 7  # AB
    cuda.syncthreads()
    out[cuda.threadIdx.x] = s[0]


@racy(1, 256, lambda: [zeros(256)], kind="write-write", advice="an element of its own")
@cuda.jit
def all_store_their_own_value(out):
    s = cuda.shared.array(1, f4)
    s[0] = cuda.threadIdx.x  # AB
    cuda.syncthreads()
    out[cuda.threadIdx.x] = s[0]


@cuda.jit(device=True)
def neighbour(row, t):
    return row[(t + 1) % row.shape[0]]  # B


HELPERS = [neighbour]


@racy(1, T, lambda: [numbers(T), zeros(T)], advice="between the two")
@cuda.jit
def race_in_a_device_function(a, out):
    s = cuda.shared.array(T, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]  # A
    out[t] = neighbour(s, t)


@racy(1, T, lambda: [numbers(T), zeros(T)], advice="between line")
@cuda.jit
def barrier_in_the_wrong_place(a, out):
    s = cuda.shared.array(T, f4)
    t = cuda.threadIdx.x
    cuda.syncthreads()
    s[t] = a[t]  # A
    out[t] = s[t ^ 63]  # B
    cuda.syncthreads()


# --- races on global memory -------------------------------------------------------------------


@racy(
    4,
    T,
    lambda: [numbers(4 * T) % 10, zeros(10, dtype=i4)],
    error=cuda.GlobalMemoryRace,
    advice="cuda.atomic.add(out",
)
@cuda.jit
def histogram_without_atomics(a, out):
    i = cuda.grid(1)
    out[int(a[i])] += 1  # AB


@racy(
    4,
    T,
    lambda: [numbers(4 * T)],
    error=cuda.GlobalMemoryRace,
    advice="another array",
)
@cuda.jit
def stencil_in_place(out):
    i = cuda.grid(1)
    if 0 < i < out.size - 1:
        out[i] = out[i - 1] + out[i] + out[i + 1]  # AB


@racy(
    2048,
    T,
    lambda: [zeros(T)],
    error=cuda.GlobalMemoryRace,
    kind="write-write",
    advice="is blockIdx in the index?",
)
@cuda.jit
def block_forgotten_in_the_index(out):
    out[cuda.threadIdx.x] = cuda.blockIdx.x  # AB


@racy(3, T, lambda: [numbers(3 * T), zeros(1)], error=cuda.GlobalMemoryRace, advice="cuda.atomic")
@cuda.jit
def sum_without_atomics(a, out):
    out[0] += a[cuda.grid(1)]  # AB


@racy(
    4,
    T,
    lambda: [zeros(4 * T), zeros(4 * T)],
    error=cuda.GlobalMemoryRace,
    advice="split the kernel in two",
)
@cuda.jit
def syncthreads_between_two_blocks(work, out):
    i = cuda.grid(1)
    work[i] = i + 1  # A
    cuda.syncthreads()
    out[i] = work[(i + 1) % work.size]  # B


@racy(
    4,
    32,
    lambda: [zeros(1, dtype=i4), zeros(4, dtype=i4)],
    error=cuda.GlobalMemoryRace,
    advice="make the plain access atomic too",
)
@cuda.jit
def counter_read_while_others_add(count, out):
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(count, 0, 1)  # A
        out[cuda.blockIdx.x] = count[0]  # B


@racy(
    4,
    32,
    lambda: [zeros(4), zeros(1, dtype=i4), zeros(1)],
    error=cuda.GlobalMemoryRace,
    advice="call cuda.threadfence() before the atomic operation",
    shows=False,  # only a GPU's memory shows stores in another order
)
@cuda.jit
def last_block_without_fence(part, count, out):
    if cuda.threadIdx.x == 0:
        part[cuda.blockIdx.x] = cuda.blockIdx.x  # A
        if cuda.atomic.add(count, 0, 1) == 3:
            out[0] = part[0] + part[1] + part[2] + part[3]  # B


def overlapping():
    array = cuda.to_device(numbers(257))
    return [array[:-1], array[1:]]


@racy(2, 128, overlapping, error=cuda.GlobalMemoryRace, advice="another array")
@cuda.jit
def two_views_of_one_array(a, out):
    i = cuda.grid(1)
    out[i] = a[i] + 1  # AB


@racy(
    1,
    T,
    lambda: [numbers(T), zeros(T), zeros(T)],
    error=cuda.GlobalMemoryRace,
    advice="put cuda.syncthreads() between line",
)
@cuda.jit
def global_memory_within_a_block(a, work, out):
    t = cuda.threadIdx.x
    work[t] = a[t]  # A
    out[t] = work[T - 1 - t]  # B


# --- kernels that are right -------------------------------------------------------------------


@correct((2, 2), (16, 16), lambda: [numbers(32, 32), zeros(32, 32)])
@cuda.jit
def transpose(a, out):
    tile = cuda.shared.array((16, 16), f4)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    tile[ty, tx] = a[y, x]
    cuda.syncthreads()
    out[cuda.blockIdx.x * 16 + ty, cuda.blockIdx.y * 16 + tx] = tile[tx, ty]


@correct(2, 256, lambda: [numbers(512), zeros(2)])
@cuda.jit
def tree(a, out):
    s = cuda.shared.array(256, f4)
    t = cuda.threadIdx.x
    s[t] = a[cuda.grid(1)]
    step = 128
    while step > 0:
        cuda.syncthreads()
        if t < step:
            s[t] += s[t + step]
        step //= 2
    if t == 0:  # thread 0 wrote it itself
        out[cuda.blockIdx.x] = s[0]


@correct((2, 2), (16, 16), lambda: [numbers(32, 32), numbers(32, 32), zeros(32, 32)])
@cuda.jit
def matmul(a, b, out):
    sa = cuda.shared.array((16, 16), f4)
    sb = cuda.shared.array((16, 16), f4)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = f4(0)
    for k in range(2):
        sa[ty, tx] = a[y, tx + k * 16]
        sb[ty, tx] = b[ty + k * 16, x]
        cuda.syncthreads()
        for j in range(16):
            total += sa[ty, j] * sb[j, tx]
        cuda.syncthreads()
    out[y, x] = total


@correct(1, T, lambda: [numbers(8, T), zeros(8, T)])
@cuda.jit
def double_buffer(a, out):
    s = cuda.shared.array((2, T), f4)
    t = cuda.threadIdx.x
    for k in range(8):
        s[k % 2, t] = a[k, t]
        cuda.syncthreads()  # one barrier a round is enough: the next round writes the other half
        out[k, t] = s[k % 2, T - 1 - t]


@correct(1, 128, lambda: [numbers(128), zeros(128)])
@cuda.jit
def scan_with_two_barriers(a, out):
    s = cuda.shared.array(128, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]
    cuda.syncthreads()
    step = 1
    while step < 128:
        left = f4(0)
        if t >= step:
            left = s[t - step]
        cuda.syncthreads()
        s[t] += left
        cuda.syncthreads()
        step *= 2
    out[t] = s[t]


@correct(2, T, lambda: [numbers(2 * T), zeros(4)])
@cuda.jit
def warp_with_syncwarp(a, out):
    s = cuda.shared.array(T, f4)
    t = cuda.threadIdx.x
    lane, warp = t % 32, t // 32
    s[t] = a[cuda.grid(1)]
    cuda.syncwarp()
    step = 16
    while step > 0:
        if lane < step:
            s[t] += s[t + step]
        cuda.syncwarp()
        step //= 2
    if lane == 0:
        out[cuda.blockIdx.x * 2 + warp] = s[t]


@correct(1, 32, lambda: [numbers(32), zeros(32)])
@cuda.jit
def half_warps(a, out):
    s = cuda.shared.array(32, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]
    if t < 16:
        cuda.syncwarp(0xFFFF)
        out[t] = s[15 - t]
    else:
        cuda.syncwarp(0xFFFF0000)
        out[t] = s[47 - t]


@correct(4, T, lambda: [numbers(4 * T) % 10, zeros(10, dtype=i4)])
@cuda.jit
def histogram(a, out):
    cuda.atomic.add(out, int(a[cuda.grid(1)]), 1)


@correct(4, T, lambda: [numbers(4 * T) % 10, zeros(10, dtype=i4)])
@cuda.jit
def histogram_in_shared_memory(a, out):
    bins = cuda.shared.array(10, i4)
    t = cuda.threadIdx.x
    if t < 10:
        bins[t] = 0
    cuda.syncthreads()
    cuda.atomic.add(bins, int(a[cuda.grid(1)]), 1)
    cuda.syncthreads()
    if t < 10:
        cuda.atomic.add(out, t, bins[t])


@correct(4, T, lambda: [numbers(4 * T), zeros(4), zeros(1, dtype=i4), zeros(1)])
@cuda.jit
def last_block(a, part, count, out):
    """The CUDA samples' threadFenceReduction."""
    s = cuda.shared.array(T, f4)
    last = cuda.shared.array(1, i4)
    t = cuda.threadIdx.x
    s[t] = a[cuda.grid(1)]
    cuda.syncthreads()
    if t == 0:
        total = f4(0)
        for k in range(T):
            total += s[k]
        part[cuda.blockIdx.x] = total
        cuda.threadfence()
        last[0] = cuda.atomic.add(count, 0, 1) == cuda.gridDim.x - 1
    cuda.syncthreads()
    if last[0]:
        s[t] = 0
        if t < cuda.gridDim.x:
            s[t] = part[t]
        cuda.syncthreads()
        if t == 0:
            out[0] = s[0] + s[1] + s[2] + s[3]


@correct(3, T, lambda: [numbers(3 * T), zeros(3 * T)])
@cuda.jit
def grid_sync(work, out):
    i = cuda.grid(1)
    work[i] = i * 2
    cuda.cg.this_grid().sync()
    out[i] = work[work.size - 1 - i]


@correct(4, T, lambda: [numbers(4 * T), zeros(4 * T)])
@cuda.jit
def read_after_own_write(a, out):
    i = cuda.grid(1)
    out[i] = a[i]
    out[i] = out[i] + 1
    out[i] *= 2


@correct(4, T, lambda: [numbers(8), zeros(4 * T)])
@cuda.jit
def all_read_one_element(a, out):
    out[cuda.grid(1)] = a[0] + a[cuda.blockIdx.x]


@correct(2, 256, lambda: [numbers(512), zeros(2)])
@cuda.jit
def reduction_with_shuffles(a, out):
    s = cuda.shared.array(8, f4)
    t = cuda.threadIdx.x
    x = a[cuda.grid(1)]
    for k in range(5):
        x += cuda.shfl_down_sync(0xFFFFFFFF, x, 16 >> k)
    if t % 32 == 0:
        s[t // 32] = x
    cuda.syncthreads()
    if t == 0:
        total = f4(0)
        for k in range(8):
            total += s[k]
        out[cuda.blockIdx.x] = total


@correct(2, 100, lambda: [numbers(150), zeros(2)])
@cuda.jit
def some_return_before_a_barrier(a, out):
    s = cuda.shared.array(100, f4)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    s[t] = 0
    if i >= a.size:
        return
    s[t] = a[i]
    cuda.syncthreads()
    if t == 0:
        total = f4(0)
        for k in range(100):
            total += s[k]
        out[cuda.blockIdx.x] = total


@correct(1, T, lambda: [zeros(T, dtype=np.uint8)])
@cuda.jit
def neighbouring_bytes(out):
    s = cuda.shared.array(T, np.uint8)
    t = cuda.threadIdx.x
    s[t] = t
    out[t] = s[t]


PAIR = np.dtype([("x", f4), ("y", f4)])


@correct(1, T, lambda: [zeros(T // 2, dtype=PAIR)])
@cuda.jit
def two_fields_of_one_record(out):
    t = cuda.threadIdx.x
    if t % 2:
        out[t // 2].x = t
    else:
        out[t // 2].y = t


@correct(6, 32, lambda: [zeros(1, dtype=i4), zeros(1)])
@cuda.jit
def lock_between_blocks(lock, out):
    if cuda.threadIdx.x == 0:
        done = False
        while not done:
            if cuda.atomic.cas(lock, 0, 0, 1) == 0:
                out[0] += cuda.blockIdx.x
                cuda.threadfence()
                cuda.atomic.exch(lock, 0, 0)
                done = True


@correct(1, 96, lambda: [numbers(96), zeros(96)])
@cuda.jit
def barrier_in_a_function_and_a_loop(a, out):
    s = cuda.shared.array(96, f4)
    t = cuda.threadIdx.x
    s[t] = a[t]
    for _ in range(3):
        s[t] = swapped(s, t)
    out[t] = s[t]


@cuda.jit(device=True)
def swapped(row, t):
    cuda.syncthreads()
    x = row[row.shape[0] - 1 - t]
    cuda.syncthreads()
    return x


@correct(2, 128, lambda: [numbers(256), zeros(256, dtype=i4)])
@cuda.jit
def barriers_that_count(a, out):
    s = cuda.shared.array(128, f4)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    s[t] = a[i]
    n = cuda.syncthreads_count(int(a[i] > 50))
    out[i] = n + (s[127 - t] > 50)
    if cuda.syncthreads_or(int(a[i] > 98)):
        s[127 - t] = 1
    if cuda.syncthreads_and(int(a[i] > 0)):
        out[i] += s[t] > 0
