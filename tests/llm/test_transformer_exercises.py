"""The exercises of unit 1.4: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.course.results import Result
from aiinfra_labs.llm.exercises import transformer_runs as runs
from aiinfra_labs.llm.training import Recipe

EXERCISES = ("1.4.a", "1.4.b", "1.4.c", "1.4.d", "1.4.e")


def _planted() -> ModuleType:
    path = Path(__file__).parent / "planted" / "transformer.py"
    spec = importlib.util.spec_from_file_location("planted_transformer", path)
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


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=_name)
def test_a_right_answer_gets_all_points(exercise: str, answer: Any) -> None:
    result = _tried(exercise, answer)
    assert result.passed, str(result)
    assert result.score == result.points


@pytest.mark.parametrize(("exercise", "answer", "reason"), planted.WRONG, ids=_name)
def test_a_wrong_answer_fails_for_its_reason(exercise: str, answer: Any, reason: str) -> None:
    result = _tried(exercise, answer)
    assert not result.passed and result.score < result.points
    assert reason in str(result), str(result)
    failed = [o for o in result.requirements if not o.passed]
    assert all(o.what and o.why and o.try_ and o.input for o in failed), failed


def test_every_exercise_has_enough_planted_answers() -> None:
    right = Counter(exercise for exercise, _ in planted.RIGHT)
    wrong = Counter(exercise for exercise, *_ in planted.WRONG)
    for exercise in EXERCISES:
        assert right[exercise] >= 2 and wrong[exercise] >= 3
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


def _norm(x, weight, eps):
    """Unsolved."""


def _block(x, attention, mlp, norm1, norm2):
    """Unsolved."""


def _rate(step, steps, warm_up, peak, last):
    """Unsolved."""


def _accumulate(model, parts):
    """Unsolved."""


class _Saved:
    """Unsolved."""

    def __init__(self, run):
        """Unsolved."""

    def restore(self, run):
        """Unsolved."""


@pytest.mark.parametrize(
    ("exercise", "starter"),
    list(zip(EXERCISES, (_norm, _block, _rate, _accumulate, _Saved), strict=True)),
)
def test_a_starter_is_not_attempted_and_would_not_pass(exercise: str, starter: Any) -> None:
    assert check(exercise, starter).status == "not attempted"
    result = try_out(find(exercise), starter)
    assert not result.passed and result.score == 0


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("1.4.a", lambda x, weight, eps: x.numpy(), "is a ndarray, expected a tensor"),
        ("1.4.a", lambda x, weight, eps: x.sum(), "has shape [], expected [4]"),
        ("1.4.b", lambda x, attention, mlp, norm1, norm2: [None][0], "is nothing"),
        ("1.4.c", lambda step, steps, warm_up, peak, last: [None][0], "the rate of step 0 is None"),
        ("1.4.d", lambda model, parts: 0.0, "has no gradient"),
        ("1.4.e", lambda run: run, "a Run without restore(run)"),
    ],
)
def test_what_is_no_answer_is_told_so(exercise: str, answer: Any, said: str) -> None:
    result = check(exercise, answer)
    assert not result.passed and said in str(result), str(result)
    assert "Traceback" not in str(result)


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("1.4.b", planted.block_in_two_lines, "yours: 0.0"),
        ("1.4.b", planted.block_that_detaches, "0 at the bottom"),
        ("1.4.c", planted.rate_by_cosine, "they agree at every step"),
        ("1.4.c", planted.rate_from_zero, "they part at step 0"),
        ("1.4.c", planted.rate_that_climbs_again, "they part at step 101"),
        ("1.4.e", planted.SavedByCopy, "they agree to the bit"),
        ("1.4.e", planted.without("x", "optimizer"), "they part 1 steps after it"),
    ],
)
def test_show_says_what_it_draws(exercise: str, answer: Any, said: str) -> None:
    picture = show(exercise, answer)
    assert said in str(picture), str(picture)
    assert "<svg" in picture._repr_html_()


def test_the_reference_schedule_is_the_training_loops() -> None:
    recipe = Recipe(steps=50, warm_up=7, learning_rate=0.3, final_learning_rate=0.01)
    for step in range(70):
        assert runs.rate(step, 50, 7, 0.3, 0.01) == pytest.approx(recipe.rate(step), rel=1e-12)


def test_what_the_watched_model_counts() -> None:
    model = runs.Watched(runs.small_model())
    parts = runs.token_parts([[6, 2], [3]])
    losses = [model.loss(*part) for part in parts]
    assert (model.forwards, model.alive, model.most_rows) == (2, 2, 2)
    sum(losses).backward()
    assert (model.alive, model.most_alive) == (0, 2)
    plain = runs.small_model()
    sum(plain.loss(*part) for part in parts).backward()
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
