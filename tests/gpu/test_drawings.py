"""The drawings say what the formulas say, fit their frame, and read on a phone."""

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from aiinfra_labs.course import figures
from aiinfra_labs.gpu.drawings import cuda_model as drawings
from pictures import texts_stand_apart

DRAWINGS = {
    "hierarchy": lambda: drawings.hierarchy(),
    "host_device": lambda: drawings.host_device(),
    "map": lambda: drawings.thread_map(100, 48),
    "map with a thread": lambda: drawings.thread_map(100, 48, marked=(2, 3)),
    "passes": lambda: drawings.warp_passes([i % 3 == 0 for i in range(32)], "low[i] = x", "high"),
    "one pass": lambda: drawings.warp_passes([True] * 32, "low[i] = x[i]", "high[i] = x[i]"),
    "map of many": lambda: drawings.thread_map(123_456, 1024),
    "map of one": lambda: drawings.thread_map(1, 1),
    "plane": lambda: drawings.thread_map_2d((10, 14), (8, 4)),
    "large plane": lambda: drawings.thread_map_2d((20, 40), (16, 16)),
    "narrow plane": lambda: drawings.thread_map_2d((48, 3), (1, 1)),
    "stride": lambda: drawings.grid_stride(29, 8),
    "stride of many": lambda: drawings.grid_stride(100_000, 32),
    "stride of one": lambda: drawings.grid_stride(3, 1),
}
every_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


def texts(fig):
    return [text for text in fig.axes[0].texts if text.get_text()]


def cells(fig):
    """How many cells of each kind are drawn, less the legend's one of each."""
    counts = Counter()
    for patch in fig.axes[0].patches:
        if patch.get_gid():
            counts[patch.get_gid()] += len(patch.get_path().vertices) // 5
    return {kind: count - 1 for kind, count in counts.items()}


# --- each fits and reads --------------------------------------------------------------------------


@every_drawing
def test_no_text_leaves_the_frame_or_covers_another(draw):
    fig = draw()
    texts_stand_apart(fig, texts(fig))


@every_drawing
def test_it_reads_at_the_width_of_a_page_and_of_a_phone(draw):
    fig = draw()
    assert min(text.get_fontsize() for text in texts(fig)) >= 9
    assert fig.get_size_inches()[0] < 6  # 9 points there are more than 5 on a phone of 3.7 inches


@every_drawing
def test_it_has_only_the_palettes_colours_and_the_pages(draw):
    html = figures.to_html(draw())
    colours = set(re.findall(r"#[0-9a-f]{6}\b", html))
    assert colours and colours <= set(figures.PALETTE.values())
    assert "currentColor" in html


@every_drawing
def test_it_is_the_same_each_time_and_small(draw):
    html = figures.to_html(draw())
    assert html == figures.to_html(draw())
    assert len(html) < 180_000


@every_drawing
def test_its_alt_text_says_more_than_a_title(draw):
    assert len(draw().get_label().split()) > 15


