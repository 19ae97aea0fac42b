"""The exercises of unit 1.8 on patches and on one stream of image, sound and text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.course import exercise
from aiinfra_labs.llm.multimodal.patches import patchify
from aiinfra_labs.llm.multimodal.stream import NOT_GRADED, Segment, visible
from aiinfra_labs.llm.multimodal.stream import targets as targets_of

from . import emergence_multimodal_views as views
from .emergence_multimodal import SKILL
from .tensors import array, equal, near, random

# --- 1.8.d -------------------------------------------------------------------------------------

SQUARES = "cuts a grey image into squares, row by row"
WIDE = "cuts an image that is wider than high"
COLOURED = "keeps the colours of a patch together: first all of the first colour"
BATCHED = "cuts a batch, each image by itself"


@exercise(
    "1.8.d",
    title="An image as a sequence",
    points=6,
    central=BATCHED,
    skill=SKILL,
    arguments=("images", "side"),
    hints=(
        (
            SQUARES,
            "Split each axis in two: `images.reshape(B, C, H // side, side, W // side, side)`. "
            "Nothing has moved yet; which axes belong to the number of a patch?",
        ),
        (
            SQUARES,
            "The order wanted is B, rows, columns, C, y, x: `.permute(0, 2, 4, 1, 3, 5)`. Then "
            "rows and columns become N, and the last three one row of numbers.",
        ),
        (WIDE, "H // side rows and W // side columns: they need not be the same number."),
        (COLOURED, "Within a patch the colour is the slowest axis: C, then y, then x."),
        (BATCHED, "The first axis stays where it is."),
    ),
)
def patches(function: Any, require: Any) -> None:
    """[B, C, H, W] to [B, N, C side side]; patches from left to right, then down."""
    for name, cases in (
        (SQUARES, (((1, 1, 2, 2), 1), ((1, 1, 4, 4), 2), ((1, 1, 9, 9), 3))),
        (WIDE, (((1, 1, 4, 8), 2), ((1, 1, 6, 2), 2))),
        (COLOURED, (((1, 3, 4, 4), 2), ((1, 2, 6, 9), 3))),
        (BATCHED, (((3, 1, 4, 4), 2), ((2, 3, 8, 4), 4))),
    ):
        with require(name) as r:
            for shape, side in cases:
                _cut(r, function, shape, side)


def _cut(r: Any, function: Any, shape: tuple[int, ...], side: int) -> None:
    with r.input(f"images of shape {shape}, patches of {side} x {side}"):
        images = torch.arange(torch.tensor(shape).prod(), dtype=torch.float32).reshape(shape)
        expected = patchify(images, side)
        got = function(images.clone(), side)
        equal(
            r,
            got,
            expected,
            "the result",
            why=_which_cut(got, images, side),
            try_="number the pixels of a 4 x 4 image, and write down what its first patch holds",
        )


def _which_cut(got: Any, images: Tensor, side: int) -> str:
    b, c, h, w = images.shape
    cut = images.reshape(b, c, h // side, side, w // side, side)
    size = c * side * side
    wrong = (
        (
            images.reshape(b, -1, size),
            "that is a reshape alone: it cuts the image into pieces of lines, not into squares",
        ),
        (
            cut.permute(0, 4, 2, 1, 3, 5).reshape(b, -1, size),
            "the patches go down first; they are to go from left to right",
        ),
        (
            cut.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, size),
            "the colours of a pixel stand side by side; a colour's pixels are to stand together",
        ),
        (
            cut.permute(0, 2, 4, 1, 5, 3).reshape(b, -1, size),
            "each patch is turned over: its pixels go from left to right, then down",
        ),
    )
    for value, why in wrong:
        if near(got, value):
            return why
    return "a patch holds the pixels of one square, the first row of it first"


@patches.show
def _show_patches(function: Any) -> views.Picture:
    return views.patches(function)


# --- 1.8.e -------------------------------------------------------------------------------------

ORDER = "puts the parts one behind another, the answer last"
AHEAD = "grades the answer alone, each token at the place before it"
CAUSAL = "lets no place see what comes behind it"
IMAGE = "lets the patches of one image see each other, both ways"


@exercise(
    "1.8.e",
    title="One stream",
    points=6,
    central=AHEAD,
    skill=SKILL,
    arguments=("parts", "answer", "ids"),
    hints=(
        (ORDER, "`torch.cat` of all vectors along the first axis, and the answer's at the end."),
        (
            AHEAD,
            "Place t predicts what stands at t + 1. If the answer begins at place s, the targets "
            "of s - 1, s, ... are its ids; the last place of all has nothing to predict.",
        ),
        (CAUSAL, "`torch.ones(T, T, dtype=torch.bool).tril()`: True where a row may see a column."),
        (
            IMAGE,
            "An image that stands at places s to e - 1: `mask[s:e, s:e] = True`. Another image is "
            "another square.",
        ),
    ),
)
def one_stream(function: Any, require: Any) -> None:
    """(vectors [T, C], targets int64 [T], mask bool [T, T]) of parts and an answer."""
    layouts = (
        (("text", 2), ("answer", 1)),
        (("image", 4), ("text", 2), ("answer", 2)),
        (("text", 1), ("image", 4), ("sound", 3), ("text", 2), ("answer", 3)),
        (("image", 4), ("image", 3), ("text", 1), ("image", 2), ("sound", 2), ("answer", 1)),
    )
    for name, grade in ((ORDER, _order), (AHEAD, _ahead), (CAUSAL, _causal), (IMAGE, _image)):
        with require(name) as r:
            for layout in layouts:
                _streams(r, function, layout, grade)


def _streams(r: Any, function: Any, layout: Any, grade: Any) -> None:
    shown = ", ".join(f"{kind} {n}" for kind, n in layout)
    with r.input(f"{shown} tokens"):
        *before, (_, last) = layout
        parts = [(kind, random(n, 6, seed=i)) for i, (kind, n) in enumerate(before)]
        answer, ids = random(last, 6, seed=99), torch.arange(5, 5 + last)
        got = function([(k, x.clone()) for k, x in parts], answer.clone(), ids.clone())
        r.that(
            isinstance(got, tuple | list) and len(got) == 3,
            what=f"{'nothing' if got is None else f'a {type(got).__name__}'} was returned",
            why="vectors, targets and mask were asked for",
            try_="end the function with return x, targets, mask",
            slip=True,
        )
        segments = [Segment(kind, torch.zeros(1, n, 6)) for kind, n in before]
        segments.append(Segment("text", ids[None], graded=True))
        grade(r, got, torch.cat([x for _, x in parts] + [answer]), segments)


def _order(r: Any, got: Any, x: Tensor, segments: list[Segment]) -> None:
    equal(
        r,
        got[0],
        x,
        "the vectors",
        why="the order of the parts is the order in which they are read",
        try_="compare the first row of each part with where it stands in yours",
    )


def _ahead(r: Any, got: Any, x: Tensor, segments: list[Segment]) -> None:
    expected, mine = targets_of(segments)[0], got[1]
    is_ids = isinstance(mine, Tensor) and tuple(mine.shape) == tuple(expected.shape)
    has = f"{tuple(mine.shape)}" if isinstance(mine, Tensor) else type(mine).__name__
    r.that(
        is_ids and not mine.is_floating_point() and mine.dtype != torch.bool,
        what=f"the targets are {has}, expected whole numbers of shape {tuple(expected.shape)}",
        why="there is one for each place of the stream",
        try_="begin with torch.full((T,), -1)",
        slip=not isinstance(mine, Tensor),
    )
    if torch.equal(mine.long(), expected):
        return
    unshifted = torch.full_like(expected, NOT_GRADED)
    unshifted[len(expected) - len(segments[-1]) :] = segments[-1].values[0]
    why = "place t predicts what stands at t + 1, and only the answer is graded"
    if torch.equal(mine.long(), unshifted):
        why = "each answer token is asked for at its own place, where the model can read it off"
    elif int((mine >= 0).sum()) > len(segments[-1]):
        why = "more than the answer is graded: what was given need not be learnt by heart"
    r.that(
        False,
        what=f"the targets are {mine.tolist()}, expected {expected.tolist()}",
        why=why,
        try_="write the stream in a line, and below each place the token that follows it",
    )


def _is_mask(r: Any, mask: Any, n: int) -> None:
    has = f"{tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
    r.that(
        isinstance(mask, Tensor) and tuple(mask.shape) == (n, n) and mask.dtype == torch.bool,
        what=f"the mask is {has}, expected a tensor of shape {(n, n)}, torch.bool",
        why="a row for each place that looks, a column for each that is looked at",
        try_="begin with torch.ones(T, T, dtype=torch.bool).tril()",
        slip=not isinstance(mask, Tensor),
    )


def _causal(r: Any, got: Any, x: Tensor, segments: list[Segment]) -> None:
    _is_mask(r, got[2], len(x))
    mask, expected = got[2], visible(segments)
    extra = (mask & ~expected).nonzero()
    if len(extra):
        row, column = extra[0].tolist()
        kind = [segment.kind for segment in segments for _ in range(len(segment))]
        if kind[row] == kind[column] == "image":
            why = "that is a patch of another image: only patches of the same one belong together"
        elif column >= len(x) - len(segments[-1]):
            why = "the answer would be read off instead of found"
        else:
            why = "text and sound come in time: what is behind has not been heard yet"
        r.that(
            False,
            what=f"place {row} ({kind[row]}) sees place {column} ({kind[column]}), which is ahead",
            why=why,
            try_="print the mask as 0 and 1, and mark where each part begins",
        )
    lower = torch.ones_like(mask).tril()
    missing = (lower & ~mask).nonzero()
    if len(missing):
        row, column = missing[0].tolist()
        r.that(
            False,
            what=f"place {row} does not see place {column}, which came before it",
            why="the answer needs all that came before: each row sees itself and what is above",
            try_="rows look, columns are looked at: tril keeps column <= row",
        )


def _image(r: Any, got: Any, x: Tensor, segments: list[Segment]) -> None:
    _is_mask(r, got[2], len(x))
    start = 0
    for segment in segments:
        end = start + len(segment)
        if segment.kind == "image":
            seen = array(got[2][start:end, start:end])
            r.that(
                seen.all(),
                what=f"of the image at places {start} to {end - 1}, patches see {int(seen.sum())} "
                f"of {seen.size} pairs",
                why="an image has no direction: its last patch may tell what the first one shows",
                try_="set the square of its places in the mask to True",
            )
        start = end


@one_stream.show
def _show_stream(function: Any) -> views.Picture:
    return views.stream(function)
