"""Threads that wait for each other get on, in every order; what cannot get on is told at once."""

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.checkers import progress
from by_path import loaded

SEEDS = range(3)


def every_way():
    """All together first, then in random orders."""
    yield lambda: cuda.check(raise_=False)
    for seed in SEEDS:
        yield lambda seed=seed: cuda.check(raise_=False, schedule="adversarial", seed=seed)


def holds(launch, expected, findings=()):
    """`launch()` gives `expected` in every order, and check finds nothing but `findings`."""
    np.testing.assert_array_equal(launch(), expected)
    for checked in every_way():
        with checked() as c:
            result = launch()
        assert {type(f) for f in c.findings} <= set(findings), c
        np.testing.assert_array_equal(result, expected)


# --- locks ------------------------------------------------------------------------------------


@cuda.jit
def lock_of_blocks(lock, total):
    if cuda.threadIdx.x == 0:
        while cuda.atomic.cas(lock, 0, 0, 1) != 0:
            pass
        total[0] += cuda.blockIdx.x + 1
        cuda.threadfence()
        cuda.atomic.exch(lock, 0, 0)


@cuda.jit
def lock_of_warps(lock, total):
    if cuda.laneid == 0:
        tries = 0
        while cuda.atomic.cas(lock, 0, 0, 1) != 0:
            tries += 1
            cuda.nanosleep(100)
        total[0] += cuda.grid(1) // 32 + 1
        cuda.threadfence()
        cuda.atomic.exch(lock, 0, 0)


@cuda.jit
def lock_of_threads(lock, total):
    while cuda.atomic.exch(lock, 0, 1) != 0:
        pass
    total[0] += cuda.grid(1) + 1
    cuda.threadfence()
    cuda.atomic.exch(lock, 0, 0)


@cuda.jit
def ticket_lock(lock, total):
    """lock: the next ticket, and the one that is served."""
    if cuda.threadIdx.x == 0:
        mine = cuda.atomic.add(lock, 0, 1)
        while cuda.atomic.add(lock, 1, 0) != mine:
            pass
        total[0] += cuda.blockIdx.x + 1
        cuda.threadfence()
        cuda.atomic.add(lock, 1, 1)


