"""The drawings of unit 1.6 show what is computed, in colours that read in light and dark."""

import re

import pytest

from aiinfra_labs.course import figures
from aiinfra_labs.course.measured import measured
from aiinfra_labs.llm.drawings import scale as drawings
from aiinfra_labs.llm.scale import loss_curve
from aiinfra_labs.llm.scale.chinchilla import BESIROGLU
from aiinfra_labs.llm.scale.memory import model_states
from aiinfra_labs.llm.scale.parameters import parameters, total
from aiinfra_labs.llm.scale.shapes import known, shape


def losses():
    runs = measured("scaling")[0]["runs"]
    fits = {}
    for tokens in sorted({run["tokens"] for run in runs}):
        group = [run for run in runs if run["tokens"] == tokens]
        sizes = [run["parameters"] for run in group]
        fits[tokens] = loss_curve.fit(sizes, [run["loss"] for run in group])
    return drawings.losses(runs, fits)


DRAWN = {
    "parts": lambda: drawings.parts(list(known())),
    "states": lambda: drawings.states(70e9, gpus=64, memory=80),
    "kept": lambda: drawings.kept([128, 256, 512], {"one": [1, 2, 4], "other": [3, 3, 3]}),
    "budgets": lambda: drawings.budgets(BESIROGLU, (1e20, 1e22)),
    "losses": losses,
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_reads_in_light_and_dark(name):
    figure = DRAWN[name]()
    html = figures.to_html(figure)
    assert html.count("<svg") == 1 and len(str(figure.get_label()).split()) > 15
    texts = re.findall(r"<g[^>]*scale\([^>]*>", html)
    assert texts and all("currentColor" in group for group in texts)
    assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())


def test_the_bars_are_the_parts():
    ax = DRAWN["parts"]().axes[0]
    keys, bars = list(known()), [bar.get_width() for bar in ax.patches]
    for row, key in enumerate(keys):
        tables, attention, mlp = (bars[row + k * len(keys)] for k in range(3))
        have, whole = parameters(shape(key)), total(shape(key))
        assert attention == pytest.approx(100 * have["attention"] / whole)
        assert mlp == pytest.approx(100 * have["mlp"] / whole)
        assert 99.9 < tables + attention + mlp <= 100  # the norms are the rest


def test_the_stages_bars_are_zeros():
    ax = DRAWN["states"]().axes[0]
    for stage in range(4):
        ends = [
            bar.get_x() + bar.get_width() for bar in ax.patches if bar.get_y() // 1 == stage - 1
        ]
        assert max(ends) == pytest.approx(model_states(70e9, 64, stage) / 1e9)


def test_each_dot_is_at_the_bottom_of_its_valley():
    lines = DRAWN["budgets"]().axes[0].lines
    for valley, dot in zip(lines[0:4:2], lines[1:4:2], strict=True):
        assert dot.get_ydata()[0] <= min(valley.get_ydata()) + 1e-9


def test_the_losses_drawn_are_those_stored():
    runs = measured("scaling")[0]["runs"]
    dots = [line for line in losses().axes[0].lines if line.get_marker() == "o"]
    drawn = {(x, y) for line in dots for x, y in zip(*line.get_data(), strict=True)}
    assert drawn == {(run["parameters"], run["loss"]) for run in runs}
