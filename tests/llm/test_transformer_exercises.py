"""The exercises of unit 1.4: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import planting
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.llm.exercises import transformer_runs as runs
from aiinfra_labs.llm.training import Recipe

EXERCISES = ("1.4.a", "1.4.b", "1.4.c", "1.4.d", "1.4.e")


planted = planting.planted("llm", "transformer")


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
