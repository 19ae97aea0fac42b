"""Predictions are kept, shown beside the measured figure, and can be skipped."""

import numpy as np
import pytest

from aiinfra_labs.course import predict, progress, reveal


def test_side_by_side():
    predict("3.2.p1", 8, question="How many blocks?")
    shown = reveal("3.2.p1", 4, unit="blocks")
    assert (shown.predicted, shown.measured, shown.ratio) == (8, 4, 2.0)
    assert str(shown) == "predicted: 8 blocks, measured: 4 blocks"
    html = shown._repr_html_()
    assert "8 blocks" in html and "4 blocks" in html and "<th" in html
    assert progress.current().predictions() == {"3.2.p1": (8, 4)}


@pytest.mark.parametrize("nothing", [None, ..., "", "  "])
def test_skipping_keeps_nothing(nothing, home):
    assert "skipped" in str(predict("3.2.p1", nothing, question="How many?"))
    assert "How many?" in predict("3.2.p1", nothing, question="How many?")._repr_html_()
    assert str(reveal("3.2.p1", 4)) == "predicted: skipped, measured: 4"
    assert progress.current().predictions() == {}


def test_the_last_prediction_counts():
    predict("p", 1)
    predict("p", 2)
    assert reveal("p", 3).predicted == 2


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.arange(2), [0, 1]),
        ((1, 2), [1, 2]),
        ("four", "four"),
        (True, True),
        ({1, 2}.__class__, "<class 'set'>"),
    ],
)
def test_any_value_can_be_predicted(value, kept):
    predict("p", value)
    assert reveal("p", value).predicted == kept


def test_what_is_shown_is_escaped():
    predict("p", "<b>")
    assert "<b>" not in reveal("p", "<i>")._repr_html_().replace("<tbody>", "")


def test_figures_read_well():
    assert str(reveal("p", 1048576)) == "predicted: skipped, measured: 1,048,576"
    assert str(reveal("p", 2.0)) == "predicted: skipped, measured: 2"
    assert str(reveal("p", 0.333333)) == "predicted: skipped, measured: 0.3333"
