"""The frontispiece shows every unit once, keeps its words inside its boxes, and says it in text."""

from collections import Counter

import pytest

from aiinfra_labs.course import frontispiece
from aiinfra_labs.course.frontispiece import AROUND, SUMMARY, WAY, FrontispieceError, layer_of
from aiinfra_labs.course.units import UNITS


def drawn(fig):
    """Every text with its extent, and the frame that nothing may leave."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    texts = [text for text in fig.axes[0].texts if text.get_text()]
    return [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts]


def test_every_unit_lies_in_one_place():
    listed = Counter(unit for layer in (*WAY, AROUND) for unit in layer.units) + Counter(SUMMARY)
    assert listed == Counter(list(UNITS))


def test_words_stay_inside_and_apart():
    fig = frontispiece.draw()
    words = drawn(fig)
    for text, box in words:
        assert box.x0 >= 0 and box.x1 <= fig.bbox.x1 and box.y0 >= 0, text
        assert box.y1 <= fig.bbox.y1, text
    for number, (text, box) in enumerate(words):
        for other, around in words[number + 1 :]:
            assert not box.overlaps(around), (text, other)


def test_the_alt_text_says_what_is_drawn():
    whole = frontispiece.draw().get_label()
    assert all(layer.name in whole for layer in WAY) and "kernels (3.2, 3.3" in whole


def test_a_unit_has_one_line_that_marks_its_layer():
    line = repr(frontispiece.here("3.2"))
    assert line.endswith("weights > [kernels] > GPU.") and "\n" not in line
    assert repr(frontispiece.here("4.11")).endswith("cluster, operations, people.")
    assert repr(frontispiece.here("5.2")).endswith("This unit looks at all of it.")
    html = frontispiece.here("3.2")._repr_html_()
    assert html.count("<strong") == 1 and '"location">kernels</strong>' in html
    assert all(layer.name in html for layer in WAY) and "<svg" not in html
    assert "<strong" not in frontispiece.here("5.2")._repr_html_()


def test_no_such_unit():
    assert layer_of("4.3").name == "engine"
    with pytest.raises(FrontispieceError, match="no unit '9.9'"):
        frontispiece.here("9.9")
