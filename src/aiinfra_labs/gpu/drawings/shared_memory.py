"""The drawings of unit 3.4: a tile's banks, a warp's words by bank, a barrier, a halo.

`banks` draws what a warp asked for, from the addresses that an emulator's trace holds; the others
are what the formulas say. Each returns a matplotlib figure with its alt text as its label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .pieces import (
    LARGE,
    NORMAL,
    SMALL,
    WARP,
    Cell,
    box,
    draw_cells,
    drawing,
    frame,
    ink,
    many,
    need,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BANKS = 32
CORNER = 8  # banks of a tile that are drawn, and as many lines of 32 words
MOST_WORDS = 6  # of one bank; those between are left out, and said to be
LEFT, SIDE = 6.5, 2.92  # of the row of 32 banks: where it begins, and how wide a bank is


# --- which bank holds which element of a tile -----------------------------------------------------

# The word of shared memory in which a tile of 32 x 32 floats keeps its element (row, column).
LAYOUTS: dict[str, Callable[[int, int], int]] = {
    "rows of 32 words": lambda row, column: 32 * row + column,
    "rows of 33 words": lambda row, column: 33 * row + column,
    "swizzled": lambda row, column: 32 * row + (column ^ row),
}


def tile_banks(layout: str, column: int = 2) -> Figure:
    """The first banks of shared memory, and the elements of a 32 x 32 tile that lie in them.

    layout: of `LAYOUTS`. column: 0 to 7; the tinted elements are what a warp reads that takes this
    column, lane n the element of row n.
    """
    need(layout in LAYOUTS, f"layout = {layout!r}", "no tile is kept so", ", ".join(LAYOUTS))
    need(
        0 <= column < CORNER,
        f"column = {column}",
        f"{CORNER} banks are drawn",
        f"0 to {CORNER - 1}",
    )
    word = LAYOUTS[layout]
    elements = {word(row, at): (row, at) for row in range(BANKS) for at in range(BANKS)}
    asked = [word(row, column) % BANKS for row in range(BANKS)]
    passes = max(asked.count(bank) for bank in asked)
    alt = (
        f"The first {CORNER} of 32 banks, and in each the first words that it holds of a tile of "
        f"32 x 32, kept in {layout}. Column {column} of the tile, rows 0 to {CORNER - 1}, lies in "
        f"the banks {', '.join(map(str, asked[:CORNER]))}. All 32 rows take "
        f"{_passes(passes)}."
    )
    side, high = 7.2, 5.2
    with drawing(alt, -CORNER * high - 9, 12, CORNER * side) as (fig, ax):
        write(ax, 0, 10, layout, LARGE, ha="left", weight="bold")
        write(ax, CORNER * side, 10, f"banks 0 to {CORNER - 1} of 32", NORMAL, ha="right")
        cells = []
        for bank in range(CORNER):
            write(ax, (bank + 0.5) * side, 4, bank, NORMAL)
            for line in range(CORNER):
                at = elements.get(BANKS * line + bank)
                x, y = bank * side, -(line + 1) * high
                read = at is not None and at[1] == column
                kind = "element" if read else "idle" if at is None else "missing"
                cells.append(Cell(x, y, side, high, kind, 1 if read else 0))
                text = "" if at is None else f"{at[0]},{at[1]}"
                look = {"weight": "bold"} if read else {}
                write(ax, x + side / 2, y + high / 2, text, NORMAL, **look)
        draw_cells(ax, cells)
        below = f"to read column {column}: {_passes(passes)}"
        write(ax, 0, -CORNER * high - 5, below, NORMAL, ha="left")
    return fig


def _passes(count: int) -> str:
    return "1 pass" if count == 1 else f"{count} passes"


# --- the words that a warp asks each bank for -----------------------------------------------------


def banks(*requests: tuple[str, Sequence[int] | np.ndarray]) -> Figure:
    """For each request of a warp, the words that it asks each bank for, one above the other.

    A row is one wavefront: each bank gives one word in it, to all lanes that want that word. The
    number in a cell is the lane, followed by + where more want the same word.

    requests: (name, byte addresses of the lanes, [32], -1 for a lane that takes no part), of
    elements of 4 bytes.
    """
    need(len(requests) >= 1, "no request", "there is nothing to draw", '("a name", addresses)')
    stacks = [(name, _stacks(np.asarray(addresses))) for name, addresses in requests]
    said = []
    for name, by_bank in stacks:
        used = sum(map(bool, by_bank))
        said.append(f"{name}: {many(_highest(by_bank), 'wavefront')}, {many(used, 'bank')} used")
    alt = (
        "The words that one request of a warp asks of the 32 banks; each bank gives one in a "
        f"wavefront. {'; '.join(said)}."
    )
    row, head = 4.0, 8.5
    heights = [head + row * len(_shown(_highest(by_bank))) for _, by_bank in stacks]
    with drawing(alt, -sum(heights) - 5, 0) as (fig, ax):
        y = 0.0
        for (name, by_bank), height in zip(stacks, heights, strict=True):
            _draw_banks(ax, y, row, name, by_bank)
            y -= height
        for bank in (0, 8, 16, 24, 31):
            write(ax, LEFT + (bank + 0.5) * SIDE, y - 2.5, bank, SMALL)
        write(ax, LEFT - 1, y - 2.5, "bank", SMALL, ha="right")
    return fig


def _stacks(addresses: np.ndarray) -> list[dict[int, list[int]]]:
    """For each bank, the lanes that want each of its words."""
    need(
        addresses.shape == (WARP,),
        f"addresses of the shape {addresses.shape}",
        "a request has one for each of a warp's 32 lanes",
        "pass int [32], with -1 for a lane that takes no part",
    )
    found: list[dict[int, list[int]]] = [{} for _ in range(BANKS)]
    for lane, address in enumerate(addresses.tolist()):
        if address >= 0:
            found[address // 4 % BANKS].setdefault(address // 4, []).append(lane)
    return found


def _highest(by_bank: list[dict[int, list[int]]]) -> int:
    return max(map(len, by_bank))


def _shown(words: int) -> list[int | None]:
    """Row numbers, all or the first and the last around a gap (None)."""
    if words <= MOST_WORDS:
        return list(range(words))
    return [*range(MOST_WORDS - 2), None, words - 1]


def _draw_banks(
    ax: Axes, top: float, row: float, name: str, by_bank: list[dict[int, list[int]]]
) -> None:
    high = _highest(by_bank)
    write(ax, LEFT, top - 4.2, name, NORMAL, ha="left", weight="bold")
    write(ax, 100, top - 4.2, many(high, "wavefront"), NORMAL, ha="right")
    cells = []
    for place, number in enumerate(_shown(high)):
        y = top - 6.5 - (place + 1) * row
        if number is None:
            write(ax, 54, y + row / 2, f"… {high - MOST_WORDS + 1} more …", SMALL)
            continue
        write(ax, LEFT - 1, y + row / 2, number + 1, SMALL, ha="right")
        cells.append(Cell(LEFT, y, BANKS * SIDE, row, "missing"))  # the row of all banks
        for bank, words in enumerate(by_bank):
            if number >= len(words):
                continue
            lanes = list(words.values())[number]
            x = LEFT + bank * SIDE
            cells.append(Cell(x, y, SIDE, row, "element", bank))
            shown = f"{lanes[0]}{'+' if len(lanes) > 1 else ''}"
            write(ax, x + SIDE / 2, y + row / 2, shown, SMALL)
    draw_cells(ax, cells)


# --- why a barrier is needed ----------------------------------------------------------------------


def barrier(values: tuple[int, int] = (5, 8), before: int = 0) -> Figure:
    """Two warps in time, without a barrier and with one: who reads what has not been written.

    values: what warp 0 and warp 1 store, each to be loaded by the other. before: what stood there.
    """
    own, other = values
    alt = (
        f"Two warps of a block in time, twice. Without a barrier, warp 0 stores {own} and goes on "
        f"to load what warp 1 stores only later: it gets {before}, which was there before. With a "
        f"barrier, warp 0 waits until warp 1 has stored {other}, and loads {other}. Warp 1 loads "
        f"{own} both times."
    )
    with drawing(alt, -3, 64, 86) as (fig, ax):
        write(ax, 0, 61, "without a barrier", LARGE, ha="left", weight="bold")
        _warp_line(ax, 47, 0, [(14, f"store {own}", "C0"), (33, f"load {before}", "C1")])
        _warp_line(ax, 37, 1, [(51, f"store {other}", "C0"), (70, f"load {own}", "C1")])
        write(ax, 51, 51, f"wrong: the {other} comes later", NORMAL, ha="left")

        write(ax, 0, 27, "with cuda.syncthreads()", LARGE, ha="left", weight="bold")
        _warp_line(ax, 13, 0, [(14, f"store {own}", "C0"), (70, f"load {other}", "C1")])
        _warp_line(ax, 3, 1, [(51, f"store {other}", "C0"), (70, f"load {own}", "C1")])
        box(ax, 32, 13.5, 35.6, 7, None, "waits", NORMAL)
        ax.plot([68.8, 68.8], [1, 23], color=ink(), lw=2.4, ls="-")
        write(ax, 86, -1, "time →", NORMAL, ha="right")
    return fig


def _warp_line(ax: Axes, y: float, warp: int, steps: list[tuple[float, str, str]]) -> None:
    write(ax, 0, y + 4, f"warp {warp}", NORMAL, ha="left")
    for left, name, colour in steps:
        box(ax, left, y, 16, 8, colour, name, NORMAL)


def handover(writer: Sequence[int], readers: Sequence[set[int]]) -> Figure:
    """The words of a shared array: by colour the warp that stored each, framed where another reads.

    writer: for each word the warp that stored it first, -1 for none. readers: for each word the
    warps that loaded it.
    """
    need(len(writer) > 0, "an array of no words", "there is nothing to draw", "at least one")
    crossing = {
        word
        for word, (warp, others) in enumerate(zip(writer, readers, strict=True))
        if others - {warp} and warp >= 0
    }
    warps = sorted({warp for warp in writer if warp >= 0})
    alt = (
        f"{many(len(writer), 'word')} of shared memory, stored by {many(len(warps), 'warp')}. "
        f"{len(crossing)} of them are read by another warp than the one that stored them, and "
        "need a barrier in between."
    )
    rows = -(-len(writer) // WARP)
    with drawing(alt, -4.6 * rows - 10, 6) as (fig, ax):
        words = "is a word that another warp reads" if len(crossing) == 1 else "words"
        said = words if len(crossing) == 1 else f"{words} that another warp reads than stored them"
        write(ax, LEFT, 3, f"framed: {len(crossing)} {said}", NORMAL, ha="left")
        cells = []
        for word, warp in enumerate(writer):
            x, y = LEFT + word % WARP * SIDE, -4.6 * (word // WARP + 1)
            cells.append(Cell(x, y, SIDE, 4.6, "idle" if warp < 0 else "element", max(warp, 0)))
            write(ax, x + SIDE / 2, y + 2.3, "" if warp < 0 else warp, SMALL)
            if word in crossing:
                frame(ax, x + 0.3, y + 0.3, SIDE - 0.6, 4, "-")
        draw_cells(ax, cells)
        for row in range(rows):
            write(ax, LEFT - 1, -4.6 * (row + 0.5), WARP * row, SMALL, ha="right")
        below = "number and colour: the warp that stored the word"
        write(ax, LEFT, -4.6 * rows - 5, below, SMALL, ha="left")
    return fig


# --- a tile with a halo ---------------------------------------------------------------------------


def halo(block: tuple[int, int] = (8, 4), radius: int = 1) -> Figure:
    """The pixels that a block loads: its own, tinted by colour, and a halo around them, hatched.

    block: threads along x and y. radius: of the neighbourhood, in pixels.
    """
    across, down = block
    need(
        1 <= across <= 32 and 1 <= down <= 16 and 1 <= radius <= 4,
        f"a block of {across} x {down} and a radius of {radius}",
        "that does not fit the drawing",
        "at most 32 x 16 threads, a radius of 1 to 4",
    )
    wide, high = across + 2 * radius, down + 2 * radius
    own, all_, taps = across * down, wide * high, (2 * radius + 1) ** 2
    alt = (
        f"A block of {across} x {down} threads and the {wide} x {high} pixels of its tile: {own} "
        f"of its own and a halo of {all_ - own} around them, {radius} wide. One thread's "
        f"neighbourhood of {taps} pixels is framed. The block loads {all_} pixels, where its "
        f"threads one by one would load {own * taps}."
    )
    side = min(4.5, 45 / wide)
    with drawing(alt, -max(high * side, 24), 0, 86) as (fig, ax):
        cells: list[Any] = []
        for y in range(high):
            for x in range(wide):
                inside = radius <= x < wide - radius and radius <= y < high - radius
                kind = "element" if inside else "idle"
                cells.append(Cell(x * side, -(y + 1) * side, side, side, kind, 0 if inside else 1))
        draw_cells(ax, cells)
        x, y, reach = radius + across // 2, radius + down // 2, 2 * radius + 1
        frame(ax, (x - radius) * side, -(y + radius + 1) * side, reach * side, reach * side, "-")
        write(ax, (x + 0.5) * side, -(y + 0.5) * side, "●", SMALL)
        left, middle = wide * side + 3, -max(high * side, 24) / 2
        for line, text in enumerate(
            (
                f"{own} pixels of its own",
                f"{all_ - own} of the halo, hatched",
                f"{all_} loads to shared memory",
                f"{own} x {taps} = {own * taps} loads without",
            )
        ):
            write(ax, left, middle + 9 - 6 * line, text, SMALL, ha="left")
    return fig
