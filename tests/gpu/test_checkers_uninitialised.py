"""Reads of what nobody wrote: shared, local and device memory, and lanes that take no part."""

import inspect

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

f4, i4 = np.float32, np.int32


def line_of(kernel):
    """The number of the line marked `# here`."""
    text, first = inspect.getsourcelines(kernel.py_func)
    return next(n for n, line in enumerate(text, first) if line.rstrip().endswith("# here"))


def found_in(kernel, grid, block, *args):
    return cuda.check(kernel)[grid, block](*args).findings


# --- planted mistakes -------------------------------------------------------------------------


@cuda.jit
def halo_not_loaded(a, out):
    s = cuda.shared.array(66, f4)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    s[t + 1] = a[i]
    cuda.syncthreads()
    out[i] = s[t] + s[t + 1]  # here


@cuda.jit
def tail_not_loaded(a, out):
    s = cuda.shared.array(64, f4)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    if i < a.size:
        s[t] = a[i]
    cuda.syncthreads()
    if t == 0:
        total = f4(0)
        for k in range(64):
            total += s[k]  # here
        out[cuda.blockIdx.x] = total


@cuda.jit
def bins_not_cleared(a, out):
    bins = cuda.shared.array(4, i4)
    cuda.atomic.add(bins, int(a[cuda.grid(1)]) % 4, 1)  # here
    cuda.syncthreads()
    if cuda.threadIdx.x < 4:
        out[cuda.threadIdx.x] = bins[cuda.threadIdx.x]


@cuda.jit
def accumulator_not_cleared(a, out):
    s = cuda.shared.array(64, f4)
    s[cuda.threadIdx.x] += a[cuda.grid(1)]  # here
    out[cuda.grid(1)] = s[cuda.threadIdx.x]


@cuda.jit
def local_array_not_filled(a, out):
    window = cuda.local.array(4, f4)
    i = cuda.grid(1)
    for k in range(3):
        window[k] = a[i] + k
    out[i] = window[0] + window[3]  # here


@cuda.jit
def local_array_filled_by_some(a, out):
    best = cuda.local.array((2, 2), f4)
    i = cuda.grid(1)
    if a[i] > 5:
        best[1, 0] = a[i]
    out[i] = best[1, 0]  # here


@cuda.jit
def added_up(out):
    out[cuda.grid(1)] += 1  # here


def device_memory(n=64):
    return cuda.device_array(n, f4)


A = np.arange(64, dtype=f4)
PLANTED = [
    (halo_not_loaded, lambda: (A, A.copy()), "s", (0,), (0, 0, 0), 1),
    (tail_not_loaded, lambda: (A[:60], A.copy()), "s", (60,), (0, 0, 0), 4),
    (bins_not_cleared, lambda: (A, np.zeros(4, i4)), "bins", (0,), (0, 0, 0), 64),
    (accumulator_not_cleared, lambda: (A, A.copy()), "s", (0,), (0, 0, 0), 64),
    (local_array_not_filled, lambda: (A, A.copy()), "window", (3,), (0, 0, 0), 64),
    (local_array_filled_by_some, lambda: (A, A.copy()), "best", (1, 0), (0, 0, 0), 6),
    (added_up, lambda: (device_memory(),), "out", (0,), (0, 0, 0), 64),
]


@pytest.mark.parametrize(
    "kernel, make, array, index, thread, times", PLANTED, ids=lambda x: getattr(x, "__name__", None)
)
def test_a_read_of_what_nobody_wrote(kernel, make, array, index, thread, times):
    first = found_in(kernel, 1, 64, *make())[0]
    assert type(first) is cuda.UninitialisedRead
    assert (first.array, first.index, first.times) == (array, index, times)
    assert (first.place.line, first.place.thread) == (line_of(kernel), thread)
    shown = f"{array}[{', '.join(map(str, index))}]"
    assert first.what == f"{shown} is read before anything was stored in it"


def test_the_words_of_a_finding():
    (finding,) = found_in(halo_not_loaded, 1, 64, A, A.copy())
    assert str(finding) == (
        "s[0] is read before anything was stored in it\n"
        f"  kernel halo_not_loaded, line {line_of(halo_not_loaded)}: out[i] = s[t] + s[t + 1]"
        "  # here\n"
        "  in block 0, thread 0\n"
        "Why: shared memory begins with whatever the block before left in it. It happened 1 time\n"
        "Try: store to every element of s that is read, also where the data ends: store 0 there, "
        "and put cuda.syncthreads() between the stores and this line"
    )


# --- what is initialised ----------------------------------------------------------------------


@cuda.jit
def set_all(out):
    out[cuda.grid(1)] = 1


@cuda.jit
def set_even(out):
    out[2 * cuda.grid(1)] = 1


@cuda.jit
def read_all(a, out):
    out[cuda.grid(1)] = a[cuda.grid(1)]


def test_device_memory_is_followed_from_launch_to_launch():
    a, out = device_memory(), device_memory()
    with cuda.check():
        set_all[1, 64](a)
        read_all[1, 64](a, out)
        read_all[1, 64](out, a)


