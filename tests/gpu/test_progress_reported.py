"""Situations that users of GPUs have reported: locks, waits and wrong calls that hang elsewhere."""

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda


def orders():
    """All together, and in two random orders."""
    yield lambda: cuda.check(raise_=False)
    for seed in (0, 1):
        yield lambda seed=seed: cuda.check(raise_=False, schedule="adversarial", seed=seed)


@cuda.jit
def insert_sorted(start, following, lists):
    """Thread i goes into list i % lists, sorted: kokkos/kokkos#6832. -1: not inserted yet."""
    i = cuda.grid(1)
    which = i % lists
    j = cuda.atomic.min(start, which, i)
    if i < j:
        cuda.atomic.exch(following, i, j)
    else:
        done = False
        while not done:
            after = cuda.atomic.max(following, j, -1)
            while after == -1:  # whoever took j's place has not stored what follows it
                after = cuda.atomic.max(following, j, -1)
            if after > i:
                cuda.atomic.exch(following, i, after)
                if cuda.atomic.cas(following, j, after, i) == after:
                    done = True
            else:
                j = after


def test_lists_into_which_all_threads_insert():
    threads, lists, end = 64, 3, 10_000
    for checked in orders():
        start, following = np.full(lists, end), np.full(threads, -1)
        with checked() as c:
            insert_sorted[1, threads](start, following, lists)
        assert c.findings == [], c
        for which in range(lists):
            found, at = [], int(start[which])
            while at != end:
                found.append(at)
                at = int(following[at])
            assert found == list(range(which, threads, lists))


@cuda.jit
def lock_by_or(lock, total):
    """kokkos/kokkos#4377: the lock is a bit that is or-ed in."""
    while cuda.atomic.or_(lock, 0, 1) & 1:
        pass
    total[0] += 1
    cuda.threadfence()
    cuda.atomic.exch(lock, 0, 0)


@cuda.jit
def lock_of_each_pixel(locks, image, values):
    """holoviz/datashader#1211: a mutex for each pixel, the largest value under it."""
    i = cuda.grid(1)
    pixel = i % image.size
    while cuda.atomic.cas(locks, pixel, 0, 1) != 0:
        pass
    if values[i] > image[pixel]:
        image[pixel] = values[i]
    cuda.threadfence()
    cuda.atomic.exch(locks, pixel, 0)


def test_a_lock_by_or_for_every_thread():
    for checked in orders():
        total = np.zeros(1)
        with checked() as c:
            lock_by_or[2, 48](np.zeros(1, np.int32), total)
        assert total[0] == 96 and c.findings == [], c


def test_a_mutex_of_each_pixel():
    values = np.random.default_rng(0).permutation(192).astype(np.float32)
    expected = values.reshape(-1, 6).max(axis=0)
    for checked in orders():
        image = np.full(6, -1, np.float32)
        with checked() as c:
            lock_of_each_pixel[3, 64](np.zeros(6, np.int32), image, values)
        np.testing.assert_array_equal(image, expected)
        assert c.findings == [], c


@cuda.jit
def continues_before_the_barrier(rounds, out):
    """numba/numba#9770: one thread continues, the others go on, and all come to the test."""
    again = True
    n = 0
    while cuda.syncthreads_or(int(again)):
        again = False
        n += 1
        if cuda.threadIdx.x == 0:
            again = n < rounds
            continue
        out[cuda.grid(1)] += 1
    out[cuda.grid(1)] += n


def test_continue_in_a_loop_that_a_barrier_decides():
    for checked in orders():
        out = np.zeros(128, np.int64)
        with checked() as c:
            continues_before_the_barrier[2, 64](5, out)
        assert c.findings == [], c
        np.testing.assert_array_equal(out.reshape(2, 64)[:, 1:], 10)
        np.testing.assert_array_equal(out.reshape(2, 64)[:, 0], 5)


def test_an_error_before_a_barrier_leaves_nobody_waiting():
    """numba/numba#3063: half of the threads fail, the others stand at the barrier."""
    import threading

    @cuda.jit
    def assign_then_meet(x, y):
        i = cuda.grid(1)
        y[i] = x[i]
        cuda.syncthreads()

    before = threading.active_count()
    for checked in orders():
        with checked() as c:
            assign_then_meet[1, 128](np.arange(64), np.zeros(128))
        assert [type(f) for f in c.findings] == [cuda.OutOfBounds]
        assert threading.active_count() == before


@cuda.jit
def get_or_insert(keys, values, ready, wanted, out):
    """NVIDIA-Merlin/HugeCTR#402: who claims the slot writes it, lanes of its warp wait for that."""
    i = cuda.grid(1)
    key = wanted[i]
    slot = key % keys.size
    while True:
        old = cuda.atomic.cas(keys, slot, -1, key)
        if old == -1:
            values[slot] = 10 * key
            cuda.threadfence()
            cuda.atomic.exch(ready, slot, 1)
            out[i] = 10 * key
            break
        if old == key:
            while cuda.atomic.add(ready, slot, 0) == 0:
                pass
            out[i] = values[slot]
            break
        slot = (slot + 1) % keys.size


def test_a_hash_table_whose_lanes_wait_for_each_other():
    wanted = np.random.default_rng(1).integers(0, 40, 128)
    for checked in orders():
        out = np.zeros(128, np.int64)
        tables = np.full(61, -1), np.zeros(61, np.int64), np.zeros(61, np.int32)
        with checked() as c:
            get_or_insert[2, 64](*tables, wanted, out)
        np.testing.assert_array_equal(out, 10 * wanted)
        assert c.findings == [], c


