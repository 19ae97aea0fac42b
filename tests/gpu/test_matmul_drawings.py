"""The drawings of unit 3.5 fit their frame, and say what a run did."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch

from aiinfra_labs.course import figures
from aiinfra_labs.gpu.drawings import matmul as drawings
from aiinfra_labs.gpu.exercises.block_timeline import timeline
from aiinfra_labs.gpu.kernels.matmul_double_buffered import matmul_double_buffered
from aiinfra_labs.gpu.kernels.matmul_vectorised import matmul_float4


def events(kernel, k=32):
    a, b = np.ones((128, k), np.float32), np.ones((k, 128), np.float32)
    return [e.what for e in timeline(kernel, (1, 1), 256, a, b, np.zeros((128, 128), np.float32))]


def both():
    rows = [(k.__name__, events(k)) for k in (matmul_float4, matmul_double_buffered)]
    return drawings.steps(rows, "two kernels")


@pytest.mark.parametrize(
    "draw", [lambda: drawings.tiles(128, 128, 8, 8, 8), both], ids=["tiles", "steps"]
)
def test_no_text_leaves_the_frame_or_covers_another(draw):
    fig = draw()
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    texts = [text for text in fig.axes[0].texts if text.get_text()]
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts]
    for text, box in boxes:
        assert box.x0 >= fig.bbox.x0 and box.x1 <= fig.bbox.x1, text
        assert box.y0 >= fig.bbox.y0 and box.y1 <= fig.bbox.y1, text
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        assert apart, f"{one} covers {two}"


def test_a_drawing_of_steps_has_the_barriers_and_arcs_of_the_run():
    for kernel, arcs in ((matmul_float4, 4), (matmul_double_buffered, 3)):
        fig = drawings.steps([(kernel.__name__, events(kernel))], "steps")
        ax = fig.axes[0]
        curved = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
        assert len(curved) == arcs
        assert len(ax.lines) == 3  # barriers
        assert any(text.get_text() == "x 32" for text in ax.texts)


def test_what_a_drawing_shows_is_said():
    alt = drawings.tiles(128, 64, 8, 8, 4).get_label()
    assert "128 by 64 elements of C" in alt and "8 by 4 elements" in alt
    assert 'aria-label="two kernels"' in figures.to_html(both())


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no kernel to draw"):
        drawings.steps([], "nothing")
