"""The drawings of unit 3.4 say what banks, barriers and halos are, and fit their frame."""

import re
from collections import Counter

import numpy as np
import pytest

from aiinfra_labs.course import figures
from aiinfra_labs.gpu.drawings import shared_memory as drawings
from pictures import texts_stand_apart

LANES = np.arange(32)
DRAWINGS = {
    "tile": lambda: drawings.tile_banks("rows of 32 words"),
    "padded tile": lambda: drawings.tile_banks("rows of 33 words"),
    "swizzled tile": lambda: drawings.tile_banks("swizzled", 7),
    "one request": lambda: drawings.banks(("stride 1", 4 * LANES)),
    "requests": lambda: drawings.banks(
        ("stride 2", 8 * LANES), ("stride 32", 128 * LANES), ("broadcast", 0 * LANES)
    ),
    "half a warp": lambda: drawings.banks(("few", np.where(LANES < 16, 4 * LANES, -1))),
    "barrier": drawings.barrier,
    "handover": lambda: drawings.handover([0] * 32 + [1] * 40, [{0}] * 30 + [{0, 1}] * 42),
    "handover of one": lambda: drawings.handover([-1, 0], [set(), {1}]),
    "halo": drawings.halo,
    "wide halo": lambda: drawings.halo((32, 8), 2),
}
every_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


def texts(fig):
    return [text for text in fig.axes[0].texts if text.get_text()]


def cells(fig):
    counts = Counter()
    for patch in fig.axes[0].patches:
        if patch.get_gid():
            counts[patch.get_gid()] += len(patch.get_path().vertices) // 5
    return counts


# --- each fits and reads --------------------------------------------------------------------------


@every_drawing
def test_no_text_leaves_the_frame_or_covers_another(draw):
    fig = draw()
    texts_stand_apart(fig, texts(fig))


@every_drawing
def test_it_has_only_the_palettes_colours_and_is_the_same_each_time(draw):
    html = figures.to_html(draw())
    colours = set(re.findall(r"#[0-9a-f]{6}\b", html))
    assert colours and colours <= set(figures.PALETTE.values())
    assert "currentColor" in html and html == figures.to_html(draw())
    assert len(html) < 250_000


@every_drawing
def test_it_reads_on_a_phone_and_its_alt_text_says_more_than_a_title(draw):
    fig = draw()
    assert min(text.get_fontsize() for text in texts(fig)) >= 9
    assert fig.get_size_inches()[0] < 6
    assert len(fig.get_label().split()) > 15


# --- each tells the truth -------------------------------------------------------------------------


def test_each_layout_keeps_every_element_of_a_tile_in_a_place_of_its_own():
    for name, word in drawings.LAYOUTS.items():
        places = {word(row, column) for row in range(32) for column in range(32)}
        assert len(places) == 1024, name
        for row in range(32):
            assert len({word(row, column) % 32 for column in range(32)}) == 32, name


@pytest.mark.parametrize(("name", "used"), [("rows of 32 words", 1), ("rows of 33 words", 32)])
def test_a_column_is_in_one_bank_or_in_all(name, used):
    for column in range(32):
        assert len({drawings.LAYOUTS[name](row, column) % 32 for row in range(32)}) == used
        assert len({drawings.LAYOUTS["swizzled"](row, column) % 32 for row in range(32)}) == 32


@pytest.mark.parametrize(
    ("layout", "passes"), [("rows of 32 words", "32 passes"), ("rows of 33 words", "1 pass")]
)
def test_the_tile_shows_which_element_lies_in_which_bank(layout, passes):
    fig, word = drawings.tile_banks(layout, 3), drawings.LAYOUTS[layout]
    places = [re.fullmatch(r"(\d+),(\d+)", text.get_text()) for text in texts(fig)]
    shown = [(int(place[1]), int(place[2])) for place in places if place]
    words = {bank + 32 * line for bank in range(8) for line in range(8)}
    assert {word(*element) for element in shown} <= words
    assert len(shown) + cells(fig)["idle"] == 64  # a pad has no element
    assert cells(fig)["element"] == sum(column == 3 for _, column in shown)
    assert f"All 32 rows take {passes}." in fig.get_label()


def test_a_barrier_says_what_each_warp_gets():
    said = [text.get_text() for text in texts(drawings.barrier((7, 9), before=3))]
    assert [said.count(f"load {number}") for number in (7, 9, 3)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (4 * LANES, "1 wavefront, 32 banks used"),
        (8 * LANES, "2 wavefronts, 16 banks used"),
        (128 * LANES, "32 wavefronts, 1 bank used"),
        (132 * LANES, "1 wavefront, 32 banks used"),
        (0 * LANES, "1 wavefront, 1 bank used"),
        (LANES, "1 wavefront, 8 banks used"),  # bytes of the same words
        (0 * LANES - 1, "0 wavefronts, 0 banks used"),
    ],
)
def test_banks_stack_different_words(addresses, said):
    fig = drawings.banks(("a", addresses))
    assert f"a: {said}." in fig.get_label()


def test_each_lane_is_drawn_at_its_bank():
    fig = drawings.banks(("backwards", 4 * (31 - LANES)))
    assert cells(fig) == {"element": 32, "missing": 1}
    places = {int(t.get_text()): t.get_position()[0] for t in texts(fig)[3:35]}
    assert sorted(places, key=places.get) == list(range(31, -1, -1))


def test_a_halo_counts_its_pixels():
    fig = drawings.halo((8, 4), 1)
    assert cells(fig) == {"element": 32, "idle": 28}
    names = {t.get_text() for t in texts(fig)}
    assert {"60 loads to shared memory", "32 x 9 = 288 loads without"} <= names


def test_a_handover_frames_what_crosses_from_warp_to_warp():
    fig = drawings.handover([0, 0, 1, -1], [{0}, {0, 1}, {0}, {1}])
    assert "2 of them are read by another warp" in fig.get_label()
    assert cells(fig) == {"element": 3, "idle": 1}


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda: drawings.tile_banks("rows of 34 words"), "layout = 'rows of 34 words'"),
        (lambda: drawings.tile_banks("swizzled", column=-1), "column = -1"),
        (lambda: drawings.banks(), "no request"),
        (lambda: drawings.banks(("a", LANES[:5])), r"addresses of the shape \(5,\)"),
        (lambda: drawings.halo((0, 4)), "a block of 0 x 4"),
        (lambda: drawings.handover([], []), "no words"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_three_parts(draw, what):
    with pytest.raises(ValueError, match=what) as error:
        draw()
    assert re.search(r"\nWhy: .+\nTry: .+", str(error.value))
