"""The exercises of unit 3.5: right answers pass, wrong ones fail, each for its reason."""

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

from aiinfra_labs.course.checking import show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.course.results import Result
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises import block_timeline, matmul_grading, matmul_registers
from aiinfra_labs.gpu.kernels.matmul import matmul_tiled

EXERCISES = ("3.5.a", "3.5.b", "3.5.c", "3.5.d")


def _planted(name: str) -> ModuleType:
    path = Path(__file__).parent / "planted" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"planted_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tiles, fours = _planted("matmul"), _planted("matmul_registers")
RIGHT, WRONG = tiles.RIGHT + fours.RIGHT, tiles.WRONG + fours.WRONG


@cache
def _tried(exercise: str, answer: Any) -> Result:
    assert find(exercise).objection(answer) is None
    return try_out(find(exercise), answer)


def _name(value: Any) -> str:
    return getattr(value, "__name__", "") if not isinstance(value, str) else ""


# --- planted answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("exercise", "answer"), RIGHT, ids=_name)
def test_a_right_answer_gets_all_points(exercise: str, answer: Any) -> None:
    result = _tried(exercise, answer)
    assert result.passed, str(result)
    assert result.score == result.points == find(exercise).points


@pytest.mark.parametrize(("exercise", "answer", "reason"), WRONG, ids=_name)
def test_a_wrong_answer_fails_for_its_reason(exercise: str, answer: Any, reason: str) -> None:
    result = _tried(exercise, answer)
    assert not result.passed
    assert result.score < result.points
    assert reason in str(result)
    failed = [o for o in result.requirements if not o.passed]
    for outcome in failed:
        assert outcome.what and outcome.why and outcome.try_ and outcome.input, outcome


def test_every_exercise_has_enough_planted_answers() -> None:
    right = Counter(exercise for exercise, _ in RIGHT)
    wrong = Counter(exercise for exercise, *_ in WRONG)
    for exercise in EXERCISES:
        assert right[exercise] >= 2
        assert wrong[exercise] >= 5
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
    assert caught == {outcome.name for outcome in _tried(exercise, answer).requirements}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_each_hint_helps_with_a_requirement_that_there_is(exercise: str) -> None:
    answer = next(answer for id, answer in RIGHT if id == exercise)
    names = {outcome.name for outcome in _tried(exercise, answer).requirements}
    for hint in find(exercise).hints:
        assert hint[0] in names


# --- gates, and how far from them the right answers are ------------------------------------------


def test_the_gate_on_wavefronts_lies_between_the_right_map_and_the_usual_one() -> None:
    m, k, n = 128, 32, 64
    found = {}
    for answer in (fours.fours_with_a_turned, fours.fours_side_by_side):
        with cuda.profile() as p:
            answer[matmul_grading.FOURS.grid(m, n), matmul_grading.TILED_BLOCK](
                *matmul_grading.matrices(m, k, n)
            )
        found[answer.__name__] = matmul_registers.wavefronts_each(p.report, m, k, n)
    assert found["fours_with_a_turned"] < 0.85 * matmul_registers.MOST_WAVEFRONTS
    assert found["fours_side_by_side"] > 1.1 * matmul_registers.MOST_WAVEFRONTS


def test_the_timeline_tells_a_load_that_is_hidden_from_one_that_is_not() -> None:
    hidden = matmul_registers.steps_of(fours.twice_in_four_arrays, 16, 96, 16)
    plain = matmul_registers.steps_of(matmul_tiled, 16, 96, 16)
    assert block_timeline.maths_in_flight(hidden) == [32] * 5
    assert block_timeline.maths_in_flight(plain) == [0] * 10  # of a, and of b
    barriers = [sum(e.what == block_timeline.BARRIER for e in events) for events in (hidden, plain)]
    assert barriers == [6, 12]


# --- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("3.5.a", tiles.naive_by_return, "its load of a touches 1 elements in 1 sectors"),
        ("3.5.a", tiles.naive_along_columns, "its load of a touches 16 elements in 16 sectors"),
        ("3.5.b", tiles.tiled_by_steps, "yours 196,608; enough 196,608. 0 bank conflicts"),
        ("3.5.b", tiles.tiled_not_at_all, "yours 3,145,728; enough 196,608"),
        ("3.5.c", fours.fours_with_a_turned, "write: 16, 16, 16."),
        ("3.5.d", fours.twice_in_four_arrays, "4 steps, 4 barriers; 32 shared loads hide a load"),
        ("3.5.d", fours.twice_storing_at_once, "4 steps, 5 barriers; 0 shared loads hide a load"),
    ],
)
def test_show_draws_the_learners_own_run(exercise: str, answer: Any, said: str) -> None:
    picture = show(exercise, answer)
    assert said in repr(picture)
    assert said in picture._repr_html_()


@cuda.jit
def _nothing_useful(a, b, c):
    x = cuda.threadIdx.x
    if x < 0:
        c[0, 0] = np.float32(0)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_kernel_that_does_nothing_is_told_so_and_drawn_without_a_traceback(exercise: str) -> None:
    result = try_out(find(exercise), _nothing_useful)
    assert result.score == 0 and "Traceback" not in str(result)
    assert "Traceback" not in repr(show(exercise, _nothing_useful))
