"""The exercises of unit 3.7: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.course.results import Result
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator import LaunchError, occupancy_of
from aiinfra_labs.gpu.exercises import compute, compute_precision

EXERCISES = ("3.7.a", "3.7.b", "3.7.c", "3.7.d", "3.7.e")


def _planted() -> ModuleType:
    path = Path(__file__).parent / "planted" / "compute.py"
    spec = importlib.util.spec_from_file_location("planted_compute", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


planted = _planted()


@cache
def _tried(exercise: str, answer: Any) -> Result:
    assert find(exercise).objection(answer) is None
    return try_out(find(exercise), answer)


def _name(value: Any) -> str:
    return getattr(value, "__name__", "") if not isinstance(value, str) else ""


# --- planted answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=_name)
def test_a_right_answer_gets_all_points(exercise: str, answer: Any) -> None:
    result = _tried(exercise, answer)
    assert result.passed, str(result)
    assert result.score == result.points == find(exercise).points


@pytest.mark.parametrize(("exercise", "answer", "reason"), planted.WRONG, ids=_name)
def test_a_wrong_answer_fails_for_its_reason(exercise: str, answer: Any, reason: str) -> None:
    result = _tried(exercise, answer)
    assert not result.passed and result.score < result.points
    assert reason in str(result)
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_ and outcome.input)


def test_every_exercise_has_enough_planted_answers() -> None:
    right = Counter(exercise for exercise, _ in planted.RIGHT)
    wrong = Counter(exercise for exercise, *_ in planted.WRONG)
    for exercise in EXERCISES:
        assert right[exercise] >= 2 and wrong[exercise] >= 4
        assert len(find(exercise).hints) >= 3


@pytest.mark.parametrize("exercise", EXERCISES)
def test_no_requirement_is_idle(exercise: str) -> None:
    """Each requirement is failed by a planted answer that passes at least one other."""
    answers = [answer for id, answer, _ in planted.WRONG if id == exercise]
    caught = {
        outcome.name
        for result in (_tried(exercise, answer) for answer in answers)
        if any(o.passed for o in result.requirements)
        for outcome in result.requirements
        if not outcome.passed
    }
    answer = next(answer for id, answer in planted.RIGHT if id == exercise)
    assert caught == {outcome.name for outcome in _tried(exercise, answer).requirements}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_each_hint_belongs_to_a_requirement(exercise: str) -> None:
    answer = next(answer for id, answer in planted.RIGHT if id == exercise)
    names = {outcome.name for outcome in _tried(exercise, answer).requirements}
    assert {hint[0] for hint in find(exercise).hints} <= names


# --- starters ----------------------------------------------------------------------------------


def _unsolved_blocks(sm, threads, registers, shared):
    """(blocks, name)."""


def _unsolved_choice(registers, fixed, per_thread, target, device):
    """Threads, or None."""


@cuda.jit
def _unsolved_jobs(x, out):
    """root or logistic."""


def _unsolved_bits(x):
    """uint16 [n]."""


@cuda.jit
def _unsolved_dots(a, b, out):
    """Sums."""


UNSOLVED = (
    ("3.7.a", _unsolved_blocks),
    ("3.7.b", _unsolved_choice),
    ("3.7.c", _unsolved_jobs),
    ("3.7.d", _unsolved_bits),
    ("3.7.e", _unsolved_dots),
)


@pytest.mark.parametrize(("exercise", "starter"), UNSOLVED, ids=_name)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    assert show(exercise, starter).status == "not attempted"
    result = try_out(find(exercise), starter)
    assert not result.passed
    assert sum(o.passed for o in result.requirements) <= 1


# --- what show draws -----------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES)
def test_show_draws_right_and_wrong_answers(exercise: str) -> None:
    draw = find(exercise).shower
    right = next(answer for id, answer in planted.RIGHT if id == exercise)
    assert "<img alt=" in draw(right)._repr_html_()
    wrong = {"3.7.a": "registers_one_by_one", "3.7.b": "always_256", "3.7.c": "does_both"}
    wrong |= {"3.7.d": "halves_up", "3.7.e": "single"}
    said = repr(draw(getattr(planted, wrong[exercise])))
    assert said and said != repr(draw(right))


def test_the_pictures_words_are_its_figures() -> None:
    assert "0 of 113 differ" in repr(compute._show_blocks_per_sm(planted.in_a_dict))
    assert "256 threads: 37.5% of 43.8% asked" in repr(
        compute._show_choose_block(planted.always_256)
    )
    assert "32 yours; instructions a warp: 84 by parity, 84 yours" in repr(
        compute._show_two_jobs(planted.does_both)
    )
    # of 4 steps from 1 on, the ties are at 0.5, 1.5, 2.5 and 3.5: 0.5 and 2.5 go down to even
    assert "2 of 257" in repr(compute_precision._show_bf16_bits(planted.halves_up))


# --- inputs --------------------------------------------------------------------------------------


def test_what_is_asked_for_can_be_had_or_cannot() -> None:
    for *needs, target, device in compute.ASKED:
        shares = compute._curve(*needs, device).values()
        assert max(shares) >= target
        assert min(shares) < target, "any answer would do"
    for *needs, target, device in compute.TOO_MUCH:
        assert max(compute._curve(*needs, device).values()) < target


def test_the_700_blocks_can_be_launched_and_differ() -> None:
    blocks = compute._some_blocks(700)
    assert len(set(blocks)) > 650
    limits = Counter()
    for capability, *block in blocks:
        limits[occupancy_of(*block, device=capability).limited_by[0]] += 1
    assert set(limits) >= {"warps", "registers", "shared memory"}
    with pytest.raises(LaunchError):
        occupancy_of(1024, 80, 0, "9.0")


def test_the_ties_are_ties() -> None:
    x = compute_precision._between(0.5).astype(np.float32)
    assert ((x.view(np.uint32) & 0xFFFF) == 0x8000).all() and len(x) == 512
    assert len(set((x.view(np.uint32) >> 16 & 1).tolist())) == 2


def test_the_allowed_error_lies_between_kahan_and_plain_fp32() -> None:
    """The gate has slack on one side and bites on the other."""
    for a, b in (compute_precision._halves(3000, 8), compute_precision._one_large(3000)):
        kahan = compute_precision._run(planted.kahan, a, b, 1, 32)
        plain = compute_precision._run(planted.single, a, b, 1, 32)
        assert compute_precision._errors(kahan, a, b).max() < compute_precision.ALLOWED / 2
        assert compute_precision._errors(plain, a, b).max() > compute_precision.ALLOWED * 2
