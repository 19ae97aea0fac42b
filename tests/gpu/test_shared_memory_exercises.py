"""The exercises of unit 3.4: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from aiinfra_labs.course import facts, figures
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.registry import find
from aiinfra_labs.course.results import Result
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import shared_memory
from aiinfra_labs.gpu.exercises import shared_memory_views as views

EXERCISES = ("3.4.a", "3.4.b", "3.4.c", "3.4.d", "3.4.e")


def _planted(name: str) -> ModuleType:
    path = Path(__file__).parent / "planted" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"planted_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


turns, barriers = _planted("shared_memory"), _planted("shared_memory_barriers")
RIGHT, WRONG = turns.RIGHT + barriers.RIGHT, turns.WRONG + barriers.WRONG


@cache
def _tried(exercise: str, answer: Any) -> Result:
    assert find(exercise).objection(answer) is None
    return try_out(find(exercise), answer)


def _name(value: Any) -> str:
    return getattr(value, "__name__", "") if not isinstance(value, str) else ""


# --- planted answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=_name)
def test_a_right_answer_gets_all_points(exercise: str, answer: Any) -> None:
    result = _tried(exercise, answer)
    assert result.passed, str(result)
    assert result.score == result.points == find(exercise).points


@pytest.mark.parametrize(("exercise", "answer", "reason"), WRONG, ids=_name)
def test_a_wrong_answer_fails_for_its_reason(exercise: str, answer: Any, reason: str) -> None:
    result = _tried(exercise, answer)
    assert not result.passed and result.score < result.points
    assert reason in str(result)
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_ and outcome.input)


def test_every_exercise_has_enough_planted_answers() -> None:
    right = Counter(exercise for exercise, _ in RIGHT)
    wrong = Counter(exercise for exercise, *_ in WRONG)
    for exercise in EXERCISES:
        assert right[exercise] >= 2 and wrong[exercise] >= 4
        assert len(find(exercise).hints) >= 4


@pytest.mark.parametrize("exercise", EXERCISES)
def test_no_requirement_is_idle(exercise: str) -> None:
    """Each requirement is failed by a planted answer that passes at least one other."""
    answers = [answer for id, answer, _ in WRONG if id == exercise]
    caught = {
        outcome.name
        for result in (_tried(exercise, answer) for answer in answers)
        if any(o.passed for o in result.requirements)
        for outcome in result.requirements
        if not outcome.passed
    }
    answer = next(answer for id, answer in RIGHT if id == exercise)
    names = {outcome.name for outcome in _tried(exercise, answer).requirements}
    assert caught == names
    assert {pair[0] for pair in find(exercise).hints} <= names


def test_a_race_is_told_with_both_its_lines() -> None:
    """The two statements of `turn_without_a_barrier` that race, by their numbers in the file."""
    text, first = inspect.getsourcelines(turns.turn_without_a_barrier.py_func)
    lines = [first + k for k, line in enumerate(text) if re.search(r"\btile\[t", line)]
    said = str(_tried("3.4.a", turns.turn_without_a_barrier))
    assert len(lines) == 2
    assert f"writes it (line {lines[0]})" in said and f"reads it (line {lines[1]})" in said
    assert f"put cuda.syncthreads() between line {lines[0]} and line {lines[1]}" in said
    assert text[lines[0] - first].strip() in said and text[lines[1] - first].strip() in said


def test_a_conflict_is_told_with_its_figure_and_its_line() -> None:
    said = str(_tried("3.4.b", turns.turn))
    assert "11,904 bank conflicts, 11,904 of them in line" in said  # 384 requests of 32 wavefronts
    assert "out[left + ty, top + tx] = tile[tx, ty]" in said


def test_the_second_barrier_is_asked_for_where_it_belongs() -> None:
    text, first = inspect.getsourcelines(barriers.smooth_with_the_first_barrier_only.py_func)
    store = first + next(k for k, line in enumerate(text) if "tile[k] = " in line)
    load = first + next(k for k, line in enumerate(text) if "tile[t + k]" in line)
    said = str(_tried("3.4.d", barriers.smooth_with_the_first_barrier_only))
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


@pytest.mark.parametrize(("exercise", "starter"), UNSOLVED, ids=_name)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    assert show(exercise, starter).status == "not attempted"
    assert not try_out(find(exercise), starter).passed


# --- drawings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=_name)
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
        ("3.4.e", barriers.count_in_global_memory, "20,000 values: 625, and 16 do"),
        ("3.4.e", barriers.count_in_blocks, "20,000 values: 16, and 16 do"),
    ],
    ids=_name,
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
