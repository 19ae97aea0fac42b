"""The exercises of unit 3.2: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import importlib
import importlib.util
from html import escape
from typing import Any

import numpy as np
import pytest

import planting
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.api.intrinsics import alias_module
from aiinfra_labs.gpu.exercises import cuda_model
from aiinfra_labs.gpu.exercises import cuda_model_images as images
from aiinfra_labs.gpu.exercises.grading import few_sectors
from aiinfra_labs.gpu.exercises.thread_map import TracedLaunch
from planting import name_of, tried

EXERCISES = ("3.2.a", "3.2.b", "3.2.c", "3.2.d", "3.2.e")


planted = planting.planted("gpu", "cuda_model")


# --- planted answers ---------------------------------------------------------------------------


# --- starters, and answers that are no answers ---------------------------------------------------


@cuda.jit
def _unsolved_vector_add(a, b, out):
    """out[i] = a[i] + b[i]."""


@cuda.jit
def _unsolved_saxpy(alpha, x, y):
    """y[i] = alpha * x[i] + y[i]."""


@cuda.jit
def _unsolved_image(image, out):
    """From image to out."""


def _unsolved_add_many(kernel, x, y, times):
    """x + y + ... + y."""


UNSOLVED = (
    ("3.2.a", _unsolved_vector_add),
    ("3.2.b", _unsolved_add_many),
    ("3.2.c", _unsolved_saxpy),
    ("3.2.d", _unsolved_image),
    ("3.2.e", _unsolved_image),
)


@pytest.mark.parametrize(("exercise", "starter"), UNSOLVED, ids=name_of)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    assert show(exercise, starter).status == "not attempted"
    result = try_out(find(exercise), starter)
    assert not result.passed
    assert sum(o.passed for o in result.requirements) <= 1


@cuda.jit
def _prints(a, b, out):
    i = cuda.grid(1)
    for k in range(1000):
        print(k)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def _takes_two(a, out):
    out[0] = a[0]


@cuda.jit
def _opens_a_file(a, b, out):
    with open("x") as f:
        out[0] = f


@cuda.jit
def _calls_numpy(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = np.linalg.norm(a)


@cuda.jit
def _misspells(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + c[i]  # noqa: F821


def _plain(a, b, out):
    for i in range(len(out)):
        out[i] = a[i] + b[i]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (_takes_two, "takes 2 parameters (a, out), expected 3 (a, b, out)"),
        (_plain, "is a plain Python function, not a kernel"),
        (42, "cannot be called"),
        (_opens_a_file, "with"),
        (_calls_numpy, "norm"),
        (_misspells, "'c'"),
    ],
)
def test_what_is_no_kernel_gets_a_clear_answer(answer: Any, expected: str) -> None:
    result = check("3.2.a", answer)
    assert result.status == "failed"
    assert result.score == 0
    assert expected in str(result)
    assert "Traceback" not in str(result)


def test_a_kernel_that_prints_is_graded_all_the_same(capsys: pytest.CaptureFixture) -> None:
    result = check("3.2.a", _prints)
    assert result.passed
    assert "printed" in str(result)
    assert capsys.readouterr().out == ""


def test_a_kernel_of_numbas_own_is_graded_as_well() -> None:
    """On a GPU machine `cuda` is Numba's module; what its kernels do is seen on the emulator."""
    numba_cuda = importlib.import_module("numba.cuda")
    alias_module(numba_cuda, cuda)

    def vector_add(a, b, out):
        i = numba_cuda.grid(1)
        if i < out.size:
            out[i] = a[i] + b[i]

    def unguarded(a, b, out):
        i = numba_cuda.grid(1)
        out[i] = a[i] + b[i]

    assert tried("3.2.a", numba_cuda.jit(vector_add)).passed
    assert "is outside the array" in str(tried("3.2.a", numba_cuda.jit(unguarded)))


def _never_comes_back(kernel, x, y, times):
    while True:
        pass


def test_a_function_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find("3.2.b"), "seconds", 0.2)
    result = check("3.2.b", _never_comes_back)
    assert result.score == 0
    assert "your code was stopped" in str(result)
    assert "_never_comes_back" in str(result)


