"""What a figure must be, whichever page or exercise it belongs to."""

import itertools
import re

from aiinfra_labs.course import figures
from aiinfra_labs.course.checking import show, try_out
from aiinfra_labs.course.registry import find


def texts_stand_apart(fig, texts, overlap=0.5):
    """No text leaves the figure's frame, and none covers another by more than `overlap` pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts]
    assert boxes
    for text, box in boxes:
        assert box.x0 >= fig.bbox.x0 and box.x1 <= fig.bbox.x1, text
        assert box.y0 >= fig.bbox.y0 and box.y1 <= fig.bbox.y1, text
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= overlap or down <= overlap, (one, two)


def a_right_answer_is_drawn(exercise, answer):
    """It gets all its points, and a picture in the page's colours that says what it shows."""
    result = try_out(find(exercise), answer)
    assert result.passed and result.score == find(exercise).points, str(result)
    picture = show(exercise, answer)
    html = picture._repr_html_()
    assert html.count("<svg") == 1
    texts = re.findall(r"<g[^>]*scale\([^>]*>", html)  # black ones would not be seen in the dark
    assert texts and all("currentColor" in group for group in texts)
    assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())
    assert len(repr(picture).split()) > 10
