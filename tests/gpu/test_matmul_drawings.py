"""The drawings of unit 3.5 fit their frame, and say what a run did."""

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch

from aiinfra_labs.course import figures
from aiinfra_labs.gpu.drawings import matmul as drawings
from aiinfra_labs.gpu.exercises.block_timeline import timeline
from aiinfra_labs.gpu.kernels.matmul_double_buffered import matmul_double_buffered
from aiinfra_labs.gpu.kernels.matmul_vectorised import fragment_of, matmul_float4
from pictures import texts_stand_apart


def events(kernel, k=32):
    a, b = np.ones((128, k), np.float32), np.ones((k, 128), np.float32)
    return [e.what for e in timeline(kernel, (1, 1), 256, a, b, np.zeros((128, 128), np.float32))]


def both():
    rows = [(k.__name__, events(k)) for k in (matmul_float4, matmul_double_buffered)]
    return drawings.steps(rows, "two kernels")


def of_a_warp():
    return drawings.warps([fragment_of.py_func(lane) for lane in range(32)], 64, 32)


DRAWINGS = {
    "outer": drawings.outer,
    "tiles": lambda: drawings.tiles(64, 16, 16, 16),
    "tiles of threads": lambda: drawings.tiles(256, 128, 128, 8, 8, 8),
    "warps": of_a_warp,
    "instructions": lambda: drawings.instructions({"naive": 36.0, "tiled": 6.12, "float4": 1.34}),
    "steps": both,
}
each_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


@each_drawing
def test_it_reads_on_a_phone(draw):
    fig = draw()
    assert min(text.get_fontsize() for text in fig.axes[0].texts) >= 11  # 9 pixels
    assert fig.get_size_inches()[0] < 6


@each_drawing
def test_no_text_leaves_the_frame_or_covers_another(draw):
    fig = draw()
    texts_stand_apart(fig, [text for text in fig.axes[0].texts if text.get_text()], overlap=0)


def test_a_drawing_of_steps_has_the_barriers_and_arcs_of_the_run():
    for kernel, arcs, barriers in ((matmul_float4, 4, 2), (matmul_double_buffered, 3, 3)):
        fig = drawings.steps([(kernel.__name__, events(kernel))], "steps")
        ax = fig.axes[0]
        curved = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
        assert len(curved) == arcs
        assert len(ax.lines) == barriers
        assert any(text.get_text() == "x 32" for text in ax.texts)


def test_what_a_drawing_shows_is_said():
    alt = drawings.tiles(256, 128, 64, 8, 8, 4).get_label()
    assert "128 by 64 elements of C" in alt and "8 by 4 elements" in alt
    assert 'aria-label="two kernels"' in figures.to_html(both())


def patches(fig, width, height):
    """How many boxes of a size there are, in units of the drawing."""
    found = 0
    for patch in fig.axes[0].patches:
        shape = patch.get_bbox() if hasattr(patch, "get_bbox") else None
        if shape is not None and np.allclose((shape.width, shape.height), (width, height)):
            found += 1
    return found


def test_tiles_are_to_scale():
    """A step of 8 of K is a sixteenth of a tile of 128, and a thread's 8 x 8 are, too."""
    fig, unit = drawings.tiles(256, 128, 128, 8, 8, 8), 22 / 256
    assert patches(fig, 256 * unit, 256 * unit) == 3
    assert patches(fig, 128 * unit, 128 * unit) == 1
    assert patches(fig, 8 * unit, 128 * unit) == patches(fig, 128 * unit, 8 * unit) == 1
    assert patches(fig, 8 * unit, 8 * unit) == 1


def test_the_products_drawn_are_those_of_the_values():
    names = [t.get_text() for t in drawings.outer((2, 1, 3, 5), (4, 1, 2, 3)).axes[0].texts]
    assert all(names.count(f"{value}") for value in np.outer((2, 1, 3, 5), (4, 1, 2, 3)).ravel())
    assert names.count("20") == 1 and names.count("15") == 1


def test_lanes_stand_where_the_kernel_puts_them():
    place = {t.get_text(): t.get_position() for t in of_a_warp().axes[0].texts}
    assert place["1"][1] == place["0"][1] and place["2"][0] == place["0"][0]
    assert place["16"][1] == place["0"][1] and place["16"][0] > place["1"][0]


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda: drawings.steps([], "nothing"), "no kernel to draw"),
        (lambda: drawings.outer((1, 2)), "2 values of A"),
        (lambda: drawings.tiles(128, 128, 128, 8), "a tile of 128 x 128 in matrices of 128"),
        (lambda: drawings.warps([(0, 0)], 64, 32), "1 lanes"),
        (lambda: drawings.instructions({"none": 0.5}), "0.5"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_three_parts(draw, what):
    with pytest.raises(ValueError, match=what) as error:
        draw()
    assert "\nWhy: " in str(error.value) and "\nTry: " in str(error.value)