@cuda.jit
def barrier_under_a_lock(lock, out):
    """xlite-dev/LeetCUDA#391, with threads in place of a whole block: the winner waits for those
    who wait for it."""
    while cuda.atomic.cas(lock, 0, 0, 1) != 0:
        pass
    cuda.syncthreads()
    out[cuda.grid(1)] = 1
    cuda.atomic.exch(lock, 0, 0)


@pytest.mark.parametrize("block", [32, 96])
def test_a_barrier_under_a_lock_is_told(block):
    for checked in orders():
        with checked() as c:
            barrier_under_a_lock[1, block](np.zeros(1, np.int32), np.zeros(block))
        (error,) = c.findings
        assert isinstance(error, cuda.Deadlock)
        assert "lock[0] is 1" in error.why and "waits at syncthreads()" in error.why


@cuda.jit
def published(sums, flags, out, fenced):
    """JuliaGPU/AcceleratedKernels.jl#98: is the sum there when its flag is?"""
    if cuda.threadIdx.x == 0:
        b = cuda.blockIdx.x
        before = 0
        if b > 0:
            while cuda.atomic.add(flags, b - 1, 0) == 0:
                pass
            before = sums[b - 1]
        sums[b] = before + b
        if fenced:
            cuda.threadfence()
        cuda.atomic.exch(flags, b, 1)
        out[b] = sums[b]


@pytest.mark.parametrize("fenced", [True, False])
def test_a_flag_without_a_fence_is_a_race(fenced):
    for checked in orders():
        out = np.zeros(8, np.int64)
        with checked() as c:
            published[8, 32](np.zeros(8, np.int64), np.zeros(8, np.int32), out, fenced)
        np.testing.assert_array_equal(out, np.cumsum(np.arange(8)))
        races = [f for f in c.findings if isinstance(f, cuda.GlobalMemoryRace)]
        assert bool(races) is not fenced, c
        assert len(races) == len(c.findings)


@cuda.jit
def looks_back_by_warps(flags, out, wrong):
    """llnl/RAJAPerf#521: a warp looks at 32 flags at once, and waits until all are there."""
    lane, b = cuda.threadIdx.x, cuda.blockIdx.x
    ready = np.int32(0)  # as wide as a ballot: in an int64 its sign would count as 32 lanes more
    while cuda.popc(ready) < 32 + wrong:
        there = lane >= b or cuda.atomic.add(flags, lane, 0) != 0
        ready = cuda.ballot_sync(0xFFFFFFFF, there)
    out[b] = b + 1
    cuda.threadfence()
    cuda.syncwarp()
    if lane == 0:
        cuda.atomic.exch(flags, b, 1)


def test_a_warp_that_looks_back_over_all_blocks():
    for checked in orders():
        out = np.zeros(20)
        with checked() as c:
            looks_back_by_warps[20, 32](np.zeros(32, np.int32), out, 0)
        np.testing.assert_array_equal(out, np.arange(20) + 1)
        assert {type(f) for f in c.findings} <= {cuda.GlobalMemoryRace}  # all lanes store out[b]


def test_a_warp_that_waits_for_more_lanes_than_it_has():
    with pytest.raises(cuda.Deadlock) as caught:
        looks_back_by_warps[2, 32](np.zeros(32, np.int32), np.zeros(2), 1)
    assert "threads wait for ever" in caught.value.what


def test_a_negative_index_of_an_atomic_counts_from_the_end_and_is_found():
    """numba/numba#6496."""

    @cuda.jit
    def adds(a):
        cuda.atomic.add(a, cuda.grid(1) - 2, 1)

    a = np.zeros(4)
    adds[1, 4](a)
    np.testing.assert_array_equal(a, [1, 1, 1, 1])
    with cuda.check(raise_=False) as c:
        adds[1, 4](a)
    assert [(f.index, f.times) for f in c.findings] == [(-2, 2)]


def test_the_last_column_by_a_written_index():
    """NVIDIA/numba-cuda-mlir#322."""

    @cuda.jit
    def last_column(matrix, out):
        i = cuda.grid(1)
        if i < matrix.shape[0]:
            out[i] = matrix[i, -1]

    out = np.zeros(4)
    with cuda.check():
        last_column[1, 32](np.arange(12.0).reshape(4, 3), out)
    np.testing.assert_array_equal(out, [2, 5, 8, 11])


def test_a_shared_array_as_wide_as_the_block():
    """numba/numba#4709."""

    @cuda.jit
    def sized_by_the_block(a):
        cache = cuda.shared.array((cuda.blockDim.x, 2), np.int32)
        cache[0, 0] = 1
        a[0] = cache[0, 0]

    with pytest.raises(cuda.UnsupportedFeature) as caught:
        sized_by_the_block[1, 32](np.zeros(1))
    assert "cuda.blockDim.x" in caught.value.what and "number" in caught.value.why


def test_an_array_where_a_number_is_to_be_shuffled():
    """JuliaGPU/CUDA.jl#834."""

    @cuda.jit
    def shuffles_the_array(a):
        a[0] = cuda.shfl_down_sync(0xFFFFFFFF, a, 1)

    with pytest.raises(cuda.UnsupportedFeature) as caught:
        shuffles_the_array[1, 32](np.zeros(32))
    assert "not the array a" in caught.value.what
    assert "cuda.shfl_down_sync(mask, value, delta)" in caught.value.try_