def test_half_written_device_memory():
    a, out = device_memory(), device_memory()
    with cuda.check(raise_=False) as c:
        set_even[1, 32](a)
        read_all[1, 64](a, out)
    (finding,) = c.findings
    assert (finding.array, finding.index, finding.times) == ("a", (1,), 32)


@pytest.mark.parametrize(
    "fill",
    [
        lambda a: a.copy_to_device(np.ones(64, f4)),
        lambda a: a[:].copy_to_device(np.ones(64, f4)),
        lambda a: a.__setitem__(slice(None), 3),
        lambda a: a.reshape(8, 8).__setitem__(slice(None), 3),
        lambda a: set_all[1, 64](a),  # nobody watched, so what it wrote is not known
    ],
    ids=["copy", "copy to a slice", "assignment", "assignment to a view", "unchecked launch"],
)
def test_memory_that_was_filled_otherwise(fill):
    a = device_memory()
    fill(a)
    assert found_in(read_all, 1, 64, a, device_memory()) == []


def test_memory_that_the_host_filled_in_part():
    a = device_memory()
    a[:32] = 1
    (finding,) = found_in(read_all, 1, 64, a, device_memory())
    assert (finding.index, finding.times) == ((32,), 32)


def test_views_of_fresh_memory():
    whole = cuda.device_array((8, 16), f4)
    with cuda.check(raise_=False) as c:
        set_all[1, 64](whole[:4].reshape(64))
        read_all[1, 64](whole[:4].reshape(64), device_memory())
        read_all[1, 64](whole[4:].reshape(64), device_memory())
    assert [f.times for f in c.findings] == [64]


def test_memory_given_back_is_forgotten():
    """Its address may be given out anew, to memory that is filled."""
    for _ in range(50):
        device_memory(4096)
        filled = cuda.to_device(np.zeros(4096, f4))
        assert found_in(read_all, 1, 64, filled, device_memory()) == []


@cuda.jit
def fields_apart(records, out):
    i = cuda.grid(1)
    records[i].x = i
    out[i] = records[i].x + records[i].y  # here


def test_fields_of_records():
    pair = np.dtype([("x", f4), ("y", f4)])
    (finding,) = found_in(fields_apart, 1, 64, cuda.device_array(64, pair), device_memory())
    assert (finding.array, finding.times) == ("records.y", 64)


# --- shuffles ---------------------------------------------------------------------------------


@cuda.jit
def sum_of_a_part(a, out):
    t = cuda.threadIdx.x
    x = a[t]
    for k in range(5):
        x += cuda.shfl_down_sync(0xFFFFFFFF, x, 16 >> k)  # here
    if t == 0:
        out[0] = x


@cuda.jit
def shuffle_in_a_branch(a, out):
    t = cuda.threadIdx.x
    x = a[t]
    if t < 16:
        x += cuda.shfl_down_sync(0xFFFF, x, 8)  # here
    out[t] = x


@cuda.jit
def after_some_returned(a, out):
    t = cuda.threadIdx.x
    if t >= 31:
        return
    out[t] = cuda.shfl_xor_sync(0x7FFFFFFF, a[t], 1)  # here


@cuda.jit
def from_a_lane_that_is_away(a, out):
    t = cuda.threadIdx.x
    if t % 2 == 0:
        out[t] = cuda.shfl_sync(0x55555555, a[t], 1)  # here


@cuda.jit
def up_from_below(a, out):
    t = cuda.threadIdx.x
    if t > 3:
        out[t] = cuda.shfl_up_sync(0xFFFFFFF0, a[t], 2)  # here


SHUFFLES = [
    (sum_of_a_part, 20, "lane 4 reads lane 20 in shfl_down_sync()"),
    (shuffle_in_a_branch, 32, "lane 8 reads lane 16 in shfl_down_sync()"),
    (after_some_returned, 32, "lane 30 reads lane 31 in shfl_xor_sync()"),
    (from_a_lane_that_is_away, 32, "lane 0 reads lane 1 in shfl_sync()"),
    (up_from_below, 32, "lane 4 reads lane 2 in shfl_up_sync()"),
]


@pytest.mark.parametrize(
    "kernel, threads, what", SHUFFLES, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_shuffle_from_an_inactive_lane(kernel, threads, what):
    first = found_in(kernel, 1, threads, A, A.copy())[0]
    assert type(first) is cuda.InactiveLane
    assert first.what.startswith(what)
    assert first.place.line == line_of(kernel)


@cuda.jit
def sum_of_a_warp(a, out):
    t = cuda.threadIdx.x
    x = a[t]
    for k in range(5):
        x += cuda.shfl_xor_sync(0xFFFFFFFF, x, 16 >> k)
    out[t] = x + cuda.shfl_up_sync(0xFFFFFFFF, x, 1) + cuda.shfl_down_sync(0xFFFFFFFF, x, 31)


def test_shuffles_of_whole_warps_are_not_accused():
    """A lane that would read past the warp keeps its own value: that is defined."""
    assert found_in(sum_of_a_warp, 1, 64, A, A.copy()) == []
