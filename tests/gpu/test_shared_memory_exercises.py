"""The exercises of unit 3.4: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

import planting
from aiinfra_labs.course import facts, figures
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import shared_memory
from aiinfra_labs.gpu.exercises import shared_memory_views as views
from planting import name_of, tried

EXERCISES = ("3.4.a", "3.4.b", "3.4.c", "3.4.d", "3.4.e")


turns, barriers = (
    planting.planted("gpu", "shared_memory"),
    planting.planted("gpu", "shared_memory_barriers"),
)
RIGHT, WRONG = turns.RIGHT + barriers.RIGHT, turns.WRONG + barriers.WRONG


# --- planted answers ------------------------------------------------------------------------------


def test_a_race_is_told_with_both_its_lines() -> None:
    """The two statements of `turn_without_a_barrier` that race, by their numbers in the file."""
    text, first = inspect.getsourcelines(turns.turn_without_a_barrier.py_func)
    lines = [first + k for k, line in enumerate(text) if re.search(r"\btile\[t", line)]
    said = str(tried("3.4.a", turns.turn_without_a_barrier))
    assert len(lines) == 2
    assert f"writes it (line {lines[0]})" in said and f"reads it (line {lines[1]})" in said
    assert f"put cuda.syncthreads() between line {lines[0]} and line {lines[1]}" in said
    assert text[lines[0] - first].strip() in said and text[lines[1] - first].strip() in said


def test_a_conflict_is_told_with_its_figure_and_its_line() -> None:
    said = str(tried("3.4.b", turns.turn))
    assert "11,904 bank conflicts, 11,904 of them in line" in said  # 384 requests of 32 wavefronts
    assert "out[left + ty, top + tx] = tile[tx, ty]" in said


def test_the_second_barrier_is_asked_for_where_it_belongs() -> None:
    text, first = inspect.getsourcelines(barriers.smooth_with_the_first_barrier_only.py_func)
    store = first + next(k for k, line in enumerate(text) if "tile[k] = " in line)
    load = first + next(k for k, line in enumerate(text) if "tile[t + k]" in line)
    said = str(tried("3.4.d", barriers.smooth_with_the_first_barrier_only))
    assert f"put cuda.syncthreads() after line {load}, before the loop comes back to line" in said
    assert f"back to line {store}" in said


# --- starters -------------------------------------------------------------------------------------


@cuda.jit
def _unsolved_matrix(a, out):
    """out[x, y] = a[y, x]."""


@cuda.jit
def _unsolved_series(x, out):
    """A moving mean."""


@cuda.jit
def _unsolved_histogram(values, bins):
    """bins[v] += 1."""


UNSOLVED = (
    ("3.4.a", _unsolved_matrix),
    ("3.4.b", _unsolved_matrix),
    ("3.4.c", _unsolved_matrix),
    ("3.4.d", _unsolved_series),
    ("3.4.e", _unsolved_histogram),
)


@pytest.mark.parametrize(("exercise", "starter"), UNSOLVED, ids=name_of)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    assert show(exercise, starter).status == "not attempted"
    assert not try_out(find(exercise), starter).passed


# --- drawings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=name_of)
def test_show_draws_a_right_answer(exercise: str, answer: Any) -> None:
    drawn = show(exercise, answer)
    assert isinstance(drawn, views.Drawing)
    html = drawn._repr_html_()
    assert 'role="img"' in html
    assert {*re.findall(r"#[0-9a-f]{6}\b", html)} <= {*figures.PALETTE.values()}


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("3.4.a", turns.turn, "32 wavefronts, 1 bank used"),
        ("3.4.b", turns.turn_padded, "1 wavefront, 32 banks used"),
        ("3.4.b", turns.turn_padded_by_two, "2 wavefronts, 16 banks used"),
        ("3.4.c", turns.swizzle_by_three_bits, "4 wavefronts, 8 banks used"),
        ("3.4.a", turns.turn_without_a_tile, "touches no shared memory"),
        ("3.4.d", barriers.smooth_without_barriers, "24 of them are read by another warp"),
        ("3.4.d", barriers.smooth_without_a_tile, "stores nothing in shared memory"),
        ("3.4.e", barriers.count_in_global_memory, "20,000 values: 20,000, and 512 do"),
        ("3.4.e", barriers.count_in_blocks, "20,000 values: 512, and 512 do"),
    ],
    ids=name_of,
)
def test_show_says_what_it_draws(exercise: str, answer: Any, said: str) -> None:
    assert said in str(show(exercise, answer))


def test_wavefronts_are_what_the_emulator_counts() -> None:
    """The worst request of the drawing, and the counter of the launch that it is from."""
    for answer in (turns.turn, turns.turn_padded, turns.turn_padded_by_two, turns.turn_swizzled):
        a, out = shared_memory._matrix(32, 32)
        with cuda.profile() as p:
            answer[1, (32, 32)](a, out)
        accesses = views.shared_accesses(answer, 1, (32, 32), a, out)
        loads = [row for x in accesses if x.kind == "load" for row in x.addresses]
        assert sum(map(views.wavefronts, loads)) == p.report.shared_load_wavefronts


# --- what the checks stand on ---------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 7, 300])
def test_the_moving_mean_is_that_of_a_loop(n: int) -> None:
    x = np.random.default_rng(n).uniform(1, 2, n).astype(np.float32)
    expected = [x[max(i - 3, 0) : i + 4].astype(np.float64).sum() / 7 for i in range(n)]
    np.testing.assert_allclose(shared_memory._moving_mean(x), expected, rtol=1e-6)


def test_the_claim_is_the_ratio_of_two_published_figures() -> None:
    known = facts.load("gpu")
    ratio = known["h100.global_latency"].value / known["h100.shared_latency"].value
    claim = next(c for c in all_claims() if c.id == "shared-400")
    assert claim.verdict == "corrected" and claim.source.startswith("https://arxiv.org/")
    assert f": {ratio:.1f} times" in claim.figure and 15 < ratio < 20
    assert claim.figure.startswith("On an H800 ")  # the card that the source measured