@pytest.mark.parametrize(
    ("kernel", "grid", "block", "who"),
    [
        (lock_of_blocks, 4, 32, 4),
        (lock_of_blocks, 1100, 64, 1100),  # more than advance together in one batch
        (lock_of_warps, 3, 128, 12),
        (lock_of_warps, 1, 70, 3),
        (lock_of_threads, 1, 32, 32),
        (lock_of_threads, 2, 40, 80),
        (ticket_lock, 9, 64, 9),
    ],
)
def test_a_lock_ends(kernel, grid, block, who):
    def launch():
        total = np.zeros(1, np.int64)
        kernel[grid, block](np.zeros(2, np.int32), total)
        return total

    if who > 1000:  # once is enough of the large one
        np.testing.assert_array_equal(launch(), who * (who + 1) // 2)
    else:
        holds(launch, who * (who + 1) // 2)


# --- one block, or warp, waits for another ----------------------------------------------------


@cuda.jit
def chained_sums(values, state, out):
    """Decoupled look-back: 0 nothing yet, 1 the block's own sum, 2 the sum up to it."""
    part, before = cuda.shared.array(32, np.float64), cuda.shared.array(1, np.float64)
    t, b = cuda.threadIdx.x, cuda.blockIdx.x
    i = cuda.grid(1)
    part[t] = values[i]
    cuda.syncthreads()
    if t == 0:
        own = 0.0
        for k in range(32):
            own += part[k]
        out[b, 1] = own
        cuda.threadfence()
        cuda.atomic.exch(state, b, 1)
        total = 0.0
        j = b - 1
        while j >= 0:
            s = cuda.atomic.add(state, j, 0)
            if s == 2:
                total += out[j, 2]
                break
            if s == 1:
                total += out[j, 1]
                j -= 1
        out[b, 2] = total + own
        cuda.threadfence()
        cuda.atomic.exch(state, b, 2)
        before[0] = total
    cuda.syncthreads()
    out[b, 0] = before[0]


@pytest.mark.parametrize("blocks", [1, 2, 40])
def test_a_chained_scan_ends(blocks):
    values = np.arange(32.0 * blocks)
    sums = values.reshape(blocks, 32).sum(axis=1)

    def launch():
        out = np.zeros((blocks, 3))
        chained_sums[blocks, 32](values, np.zeros(blocks, np.int32), out)
        return out[:, 2]

    holds(launch, np.cumsum(sums), [cuda.GlobalMemoryRace])  # every thread stores out[b, 0]


@cuda.jit
def consumer_comes_first(flag, data, out):
    if cuda.threadIdx.x == 0:
        if cuda.blockIdx.x == 0:
            while cuda.atomic.add(flag, 0, 0) < cuda.gridDim.x - 1:
                pass
            for b in range(1, cuda.gridDim.x):
                out[0] += data[b]
        else:
            data[cuda.blockIdx.x] = cuda.blockIdx.x
            cuda.threadfence()
            cuda.atomic.add(flag, 0, 1)


@cuda.jit
def warp_waits_for_warp(out):
    flag, data = cuda.shared.array(1, np.int32), cuda.shared.array(1, np.int32)
    t = cuda.threadIdx.x
    if t == 0:
        flag[0] = 0
    cuda.syncthreads()
    if t < 32:
        while cuda.atomic.add(flag, 0, 0) == 0:
            pass
        out[cuda.grid(1)] = data[0]
    elif t == 32:
        data[0] = 7 + cuda.blockIdx.x
        cuda.threadfence_block()
        cuda.atomic.exch(flag, 0, 1)


@cuda.jit
def lane_waits_for_lane(flag, out):
    t = cuda.threadIdx.x
    if t == 0:
        while cuda.atomic.add(flag, 0, 0) == 0:
            pass
        out[0] = 5
    elif t == 31:
        cuda.atomic.exch(flag, 0, 1)


@cuda.jit
def passes_it_on(flag, out):
    """Thread by thread, from the last to the first: each waits for the next."""
    t = cuda.grid(1)
    while cuda.atomic.add(flag, t + 1, 0) == 0:
        pass
    out[t] = cuda.atomic.add(flag, t + 1, 0) + 1
    cuda.atomic.exch(flag, t, out[t])


@cuda.jit
def grid_barrier_by_hand(count, values, out):
    i, n = cuda.grid(1), cuda.gridsize(1)
    for turn in range(3):
        values[turn, i] = i + turn
        cuda.threadfence()
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            cuda.atomic.add(count, 0, 1)
            while cuda.atomic.add(count, 0, 0) < (turn + 1) * cuda.gridDim.x:
                pass
        cuda.syncthreads()
        out[i] += values[turn, n - 1 - i]


def test_a_block_waits_for_a_later_one():
    def launch():
        out = np.zeros(1)
        consumer_comes_first[6, 32](np.zeros(1, np.int32), np.zeros(6), out)
        return out

    holds(launch, 15)


def test_a_warp_waits_for_another_through_shared_memory():
    def launch():
        out = np.zeros((3, 64))
        warp_waits_for_warp[3, 64](out.reshape(-1))
        return out[:, :32]

    holds(launch, np.repeat([[7], [8], [9]], 32, axis=1))


def test_a_lane_waits_for_another_of_its_warp():
    """Since Volta, threads of a warp get on independently."""

    def launch():
        out = np.zeros(1)
        lane_waits_for_lane[1, 32](np.zeros(1, np.int32), out)
        return out

    holds(launch, 5)


def test_a_chain_through_all_threads():
    def launch():
        flag = np.zeros(81, np.int64)
        flag[80] = 1
        out = np.zeros(80, np.int64)
        passes_it_on[2, 40](flag, out)
        return out

    holds(launch, np.arange(81, 1, -1))


@pytest.mark.parametrize(("blocks", "threads"), [(4, 64), (1, 32), (70, 1024)])
def test_a_grid_barrier_written_by_hand(blocks, threads):
    n = blocks * threads

    def launch():
        out = np.zeros(n)
        grid_barrier_by_hand[blocks, threads](np.zeros(1, np.int32), np.zeros((3, n)), out)
        return out

    expected = 3.0 * np.arange(n)[::-1] + 3
    if n > 1000:
        np.testing.assert_array_equal(launch(), expected)
    else:
        holds(launch, expected)


def test_a_wait_with_an_end_of_its_own_lets_the_others_on():
    @cuda.jit
    def looks_for_a_while(flag, out):
        if cuda.threadIdx.x == 0:
            if cuda.blockIdx.x == 0:
                for _ in range(1_000_000):
                    if cuda.atomic.add(flag, 0, 0) != 0:
                        out[0] = 1
                        break
                tries = 0
                while cuda.atomic.add(flag, 1, 0) == 0 and tries < 1_000_000:
                    tries += 1
                out[1] = tries < 1_000_000
            else:
                cuda.atomic.exch(flag, 0, 1)
                cuda.atomic.exch(flag, 1, 1)

    out = np.zeros(2)
    looks_for_a_while[2, 32](np.zeros(2, np.int32), out)
    assert out.tolist() == [1, 1]


def test_a_wait_that_gives_up_gives_up():
    @cuda.jit
    def gives_up(flag, out):
        if cuda.threadIdx.x == 0:
            for k in range(3000):
                if cuda.atomic.add(flag, 0, 0) != 0:
                    break
                out[0] = k
        out[1] = 1

    out = np.zeros(2)
    gives_up[2, 64](np.zeros(1, np.int32), out)
    assert out.tolist() == [2999, 1]


def test_a_wait_that_writes_meanwhile():
    @cuda.jit
    def counts_its_rounds(flag, rounds, out):
        if cuda.threadIdx.x == 0:
            if cuda.blockIdx.x == 0:
                while cuda.atomic.add(flag, 0, 0) == 0:
                    rounds[0] += 1
                out[0] = 1
            else:
                cuda.atomic.exch(flag, 0, 1)

    out = np.zeros(1)
    with cuda.step_budget(10_000):
        counts_its_rounds[2, 32](np.zeros(1, np.int32), np.zeros(1, np.int64), out)
    assert out[0] == 1


def test_a_barrier_after_a_wait():
    @cuda.jit
    def waits_then_meets(flag, out):
        if cuda.threadIdx.x == 0 and cuda.blockIdx.x < cuda.gridDim.x - 1:
            while cuda.atomic.add(flag, cuda.blockIdx.x + 1, 0) == 0:
                pass
        cuda.syncthreads()
        out[cuda.grid(1)] = 1
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            cuda.atomic.exch(flag, cuda.blockIdx.x, 1)

    def launch():
        out = np.zeros(5 * 64)
        waits_then_meets[5, 64](np.zeros(5, np.int32), out)
        return out

    holds(launch, np.ones(320))


def test_a_warp_exchanges_values_though_its_lanes_run_one_by_one():
    @cuda.jit
    def lock_then_shuffle(lock, total, out):
        t = cuda.threadIdx.x
        while cuda.atomic.exch(lock, 0, 1) != 0:
            pass
        total[0] += 1
        cuda.threadfence()
        cuda.atomic.exch(lock, 0, 0)
        cuda.syncwarp()
        value = cuda.shfl_xor_sync(0xFFFFFFFF, t, 1)
        votes = cuda.ballot_sync(0xFFFFFFFF, t % 2 == 0)
        out[t, 0], out[t, 1] = value, cuda.popc(votes)
        out[t, 2] = cuda.syncthreads_count(int(t < 5))

    def launch():
        out = np.zeros((64, 3), np.int64)
        lock_then_shuffle[1, 64](np.zeros(1, np.int32), np.zeros(1), out)
        return out

    lanes = np.arange(64)
    holds(launch, np.stack([lanes ^ 1, np.full(64, 16), np.full(64, 5)], axis=1))


def test_cooperative_blocks_wait_in_loops_and_at_the_grid_barrier():
    @cuda.jit
    def both(flag, out):
        grid = cuda.cg.this_grid()
        if cuda.threadIdx.x == 0 and cuda.blockIdx.x == 0:
            while cuda.atomic.add(flag, 0, 0) < cuda.gridDim.x - 1:
                pass
        elif cuda.threadIdx.x == 0:
            cuda.atomic.add(flag, 0, 1)
        grid.sync()
        out[cuda.grid(1)] = cuda.atomic.add(flag, 0, 0)

    def launch():
        out = np.zeros(4 * 64)
        both[4, 64](np.zeros(1, np.int32), out)
        return out

    holds(launch, np.full(256, 3))


# --- what begins anew leaves no trace ---------------------------------------------------------


@cuda.jit
def says_and_counts(flag, a, out):
    i = cuda.grid(1)
    out[i] = a[i] + a[i - 1 + 64 * (i == 0)]
    if cuda.threadIdx.x == 0:
        print("block", cuda.blockIdx.x)
        if cuda.blockIdx.x == 0:
            while cuda.atomic.add(flag, 0, 0) == 0:
                pass
        else:
            cuda.atomic.exch(flag, 0, 1)


def arguments():
    return np.zeros(1, np.int32), np.ones(64), np.zeros(64)


def test_what_was_printed_counted_and_traced_before_does_not_count(capsys):
    with cuda.trace() as t:
        report = cuda.profile(says_and_counts)[2, 32](*arguments())
    assert sorted(capsys.readouterr().out.splitlines()) == ["block 0", "block 1"]
    assert (report.global_store_requests, report.global_load_requests) == (2, 4)
    assert sum(int((a.addresses >= 0).sum()) for a in t.of("out", "store")) == 64
    assert any("waited for each other" in note for note in report.notes)
    with cuda.check() as c:
        says_and_counts[2, 32](*arguments())
    assert str(c) == "1 launch checked: nothing found"


def test_atomics_of_the_first_attempt_are_undone():
    @cuda.jit
    def adds_first(flag, count):
        cuda.atomic.add(count, 0, 1)
        if cuda.threadIdx.x == 0:
            if cuda.blockIdx.x == 0:
                while cuda.atomic.add(flag, 0, 0) == 0:
                    pass
            else:
                cuda.atomic.exch(flag, 0, 1)

    for dtype in (np.int32, np.float64):
        count = np.full(1, 100, dtype)
        adds_first[2, 64](np.zeros(1, np.int32), count)
        assert count[0] == 228


# --- what cannot get on -----------------------------------------------------------------------


def the_deadlock(launch):
    with pytest.raises(cuda.Deadlock) as caught:
        launch()
    error = caught.value
    assert error.what and error.why and error.try_ and error.place.line
    return error


@cuda.jit
def nobody_stores(flag, out):
    while flag[0] == 0:
        pass
    out[cuda.grid(1)] = 1


@cuda.jit
def crossed_locks(locks, out):
    if cuda.threadIdx.x == 0:
        mine, other = cuda.blockIdx.x, 1 - cuda.blockIdx.x
        while cuda.atomic.cas(locks, mine, 0, 1) != 0:
            pass
        cuda.atomic.add(locks, 2, 1)
        while cuda.atomic.add(locks, 2, 0) < 2:  # both have their own lock now
            pass
        while cuda.atomic.cas(locks, other, 0, 1) != 0:
            pass
        out[0] += 1


@cuda.jit
def never_given_back(lock, out):
    if cuda.threadIdx.x == 0:
        while cuda.atomic.cas(lock, 0, 0, 1) != 0:
            pass
        out[0] += 1


@pytest.mark.parametrize("grid", [1, 3])
def test_a_wait_for_nobody_is_told(grid):
    error = the_deadlock(lambda: nobody_stores[grid, 64](np.zeros(1, np.int32), np.zeros(256)))
    assert error.what.startswith(f"{grid * 64} threads wait for ever")
    assert "flag[0] is 0" in error.why and "thread 0 of block 0" in error.why
    assert error.place.source.strip() == "while flag[0] == 0:"


def test_locks_taken_crosswise_are_told():
    error = the_deadlock(lambda: crossed_locks[2, 32](np.zeros(3, np.int32), np.zeros(1)))
    assert error.what.startswith("2 threads wait")
    assert "locks[1] is 1" in error.why and "locks[0] is 1" in error.why


def test_a_lock_that_is_never_given_back():
    for checked in every_way():
        with checked() as c:
            never_given_back[3, 32](np.zeros(1, np.int32), np.zeros(1))
        (error,) = c.findings
        assert isinstance(error, cuda.Deadlock) and error.what.startswith("2 threads wait")
        assert "lock[0] is 1" in error.why


def test_a_thread_that_waits_before_a_barrier_that_the_others_wait_at():
    @cuda.jit
    def told_too_late(flag, out):
        if cuda.threadIdx.x == 0:
            while cuda.atomic.add(flag, 0, 0) == 0:
                pass
        cuda.syncthreads()
        if cuda.threadIdx.x == 1:
            cuda.atomic.exch(flag, 0, 1)

    error = the_deadlock(lambda: told_too_late[1, 64](np.zeros(1, np.int32), np.zeros(1)))
    assert "thread 0 of block 0 goes round in line" in error.why
    assert "waits at syncthreads()" in error.why


def test_more_blocks_than_the_device_holds_at_once():
    before = cuda.get_current_device().key
    try:
        cuda.select_device("t4")
        n = 1024 * (cuda.get_current_device().multiprocessors + 1)
        arguments = np.zeros(1, np.int32), np.zeros((3, n)), np.zeros(n)
        error = the_deadlock(lambda: grid_barrier_by_hand[n // 1024, 1024](*arguments))
    finally:
        cuda.select_device(before)
    assert "1 more block has not begun" in error.why and "holds 40" in error.why


def test_the_emulators_own_limit_is_called_that(monkeypatch):
    monkeypatch.setattr(progress, "MOST_GROUPS", 2)
    monkeypatch.setattr(progress, "MOST_ATTEMPTS", 3)
    with pytest.raises(cuda.UnsupportedFeature) as caught:
        lock_of_threads[4, 32](np.zeros(1, np.int32), np.zeros(1))
    assert "the emulator runs such threads one by one" in caught.value.why
    assert "a GPU would get on" in caught.value.why


# --- loops that never end, and long ones ------------------------------------------------------


def the_endless(launch):
    with pytest.raises(cuda.StepBudgetExceeded) as caught:
        launch()
    assert not isinstance(caught.value, cuda.Deadlock)
    return caught.value


def test_a_forgotten_step_is_seen_after_a_few_rounds():
    @cuda.jit
    def forgotten(a, out):
        i = cuda.grid(1)
        total = 0.0
        k = 0
        while k < a.size:
            total += a[i]
            cuda.atomic.add(out, 1, 1)
        out[0] = total

    out = cuda.to_device(np.zeros(2))
    error = the_endless(lambda: forgotten[1, 4](np.ones(4), out))
    assert error.what == "the loop never ends"
    assert "4 threads go round for ever" in error.why and "k" in error.why
    assert "`i += 1`" in error.try_ and error.place.source.strip() == "while k < a.size:"
    assert out.copy_to_host()[1] <= 4 * 16


@pytest.mark.parametrize("body", ["pass", "i = i", "i += 0", "x = i + 1", "a[0] += 1"])
def test_loops_that_leave_their_condition_alone(tmp_path, body):
    path = tmp_path / "endless.py"
    path.write_text(
        "from aiinfra_labs.gpu import emulator as cuda\n@cuda.jit\ndef kernel(a, n):\n"
        f"    i = 0\n    while i < n:\n        {body}\n"
    )
    module = loaded(path)
    error = the_endless(lambda: module.kernel[1, 32](np.zeros(1), 5))
    assert error.what == "the loop never ends"


def test_lanes_that_go_on_are_not_taken_for_stuck():
    @cuda.jit
    def slow_and_quick(out):
        i = cuda.grid(1)
        k = 0
        while k < 3000:
            if i == 0:
                k += 1
            else:
                k += 100
        out[i] = k

    out = np.zeros(64)
    slow_and_quick[1, 64](out)
    np.testing.assert_array_equal(out, [3000] * 64)


def test_a_variable_that_changes_now_and_then_is_no_endless_loop():
    @cuda.jit
    def every_fortieth(out):
        k, rounds = 0, 0
        while k < 10:
            rounds += 1
            if rounds % 40 == 0:
                k += 1
        out[0] = rounds

    out = np.zeros(1)
    every_fortieth[1, 1](out)
    assert out[0] == 400


def test_what_a_local_array_holds_may_end_a_loop():
    @cuda.jit
    def counted_in_an_array(out):
        state = cuda.local.array(1, np.int32)
        state[0] = 0
        while state[0] < 100:
            state[0] += 1
        out[cuda.grid(1)] = state[0]

    out = np.zeros(64)
    counted_in_an_array[2, 32](out)
    np.testing.assert_array_equal(out, np.full(64, 100))


def test_a_long_for_is_not_called_endless():
    @cuda.jit
    def total(a, out):
        s = 0.0
        for i in range(a.size):
            s += a[i]
        out[0] = s

    out = np.zeros(1)
    with cuda.step_budget(1000):
        total[1, 1](np.ones(2000), out)
        assert out[0] == 2000
        error = the_endless(lambda: total[1, 1](np.ones(20_000), out))
    assert error.what == "the loop is too long for the emulator: it goes round 20,000 times"
    assert "it would end" in error.why and "16,000" in error.why


def test_loops_inside_each_other_are_told_with_how_far_they_came():
    @cuda.jit
    def nested(out):
        for _ in range(1000):
            for _ in range(1000):
                out[0] += 1

    with cuda.step_budget(1000):
        error = the_endless(lambda: nested[1, 1](np.zeros(1)))
    assert "too long for the emulator: it has gone round" in error.what
    assert "of 1,000 times" in error.what


def test_a_for_that_is_left_early_may_be_as_long_as_it_likes():
    @cuda.jit
    def found(a, out):
        for k in range(10**12):
            if a[k] > 5:
                out[0] = k
                break

    out = np.zeros(1)
    found[1, 1](np.arange(10.0), out)
    assert out[0] == 6
