"""HAMi's limits: memory counted across real processes and threads, kernel launches by tokens."""

from __future__ import annotations

import gc
import select
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.sharing.containers import MIB, Container
from aiinfra_labs.gpu.sharing.core_limit import CoreLimit
from aiinfra_labs.gpu.sharing.memory_limit import MemoryInfo, limited
from aiinfra_labs.gpu.sharing.priority import HIGH, LOW, Watched, observe
from aiinfra_labs.gpu.sharing.shared_region import SLOTS, OutOfMemory, SharedRegion


@pytest.fixture
def region(tmp_path):
    with SharedRegion.create(tmp_path / "container", 64 * MIB) as made:
        yield made
        assert made.used == 0, "something leaked"


# --- the hook -------------------------------------------------------------------------------------


def test_every_allocation_is_counted_and_given_back(region):
    host = np.ones((256, 1024), np.float32)
    with limited(region, cuda):
        arrays = [
            cuda.to_device(host),
            cuda.device_array((3, 5), np.float64),
            cuda.device_array_like(host),
            cuda.managed_array(7, np.int8),
        ]
        assert region.used == host.nbytes + 3 * 5 * 8 + host.nbytes + 7
        assert (arrays[0].copy_to_host() == host).all()
        arrays.clear()
        assert region.used == 0


def test_a_view_keeps_the_memory_and_a_copy_into_an_array_takes_none(region):
    with limited(region, cuda):
        whole = cuda.device_array(1000, np.uint8)
        cuda.to_device(np.ones(1000, np.uint8), to=whole)
        assert cuda.to_device(whole) is whole and region.used == 1000
        part = whole[10:20]
        del whole
        gc.collect()
        assert region.used == 1000
        del part
        assert region.used == 0


def test_exactly_the_limit_is_allowed_and_one_byte_more_is_not(region):
    with limited(region, cuda):
        kept = cuda.device_array(region.limit, np.uint8)
        with pytest.raises(OutOfMemory, match="CUDA_ERROR_OUT_OF_MEMORY: 1 bytes") as error:
            cuda.device_array(1, np.uint8)
        assert error.value.why and error.value.try_
        del kept
        cuda.device_array(1, np.uint8)


def test_what_the_allocator_refuses_is_not_counted(region):
    with limited(region, cuda), pytest.raises(cuda.DeviceMemoryError):
        cuda.to_device(np.array(["2026-11-24"], "M8[D]"))


def test_the_program_is_told_the_limit(region):
    real = cuda.current_context().get_memory_info()
    with limited(region, cuda):
        kept = cuda.device_array(MIB, np.uint8)
        assert cuda.current_context().get_memory_info() == MemoryInfo(63 * MIB, 64 * MIB)
        del kept
    assert cuda.current_context().get_memory_info() == real


def test_a_limit_within_a_device(region, tmp_path):
    with SharedRegion.create(tmp_path / "device", 10 * MIB) as device:
        with limited(device, cuda), limited(region, cuda):
            kept = cuda.device_array(6 * MIB, np.uint8)
            assert (region.used, device.used) == (6 * MIB, 6 * MIB)
            with pytest.raises(OutOfMemory):  # the container may, the device has not
                cuda.device_array(6 * MIB, np.uint8)
            assert (region.used, device.used) == (6 * MIB, 6 * MIB)
            del kept
        assert device.used == 0


def test_outside_the_block_nothing_is_counted(region):
    before = cuda.device_array
    with limited(region, cuda):
        assert cuda.device_array is not before
        escaped = before(MIB, np.uint8)  # a program that holds the driver's own function
        assert region.used == 0
    assert cuda.device_array is before and escaped.size == MIB


def test_kernels_run_under_a_limit(region):
    @cuda.jit
    def add_one(x):
        i = cuda.grid(1)
        if i < x.size:
            x[i] += 1

    with limited(region, cuda):
        x = cuda.to_device(np.arange(100, dtype=np.int32))
        add_one[4, 32](x)
        assert (x.copy_to_host() == np.arange(1, 101)).all()
        del x


