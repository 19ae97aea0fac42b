"""Loads and stores of 16 bytes: their values, their counts, and what a GPU would refuse."""

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.emulator import EmulatorError, OutOfBounds, UnsupportedFeature
from aiinfra_labs.gpu.float4 import load_float4, store_float4


@emulator.jit
def copy(source, target):
    i = emulator.grid(1)
    if 4 * i < target.size:
        store_float4(target, 4 * i, load_float4(source, 4 * i))


@emulator.jit
def add_up(a, out):
    """out[row] = the sum of four elements of each of its rows."""
    row = emulator.threadIdx.x
    four = load_float4(a, (row, 4))
    out[row] = four.x + four.y + four.z + four.w


@emulator.jit
def turn(a, out):
    """Through shared memory: 32 threads write rows of 4, and read columns of another shape."""
    tile = emulator.shared.array((4, 32), np.float32, 16)
    t = emulator.threadIdx.x
    store_float4(tile, (t // 8, t % 8 * 4), load_float4(a, (t // 8, t % 8 * 4)))
    emulator.syncthreads()
    four = load_float4(tile, (t % 4, t // 4 * 4))
    store_float4(out, (t, 0), emulator.float32x4(four.w, four.z, four.y, four.x))


@emulator.jit
def at(a, out, index):
    store_float4(out, 0, load_float4(a, index))


def reals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("n", [4, 128, 132, 1000])
def test_every_bit_of_four_floats_moves(n):
    source = np.random.default_rng(n).integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    target = np.zeros(n, np.float32)  # signalling NaN and infinities are among the patterns
    with emulator.check():
        copy[-(-n // 512), 128](source, target)
    np.testing.assert_array_equal(target.view(np.uint32), source.view(np.uint32))


def test_the_four_are_neighbours_along_the_last_axis():
    a, out = reals(8, 12), np.zeros(8, np.float32)
    add_up[1, 8](a, out)
    expected = ((a[:, 4] + a[:, 5]) + a[:, 6]) + a[:, 7]
    np.testing.assert_array_equal(out, expected)


def test_a_view_into_a_larger_array():
    whole = emulator.to_device(reals(16, 32))
    out = np.zeros(8, np.float32)
    add_up[1, 8](whole[4:12, 8:24], out)
    host = whole.copy_to_host()[4:12, 8:24]
    np.testing.assert_array_equal(out, ((host[:, 4] + host[:, 5]) + host[:, 6]) + host[:, 7])


def test_shared_memory_takes_a_float4_in_and_out():
    a, out = reals(4, 32), np.zeros((32, 4), np.float32)
    with emulator.check():
        turn[1, 32](a, out)
    for t in range(32):
        np.testing.assert_array_equal(out[t], a[t % 4, t // 4 * 4 : t // 4 * 4 + 4][::-1])


def test_one_request_moves_512_bytes():
    """As NVIDIA has it: 16 sectors over a warp, and 4 wavefronts of shared memory."""
    source, target = (emulator.to_device(reals(1024)) for _ in range(2))
    report = emulator.profile(copy)[2, 128](source, target)
    assert report.global_load_requests == report.global_store_requests == 8
    assert report.sectors_per_load == report.sectors_per_store == 16
    assert report.global_load_bytes == report.global_store_bytes == 4096
    a, out = emulator.to_device(reals(4, 32)), emulator.device_array((32, 4), np.float32)
    report = emulator.profile(turn)[1, 32](a, out)
    assert (report.shared_store_requests, report.shared_store_wavefronts) == (1, 4)
    assert report.shared_load_requests == 1


def test_a_race_on_one_of_the_four_is_seen():
    @emulator.jit
    def shifted(out):
        tile = emulator.shared.array(132, np.float32, 16)
        t = emulator.threadIdx.x
        tile[t] = np.float32(t)
        four = load_float4(tile, t // 4 * 4)
        out[t] = four.w

    with emulator.check(raise_=False) as found:
        shifted[1, 64](np.zeros(64, np.float32))
    assert "SharedMemoryRace" in {type(f).__name__ for f in found.findings}


def test_memory_that_nobody_wrote_is_seen():
    a, out = emulator.device_array(64, np.float32), np.zeros(64, np.float32)
    with emulator.check(raise_=False) as found:
        copy[1, 16](a, out)
    assert [type(f).__name__ for f in found.findings] == ["UninitialisedRead"]


@pytest.mark.parametrize(("index", "behind"), [(1, 4), (2, 8), (7, 12)])
def test_an_address_between_multiples_of_16_bytes_is_refused(index, behind):
    with pytest.raises(EmulatorError) as error:
        at[1, 1](reals(16), np.zeros(4, np.float32), index)
    assert f"a[{index}] is not at a multiple of 16 bytes" in error.value.what
    assert f"it lies {behind} bytes behind" in error.value.why


@pytest.mark.parametrize("index", [13, 14, 16, 20])
def test_four_that_end_outside_are_refused(index):
    with pytest.raises(OutOfBounds):
        at[1, 1](reals(16), np.zeros(4, np.float32), index)


def test_a_negative_index_does_not_wrap():
    with pytest.raises(OutOfBounds):
        at[1, 1](reals(16), np.zeros(4, np.float32), -4)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(16), "float32 array"),
        (np.zeros((4, 4), np.float32), "2 axes"),
        (emulator.to_device(np.zeros(32, np.float32))[::2], "gaps"),
    ],
)
def test_what_is_no_row_of_floats_is_refused(array, said):
    with pytest.raises(UnsupportedFeature, match=said):
        at[1, 1](array, np.zeros(4, np.float32), 0)


def test_only_a_float4_is_stored():
    @emulator.jit
    def one(out):
        store_float4(out, 0, np.float32(1))

    with pytest.raises(UnsupportedFeature, match="float32x4"):
        one[1, 1](np.zeros(4, np.float32))


def test_a_kernel_that_names_numbas_intrinsics_runs_on_the_emulator_too():
    """On a GPU machine a kernel holds Numba's, and is profiled on the emulator beside it."""
    from aiinfra_labs.gpu import float4
    from aiinfra_labs.gpu.emulator.api.intrinsics import alias

    load, store = float4._of_numba()
    for theirs, ours in zip((load, store), float4._emulated, strict=True):
        alias(theirs, ours)

    @emulator.jit
    def copy_with_numbas(source, target):
        i = emulator.grid(1)
        store(target, 4 * i, load(source, 4 * i))

    source, target = reals(128), np.zeros(128, np.float32)
    report = emulator.profile(copy_with_numbas)[1, 32](source, target)
    np.testing.assert_array_equal(target, source)
    assert report.sectors_per_load == 16
