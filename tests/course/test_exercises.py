"""Every exercise of every chapter: the starter is no attempt, the reference passes, and the
planted answers are accepted or rejected, each wrong one for its reason.

The planted answers of a unit stand in `tests/<chapter>/planted/` (`tests/planting.py` shows how):
any module there may have `RIGHT` and `WRONG`. `WRONG` lists (id, answer, part of the reason);
`RIGHT` lists (id, answer). Either may be a dict by id instead, whose answers are made by calling
what it holds.
"""

import pytest

from aiinfra_labs.course import registry
from aiinfra_labs.course.checking import try_out
from aiinfra_labs.course.starters import is_starter
from aiinfra_labs.course.units import UNITS, repository
from planting import all_planted, entries, from_notebook, reasons, tried

ROOT = repository()
EXERCISES = registry.all_exercises()
IDS = [exercise.id for exercise in EXERCISES]


RIGHT, WRONG = all_planted()


def test_there_are_exercises():
    assert len(EXERCISES) >= 4
    assert {*RIGHT, *WRONG} <= set(IDS), "answers are planted for no exercise"


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_definition(exercise):
    assert exercise.unit in UNITS
    assert exercise.__doc__, "say what is asked"
    assert len(exercise.hints) >= 2, "hints are given one at a time"
    assert exercise.arguments or exercise.kind == "value"


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_the_starter_is_not_attempted(exercise):
    starter = from_notebook(exercise, "labs")
    assert exercise.objection(starter) is None
    assert is_starter(starter)


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_the_reference_passes(exercise):
    result = try_out(exercise, from_notebook(exercise, "solutions"))
    assert result.passed and result.score == exercise.points, str(result)


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_two_right_answers_and_three_wrong_ones_are_planted(exercise):
    assert len(RIGHT.get(exercise.id, [])) >= 2
    assert len(WRONG.get(exercise.id, [])) >= 3


@pytest.mark.parametrize(
    ("id", "number"), [(id, i) for id in IDS for i in range(len(RIGHT.get(id, [])))]
)
def test_a_right_answer_gets_all_points(id, number):
    result = tried(id, RIGHT[id][number])
    assert result.passed and result.score == result.points == registry.find(id).points, str(result)


@pytest.mark.parametrize(
    ("id", "number"), [(id, i) for id in IDS for i in range(len(WRONG.get(id, [])))]
)
def test_a_wrong_answer_is_rejected_for_its_reason(id, number):
    answer, reason = WRONG[id][number]
    result = tried(id, answer)
    assert not result.passed and result.score < registry.find(id).points
    assert reason and reason in reasons(result), str(result)
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_), str(outcome)


@pytest.mark.parametrize("id", IDS)
def test_no_requirement_is_idle(id):
    """Each requirement is failed by a planted answer, so that each grades something."""
    failed = {o.name for a, _ in WRONG[id] for o in tried(id, a).requirements if not o.passed}
    assert failed >= names(id)


@pytest.mark.parametrize("id", IDS)
def test_each_hint_helps_with_a_requirement_that_there_is(id):
    pairs = [hint for hint in registry.find(id).hints if not isinstance(hint, str)]
    assert {name for name, _ in pairs} <= names(id)


@pytest.mark.parametrize("id", IDS)
def test_points_are_whole_and_the_central_requirement_has_half_of_them(id):
    points = [outcome.points for outcome in tried(id, RIGHT[id][0]).requirements]
    assert all(float(each).is_integer() and each > 0 for each in points), points
    assert 2 * max(points) >= sum(points) == registry.find(id).points, points


def names(id):
    """The requirements of an exercise, by name."""
    return {outcome.name for outcome in tried(id, RIGHT[id][0]).requirements}


@pytest.mark.parametrize("listed", [[("a", 1, "why")], {"a": [(lambda: 1, "why")]}])
def test_both_forms_of_planting(listed):
    assert entries(listed) == [("a", 1, "why")]