# --- the region -----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), max_size=40))
def test_what_is_counted_is_what_a_list_holds(tmp_path_factory, sizes):
    with SharedRegion.create(tmp_path_factory.mktemp("r") / "r", 100) as region:
        held = []
        for size in sizes:
            if sum(held) + size <= 100:
                region.reserve(size)
                held.append(size)
            else:
                with pytest.raises(OutOfMemory):
                    region.reserve(size)
                if held:
                    region.release(held.pop(0))
            assert region.used == sum(held)


def test_threads_of_one_process_lose_nothing(tmp_path):
    with SharedRegion.create(tmp_path / "r", 10_000) as region:

        def life(seed):
            rng = np.random.default_rng(seed)
            for size in rng.integers(1, 50, 300).tolist():
                region.reserve(size)
                region.release(size)

        threads = [threading.Thread(target=life, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert region.used == 0


@pytest.mark.parametrize("own_handle", [True, False], ids=["its own file", "the same"])
def test_nobody_counts_while_another_has_the_lock(tmp_path, own_handle):
    """Another opening of the file is to the lock what another process is; a thread shares one."""
    with SharedRegion.create(tmp_path / "r", 100) as region, SharedRegion(tmp_path / "r") as other:
        counted = threading.Event()

        def count():
            (other if own_handle else region).reserve(10)
            counted.set()

        thread = threading.Thread(target=count)
        with region.lock():
            thread.start()
            assert not counted.wait(0.3) and region.used == 0
        assert counted.wait(300)
        thread.join()
        assert region.used == 10


def test_a_process_waits_for_the_lock_of_another(region):
    with Container(region) as other:
        with region.lock():
            other.churn(1, 10, seed=0)
            assert not select.select([other._process.stdout], [], [], 0.5)[0]
        assert other.churned() == 0


def test_a_release_in_the_midst_of_a_count_waits_for_its_end(tmp_path):
    with SharedRegion.create(tmp_path / "r", 100) as region:
        region.reserve(60)
        with region.lock():  # here the garbage collector may run, and free an array
            region.release(10)
            assert region.used == 60
        assert region.used == 50


def test_a_file_that_is_no_region_is_refused(tmp_path):
    (tmp_path / "r").write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="is no shared region"):
        SharedRegion(tmp_path / "r")
    with pytest.raises(ValueError, match="limit is 0"):
        SharedRegion.create(tmp_path / "r", 0)


def test_the_slots_are_as_many_as_it_says(region):
    assert SLOTS == 64 and len(region.held()) == 0


# --- real processes -------------------------------------------------------------------------------


def test_two_processes_share_one_limit(region):
    with Container(region) as one, Container(region) as other:
        first = one.allocate(40 * MIB)
        with pytest.raises(OutOfMemory, match="25,165,824 of 67,108,864 free"):
            other.allocate(25 * MIB)
        other.allocate(24 * MIB)
        assert one.memory_info() == other.memory_info() == (0, 64 * MIB)
        assert region.held() == {one.pid: 40 * MIB, other.pid: 24 * MIB}
        one.free(first)
        assert other.memory_info() == (40 * MIB, 64 * MIB)


def test_a_process_that_dies_leaves_nothing_behind(region):
    with Container(region) as one, Container(region) as other:
        one.allocate(60 * MIB)
        one.kill()
        assert region.used == 60 * MIB  # nobody has looked yet
        other.allocate(30 * MIB)
        assert region.used == 30 * MIB
        with pytest.raises(ProcessLookupError):
            one.memory_info()


def test_two_processes_race_and_never_pass_the_limit(region):
    with Container(region) as one, Container(region) as other:
        one.churn(1500, 20 * MIB, seed=1)
        other.churn(1500, 20 * MIB, seed=2)
        refused, most = [], 0

        def wait():
            refused.extend([one.churned(), other.churned()])

        thread = threading.Thread(target=wait)
        thread.start()
        while thread.is_alive():
            with region.lock():  # else the slots may be of different moments
                most = max(most, region.used)
        thread.join()
        assert sum(refused) > 0
        assert most <= region.limit
        assert region.used == 0


def test_without_a_limit_of_its_own_a_container_takes_the_device(tmp_path):
    with (
        SharedRegion.create(tmp_path / "gpu", 80 * MIB) as gpu,
        SharedRegion.create(tmp_path / "a", 40 * MIB) as limit,
    ):
        with Container(device=gpu) as greedy, Container(device=gpu) as victim:
            greedy.allocate(79 * MIB)
            with pytest.raises(OutOfMemory):
                victim.allocate(2 * MIB)
        with Container(limit, gpu) as greedy, Container(device=gpu) as victim:
            with pytest.raises(OutOfMemory):
                greedy.allocate(79 * MIB)
            victim.allocate(2 * MIB)


# --- HAMi's rule for launches ---------------------------------------------------------------------


def test_the_share_by_hand():
    """132 multiprocessors of 2,048 threads: a step of 5 % is 132 x 132 x 2048 x 5 / 2560."""
    bucket = CoreLimit(50)
    assert bucket.capacity == 132 * 2048 * 32
    assert bucket.next_share(50) == 69_696  # at the limit: the least step, up
    assert bucket.next_share(48) == 69_696  # less than 5 % off counts as 5 %
    assert bucket.next_share(30) == 132 * 132 * 2048 * 20 // 2560
    step = 132 * 132 * 2048 * 50 // 2560
    assert bucket.next_share(0) == step * 50 * 2 // 51  # more than half the limit off: faster
    bucket.share = 100_000
    assert bucket.next_share(51) == 100_000 - 69_696
    assert bucket.next_share(70) == 0  # never below nothing


@given(st.integers(1, 99), st.lists(st.integers(0, 100), min_size=1, max_size=50))
def test_the_bucket_stays_within_its_bounds(limit, readings):
    bucket = CoreLimit(limit)
    for busy in readings:
        before = bucket.share
        doubles = before == bucket.capacity and bucket.tokens < 0
        bucket.watch(busy)
        assert 0 <= bucket.share <= bucket.capacity
        assert bucket.tokens <= bucket.capacity
        assert doubles or (bucket.share >= before if busy <= limit else bucket.share <= before)
        while bucket.may_launch:
            bucket.launch(1_000_000)
        assert bucket.tokens >= -1_000_000


@pytest.mark.parametrize("limit", [0, 100, 250])
def test_a_limit_of_0_or_100_is_none(limit):
    bucket = CoreLimit(limit)
    bucket.launch(10**12)
    bucket.watch(100)
    assert bucket.may_launch and bucket.tokens == bucket.share == 0


def test_a_full_bucket_that_runs_dry_doubles():
    bucket = CoreLimit(50)
    capacity = bucket.capacity
    bucket.share, bucket.tokens = capacity, -1
    bucket.watch(0)
    assert bucket.capacity == 2 * capacity and bucket.share == 2 * capacity


# --- HAMi's monitor -------------------------------------------------------------------------------


def test_a_low_priority_is_blocked_while_a_high_one_is_active():
    high, low = Watched(HIGH), Watched(LOW)
    high.launch()
    low.launch()
    observe([high, low])
    assert low.blocked and low.limited and not high.blocked
    observe([high, low])  # the high one has launched nothing since
    assert not low.blocked and low.recent == 0


def test_the_limit_is_lifted_from_who_is_alone():
    one, other = Watched(), Watched()
    one.launch()
    observe([one, other])
    assert not one.limited
    one.launch()
    other.launch()
    observe([one, other])
    assert one.limited and other.limited
    assert not one.blocked and not other.blocked