# --- drawings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=name_of)
def test_show_draws_a_right_answer(exercise: str, answer: Any) -> None:
    picture = show(exercise, answer)
    html = picture._repr_html_()
    assert f'<img alt="{escape(picture.alt)}"' in html
    assert "0 never, 0 more than once" in picture.alt or exercise in ("3.2.b", "3.2.e")


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("3.2.a", planted.add_by_thread_only, "136 never, 64 more than once"),
        ("3.2.b", planted.add_host_arrays, "120,000 bytes to the device where 8,000 suffice"),
        ("3.2.c", planted.saxpy_in_stretches, "32 sectors a load request"),
        ("3.2.c", planted.saxpy_by_range, "4 sectors a load request"),
        ("3.2.d", planted.grey_swapped, "20 never"),
        ("3.2.e", planted.blur_asking_each, "4, 6, 9"),
        ("3.2.e", planted.blur_repeating_the_edge, "thread reads: 9."),
        ("3.2.a", planted.add_without_a_guard, "a[200] is outside the array"),
    ],
    ids=name_of,
)
def test_show_says_what_it_draws(exercise: str, answer: Any, said: str) -> None:
    assert said in str(show(exercise, answer))


# --- what the checks stand on --------------------------------------------------------------------


@cuda.jit
def _copy(source, target):
    i = cuda.grid(1)
    if i < target.size:
        target[i] = source[i]


@cuda.jit
def _copy_2d(source, target):
    x, y = cuda.grid(2)
    if y < target.shape[0] and x < target.shape[1]:
        target[y, x] = source[y, x]


def _floats(*shape: int) -> Any:
    return cuda.to_device(np.zeros(shape, np.float32))


def test_the_map_says_which_thread_touched_which_element() -> None:
    traced = TracedLaunch(_copy, 3, 50, _floats(120), _floats(120))
    assert (traced.times("store", 1) == 1).all()
    assert (traced.times("load", 0) == 1).all()
    assert not traced.times("store", 0).any()
    assert (traced.thread_of("store", 1) == np.arange(120)).all()
    assert (traced.times_by_thread("store", 1) == (np.arange(150) < 120)).all()
    assert traced.threads_at("store", 1, (70,)) == [70]


def test_the_map_of_a_plane_counts_threads_along_x_first() -> None:
    traced = TracedLaunch(_copy_2d, (2, 2), (4, 2), _floats(3, 7), _floats(3, 7))
    block_0 = [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert traced.thread_of("store", 1)[:2, :4].tolist() == block_0
    assert traced.thread_of("store", 1)[2, 6] == 3 * 8 + 2  # block 3, thread (2, 0)


def test_the_map_tells_what_nobody_touched() -> None:
    traced = TracedLaunch(_copy, 1, 32, _floats(40), _floats(40))
    assert (traced.thread_of("store", 1)[32:] == -1).all()
    assert not traced.times("store", 1)[32:].any()
    assert traced.threads_at("store", 1, (35,)) == []


def test_a_block_of_100_threads_runs_as_4_warps() -> None:
    """The figure of the claim `hierarchy`."""
    traced = TracedLaunch(_copy, 1, 100, _floats(100), _floats(100))
    (access,) = traced.accesses("store", 1)
    assert (access.addresses >= 0).sum(axis=1).tolist() == [32, 32, 32, 4]
    claim = next(c for c in all_claims() if c.id == "hierarchy")
    assert claim.verdict == "corrected"
    assert "4 warps, of 32 + 32 + 32 + 4 threads" in claim.figure


class _Recorder:
    """A requirement that keeps what failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def that(self, condition: Any, what: str, why: str = "", try_: str = "") -> None:
        if not condition:
            self.failed.append(what)


@pytest.mark.parametrize(("sectors", "fails"), [(4.0, 0), (5.0, 0), (5.1, 1), (32.0, 1), (0.0, 1)])
def test_the_gate_leaves_one_sector_of_slack(sectors: float, fails: int) -> None:
    r = _Recorder()
    few_sectors(r, "load", sectors, "why", "try")
    assert len(r.failed) == fails


def test_the_references_agree_with_a_loop_in_python() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (4, 3)).astype(np.float32)
    expected = [
        [image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean() for x in range(3)]
        for y in range(4)
    ]
    assert np.allclose(images._box_mean(image), expected)
    x, y = np.float32([1, 2]), np.float32([0.5, 0.25])
    assert cuda_model._added(x, y, 3).tolist() == [2.5, 2.75]
    assert sum((images.RED, images.GREEN, images.BLUE)) == pytest.approx(1)
