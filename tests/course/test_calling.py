"""What holds for a call of any learner's function: arguments stay, results are plain, or new."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch

from aiinfra_labs.course import check
from aiinfra_labs.course.calling import Spoilt, unwatched, watched
from aiinfra_labs.course.checking import try_out
from aiinfra_labs.course.registry import find

NAN = float("nan")


def zeroed(x):
    x[...] = 0


@pytest.mark.parametrize(
    ("given", "spoil", "told"),
    [
        (np.ones(3), zeroed, "x.copy()"),
        (np.ones(3), lambda x: x.resize((1,), refcheck=False), "its shape was (3,) and is (1,)"),
        (torch.ones(3), zeroed, "x.clone()"),
        (torch.ones(2, 3), lambda x: x.t_(), "its shape was (2, 3) and is (3, 2)"),
        (torch.tensor([NAN, 1]), zeroed, "has changed"),
        ([1, 2], lambda x: x.pop(), "it was [1, 2] and is [1]"),
        ([True], lambda x: x.__setitem__(0, 1), "it was [True] and is [1]"),
        ([{"role": "user"}], lambda x: x[0].clear(), "it was [{'role': 'user'}] and is [{}]"),
        ({(1, 2): 3}, lambda x: x.update({(1, 2): 4}), "has changed"),
        (Counter("ab"), lambda x: x["c"], None),
        (Counter("ab"), lambda x: x.update("b"), "has changed"),
        (defaultdict(int, a=1), lambda x: x["b"], "has changed"),
        (({1, 2},), lambda x: x[0].add(3), "has changed"),
        (([np.ones(2)],), lambda x: zeroed(x[0][0]), "has changed"),
        (bytearray(b"ab"), lambda x: x.append(99), "has changed"),
        (np.array([NAN, 1.0]), lambda x: x + 1, None),
        (torch.tensor([NAN, 1.0]), lambda x: x + 1, None),
        (np.zeros(2, [("a", "i4"), ("b", "f4")]), lambda x: x["a"] + 1, None),
        (np.zeros(2, [("a", "i4"), ("b", "f4")]), lambda x: x["a"].fill(1), "has changed"),
        (iter("ab"), next, None),
        ("text", len, None),
    ],
)
def test_an_argument_that_was_changed_is_named(given, spoil, told):
    call = watched(spoil, ["x"])
    if told is None:
        call(given)
    else:
        with pytest.raises(Spoilt) as caught:
            call(given)
        assert caught.value.what.startswith("x, which was given to your function, has changed")
        assert told in caught.value.what + caught.value.try_


def test_what_an_exercise_lets_change_may_change():
    assert watched(lambda x, y: x.pop(), ["x", "y"], changes=["x"])([1], [2]) == 1
    with pytest.raises(Spoilt, match="y, which"):
        watched(lambda x, y: y.pop(), ["x", "y"], changes=["x"])([1], y=[2])


class Yes:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


class YesToo(int):
    def __ne__(self, other):
        return False


class YesArray(np.ndarray):
    def __array_ufunc__(self, *args, **kwargs):
        return np.True_


@dataclass
class Fields:
    x: int


@dataclass
class YesFields:
    x: int

    def __eq__(self, other):
        return True


class Within(float):
    """Within every tolerance: its distance to anything is small."""

    def __rsub__(self, other):
        return 0.0

    __sub__ = __rsub__


class Nearest(float):
    def __le__(self, other):
        return True

    def __abs__(self):
        return self


class Evil(float):
    def __abs__(self):
        return self

    def __sub__(self, other):
        return self

    def __truediv__(self, other):
        return self

    def __le__(self, other):
        return True

    __rsub__, __lt__, __ge__ = __sub__, __le__, __le__


class YesTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True


@pytest.mark.parametrize(
    ("result", "operator"),
    [
        (Within(3), "__sub__"),
        ([Nearest(3)], "__le__"),
        (torch.ones(2).as_subclass(YesTensor), "__torch_function__"),
        (YesFields(3), "=="),
    ],
)
def test_a_result_that_is_near_everything_is_none(result, operator):
    with pytest.raises(Spoilt, match=f"whose {operator} was written by hand"):
        watched(lambda: result, [])()


@pytest.mark.parametrize("exercise", ["1.6.b", "1.8.a", "1.8.b", "3.1.b"])
def test_no_exercise_takes_a_number_that_is_near_everything(exercise):
    """Each of these once gave all of its points for it."""
    for result in (Evil(0.5), (Evil(0.5),) * 3):
        assert try_out(find(exercise), lambda *given, result=result: result).score == 0


@pytest.mark.parametrize(
    "result",
    [Yes(), (1, Yes()), {"a": [Yes()]}, {Yes(): 1}, YesToo(3), np.ones(2).view(YesArray)],
)
def test_a_result_that_equals_everything_is_none(result):
    with pytest.raises(Spoilt, match="whose == was written by hand"):
        watched(lambda: result, [])()


@pytest.mark.parametrize(
    "result",
    [None, 1, "a", (1, [2.0]), {"a": np.ones(2)}, torch.ones(2), Fields(1), Fraction(1, 2), Yes],
)
def test_a_plain_result_is_given_back(result):
    assert watched(lambda: result, [])() is result


@pytest.mark.parametrize(
    ("given", "alias"),
    [
        (np.arange(4), lambda x: x),
        (np.arange(4), lambda x: x[1:]),
        (torch.arange(4), lambda x: (0, x.view(2, 2))),
        ([1, 2], lambda x: x),
    ],
)
def test_a_result_that_must_be_new_shares_no_memory(given, alias):
    with pytest.raises(Spoilt, match="shares its memory with x"):
        watched(alias, ["x"], new=True)(given)
    watched(alias, ["x"])(given)  # only where the exercise asks for a new one


@pytest.mark.parametrize("given", [np.arange(4), torch.arange(4), [1, 2], torch.ones(0)])
def test_a_copy_is_new(given):
    watched(lambda x: x + x, ["x"], new=True)(given)


def test_the_function_itself_can_be_measured():
    def mine(x):
        return x

    assert unwatched(watched(mine, ["x"])) is mine and unwatched(mine) is mine


def test_check_tells_of_it_in_three_parts(define):
    def body(function, require):
        with require("sums") as r:
            r.equal(function([1, 2]), 3)

    define(body)
    (failed,) = check("1.1.z", lambda x: x.pop() + x.pop()).requirements
    assert failed.what.endswith("has changed: it was [1, 2] and is []")
    assert failed.why and "list(x)" in failed.try_
    (failed,) = check("1.1.z", lambda x: Yes()).requirements
    assert failed.what == "the result holds a Yes, whose == was written by hand"


def test_changes_names_arguments(define):
    with pytest.raises(ValueError, match="none of its arguments"):
        define(lambda function, require: None, changes=("y",))
    with pytest.raises(ValueError, match="not one string"):
        define(lambda function, require: None, changes="x")
