"""Barriers that some threads miss, limits, endless loops: found in every launch, told in check."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import grading


def line_of(kernel):
    """The number of the line marked `# here`, in the kernel or in the function that it calls."""
    for function in (kernel, wait):
        text, first = inspect.getsourcelines(function.py_func)
        for number, line in enumerate(text, first):
            if line.rstrip().endswith("# here"):
                return number
    raise AssertionError("no line is marked")


# --- barriers that not all come to ------------------------------------------------------------


@cuda.jit
def in_an_if(out):
    if cuda.threadIdx.x < 50:
        cuda.syncthreads()  # here
    out[cuda.threadIdx.x] = 1


@cuda.jit
def in_both_branches(out):
    if cuda.threadIdx.x % 2 == 0:
        cuda.syncthreads()  # here
    else:
        cuda.syncthreads()
    out[cuda.threadIdx.x] = 1


@cuda.jit
def in_a_loop_of_several_lengths(out):
    for _ in range(cuda.threadIdx.x % 3 + 1):
        cuda.syncthreads()  # here
    out[cuda.threadIdx.x] = 1


@cuda.jit
def in_a_while_that_some_leave(out):
    k = cuda.threadIdx.x
    while k < 70:
        k += 32
        cuda.syncthreads()  # here
    out[cuda.threadIdx.x] = k


@cuda.jit
def after_a_break(out):
    for k in range(4):
        if k == cuda.threadIdx.x:
            break
        cuda.syncthreads()  # here
    out[cuda.threadIdx.x] = 1


@cuda.jit
def after_a_continue(out):
    for k in range(4):
        if (k + cuda.threadIdx.x) % 2:
            continue
        cuda.syncthreads()  # here
    out[cuda.threadIdx.x] = 1


@cuda.jit(device=True)
def wait(t):
    if t > 3:
        cuda.syncthreads()
    return t


@cuda.jit(device=True)
def wait_early(t):
    if t > 3:
        return t
    cuda.syncthreads()
    return t


@cuda.jit
def in_a_device_function(out):
    out[cuda.threadIdx.x] = wait(cuda.threadIdx.x)


@cuda.jit
def after_the_return_of_a_function(out):
    out[cuda.threadIdx.x] = wait_early(cuda.threadIdx.x)


@cuda.jit
def that_counts(out):
    t = cuda.threadIdx.x
    out[t] = cuda.syncthreads_count(int(t < 5)) if t < 32 else 0  # here


@cuda.jit
def of_the_grid(out):
    grid = cuda.cg.this_grid()
    if cuda.grid(1) < 32:
        grid.sync()  # here
    out[cuda.threadIdx.x] = 1


DIVERGENT = [
    in_an_if,
    in_both_branches,
    in_a_loop_of_several_lengths,
    in_a_while_that_some_leave,
    after_a_break,
    after_a_continue,
    that_counts,
    of_the_grid,
]
named = {"ids": lambda kernel: kernel.__name__}


@pytest.mark.parametrize("kernel", DIVERGENT, **named)
def test_a_barrier_that_some_threads_miss(kernel):
    with pytest.raises(cuda.DivergentBarrier) as caught:
        kernel[2, 64](np.zeros(64))
    assert caught.value.place.line == line_of(kernel)
    assert caught.value.place.block == (0, 0, 0)
    assert "never come" in caught.value.what and "move" in caught.value.try_


@pytest.mark.parametrize("kernel", [in_a_device_function, after_the_return_of_a_function], **named)
def test_a_barrier_in_a_device_function(kernel):
    with pytest.raises(cuda.DivergentBarrier) as caught:
        kernel[1, 64](np.zeros(64))
    assert caught.value.place.function in ("wait", "wait_early")


def test_a_barrier_that_a_warp_misses_is_found_in_any_order():
    for kernel in (in_both_branches, in_an_if, after_a_continue):
        for seed in range(3):
            how = {"schedule": "adversarial", "seed": seed}
            with pytest.raises(cuda.DivergentBarrier), cuda.check(**how):
                kernel[1, 64](np.zeros(64))


@cuda.jit
def returned_before(out):
    t = cuda.threadIdx.x
    if t >= 40:
        return
    cuda.syncthreads()
    out[t] = 1
    if t >= 20:
        return
    cuda.syncthreads()
    out[t] = 2


@cuda.jit
def whole_blocks_take_one_branch(out):
    if cuda.blockIdx.x == 0:
        cuda.syncthreads()
    else:
        for _ in range(cuda.blockIdx.x):
            cuda.syncthreads()
    out[cuda.threadIdx.x % 64] = 2


@cuda.jit
def function_returns_to_all(out):
    t = cuda.threadIdx.x
    x = sign(t - 10)
    cuda.syncthreads()  # those who returned early from the function are here as well
    out[t] = x + 2


@cuda.jit(device=True)
def sign(x):
    if x < 0:
        return -1
    return 0


@pytest.mark.parametrize(
    "kernel", [returned_before, whole_blocks_take_one_branch, function_returns_to_all], **named
)
def test_barriers_that_are_right(kernel):
    for how in ({}, {"schedule": "adversarial"}):
        out = np.zeros(64)
        with cuda.check(raise_=False, **how) as c:
            kernel[1, 64](out)
        assert c.findings == []
        assert out[:20].min() >= 1


# --- warps ------------------------------------------------------------------------------------


@cuda.jit
def syncwarp_in_a_branch(out):
    if cuda.threadIdx.x % 32 < 8:
        cuda.syncwarp()  # here
    out[cuda.threadIdx.x] = 1


@cuda.jit
def shuffle_of_half_the_lanes(out):
    t = cuda.threadIdx.x
    if t % 2:
        out[t] = cuda.shfl_sync(0xFFFFFFFF, t, 1)  # here


@cuda.jit
def vote_without_the_lane_itself(out):
    out[cuda.threadIdx.x] = cuda.ballot_sync(0xFF, True)  # here


@cuda.jit
def vote_in_a_loop(out):
    t = cuda.threadIdx.x
    for _ in range(t % 4):
        out[t] = cuda.any_sync(0xFFFFFFFF, t > 3)  # here


@cuda.jit
def two_groups_with_wrong_masks(out):
    t = cuda.threadIdx.x
    members = 0x0000FFFF if t % 32 < 20 else 0xFFFF0000
    out[t] = cuda.all_sync(members, True)  # here


@pytest.mark.parametrize(
    "kernel",
    [
        syncwarp_in_a_branch,
        shuffle_of_half_the_lanes,
        vote_without_the_lane_itself,
        vote_in_a_loop,
        two_groups_with_wrong_masks,
    ],
    **named,
)
def test_lanes_that_a_mask_names_and_that_do_not_come(kernel):
    with pytest.raises(cuda.DivergentBarrier) as caught:
        kernel[1, 64](np.zeros(64, np.int64))
    assert caught.value.place.line == line_of(kernel)


@cuda.jit
def groups_with_masks_of_their_own(out):
    t = cuda.threadIdx.x
    members = 0x0000FFFF if t % 32 < 16 else 0xFFFF0000
    out[t] = cuda.ballot_sync(members, t % 2 == 0) if t < 64 else 0
    if t % 32 < 4:
        cuda.syncwarp(0xF)
    cuda.syncwarp()


def test_masks_that_are_right():
    out = np.zeros(70, np.int64)
    with cuda.check():
        groups_with_masks_of_their_own[1, 64](out)


# --- limits and endless loops are findings, too -----------------------------------------------


@cuda.jit
def endless(out):
    k = 0
    while k < 10:
        k -= 0
    out[0] = k


@cuda.jit
def one_too_far(out):
    out[cuda.grid(1) + 1] = 1


@cuda.jit
def too_much_shared(out):
    s = cuda.shared.array(200_000, np.float32)
    s[0] = 1
    out[0] = s[0]


FAILURES = [
    (lambda: endless[1, 1](np.zeros(1)), cuda.StepBudgetExceeded),
    (lambda: one_too_far[1, 64](np.zeros(64)), cuda.OutOfBounds),
    (lambda: one_too_far[1, 1025](np.zeros(2000)), cuda.LaunchError),
    (lambda: one_too_far[1, 64, 0, 10**6](np.zeros(64)), cuda.LaunchError),
    (lambda: one_too_far[0, 64](np.zeros(64)), cuda.LaunchError),
    (lambda: too_much_shared[1, 32](np.zeros(64)), cuda.LaunchError),
    (lambda: in_an_if[1, 64](np.zeros(64)), cuda.DivergentBarrier),
]


@pytest.mark.parametrize("launch, error", FAILURES)
def test_what_fails_becomes_a_finding(launch, error):
    with cuda.step_budget(1000), cuda.check(raise_=False) as c:
        launch()
    assert [type(f) for f in c.findings] == [error]
    with cuda.step_budget(1000), pytest.raises(error), cuda.check() as c:
        launch()
    assert [type(f) for f in c.findings] == [error]


# --- one kernel, several mistakes -------------------------------------------------------------


@cuda.jit
def several_mistakes(a, out):
    s = cuda.shared.array(64, np.float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    s[t] = a[i]
    x = s[63 - t]  # no barrier
    out[i + 1] = x  # one too far


def test_what_was_found_before_a_launch_failed_is_kept():
    with cuda.check(raise_=False) as c:
        several_mistakes[2, 64](np.zeros(128, np.float32), np.zeros(128, np.float32))
    assert [type(f) for f in c.findings] == [cuda.SharedMemoryRace, cuda.OutOfBounds]
    text = str(c)
    assert text.startswith("1 launch checked: 2 findings\n1. SharedMemoryRace: a race on s[")
    assert "\n2. OutOfBounds: out[128] is outside the array" in text
    assert text.count("Try: ") == 2


# --- the doors --------------------------------------------------------------------------------


@cuda.jit
def racy(out):
    out[0] += cuda.grid(1)


def test_check_raises_when_the_launch_has_ended():
    out = np.zeros(1)
    with pytest.raises(cuda.GlobalMemoryRace), cuda.check():
        racy[1, 64](out)
    racy[1, 64](out)  # unwatched again


def test_check_as_a_call():
    c = cuda.check(racy)[1, 64](np.zeros(1))
    assert [type(f) for f in c.findings] == [cuda.GlobalMemoryRace]
    with pytest.raises(cuda.GlobalMemoryRace):
        cuda.check(racy, raise_=True)[1, 64](np.zeros(1))


def test_the_report_of_nothing():
    with cuda.check() as c:
        returned_before[1, 64](np.zeros(64))
        returned_before[1, 64](np.zeros(64))
    assert str(c) == "2 launches checked: nothing found"
    assert "nothing found" in c._repr_html_()


def test_the_report_in_a_notebook_is_escaped():
    c = cuda.check(racy)[1, 64](np.zeros(1))
    page = c._repr_html_()
    assert "<b>GlobalMemoryRace</b>" in page and "out[0] += cuda.grid(1)" in page
    assert "<li>" in page and "\n1. " not in page


def test_profile_and_check_watch_one_launch():
    with cuda.profile() as p, cuda.check(raise_=False) as c:
        racy[1, 64](np.zeros(1))
    assert p.report.global_load_requests == 2 and len(c.findings) == 1


def test_an_exercise_can_ask_for_the_checkers():
    grading.launch(racy, 1, 64, np.zeros(1))
    with pytest.raises(cuda.GlobalMemoryRace):
        grading.launch(racy, 1, 64, np.zeros(1), check=True)


SCRIPT = """
import numpy as np
from aiinfra_labs.gpu import emulator as cuda

@cuda.jit
def racy(out):
    out[0] += 1

for watch in (None, cuda.check(raise_=False), cuda.check(schedule="adversarial", raise_=False)):
    try:
        if watch is None:
            racy[1, 64](np.zeros(1))
        else:
            with watch:
                racy[1, 64](np.zeros(1))
        print("ran", 0 if watch is None else len(watch.findings))
    except cuda.GlobalMemoryRace:
        print("raised")
"""


@pytest.mark.parametrize("value, first", [("1", "raised"), ("0", "ran 0"), ("", "ran 0")])
def test_every_launch_is_checked_on_request(tmp_path, value, first):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    environment = os.environ | {"AIINFRA_CHECK": value}
    ran = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, env=environment, timeout=60
    )
    assert ran.stdout.split("\n")[:3] == [first, "ran 1", "ran 1"], ran.stderr
