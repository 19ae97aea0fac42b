"""The drawings of unit 1.8 show what was measured, in colours that read in light and dark."""

import re

import pytest
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.course.measured import measured
from aiinfra_labs.llm.drawings import emergence_multimodal as drawings
from aiinfra_labs.llm.multimodal import sound


def runs(skill="recall"):
    return measured("emergence")[0]["skills"][skill]["runs"]


def a_recording():
    samples = sound.beeps(torch.tensor([2]), torch.Generator().manual_seed(0))
    return drawings.recording(samples[0], sound.spectra(samples)[0], sound.RATE)


SHOWN = torch.arange(10).repeat(4)
PARTS = [("text", "word", 1), ("image", "patches", 16), ("sound", "frames", 32), ("text", "?", 1)]
DRAWN = {
    "two_rulers": lambda: drawings.two_rulers(runs(), "recall"),
    "powers": lambda: drawings.powers(runs(), 8),
    "drawn": lambda: drawings.drawn_on_a_log_scale(runs()),
    "confusions": lambda: drawings.confusions({"one": (SHOWN, SHOWN), "two": (SHOWN, SHOWN * 0)}),
    "looks": lambda: drawings.looks(
        torch.rand(8, 16), torch.full((3, 32), 1 / 32), ["a", "b", "c"]
    ),
    "recording": a_recording,
    "layout": lambda: drawings.layout(PARTS),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_reads_in_light_and_dark(name):
    figure = DRAWN[name]()
    html = figures.to_html(figure)
    assert html.count("<svg") == 1 and len(str(figure.get_label()).split()) > 15
    texts = re.findall(r"<g[^>]*scale\([^>]*>", html)
    assert texts and all("currentColor" in group for group in texts)
    assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())


def test_each_dot_is_a_run():
    for ax, ruler in zip(DRAWN["two_rulers"]().axes, ("exact_match", "nats"), strict=True):
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        drawn = sorted((x, y) for line in dots for x, y in zip(*line.get_data(), strict=True))
        assert drawn == sorted((run["parameters"], run[ruler]) for run in runs())


def test_a_confusion_is_a_share_of_what_was_shown():
    said = str(DRAWN["confusions"]().get_label())
    assert said.count("100%") == 11  # all ten of one, and the zeros of two
    assert said.count(" 0%") == 9


def test_the_layout_counts_places():
    figure = DRAWN["layout"]()
    assert "50 places" in str(figure.get_label())
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"0", "1-16", "17-48", "49"} <= texts
