"""Atomics, operations by precision, local memory, branches: textbook cases worked out by hand."""

import math

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

N = 1024  # threads of most cases: 4 blocks of 256, 32 warps


def profiled(kernel, grid, block, *args):
    with cuda.profile() as p:
        kernel[grid, block](*args)
    return p.report


def zeros(n, dtype="f4"):
    return cuda.to_device(np.zeros(n, dtype))


# --- atomics ----------------------------------------------------------------------------------


@cuda.jit
def count_modulo(out, m):
    i = cuda.grid(1)
    cuda.atomic.add(out, i % m, 1)


@pytest.mark.parametrize(
    ("m", "turns", "sectors"),
    [
        # all 32 lanes on one element: 32 turns, one sector
        (1, 32, 1),
        # two elements, 16 lanes on each
        (2, 16, 1),
        # 8 elements of 4 bytes are one sector, 4 lanes on each
        (8, 4, 1),
        # 16 elements: two sectors, 2 lanes on each
        (16, 2, 2),
        # one element each, side by side: 128 bytes
        (32, 1, 4),
        (1024, 1, 4),
    ],
)
def test_atomics_on_fewer_and_fewer_elements(m, turns, sectors):
    out = zeros(N, "i4")
    r = profiled(count_modulo, 4, 256, out, m)
    assert out.copy_to_host()[:m].tolist() == [N // m] * m
    assert (r.atomic_requests, r.global_atomic_requests, r.shared_atomic_requests) == (32, 32, 0)
    assert (r.global_atomic_turns, r.turns_per_atomic) == (32 * turns, turns)
    assert r.global_atomic_sectors == 32 * sectors
    # they are no loads and no stores
    assert (r.global_load_requests, r.global_store_requests) == (0, 0)


def test_atomics_of_a_partial_warp_and_a_branch():
    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        if i % 2 == 0:
            cuda.atomic.add(out, 0, 1)

    # 40 threads: 16 even lanes in warp 0, 4 in warp 1
    r = profiled(kernel, 1, 40, zeros(1, "i4"))
    assert (r.atomic_requests, r.atomic_turns) == (2, 20)


def test_a_histogram_in_shared_memory_and_then_in_global():
    @cuda.jit
    def histogram(data, bins):
        mine = cuda.shared.array(8, np.int32)
        t = cuda.threadIdx.x
        if t < 8:
            mine[t] = 0
        cuda.syncthreads()
        cuda.atomic.add(mine, data[cuda.grid(1)], 1)
        cuda.syncthreads()
        if t < 8:
            cuda.atomic.add(bins, t, mine[t])

    data, bins = cuda.to_device(np.arange(N, dtype=np.int32) % 8), zeros(8, "i4")
    r = profiled(histogram, 4, 256, data, bins)
    assert bins.copy_to_host().tolist() == [128] * 8
    # each warp has 4 lanes for each of 8 bins; one warp of each block adds 8 sums, one a lane
    assert (r.shared_atomic_requests, r.shared_atomic_turns) == (32, 32 * 4)
    assert (r.global_atomic_requests, r.global_atomic_turns) == (4, 4)
    assert r.atomic_requests == 36
    # the load and the store of `mine` are requests of their own: one warp of each block
    assert (r.shared_store_requests, r.shared_load_requests) == (4, 4)
    assert r.metrics["smsp__inst_executed_op_shared_atom.sum"] == 32


def test_an_atomic_whose_old_value_is_read_is_no_reduction():
    @cuda.jit
    def kernel(out, old, f):
        i = cuda.grid(1)
        cuda.atomic.add(out, i, 1)  # a reduction: nothing comes back
        old[i] = cuda.atomic.add(out, i, 1)  # returns
        cuda.atomic.exch(out, i, 1)  # an exchange returns always
        cuda.atomic.cas(out, i, 1, 2)
        cuda.atomic.add(f, i, np.float32(1))  # a reduction, too
        cuda.atomic.max(f, i, np.float32(1))  # on floats a loop of compare-and-swap
        cuda.atomic.max(out, i, 1)

    r = profiled(kernel, 4, 256, zeros(N, "i4"), zeros(N, "i4"), zeros(N))
    assert r.global_atomic_requests == 7 * 32
    assert r.metrics["l1tex__t_requests_pipe_lsu_mem_global_op_red.sum"] == 3 * 32
    assert r.metrics["l1tex__t_requests_pipe_lsu_mem_global_op_atom.sum"] == 4 * 32


def test_reductions_in_shared_memory_are_not_among_the_global_ones():
    @cuda.jit
    def kernel(out):
        s = cuda.shared.array(1, np.int32)
        s[0] = 0
        cuda.syncthreads()
        cuda.atomic.add(s, 0, 1)
        cuda.syncthreads()
        out[0] = s[0]

    r = profiled(kernel, 1, 64, zeros(1, "i4"))
    assert (r.global_reduction_requests, r.shared_atomic_requests) == (0, 2)
    assert r.shared_atomic_turns == 64


# --- operations -------------------------------------------------------------------------------


@cuda.jit
def axpy(a, x, y, out):
    i = cuda.grid(1)
    out[i] = a * x[i] + y[i]


@pytest.mark.parametrize(
    ("dtype", "letter", "add", "mul"),
    [
        ("f2", "h", 1, 1),
        ("f4", "f", 1, 1),
        ("f8", "d", 1, 1),
        # a complex product is four real ones, a sum and a difference; a complex sum two sums
        ("c8", "f", 4, 4),
        ("c16", "d", 4, 4),
        ("i4", "f", 0, 0),
    ],
)
def test_a_sum_and_a_product_of_each_type(dtype, letter, add, mul):
    scalar = np.dtype(dtype).type(2)
    r = profiled(axpy, 4, 256, scalar, zeros(N, dtype), zeros(N, dtype), zeros(N, dtype))
    name = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum".format
    assert r.metrics[name(f"{letter}add")] == N * add
    assert r.metrics[name(f"{letter}mul")] == N * mul
    assert r.metrics[name(f"{letter}fma")] == 0
    assert r.flops == N * (add + mul)
    precision = {"h": "fp16", "f": "fp32", "d": "fp64"}[letter]
    assert r.flops_by_dtype == {"fp16": 0, "fp32": 0, "fp64": 0} | {precision: N * (add + mul)}


def test_a_literal_makes_it_double():
    @cuda.jit
    def kernel(x, out):
        i = cuda.grid(1)
        out[i] = x[i] * 0.1

    # 0.1 is a float64, and so is the product: the classic way to run at 1/64 of the speed
    r = profiled(kernel, 4, 256, zeros(N), zeros(N))
    assert (r.fp64_mul, r.fp32_mul) == (N, 0)


def test_an_fma_is_one_instruction_and_two_operations():
    @cuda.jit
    def kernel(a, x, y, out):
        i = cuda.grid(1)
        out[i] = cuda.fma(a, x[i], y[i])

    for dtype, field in (("f4", "fp32_fma"), ("f8", "fp64_fma")):
        scalar = np.dtype(dtype).type(2)
        r = profiled(kernel, 4, 256, scalar, zeros(N, dtype), zeros(N, dtype), zeros(N, dtype))
        assert (getattr(r, field), r.flops) == (N, 2 * N)


def test_half_precision_by_name():
    @cuda.jit
    def kernel(x, out):
        i = cuda.grid(1)
        total = cuda.fp16.hadd(x[i], x[i])
        total = cuda.fp16.hfma(total, x[i], cuda.fp16.hmul(total, total))
        out[i] = cuda.fp16.hsub(total, cuda.fp16.hneg(x[i]))

    r = profiled(kernel, 4, 256, zeros(N, "f2"), zeros(N, "f2"))
    assert (r.fp16_add, r.fp16_mul, r.fp16_fma) == (2 * N, N, N)
    assert r.flops_by_dtype == {"fp16": 5 * N, "fp32": 0, "fp64": 0}


def test_divisions_and_square_roots_are_kept_apart():
    @cuda.jit
    def kernel(x, out):
        i = cuda.grid(1)
        out[i] = math.sqrt(x[i]) / x[i] - np.float32(1)

    r = profiled(kernel, 4, 256, cuda.to_device(np.ones(N, "f4")), zeros(N))
    assert (r.divisions, r.square_roots, r.fp32_add, r.flops) == (N, N, N, N)


def test_only_the_lanes_that_compute_count():
    @cuda.jit
    def kernel(x, out):
        i = cuda.grid(1)
        if i % 4 == 0:
            out[i] = x[i] + x[i]
            out[i] += x[i] * x[i]

    r = profiled(kernel, 4, 256, zeros(N), zeros(N))
    assert (r.fp32_add, r.fp32_mul) == (2 * N // 4, N // 4)


def test_integers_are_no_floating_point_operations():
    @cuda.jit
    def kernel(x, out):
        i = cuda.grid(1)
        out[i] = x[i] * 3 + i - x[i] // 2

    assert profiled(kernel, 4, 256, zeros(N, "i4"), zeros(N, "i4")).flops == 0


def test_a_product_of_matrices():
    @cuda.jit
    def product(a, b, out):
        x, y = cuda.grid(2)
        total = np.float32(0)
        for k in range(a.shape[1]):
            total += a[y, k] * b[k, x]
        out[y, x] = total

    n = 32
    a, b, out = (cuda.to_device(np.zeros((n, n), "f4")) for _ in range(3))
    r = profiled(product, (2, 2), (16, 16), a, b, out)
    # 2 n^3; each matrix reaches DRAM once: 3 x 4 n^2 bytes; so n / 6 operations a byte
    assert (r.fp32_add, r.fp32_mul, r.flops) == (n**3, n**3, 2 * n**3)
    assert r.dram_bytes == 3 * 4 * n * n
    assert r.arithmetic_intensity == pytest.approx(n / 6)


# --- local memory -----------------------------------------------------------------------------


def test_a_local_array_is_local_memory():
    @cuda.jit
    def kernel(out):
        mine = cuda.local.array(4, np.float32)
        i = cuda.grid(1)
        for k in range(4):
            mine[k] = i
        out[i] = mine[i % 4]

    # 32 warps store 4 times and load once; nothing of it is global
    r = profiled(kernel, 4, 256, zeros(N))
    assert (r.local_store_requests, r.local_load_requests) == (128, 32)
    assert (r.global_load_requests, r.global_store_requests) == (0, 32)
    assert r.metrics["l1tex__t_requests_pipe_lsu_mem_local_op_st.sum"] == 128


# --- branches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "divergent"),
    [
        # lanes alternate: each warp splits
        (2, 32),
        (16, 32),
        # whole warps alternate: none does
        (64, 0),
        # 48 threads one way, 48 the other: of the three warps of each 96 the middle one splits;
        # 1024 = 10 x 96 + 64: 10 of 30, then a warp that stays together and one that splits
        (96, 11),
    ],
)
def test_branch_efficiency(period, divergent):
    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        if i % period < period // 2:
            out[i] = 1
        else:
            out[i] = 2

    r = profiled(kernel, 1, N, zeros(N))
    assert (r.branches, r.divergent_branches) == (32, divergent)
    assert r.branch_efficiency == pytest.approx(100 * (1 - divergent / 32))
    name = "smsp__sass_average_branch_targets_threads_uniform.pct"
    assert r.metrics[name] == r.branch_efficiency


def test_active_lanes_of_a_branch_that_half_take():
    @cuda.jit
    def kernel(x, out):
        i = cuda.grid(1)
        if i % 2 == 0:
            out[i] = x[i] + x[i] + x[i] + x[i]

    r = profiled(kernel, 4, 256, zeros(N), zeros(N))
    inside = next(c for c in r.lines.values() if c.global_store_requests)
    assert inside.lanes_per_instruction == 16
    assert 16 < r.lanes_per_instruction < 32
    assert r.metrics["smsp__thread_inst_executed_per_inst_executed.ratio"] == (
        r.thread_instructions / r.warp_instructions
    )


# --- shuffles ---------------------------------------------------------------------------------


@cuda.jit
def sum_within_warps(out):
    value = cuda.threadIdx.x
    step = 16
    while step > 0:
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
        step //= 2
    if cuda.threadIdx.x < 32:
        value = cuda.shfl_sync(0xFFFFFFFF, value, 0)
    out[cuda.grid(1)] = value


def test_a_shuffle_counts_once_for_each_warp_that_comes():
    """8 warps in 4 blocks: five steps each, and one more in the first warp of a block."""
    r = profiled(sum_within_warps, 4, 64, zeros(256, "i8"))
    assert r.shuffles == 8 * 5 + 4
    assert "shuffles" in str(r) and "shuffles" not in str(
        profiled(count_modulo, 1, 32, zeros(1, "i4"), 1)
    )
