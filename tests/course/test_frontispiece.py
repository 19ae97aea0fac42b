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


@pytest.mark.parametrize("unit", [None, "3.2", "4.2", "4.11", "5.1"])
def test_words_stay_inside_and_apart(unit):
    fig = frontispiece.draw(unit)
    words = drawn(fig)
    for text, box in words:
        assert box.x0 >= 0 and box.x1 <= fig.bbox.x1 and box.y0 >= 0, text
        assert box.y1 <= fig.bbox.y1, text
    for number, (text, box) in enumerate(words):
        for other, around in words[number + 1 :]:
            assert not box.overlaps(around), (text, other)
    patches = [patch.get_window_extent() for patch in fig.axes[0].patches]
    if unit is not None:  # in the strip each name lies within its own box
        boxes = [p for p in patches if p.width > 20]
        assert len(boxes) >= len(WAY)
        for text, box in words:
            assert any(p.x0 < box.x0 and box.x1 < p.x1 for p in boxes), text


def test_the_alt_text_says_what_is_drawn():
    whole = frontispiece.draw().get_label()
    assert all(layer.name in whole for layer in WAY) and "kernels (3.2, 3.3" in whole
    assert frontispiece.draw("3.2").get_label().endswith("You are here: kernels.")
    assert frontispiece.draw("4.11").get_label().endswith("cluster, operations, people.")
    assert frontispiece.draw("5.2").get_label().endswith("This unit looks at all of it.")


def test_only_the_layer_of_the_unit_is_marked():
    def filled(unit):
        return sum(patch.get_fill() for patch in frontispiece.draw(unit).axes[0].patches[:99])

    arrows = filled("3.2") - 1
    assert filled("1.4") - arrows == 1 and filled("5.1") - arrows == len(WAY)


def test_no_such_unit():
    assert layer_of("4.3").name == "engine"
    with pytest.raises(FrontispieceError, match="no unit '9.9'"):
        frontispiece.draw("9.9")
