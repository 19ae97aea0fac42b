"""Races: textbook kernels, each with the two lines, and kernels that must not be accused."""

import checked_kernels as kernels
import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda

racy = pytest.mark.parametrize("case", kernels.RACY, ids=lambda case: case.name)
correct = pytest.mark.parametrize("case", kernels.CORRECT, ids=lambda case: case.name)


def checked(case, **how):
    with cuda.check(raise_=False, **how) as c:
        case.launch()
    return c.findings


@racy
def test_a_race_is_found_with_both_lines(case):
    found = {tuple(sorted(f.lines)): f for f in checked(case)}
    assert tuple(sorted(case.lines)) in found, found
    race = found[tuple(sorted(case.lines))]
    assert type(race) is case.error
    assert race.kind == case.kind
    assert case.advice in race.try_
    a, b = race.places
    assert (a.block, a.thread) != (b.block, b.thread)
    assert race.times >= 1


@racy
def test_nothing_but_the_race_is_found(case):
    """Each kernel has one mistake, which may concern several arrays or lines."""
    found = checked(case)
    assert all(type(f) is case.error and {*f.lines} & {*case.lines} for f in found)
    assert len({(f.array, frozenset(f.lines)) for f in found}) == len(found)


@correct
def test_a_correct_kernel_is_not_accused(case):
    assert checked(case) == []


@correct
def test_a_correct_kernel_gives_the_same_result_checked(case):
    plain = case.launch()
    with cuda.check():
        np.testing.assert_array_equal(case.launch(), plain)


def test_the_catalogue_is_wide_enough():
    kinds = [case.error for case in kernels.RACY]
    assert kinds.count(cuda.SharedMemoryRace) >= 12
    assert kinds.count(cuda.GlobalMemoryRace) >= 8
    assert len(kernels.CORRECT) >= 12


@cuda.jit
def shifted(a, out):
    s = cuda.shared.array((4, 16), np.float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    s[y, x] = a[y, x]
    out[y, x] = s[(y + 2) % 4, x]


def test_a_finding_names_threads_and_element():
    """Thread (x, y) writes s[y, x]; the first thread to read another's is (0, 0), of s[2, 0]."""
    a = np.ones((4, 16), np.float32)
    with cuda.check(raise_=False) as c:
        shifted[1, (16, 4)](a, a.copy())
    (race,) = c.findings
    assert (race.array, race.index) == ("s", (2, 0))
    assert [p.thread for p in race.places] == [(0, 2, 0), (0, 0, 0)]
    assert [p.block for p in race.places] == [(0, 0, 0), (0, 0, 0)]
    assert race.times == 64  # each of the 64 threads reads what another one wrote
    first, second = race.lines
    assert str(race) == (
        f"a race on s[2, 0]: thread (0, 2) of block 0 writes it (line {first}), thread (0, 0) of "
        f"the same block reads it (line {second}), and nothing says which comes first\n"
        f"  kernel shifted, line {first}: s[y, x] = a[y, x]\n"
        f"  kernel shifted, line {second}: out[y, x] = s[(y + 2) % 4, x]\n"
        "Why: threads of a block run in any order between two barriers, so the read may come "
        "before or after the write. It happened 64 times\n"
        f"Try: put cuda.syncthreads() between line {first} and line {second}"
    )


def test_a_store_of_the_same_value_says_so():
    by_name = {case.name: case for case in kernels.RACY}
    (same,) = checked(by_name["all_store_one_value"])
    (own,) = checked(by_name["all_store_their_own_value"])
    assert same.same_value and "stores the same value" in same.why
    assert not own.same_value and "same value" not in own.why


@cuda.jit
def far_apart(out, n):
    i = cuda.grid(1)
    if i == 0 or i == n:
        out[3] = i


def test_threads_of_different_batches_of_blocks_race():
    """65,536 lanes run together; these two threads are 500,000 apart."""
    out = np.zeros(4, np.int64)
    with cuda.check(raise_=False) as c:
        far_apart[4096, 256](out, 500_000)
    (race,) = c.findings
    assert isinstance(race, cuda.GlobalMemoryRace) and race.index == (3,)
    assert {p.block[0] * 256 + p.thread[0] for p in race.places} == {0, 500_000}


@cuda.jit
def write_first(out):
    out[cuda.grid(1)] = 1


@cuda.jit
def write_backwards(out):
    out[out.size - 1 - cuda.grid(1)] = 2


def test_a_launch_waits_for_the_launch_before():
    out = cuda.device_array(512, np.int64)
    with cuda.check():
        write_first[2, 256](out)
        write_backwards[2, 256](out)


@cuda.jit
def pick(a, b, out):
    i = cuda.grid(1)
    row = a if i % 2 else b
    out[i] = row[i]
    row[(i + 2) % row.size] = 5


def test_a_variable_that_names_two_arrays():
    a, b, out = (np.zeros(64, np.int64) for _ in range(3))
    with cuda.check(raise_=False) as c:
        pick[1, 64](a, b, out)
    (race,) = c.findings
    assert race.array in ("a", "b") and race.times == 64


@cuda.jit
def stencil_3d(a):
    x, y, z = cuda.grid(3)
    if z + 1 < a.shape[0]:
        a[z, y, x] = a[z + 1, y, x]


def test_the_index_in_an_array_of_any_strides():
    a = cuda.to_device(np.asfortranarray(np.zeros((4, 5, 6))))
    with cuda.check(raise_=False) as c:
        stencil_3d[1, (6, 5, 4)](a)
    (race,) = c.findings
    z, y, x = race.index  # read by the thread below it, written by its own
    assert {p.thread for p in race.places} == {(x, y, z - 1), (x, y, z)}
