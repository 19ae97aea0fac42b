"""The drawings of unit 3.1 show the specifications, and read on a page and a phone."""

import re

import pytest

from aiinfra_labs.course import figures
from aiinfra_labs.gpu.devices import device
from aiinfra_labs.gpu.drawings import cpu_and_gpu as drawings
from aiinfra_labs.gpu.roofline import roofline

H100, EPYC = device("h100"), device("epyc_9654")
DRAWINGS = {
    "give and take": lambda: drawings.give_and_take(H100, EPYC),
    "timeline": drawings.timeline,
    "turns": lambda: drawings.turns((1, 8), 272.8, 5.04, 600),
    "two times": lambda: drawings.two_times(
        [("add\nH100", roofline("h100"), 1e6, 12e6), ("horner\nH100", roofline("h100"), 128e6, 8e6)]
    ),
    "peaks": lambda: drawings.peaks(
        [("CPU, FP32", EPYC.peak())] + [(f"H100, {p}", H100.peak(p)) for p in H100.precisions()]
    ),
}
every_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


def test_shares_are_the_specifications():
    have = drawings.shares(H100, EPYC)
    assert have["threads at once"] == (132 * 64 * 32, 192, "")
    assert have["FP32 units"][0] == 16_896
    assert have["peak, FP32"][0] == pytest.approx(66.9)
    assert have["last cache"] == (50, 384, "MiB")
    assert have["cache a thread"][1] == 2048
    ratios = [a / b for a, b, _ in have.values()]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] > 1000 and ratios[-1] < 1 / 1000


def test_bars_begin_at_one_and_end_at_the_ratio():
    fig = drawings.give_and_take(H100, EPYC)
    ratios = [a / b for a, b, _ in drawings.shares(H100, EPYC).values()]
    ends = [bar.get_x() + bar.get_width() for bar in fig.axes[0].patches]
    assert ends == pytest.approx(ratios)
    assert {bar.get_x() for bar in fig.axes[0].patches} == {1}


def test_the_timeline_has_each_generation_once():
    fig = drawings.timeline()
    names = [text.get_text().strip() for text in fig.axes[0].texts]
    assert names == [
        "Tesla",
        "Fermi",
        "Kepler",
        "Maxwell",
        "Pascal",
        "Volta",
        "Ampere",
        "Hopper",
        "Blackwell",
    ]
    curves = {line.get_label(): line.get_ydata() for line in fig.axes[0].get_lines()}
    assert list(curves["FP32, TFLOP/s"]) == [device(k)["fp32"] for k in drawings.GENERATIONS]
    assert list(curves["FP16 tensor, TFLOP/s"]) == [125, 312, 989.4, 2250]
    assert curves["bandwidth, TB/s"][-1] == 8


def test_the_memory_is_busy_while_a_load_of_any_warp_comes():
    fig = drawings.turns((1, 8), 272.8, 5.04, 600)
    for ax, warps in zip(fig.axes, (1, 8), strict=True):
        memory = [bar for bar in ax.patches if bar.get_y() > warps - 0.2]
        starts = sorted(bar.get_x() for bar in memory)
        assert {round(bar.get_width(), 6) for bar in memory} == {5.04}
        assert all(b - a > 5.03 for a, b in zip(starts, starts[1:], strict=False))
        assert len([x for x in starts if x < 400]) == warps


def test_the_longer_bar_is_the_time_under_the_roof():
    roof = roofline("h100")
    fig = drawings.two_times([("horner", roof, 128e6, 8e6)])
    widths = [bar.get_width() for bar in fig.axes[0].patches]
    assert max(widths) == pytest.approx(roof.seconds(128e6, 8e6) * 1e6)
    assert min(widths) == pytest.approx(128e6 / roof.peak * 1e6)


@every_drawing
def test_no_text_leaves_the_frame(draw):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig = draw()
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    for text in fig.axes[0].texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1, text.get_text()
        assert fig.bbox.y0 <= box.y0 and box.y1 <= fig.bbox.y1, text.get_text()
        assert text.get_fontsize() >= 9


@every_drawing
def test_it_has_only_the_palettes_colours_and_the_pages(draw):
    html = figures.to_html(draw())
    colours = set(re.findall(r"#[0-9a-f]{6}\b", html))
    assert colours and colours <= set(figures.PALETTE.values())
    assert "currentColor" in html and len(html) < 180_000


@every_drawing
def test_its_alt_text_has_the_figures(draw):
    said = draw().get_label()
    assert len(said.split()) > 15 and len(re.findall(r"\d", said)) > 10
