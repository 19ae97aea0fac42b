"""The first difference is found, and none where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiinfra_labs.course.comparing import Measure, difference

EXACT = Measure()
arrays = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.bool_]), hnp.array_shapes(min_dims=0, min_side=0)
)


@given(arrays)
def test_an_array_equals_its_copy(array):
    assert difference(array.copy(), array, "x", EXACT) is None
    assert difference(np.asfortranarray(array), array, "x", EXACT) is None or array.ndim == 0


@given(arrays, st.data())
def test_the_first_changed_element_is_named(array, data):
    if array.ndim == 0 or array.size == 0:
        return
    place = data.draw(st.integers(0, array.size - 1))
    wrong = array.copy()
    old = wrong.flat[place]
    wrong.flat[place] = not old if array.dtype == bool else 1 if old != 1 else 2
    index = ", ".join(map(str, np.unravel_index(place, array.shape)))
    what = difference(wrong, array, "x", EXACT).what
    assert what.startswith(f"x[{index}] is ") and f"1 of {array.size:,} " in what


@given(st.floats(allow_nan=True, width=32), st.floats(1e-6, 1e-2))
def test_tolerance_is_absolute_below_one_and_relative_above(value, tolerance):
    expected = np.array([value], np.float64)
    if not np.isfinite(value):
        assert difference(expected.copy(), expected, "x", Measure(tolerance)) is None
        return
    gap = tolerance * max(1, abs(value))
    assert difference(expected + gap / 2, expected, "x", Measure(tolerance)) is None
    assert difference(expected + gap * 2, expected, "x", Measure(tolerance)) is not None


@pytest.mark.parametrize(
    ("got", "expected", "what"),
    [
        (None, 3, "x is None, expected an int (3)"),
        (True, 1, "x is a bool (True), expected an int (1)"),
        (1, True, "x is an int (1), expected a bool (True)"),
        (3, 4, "x is 3, expected 4"),
        (0.1, 0.2, "x is 0.1, expected 0.2"),
        ("a", "b", "x is 'a', expected 'b'"),
        ("3", 3, "x is a str ('3'), expected an int (3)"),
        ([1, 2], [1, 3], "x[1] is 2, expected 3"),
        ([1], [1, 3], "x has 1 elements, expected 2"),
        ([[1], [2]], [[1], [0]], "x[1][0] is 2, expected 0"),
        ({"a": 1}, {"a": 2}, "x is {'a': 1}, expected {'a': 2}"),
        (5, None, "x is 5, expected None"),
    ],
)
def test_values_of_python(got, expected, what):
    assert difference(got, expected, "x", EXACT).what == what


@pytest.mark.parametrize(
    ("got", "expected"),
    [(3, 3), (3.0, 3), (np.int32(3), 3), ((1, 2), [1, 2]), (None, None), (np.True_, True)],
)
def test_equal_values_of_python(got, expected):
    assert difference(got, expected, "x", EXACT) is None


def test_the_exercises_words_are_said_of_values_and_not_of_kinds():
    measure = Measure(why="mine", try_="yours")
    wrong = difference(np.ones(2), np.zeros(2), "x", measure)
    assert (wrong.why, wrong.try_) == ("mine", "yours")
    assert difference([1], np.zeros(2), "x", measure).why != "mine"
    assert difference(np.ones(3), np.zeros(2), "x", measure).why != "mine"


def test_an_object_that_fails_at_everything():
    class Odd:
        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

        def __repr__(self):
            raise RuntimeError

    assert "cannot be shown" in difference(Odd(), Odd(), "x", EXACT).what
