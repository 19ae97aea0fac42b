"""The drawings of unit 1.2 say in words what they show, and show what the formulas give."""

from __future__ import annotations

import re
from html import escape

import numpy as np
import pytest
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.course.parts import CourseError
from aiinfra_labs.llm import three_words as words
from aiinfra_labs.llm.drawings import positions as drawings
from aiinfra_labs.llm.drawings import positions_by_hand as by_hand
from aiinfra_labs.llm.exercises import position_views as views
from aiinfra_labs.llm.exercises import positions as exercises
from aiinfra_labs.llm.positions import (
    halves_first,
    rope_angles,
    rope_frequencies,
    rotate,
    sinusoidal,
)


def drawn(figure):
    """The page has the figure with its alt text, and with paths in it."""
    html = figures.to_html(figure)
    return escape(figure.get_label()) in html and html.count("<path") > 3


@pytest.mark.parametrize("name", ["sinusoids", "clocks", "divided"])
def test_each_drawing_is_a_figure_in_words_too(name):
    figure = getattr(drawings, name)()
    assert len(figure.get_label()) > 120
    assert drawn(figure)


def test_a_hand_outside_the_swept_part_is_of_another_colour():
    figure = drawings.clocks(at=(0, 127, 511), pairs=(0, 10))
    axes = np.array(figure.axes).reshape(2, 3)
    colours = [[ax.lines[0].get_color() for ax in row] for row in axes]
    assert colours[0] == ["C0"] * 3  # the fast pair has been everywhere
    assert colours[1] == ["C0", "C0", "C4"]
    x, y = axes[1, 2].lines[0].get_data()
    angle = 511 * 10_000 ** (-20 / 32)
    assert (x[1], y[1]) == pytest.approx((np.cos(angle), np.sin(angle)), abs=1e-4)


def test_the_three_words_tell_positions_as_the_library_does():
    where = torch.arange(7, 12)
    ours, theirs = words.added(5, start=7), sinusoidal(where, 4)
    assert np.allclose(ours, theirs.numpy(), atol=1e-5)
    x = torch.tensor([3.0, -1.0, 2.0, 5.0])
    angles = rope_angles(torch.tensor(9), rope_frequencies(4))
    turned = words.turned(x.numpy(), 9, words.SPEEDS)
    assert np.allclose(
        rotate(halves_first(x), *angles).numpy(), halves_first(torch.tensor(turned)), atol=1e-5
    )


def test_a_change_of_order_changes_nothing_without_positions():
    (_, _, shares, one), (_, _, other_shares, other) = (
        by_hand.asked(order, with_positions=False) for order in by_hand.ORDERS
    )
    assert np.allclose(one, other) and np.allclose(shares, other_shares[::-1])
    first, second = (by_hand.asked(order, with_positions=True)[3] for order in by_hand.ORDERS)
    assert np.abs(first - second).max() > 1
    plain, positioned = by_hand.two_orders(False), by_hand.two_orders(True)
    assert plain.get_label().count("狗 gets 1.70  0.13  0.40  0.77") == 2
    assert positioned.get_label().count("狗 gets 1.79") == 1
    assert drawn(plain) and drawn(positioned)


def test_turned_scores_are_equal_on_a_diagonal_and_added_ones_are_not():
    for way, equal in (("turned", True), ("added", False)):
        scores = by_hand.every_place(way)
        spread = max(np.ptp(scores.diagonal(k)) for k in range(-3, 4))
        assert bool(spread < 1e-9) is equal
        assert drawn(by_hand.places(way))


def test_two_hands_moved_together_score_the_same():
    said = re.findall(r"score (-?\d+\.\d\d)", by_hand.dials().get_label())
    assert said == ["4.00", "3.73", "3.73"]
    said = re.findall(r"score (-?\d+\.\d\d)", by_hand.dials(((1, 3),)).get_label())
    assert said == ["0.27"]


def test_untinted_clocks_say_how_far_each_hand_turned():
    figure = drawings.clocks(head_dim=8, trained=None, at=(0, 1000), pairs=(0, 3))
    assert "pair 3: 0, 57" in figure.get_label() and "tinted" not in figure.get_label()
    assert not [p for ax in figure.axes for p in ax.patches if type(p).__name__ == "Wedge"]


def test_rules_are_drawn_as_they_divide():
    lines = {line.get_label(): line.get_ydata() for line in drawings.divided(4.0).axes[0].lines}
    assert set(lines) == {"linear", "NTK", "Llama 3", "YaRN"}
    assert np.allclose(lines["linear"], 4)
    assert lines["NTK"][0] == pytest.approx(1) and lines["NTK"][-1] == pytest.approx(4, rel=1e-3)
    assert "the 10 slowest pairs make less than one turn" in drawings.divided().get_label()


def test_curves_of_all_seeds_come_together():
    found = {"seeds": [{"ways": {"rope": [1.0, 2.0]}}, {"ways": {"rope": [1.0, 4.0]}}]}
    runs = drawings.runs_of(found, "ways")
    assert runs == {"rope": [[1.0, 2.0], [1.0, 4.0]]}
    figure = drawings.loss_curves(runs, 128, 16, {"rope": "C0"}, alt="two points of a curve")
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1.0, 3.0]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [8.0, 24.0]


# --- what `show` draws ---------------------------------------------------------------------------


def turned_by(x, positions, base):
    return rotate(x, *rope_angles(positions, rope_frequencies(x.shape[-1], base)))


def test_a_learners_table_and_scores_are_described_by_their_own_figures():
    good = views.heat_map(sinusoidal)
    assert "64 positions by 32 dimensions, from -1.00 to 1.00" in str(good)
    assert float(re.search(r"differ by (\S+) at most", str(good))[1]) < 1e-3
    good, bad = views.scores(turned_by), views.scores(lambda x, p, base: turned_by(x, p**2, base))
    spread = [float(re.search(r"differ by (\S+) at most", str(v))[1]) for v in (good, bad)]
    assert spread[0] < 1e-3 < spread[1]
    assert drawn(good.figure)


def test_decoding_shows_what_each_step_turned():
    def all_again(query, key, value, keys, values, turn):
        keys, values = torch.cat((keys, key), 1), torch.cat((values, value), 1)
        turn(keys, torch.arange(keys.shape[1]))
        turn(query, torch.arange(keys.shape[1] - 1, keys.shape[1]))
        return query, keys, values

    said = str(views.decoding(all_again, exercises.CountedTurn))
    assert "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13" in said


def test_the_models_curve_leaves_the_model_as_it_was():
    model = views._model()
    before = model.angles
    views.curve(rope_frequencies(32) / 2)
    assert model.angles is before
    picture = views.past_the_end(lambda frequencies, factor, trained: frequencies)
    said = re.search(r"as trained (\S+), linear (\S+), yours (\S+)\.", str(picture))
    assert said[1] == said[3] != said[2]
    assert drawn(picture.figure)


@pytest.mark.parametrize("answer", [None, torch.zeros(3), [1.0, 2.0]])
def test_what_cannot_be_drawn_is_said_in_three_parts(answer):
    for view in (
        lambda f: views.heat_map(f),
        lambda f: views.scores(f),
        lambda f: views.past_the_end(f),
        lambda f: views.decoding(lambda *a: (f(), *a[3:5]), exercises.CountedTurn),
    ):
        with pytest.raises(
            CourseError, match="your function returned (a|shape).*expected a tensor"
        ):
            view(lambda *given: answer)
