"""What no exercise may take, made of its own reference: it holds for exercises to come, too.

Each answer here computes all that is right and then spoils one thing. The planted answers are the
mistakes that people make; these are the kinds of them that a check forgets.
"""

import math

import numpy as np
import pytest
import torch

from aiinfra_labs.course import registry
from aiinfra_labs.course.checking import try_out
from planting import from_notebook

ASKED = [e for e in registry.all_exercises() if e.kind == "function"]
WRITABLE = torch.Tensor | np.ndarray | list | dict | set
NUMBERS = (int, float, str, bool, type(None))
# A setting that changes nothing by the exercise's own words, or a function that returns nothing.
FREE = {("4.3.d", "result")}
# A scale may be stored in 16 bits, as the lab counts it.
ALSO_RIGHT = {("4.5.b", "float16")}


def recorded(exercise):
    """The reference's answer, and a list of (arguments, result) that the check fills."""
    reference = from_notebook(exercise, "solutions")
    calls = []

    def answer(*given):
        result = reference(*given)
        calls.append((given, result))
        return result

    return reference, answer, calls


@pytest.fixture(scope="module", params=ASKED, ids=[e.id for e in ASKED])
def asked(request):
    """(exercise, reference, its calls in a check); a class is none of these exercises."""
    exercise = request.param
    reference, answer, calls = recorded(exercise)
    if isinstance(reference, type):
        pytest.skip("the answer is a class: what it is given is looked after by its methods")
    assert try_out(exercise, answer).passed
    return exercise, reference, calls


def mapped(value, change):
    """The value with `change` done to all that its lists, tuples and dicts hold."""
    if type(value) in (list, tuple):
        return type(value)(mapped(item, change) for item in value)
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    return change(value)


def holds(value, test):
    """Whether `test` is true of anything in the value."""
    found = []
    mapped(value, lambda item: found.append(test(item)))
    return any(found)


def emptied(value):
    """Write over an argument, whatever it is."""
    if isinstance(value, torch.Tensor | np.ndarray):
        if isinstance(value, torch.Tensor):
            value = value.detach()
        value[...] = 1
    elif isinstance(value, list | dict | set):
        value.clear()


def test_arguments_are_not_destroyed(asked):
    exercise, reference, calls = asked
    kept = set(exercise.changes)
    named = [
        name
        for place, name in enumerate(exercise.arguments)
        if name not in kept
        and any(
            isinstance(g[place], torch.Tensor | np.ndarray | list | dict | set) for g, _ in calls
        )
    ]
    for name in named:
        place = exercise.arguments.index(name)

        def spoils(*given, place=place):
            result = reference(*given)
            # What shares memory with the result would only make the result wrong.
            result = mapped(result, lambda x: x.clone() if isinstance(x, torch.Tensor) else x)
            with torch.no_grad():
                emptied(given[place])
            return result

        assert not try_out(exercise, spoils).passed, f"{name} may be destroyed"


def test_a_result_known_by_heart_is_none(asked):
    exercise, reference, calls = asked
    if (exercise.id, "result") in FREE:
        return
    first = []

    def by_heart(*given):
        result = reference(*given)
        first.append(result)
        return first[0]

    assert not try_out(exercise, by_heart).passed


def test_every_setting_varies(asked):
    """A parameter that is written into the answer as a constant is wrong on some input."""
    exercise, reference, calls = asked
    for place, name in enumerate(exercise.arguments):
        values = {repr(given[place]): given[place] for given, _ in calls if len(given) > place}
        if not all(isinstance(value, NUMBERS) for value in values.values()):
            continue
        for value in list(values.values())[:2]:

            def constant(*given, place=place, value=value):
                return reference(*given[:place], value, *given[place + 1 :])

            assert not try_out(exercise, constant).passed, f"{name} may always be {value!r}"


@pytest.mark.parametrize("name", ["float16", "float64"])
def test_the_precision_is_the_one_that_was_asked_for(asked, name):
    exercise, reference, calls = asked

    def is_float(value):
        if isinstance(value, torch.Tensor):
            return value.is_floating_point() and value.dim() > 0
        return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0

    def other(value):
        if not is_float(value):
            return value
        return value.to(getattr(torch, name)) if torch.is_tensor(value) else value.astype(name)

    if (exercise.id, name) in ALSO_RIGHT or not any(holds(result, is_float) for _, result in calls):
        return
    assert not try_out(exercise, lambda *given: mapped(reference(*given), other)).passed


def test_what_is_no_number_is_near_no_number(asked):
    """Of nan, `abs(got - expected) > tolerance` is false, and so is its contrary."""
    exercise, reference, calls = asked

    def spoilt(value):
        if isinstance(value, torch.Tensor):
            return value * math.nan if value.is_floating_point() else value
        if isinstance(value, np.ndarray):
            return value * np.float32("nan") if value.dtype.kind == "f" else value
        return math.nan if isinstance(value, float) else value

    if any(repr(mapped(result, spoilt)) != repr(result) for _, result in calls):
        assert not try_out(exercise, lambda *given: mapped(reference(*given), spoilt)).passed


@pytest.mark.parametrize("change", [str, lambda value: value == 1], ids=["text", "bool"])
def test_a_number_is_a_number(asked, change):
    exercise, reference, calls = asked

    def is_number(value):
        return isinstance(value, int | float) and not isinstance(value, bool)

    if not any(holds(result, is_number) for _, result in calls):
        return

    def answer(*given):
        return mapped(reference(*given), lambda x: change(x) if is_number(x) and x in (0, 1) else x)

    if any(holds(result, lambda x: is_number(x) and x in (0, 1)) for _, result in calls):
        assert not try_out(exercise, answer).passed
