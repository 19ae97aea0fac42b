"""The exercises of unit 3.2 on images, where a thread has two numbers: grey, and a blur."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu import emulator

from . import thread_views as views
from .cuda_model import NAN_WHY, SKILL
from .grading import (
    count,
    few_sectors,
    launch,
    not_written,
    outside_means,
    profile,
    shape_of,
    share,
    written_once,
)
from .thread_map import TracedLaunch

# --- 3.2.d -------------------------------------------------------------------------------------

WEIGHS = "weighs red, green and blue as BT.601 does"
PIXELS = "finds every pixel of an image of any shape"
ALONG = "lets a warp walk along a row"
RED, GREEN, BLUE = 0.299, 0.587, 0.114  # ITU-R BT.601-7, section 2.5.1: luma from R, G, B


@exercise(
    "3.2.d",
    title="A photograph in grey: rows, columns, x and y",
    points=6,
    central=PIXELS,
    skill=SKILL,
    arguments=("rgb", "out"),
    kind="kernel",
    hints=(
        (
            WEIGHS,
            "Which number of `rgb[y, x, ...]` is red, which green, which blue? Work out the grey "
            "of the input named above by hand.",
        ),
        (
            PIXELS,
            "`x, y = cuda.grid(2)` gives a thread two numbers. The image is out[row, column]: "
            "which of the two is the row?",
        ),
        (
            PIXELS,
            "x runs along a row, so x is the column: `out[y, x]`. out.shape is (rows, columns).",
        ),
        (PIXELS, "Both axes can overshoot: `if y < out.shape[0] and x < out.shape[1]:`"),
        (
            ALONG,
            "Neighbours in a warp differ by one in x. Which index of out must differ by one, so "
            "that they write side by side?",
        ),
    ),
)
def grey(kernel: Any, require: Any) -> None:
    """out[row, column] = 0.299 R + 0.587 G + 0.114 B, for images of any shape."""
    with require(WEIGHS) as r:
        for name, colour in (
            ("pure red", (255, 0, 0)),
            ("pure green", (0, 255, 0)),
            ("pure blue", (0, 0, 255)),
            ("white", (255, 255, 255)),
            ("orange", (250, 133, 7)),
        ):
            with r.input(f"8 x 8 pixels of {name}, 1 x 1 block of 8 x 8 threads"):
                rgb, out = _image(np.full((8, 8, 3), colour, np.uint8))
                launch(kernel, (1, 1), (8, 8), rgb, out)
                _equal_grey(
                    r, rgb, out, f"of (R, G, B) = {colour} has the weights {RED}, {GREEN}, {BLUE}"
                )
    with require(PIXELS) as r:
        for rows, columns, block in (
            (1, 1, (8, 4)),
            (5, 40, (8, 4)),
            (40, 5, (8, 4)),
            (37, 19, (16, 16)),
            (427, 640, (32, 8)),
        ):
            grid = _grid_over(rows, columns, block)
            with r.input(f"an image of {rows} x {columns}, {shape_of(grid, block)}"):
                rgb, out = _random_image(rows, columns)
                with outside_means(
                    f"{_against(grid, block, rows, columns)}; a thread past the end of either axis "
                    "has no pixel",
                    "compare y with the number of rows, out.shape[0], and x with the number of "
                    "columns, out.shape[1]",
                ):
                    launch(kernel, grid, block, rgb, out)
                _all_pixels(r, out.copy_to_host(), grid, block)
                _equal_grey(r, rgb, out, "of a pixel is made from rgb at the same place")
    with require("writes each pixel exactly once, and nothing else") as r:
        for rows, columns, block in ((16, 16, (8, 8)), (24, 24, (8, 4)), (37, 19, (16, 16))):
            grid = _grid_over(rows, columns, block)
            with r.input(f"an image of {rows} x {columns}, {shape_of(grid, block)}"):
                traced = TracedLaunch(kernel, grid, block, *_random_image(rows, columns))
                not_written(r, traced, {0: "rgb"})
                written_once(r, traced, 1, "out")
    with require(ALONG) as r:
        grid, block = (2, 8), (32, 8)
        with r.input(f"an image of 64 x 64, {shape_of(grid, block)}"):
            rgb, out = _random_image(64, 64)
            report = profile(kernel, grid, block, rgb, out)
            few_sectors(
                r,
                "store",
                report.sectors_per_store,
                why="the threads of a warp differ in x first, and pixels of one row lie side by "
                "side in memory; with x as the row's number, a warp walks down a column, one "
                "sector for each pixel",
                try_="let x, which differs from thread to thread, be the column",
            )


def _image(pixels: np.ndarray) -> tuple[Any, Any]:
    """The image on the emulated device, and an output of its rows and columns full of NaN."""
    nan = np.full(pixels.shape[:2], np.nan, np.float32)
    return emulator.to_device(pixels), emulator.to_device(nan)


def _random_image(rows: int, columns: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(rows * 1000 + columns)
    return _image(rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8))


def _equal_grey(r: Any, rgb: Any, out: Any, where: str) -> None:
    got, expected = out.copy_to_host(), rgb.copy_to_host() @ np.array([RED, GREEN, BLUE])
    r.equal(
        got,
        expected.astype(np.float32),
        name="out",
        tolerance=1e-4,
        why=NAN_WHY if np.isnan(got).any() else f"the grey {where}",
        try_="rgb[row, column, 0] is red, 1 is green, 2 is blue; keep the fractions",
    )


def _all_pixels(r: Any, out: np.ndarray, grid: Any, block: Any) -> None:
    """No pixel is NaN still; where whole rows or columns are, x and y were swapped."""
    missing = np.isnan(out)
    lines = [
        f"{axis} {at[0]}" if len(at) == 1 else f"{axis}s {at[0]} to {at[-1]}"
        for axis, at in (
            ("column", np.flatnonzero(missing.all(axis=0))),
            ("row", np.flatnonzero(missing.all(axis=1))),
        )
        if len(at) and not missing.all()
    ]
    r.that(
        not missing.any(),
        what=f"{share(int(missing.sum()), out.size, 'pixel', 'pixels')} still nan"
        + (f", the whole of {' and '.join(lines)}" if lines else ""),
        why=f"{_against(grid, block, *out.shape)}: x counts columns, y counts rows"
        if lines
        else NAN_WHY,
        try_="an image is indexed out[row, column]: which of x and y comes first?"
        if lines
        else "one store for each pixel, out[row, column] = ...",
    )


def _against(grid: Any, block: Any, rows: int, columns: int) -> str:
    return (
        f"the grid has {grid[0] * block[0]} threads along x and {grid[1] * block[1]} along y, the "
        f"image {count(columns, 'column', 'columns')} and {count(rows, 'row', 'rows')}"
    )


# --- 3.2.e -------------------------------------------------------------------------------------

INNER = "averages the nine pixels around an inner pixel"
EDGES = "averages only what lies inside, at edges and corners"


@exercise(
    "3.2.e",
    title="A blur that knows where the image ends",
    points=6,
    central=PIXELS,
    skill=SKILL,
    arguments=("image", "out"),
    kind="kernel",
    hints=(
        (
            INNER,
            "One thread, one pixel of out, as before. It reads up to nine pixels of image: two "
            "loops over the three rows and the three columns around it.",
        ),
        (
            EDGES,
            "A corner has four pixels inside the image, an edge six, the rest nine. Count those "
            "that you add, and divide by the count.",
        ),
        "Ask of each neighbour `0 <= row < image.shape[0] and 0 <= column < image.shape[1]` "
        "before you read it, or let the loop over the rows run from `max(y - 1, 0)` to "
        "`min(y + 2, image.shape[0])`, and that over the columns likewise.",
    ),
)
def blur(kernel: Any, require: Any) -> None:
    """out[row, column] = the mean of the 3 x 3 pixels around it that lie inside the image."""
    with require(INNER) as r:
        grid, block = (2, 2), (8, 8)
        with r.input(f"an image of 16 x 16, {shape_of(grid, block)}"):
            image, out = _photo(16, 16)
            with _past_the_edge():
                launch(kernel, grid, block, image, out)
            got, expected = out.copy_to_host(), _box_mean(image.copy_to_host())
            inner = np.zeros(got.shape, bool)
            inner[1:-1, 1:-1] = True
            r.equal(
                np.where(inner, got, expected),
                expected,
                name="out",
                tolerance=1e-4,
                why=NAN_WHY
                if np.isnan(got[inner]).any()
                else "an inner pixel is the mean of nine: itself and the eight around it",
                try_="print which rows and columns your loops visit for one pixel",
            )
    with require(EDGES) as r:
        for rows, columns in ((8, 8), (16, 16)):
            grid = _grid_over(rows, columns, (8, 8))
            with r.input(f"an image of {rows} x {columns}, {shape_of(grid, (8, 8))}"):
                image, out = _photo(rows, columns)
                with _past_the_edge():
                    report = profile(kernel, grid, (8, 8), image, out)
                _right_edges(r, image.copy_to_host(), out.copy_to_host(), report)
    with require(PIXELS) as r:
        for rows, columns, block in (
            (1, 1, (8, 4)),
            (1, 5, (8, 4)),
            (7, 2, (8, 4)),
            (5, 40, (8, 4)),
            (40, 5, (8, 4)),
            (37, 19, (16, 16)),
        ):
            grid = _grid_over(rows, columns, block)
            with r.input(f"an image of {rows} x {columns}, {shape_of(grid, block)}"):
                image, out = _photo(rows, columns)
                with _past_the_edge():
                    launch(kernel, grid, block, image, out)
                _all_pixels(r, out.copy_to_host(), grid, block)
                r.equal(
                    out.copy_to_host(),
                    _box_mean(image.copy_to_host()),
                    name="out",
                    tolerance=1e-4,
                    why="in a narrow image a pixel may be at two edges at once: count each "
                    "neighbour for itself",
                    try_="test every neighbour's row and column before you read it",
                )
    with require("writes each pixel exactly once, and leaves the image as it was") as r:
        for rows, columns in ((8, 8), (16, 16), (13, 21)):
            grid = _grid_over(rows, columns, (8, 8))
            with r.input(f"an image of {rows} x {columns}, {shape_of(grid, (8, 8))}"):
                with _past_the_edge():
                    traced = TracedLaunch(kernel, grid, (8, 8), *_photo(rows, columns))
                not_written(r, traced, {0: "image"})
                written_once(r, traced, 1, "out")


def _past_the_edge() -> Any:
    return outside_means(
        "a pixel at the edge has neighbours that are not there, and a grid may overshoot the "
        "image on both axes",
        "before each read, compare the neighbour's row and column with 0 and with the shape",
    )


def _photo(rows: int, columns: int) -> tuple[Any, Any]:
    """A float32 image of irregular brightness, 0 to 255, and an output full of NaN."""
    rng = np.random.default_rng(rows * 1000 + columns)
    return _image(rng.uniform(0, 255, (rows, columns)).astype(np.float32))


def _box_mean(image: np.ndarray) -> np.ndarray:
    """The mean over the 3 x 3 pixels around each, as far as they lie inside."""
    rows, columns = image.shape
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    padded, ones = np.pad(image.astype(np.float64), 1), np.pad(np.ones(image.shape), 1)
    for dy in range(3):
        for dx in range(3):
            total += padded[dy : dy + rows, dx : dx + columns]
            count += ones[dy : dy + rows, dx : dx + columns]
    return (total / count).astype(np.float32)


def _right_edges(r: Any, image: np.ndarray, got: np.ndarray, report: Any) -> None:
    rows, columns = image.shape
    expected = _box_mean(image)
    for name, place, inside in (
        ("the corner", (0, 0), 4),
        ("the corner", (rows - 1, columns - 1), 4),
        ("the upper edge", (0, columns // 2), 6),
        ("the left edge", (rows // 2, 0), 6),
        ("the lower edge", (rows - 1, columns // 2), 6),
        ("the right edge", (rows // 2, columns - 1), 6),
    ):
        nine = expected[place] * inside / 9
        if np.isnan(got[place]):
            why = NAN_WHY
        elif report.notes:
            why = (
                "row -1 and column -1 are outside. Python and Numba read the last row and column "
                "there; CUDA C reads whatever lies in front of the image"
            )
        elif np.isclose(got[place], nine, rtol=1e-3):
            why = f"the sum was divided by 9, and only {inside} pixels lie inside"
        else:
            why = f"of the nine pixels around it, {inside} lie inside the image"
        r.that(
            bool(np.isclose(got[place], expected[place], rtol=1e-4, atol=1e-4)),
            what=f"{name} out{list(place)}: expected {expected[place]:.2f}, got {got[place]:.2f}",
            why=why,
            try_="count the neighbours that are inside, and divide by that count",
        )


# --- inputs --------------------------------------------------------------------------------------


def _grid_over(rows: int, columns: int, block: tuple[int, int]) -> tuple[int, int]:
    """Blocks along x (columns) and y (rows), enough to cover an image."""
    return math.ceil(columns / block[0]), math.ceil(rows / block[1])


# --- what `show` draws -------------------------------------------------------------------------


@grey.show
def _show_grey(kernel: Any) -> views.Picture:
    photograph = _photograph()
    rgb, out = _image(photograph)
    grid = _grid_over(*photograph.shape[:2], (32, 8))
    launch(kernel, grid, (32, 8), rgb, out)
    traced = TracedLaunch(kernel, (4, 3), (4, 4), *_random_image(10, 14))
    figure, (before, after, plane) = views.axes(3, 13, 3.6)
    views.draw_image(before, photograph, f"rgb: {_by(photograph)}")
    views.draw_image(after, out.copy_to_host(), f"out: {shape_of(grid, (32, 8))}")
    said = views.draw_plane(plane, traced, 1)
    plane.set_title(f"10 x 14 pixels, {shape_of((4, 3), (4, 4))}:\n{said}", fontsize=10)
    return views.Picture(
        figure,
        f"The photograph and what the kernel made of it; beside it, of 10 x 14 pixels, {said}. "
        "Each block has its colour, each cell the number of the thread in its block.",
        dpi=72,
    )


@blur.show
def _show_blur(kernel: Any) -> views.Picture:
    photograph = (_photograph()[:150, :220] @ np.array([RED, GREEN, BLUE])).astype(np.float32)
    image, out = _image(photograph)
    grid = _grid_over(*photograph.shape, (32, 8))
    launch(kernel, grid, (32, 8), image, out)
    rows, columns = 6, 9
    traced = TracedLaunch(kernel, (3, 2), (4, 4), *_photo(rows, columns))
    figure, (before, after, reads) = views.axes(3, 13, 3.6)
    views.draw_image(before, photograph, f"image: {_by(photograph)}")
    views.draw_image(after, out.copy_to_host(), f"out: {shape_of(grid, (32, 8))}")
    read = _reads_by_pixel(traced, (rows, columns))
    views.draw_numbers(reads, read, f"pixels read for each of {rows} x {columns}")
    return views.Picture(
        figure,
        "A piece of the photograph and what the kernel made of it; beside it, how many pixels each "
        f"thread reads: {', '.join(map(str, np.unique(read)))}.",
        dpi=72,
    )


def _reads_by_pixel(traced: TracedLaunch, shape: tuple[int, int]) -> np.ndarray:
    """How many elements of the first array were read by the thread that wrote each pixel."""
    reads, writer = traced.times_by_thread("load", 0), traced.thread_of("store", 1)
    return np.where(writer >= 0, reads[writer], 0).reshape(shape)


def _photograph() -> np.ndarray:
    """uint8 [427, 640, 3]: the Summer Palace in Beijing, one of scikit-learn's two photographs."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg")


def _by(image: np.ndarray) -> str:
    return f"{image.shape[0]} rows x {image.shape[1]} columns"
