"""No hint is spent on a result of a wrong type: what is said of it mends it.

Held for every exercise that calls a function, those to come included.
"""

import pytest
import torch

from aiinfra_labs.course import registry, show
from aiinfra_labs.course.checking import try_out

ASKED = [e for e in registry.all_exercises() if e.kind == "function"]

# What these ask for is done to what they are given; the result is looked at by none of them.
CHANGES_WHAT_IT_IS_GIVEN = {"1.4.d", "4.3.d"}
# These have a requirement that counts launches, or asks for an error, whatever comes back.
ALSO_LOOKS_ELSEWHERE = {"1.1.d", "3.2.b", "3.3.c", "3.8.d"}
# None is an answer of these: there is no pair, no batch, no block, no place.
NONE_IS_AN_ANSWER = {"1.1.a", "3.1.e", "3.7.b", "3.9.b", "3.9.e"}


class Thing:
    """A value that no exercise asks for."""


@pytest.mark.parametrize("exercise", ASKED, ids=[e.id for e in ASKED])
@pytest.mark.parametrize("result", [None, Thing()], ids=["nothing", "a thing"])
def test_a_result_of_a_wrong_type_takes_no_hint(exercise, result):
    if exercise.id in CHANGES_WHAT_IT_IS_GIVEN:
        pytest.skip("its result is not looked at")
    if result is None and exercise.id in NONE_IS_AN_ANSWER:
        pytest.skip("None is an answer of this exercise")
    failed = [o for o in try_out(exercise, lambda *given: result).requirements if not o.passed]
    wasted = [f"{o.name}: {o.what}" for o in failed if not o.slip]
    assert failed[0].slip, failed[0]
    assert not wasted or exercise.id in ALSO_LOOKS_ELSEWHERE, wasted


DRAWN = [e for e in ASKED if e.shower is not None]


@pytest.mark.parametrize("exercise", DRAWN, ids=[e.id for e in DRAWN])
def test_what_cannot_be_drawn_is_said_to_be_the_result(exercise):
    """The drawing's own TypeError, many levels deep, tells a learner nothing."""
    for result in (None, Thing(), torch.tensor(6.0), torch.tensor([[6.0]])):
        shown = show(exercise.id, lambda *given, result=result: result)
        for outcome in getattr(shown, "requirements", ()):
            assert outcome.what and outcome.why and outcome.try_
            assert not outcome.what.startswith(("TypeError", "AttributeError", "RuntimeError"))


def test_a_float_where_a_whole_number_is_asked_for_takes_no_hint():
    exercise = registry.find("1.1.a")
    result = try_out(exercise, lambda words: (1.0, 2.0))
    assert not result.passed and all(o.slip for o in result.requirements if not o.passed)
