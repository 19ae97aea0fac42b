"""`schedule="adversarial"`: correct kernels do not mind any order, racy ones soon show it."""

import threading

import checked_kernels as kernels
import numpy as np
import pytest
from fuzz import campaign, generator

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.kernels import histogram, reduction, transpose

SEEDS = range(4)
SHOWN = [case for case in kernels.RACY if case.shows and case.grid != 2048]


def adversarial(seed, raise_=False):
    return cuda.check(raise_=raise_, schedule="adversarial", seed=seed)


@pytest.mark.parametrize("case", kernels.CORRECT, ids=lambda case: case.name)
def test_a_correct_kernel_gives_one_result(case):
    expected = case.launch()
    for seed in SEEDS:
        with adversarial(seed, raise_=True):
            np.testing.assert_array_equal(case.launch(), expected)


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.name)
def test_a_race_shows_as_a_wrong_result(case):
    """Wrong is: not what the threads compute when they all advance together."""
    together = case.launch()
    wrong = 0
    for seed in SEEDS:
        with adversarial(seed) as c:
            wrong += not np.array_equal(case.launch(), together)
        assert any({*f.lines} & {*case.lines} for f in c.findings if isinstance(f, cuda.Race))
    assert wrong >= 3


@cuda.jit
def note_order(order, count):
    if cuda.threadIdx.x % 32 == 0:
        place = cuda.atomic.add(count, 0, 1)
        order[place] = cuda.grid(1) // 32


def order_of(seed, blocks, threads):
    order = np.full(blocks * threads // 32, -1)
    with adversarial(seed, raise_=True):
        note_order[blocks, threads](order, np.zeros(1, np.int32))
    return order.tolist()


def test_warps_and_blocks_come_in_an_order_that_the_seed_decides():
    warps = [order_of(seed, 1, 256) for seed in range(6)]
    blocks = [order_of(seed, 8, 32) for seed in range(6)]
    for orders in (warps, blocks):
        assert all(sorted(order) == list(range(8)) for order in orders)
        assert len({tuple(order) for order in orders}) >= 5
    assert order_of(3, 1, 256) == warps[3]
    assert order_of(3, 8, 32) == blocks[3]


@cuda.jit
def turns(log, count):
    """Each warp notes its number, before and after a barrier."""
    first = cuda.threadIdx.x % 32 == 0
    if first:
        log[cuda.atomic.add(count, 0, 1)] = cuda.threadIdx.x // 32
    cuda.syncthreads()
    if first:
        log[cuda.atomic.add(count, 0, 1)] = 10 + cuda.threadIdx.x // 32


def test_a_barrier_holds_every_warp_back():
    for seed in SEEDS:
        log = np.zeros(8, np.int64)
        with adversarial(seed, raise_=True):
            turns[1, 128](log, np.zeros(1, np.int32))
        assert sorted(log[:4]) == [0, 1, 2, 3]
        assert sorted(log[4:]) == [10, 11, 12, 13]


@cuda.jit
def barriers_of_two_branches(out):
    if cuda.threadIdx.x < 32:
        cuda.syncthreads()
    else:
        cuda.syncthreads()
    cuda.syncthreads()
    out[cuda.threadIdx.x] = 1


@cuda.jit
def fails_in_one_warp(out):
    s = cuda.shared.array(256, np.float32)
    s[cuda.threadIdx.x] = 1
    cuda.syncthreads()
    out[cuda.grid(1)] = s[0]


@pytest.mark.parametrize("kernel", [barriers_of_two_branches])
def test_a_divergent_barrier_is_found_in_any_order(kernel):
    for seed in SEEDS:
        with pytest.raises(cuda.DivergentBarrier), adversarial(seed, raise_=True):
            kernel[1, 64](np.zeros(64))


def test_no_thread_is_left_behind_when_a_warp_fails():
    before = threading.active_count()
    for seed in SEEDS:
        with adversarial(seed) as c:
            fails_in_one_warp[2, 256](np.zeros(400))
        assert [type(f) for f in c.findings] == [cuda.OutOfBounds]
        assert "fails_in_one_warp" in str(c.findings[0].place)
    assert threading.active_count() == before


@cuda.jit
def work_between_grid_barriers(a, out):
    """Block 0 has a barrier of its own before all blocks meet."""
    s = cuda.shared.array(64, np.float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    grid = cuda.cg.this_grid()
    if cuda.blockIdx.x == 0:
        s[t] = a[i]
        cuda.syncthreads()
        a[i] = s[63 - t]
    grid.sync()
    out[i] = a[a.size - 1 - i]


def test_blocks_that_wait_for_each_other():
    a = np.arange(192, dtype=np.float32)
    expected = np.concatenate([a[:64][::-1], a[64:]])[::-1]
    for seed in SEEDS:
        out = np.zeros(192, np.float32)
        with adversarial(seed, raise_=True):
            work_between_grid_barriers[3, 64](a.copy(), out)
        np.testing.assert_array_equal(out, expected)


INTEGERS = np.arange(300) % 10
OF_THE_COURSE = {
    "transpose": (transpose.transpose_padded, (2, 2), (32, 32), (40, 40)),
    "tree": (reduction.block_sums_tree, 3, reduction.THREADS, 3),
    "shuffle": (reduction.block_sums_shuffle, 3, reduction.THREADS, 3),
    "histogram": (histogram.histogram_shared, 2, 128, 256),
}


@pytest.mark.parametrize("name", OF_THE_COURSE)
def test_the_courses_kernels_do_not_mind_any_order(name):
    kernel, grid, block, size = OF_THE_COURSE[name]
    integers = name == "histogram"
    source = INTEGERS if integers else np.arange(1600, dtype=np.float32)
    source = source.reshape(size) if name == "transpose" else source

    def result():
        out = np.zeros(size, np.int32 if integers else np.float32)
        kernel[grid, block](source, out)
        return out

    expected = result()
    assert expected.any()
    for seed in SEEDS:
        with adversarial(seed, raise_=True):
            np.testing.assert_array_equal(result(), expected)


def test_random_kernels_are_not_accused_and_do_not_mind_any_order():
    """Kernels of `fuzz/generator.py` are correct: see there."""
    ran = 0
    for seed in range(12):
        program = generator.program(seed)
        try:
            expected = campaign.emulated(program)
        except cuda.EmulatorError:  # a few use what no kernel can
            continue
        for checked in (cuda.check(raise_=False), adversarial(seed)):
            with checked as c:
                assert not campaign.difference(campaign.emulated(program), expected)
            # they count from the end on purpose, and are told of nothing else
            assert {type(f) for f in c.findings} <= {cuda.NegativeIndex}, c
        ran += 1
    assert ran > 8


def test_counters_are_the_same_in_any_order():
    case = next(case for case in kernels.CORRECT if case.name == "matmul")
    with cuda.profile() as together:
        case.launch()
    with cuda.profile() as apart, adversarial(1, raise_=True):
        case.launch()
    names = ("load_requests", "load_sectors", "store_requests", "store_sectors")
    for name in [f"global_{n}" for n in names] + ["thread_instructions", "branches", "flops"]:
        assert getattr(apart.report, name) == getattr(together.report, name) > 0, name


def test_an_unknown_schedule_is_refused():
    with pytest.raises(cuda.LaunchError, match="no schedule 'random'"):
        cuda.check(schedule="random")