# --- each tells the truth -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "block"), [(100, 48), (64, 32), (1, 1), (33, 32), (130, 128)])
def test_a_map_has_each_thread_once(n, block):
    blocks = -(-n // block)
    places = blocks * -(-block // 32) * 32
    fig = drawings.thread_map(n, block)
    expected = {"element": n, "idle": blocks * block - n}
    if block % 32:
        expected["missing"] = places - blocks * block
    assert cells(fig) == expected
    assert f"{blocks * block} thread" in fig.get_label()


def test_a_map_names_the_elements_of_each_warp():
    names = [text.get_text() for text in texts(drawings.thread_map(100, 48))]
    rows = [name for name in names if name.startswith("block")]
    assert rows == [f"block {b}, warp {w}" for b in range(3) for w in range(2)]
    spans = [name for name in names if "–" in name or name == "none"]
    assert spans == ["0 – 31", "32 – 47", "48 – 79", "80 – 95", "96 – 99", "none"]


def test_a_map_works_out_the_number_of_a_marked_thread():
    fig = drawings.thread_map(100, 48, marked=(2, 3))
    assert texts(fig)[0].get_text().endswith("i = 2 · 48 + 3 = 99")
    (black,) = [p for p in fig.axes[0].patches if p.get_gid() is None]
    ((row,),) = [[t for t in texts(fig) if t.get_text() == "block 2, warp 0"]]
    assert black.get_y() < row.get_position()[1] < black.get_y() + black.get_height()
    assert round((black.get_x() - drawings.LEFT) / drawings.LANE) == 3


@pytest.mark.parametrize("negative", [0, 1, 16, 32])
def test_a_warp_makes_a_pass_for_each_side_that_a_lane_takes(negative):
    fig = drawings.warp_passes([i < negative for i in range(32)], "yes", "no")
    passes = [t.get_text() for t in texts(fig) if t.get_text() in ("yes", "no")]
    assert passes == ["yes"] * (negative > 0) + ["no"] * (negative < 32)
    worked = sum(
        len(patch.get_path().vertices) // 5
        for patch in fig.axes[0].patches
        if patch.get_gid() == "element"
    )
    assert worked == 32


def test_a_long_map_says_what_it_leaves_out():
    fig = drawings.thread_map(1000, 256)
    names = [text.get_text() for text in texts(fig)]
    drawn = sum(name.startswith("block") for name in names)
    assert f"… {32 - drawn} warps not drawn …" in names
    assert "block 3, warp 7" in names and "992 – 999" in names


@pytest.mark.parametrize(
    ("shape", "block"),
    [((10, 14), (8, 4)), ((8, 8), (4, 4)), ((1, 1), (2, 3)), ((20, 40), (16, 16))],
)
def test_a_plane_has_each_thread_once(shape, block):
    across, down = -(-shape[1] // block[0]), -(-shape[0] // block[1])
    threads = across * block[0] * down * block[1]
    inside = shape[0] * shape[1]
    assert cells(drawings.thread_map_2d(shape, block)) == {
        "element": inside,
        "idle": threads - inside,
    }


def test_a_plane_numbers_threads_along_x():
    fig = drawings.thread_map_2d((10, 14), (8, 4))
    numbers = {int(t.get_text()): t.get_position() for t in texts(fig) if t.get_text().isdigit()}
    assert list(numbers) == list(range(32))
    assert numbers[1][0] > numbers[0][0] and numbers[1][1] == numbers[0][1]
    assert numbers[8][0] == numbers[0][0] and numbers[8][1] < numbers[0][1]


@pytest.mark.parametrize(("n", "threads"), [(29, 8), (32, 32), (5, 1), (3, 8)])
def test_a_stride_visits_each_element_once(n, threads):
    fig = drawings.grid_stride(n, threads)
    rounds = -(-n // threads)
    assert cells(fig) == {"element": n, "idle": rounds * threads - n}


def test_a_stride_says_what_thread_1_visits():
    title = texts(drawings.grid_stride(29, 8))[0].get_text()
    visited = [int(number) for number in re.findall(r"\d+", title.split("elements")[1])]
    assert visited == list(range(1, 29, 8))


def test_a_warp_is_between_block_and_thread():
    fig = drawings.hierarchy()
    bold = [t for t in texts(fig) if t.get_fontweight() == "bold"]
    assert [t.get_text() for t in bold] == ["grid", "block", "warp", "thread"]
    heights = [t.get_position()[1] for t in bold]
    assert heights == sorted(heights, reverse=True)
    dashed = [p for p in fig.axes[0].patches if p.get_linestyle() in ("--", "dashed")]
    assert len(dashed) == 1
    assert any("cluster" in t.get_text() for t in texts(fig))


def test_host_and_device_has_both_names_of_each_call():
    names = {t.get_text() for t in texts(drawings.host_device())}
    assert {"to_device", "copy_to_host", "device_array", "PCIe", "SMs"} <= names
    calls = sorted(name for name in names if re.match(r"\d ", name))
    assert [call.split("  ")[1] for call in calls] == [
        "cudaMalloc",
        "cudaMemcpy",
        "kernel launch",
        "cudaMemcpy",
        "cudaFree",
    ]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda: drawings.thread_map(0, 32), "n = 0"),
        (lambda: drawings.thread_map(10, 0), "a block of 0 threads"),
        (lambda: drawings.thread_map(10, 1025), "a block of 1,025 threads"),
        (lambda: drawings.thread_map_2d((0, 4), (2, 2)), r"shape = \(0, 4\)"),
        (lambda: drawings.thread_map_2d((4, 4), (0, 2)), "a block of 0 threads"),
        (lambda: drawings.thread_map_2d((4, 4), (64, 32)), "a block of 2,048 threads"),
        (lambda: drawings.thread_map_2d((480, 640), (16, 16)), "640 x 480 elements"),
        (lambda: drawings.thread_map(100, 48, marked=(3, 0)), r"marked = \(3, 0\)"),
        (lambda: drawings.warp_passes([True], "a", "b"), "1 lanes"),
        (lambda: drawings.grid_stride(0, 4), "n = 0"),
        (lambda: drawings.grid_stride(9, 33), "threads = 33"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_three_parts(draw, what):
    with pytest.raises(ValueError, match=what) as error:
        draw()
    assert re.search(r"\nWhy: .+\nTry: .+", str(error.value))


def test_numbers_of_numpy_are_numbers():
    n, block = np.int64(100), np.int32(48)
    assert drawings.thread_map(n, block).get_label() == drawings.thread_map(100, 48).get_label()


def test_drawing_needs_no_emulator():
    probe = (
        "import sys; from aiinfra_labs.gpu.drawings import cuda_model; cuda_model.hierarchy();"
        "print([m for m in sys.modules if 'emulator' in m or m in ('numba', 'cupy')])"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
