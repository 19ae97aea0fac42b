"""The drawings of unit 3.8 fit their frame, read on a phone, and draw to scale."""

import re

import pytest

from aiinfra_labs.course import figures
from aiinfra_labs.gpu.drawings import profiling as drawings
from aiinfra_labs.gpu.drawings.profiling import LEFT, program, timeline
from pictures import texts_stand_apart

CARELESS = program("on NumPy arrays", [("copy", 4e-6), ("kernel", 1e-7), ("copy", 4e-6)] * 3)
CAREFUL = program("on device arrays", [("copy", 1e-7), ("kernel", 1e-7), ("copy", 1e-7)])
DRAWINGS = {
    "loop": drawings.loop,
    "timeline": lambda: timeline([CARELESS, CAREFUL]),
    "one program": lambda: timeline([CAREFUL]),
}
every_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


@every_drawing
def test_no_text_leaves_the_frame_or_covers_another(draw):
    fig = draw()
    texts_stand_apart(fig, [text for text in fig.axes[0].texts if text.get_text()])


@every_drawing
def test_it_reads_on_a_phone_in_the_palettes_colours(draw):
    fig = draw()
    assert min(t.get_fontsize() for t in fig.axes[0].texts if t.get_text()) >= 9
    assert fig.get_size_inches()[0] < 6
    colours = set(re.findall(r"#[0-9a-f]{6}\b", figures.to_html(fig)))
    assert colours and colours <= set(figures.PALETTE.values())


def test_a_timeline_is_to_scale_and_says_the_shares():
    fig = timeline([CAREFUL])
    widths = [patch.get_width() for patch in fig.axes[0].patches]
    assert sum(widths) == pytest.approx(100 - LEFT)
    assert widths == pytest.approx([(100 - LEFT) / 3] * 3)
    said = [t.get_text() for t in fig.axes[0].texts]
    assert {"on device arrays", "0.3 µs", "66.7%", "33.3%"} <= set(said)
    assert "copy 66.7%" in fig.get_label() and "model" in fig.get_label()


def test_each_program_has_its_own_scale():
    fig = timeline([CARELESS, CAREFUL])
    assert {"24.3 µs", "0.3 µs", "98.8%", "1.2%"} <= {t.get_text() for t in fig.axes[0].texts}


def test_nothing_to_draw_is_refused_in_three_parts():
    with pytest.raises(ValueError, match="(?s)no programs\nWhy: .*\nTry: "):
        timeline([])
