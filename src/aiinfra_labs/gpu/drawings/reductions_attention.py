"""The drawings of unit 3.6: trees of sums, a softmax that grows, attention's tiles, a block table.

Each returns a figure with its alt text as the figure's label. Numbers in a drawing are worked out
by the formula that it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .pieces import (
    COLOURS,
    LARGE,
    NORMAL,
    SMALL,
    Cell,
    arrow,
    box,
    draw_cells,
    drawing,
    frame,
    ink,
    need,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ELEMENTS = 16  # of a tree: a power of 2 that a phone still shows
ROW = 8.5  # of a tree: from one step to the next


# --- trees of sums --------------------------------------------------------------------------------


def additions(interleaved: bool, count: int = ELEMENTS) -> list[list[tuple[int, int]]]:
    """For each step of a tree, who adds whose value: (thread, the thread it reads from).

    interleaved: neighbours first, 1, 2, 4 ... apart; else halves first, ... 4, 2, 1 apart.
    """
    distances = [1 << k for k in range(count.bit_length() - 1)]
    if interleaved:
        return [[(t, t + d) for t in range(0, count, 2 * d)] for d in distances]
    return [[(t, t + d) for t in range(d)] for d in reversed(distances)]


def trees() -> Figure:
    """16 values added by neighbours and by halves: who works at each step."""
    alt = (
        "Two trees that add 16 values in four steps. Neighbours first: threads 0, 2, 4 and so on "
        "add the value beside theirs, then every fourth thread, every eighth; the threads at work "
        "lie ever further apart. Halves first: threads 0 to 7 add the values of 8 to 15, then 0 "
        "to 3, 0 and 1, 0; the threads at work stay side by side."
    )
    high = 4 * ROW + 8
    with drawing(alt, -2 * high - 7, 7) as (fig, ax):
        for panel, (interleaved, name, what) in enumerate(
            (
                (True, "neighbours first", "the threads at work spread out over all warps"),
                (False, "halves first", "the threads at work stay side by side"),
            )
        ):
            top = -panel * (high + 7)
            write(ax, 11, top + 4, name, LARGE, ha="left", weight="bold")
            write(ax, 42, top + 4, what, SMALL, ha="left")
            _tree(ax, top - 2, additions(interleaved))
    return fig


def _tree(ax: Axes, top: float, steps: list[list[tuple[int, int]]]) -> None:
    def across(thread: int) -> float:
        return 14 + thread * 5.5

    cells = []
    for step in range(len(steps) + 1):
        y = top - step * ROW
        at_work = {t for t, _ in steps[step - 1]} if step else set(range(ELEMENTS))
        write(ax, 10.5, y, f"step {step}" if step else "value", SMALL, ha="right")
        for thread in sorted(at_work):
            cells.append(Cell(across(thread) - 2.2, y - 2.1, 4.4, 4.2, "element", 2 * (step > 0)))
            write(ax, across(thread), y, thread, SMALL)
        for thread, source in steps[step - 1] if step else ():
            for start in (thread, source):
                ends = [across(start), across(thread)], [y + ROW - 2.2, y + 2.2]
                ax.plot(*ends, color=ink(), lw=0.9, ls="-")
    draw_cells(ax, cells)


# --- softmax in one reading -----------------------------------------------------------------------


def recurrence(scores: Sequence[float]) -> list[tuple[float, float, float]]:
    """After each score: (largest, the factor by which the sum was multiplied, the new sum)."""
    largest, total = -math.inf, 0.0
    after = []
    for score in scores:
        new = max(largest, score)
        factor = math.exp(largest - new)
        total = total * factor + math.exp(score - new)
        largest = new
        after.append((largest, factor, total))
    return after


def online(scores: Sequence[float] = (1, 3, 2, 5, 4)) -> Figure:
    """How maximum and sum grow together, one score after another. scores: 1 to 6 numbers."""
    need(1 <= len(scores) <= 6, f"{len(scores)} scores", "each is a column", "1 to 6 of them")
    after = recurrence(scores)
    told = "; ".join(
        f"score {score:g}, largest {largest:g}, factor {factor:.2f}, sum {total:.2f}"
        for score, (largest, factor, total) in zip(scores, after, strict=True)
    )
    alt = (
        "Scores are read one after another, and two numbers are kept. Where a score is larger than "
        f"all before it, the sum is first multiplied by exp(old largest - new largest): {told}."
    )
    step = 84 / len(scores)
    with drawing(alt, -31, 13) as (fig, ax):
        for y, name in ((9, "score"), (-4.5, "largest"), (-15, "× factor"), (-25.5, "sum")):
            write(ax, 14, y, name, NORMAL, ha="right")
        for k, (score, (largest, factor, total)) in enumerate(zip(scores, after, strict=True)):
            x = 16 + k * step
            fresh = factor < 1
            box(ax, x, 5.5, step - 5, 7, "C0", f"{score:g}", LARGE)
            arrow(ax, (x + step / 2 - 2.5, 5.2), (x + step / 2 - 2.5, -0.6), "-|>", 1.2)
            box(ax, x, -8, step - 5, 7, "C1" if fresh else None, f"{largest:g}", LARGE)
            if k:
                write(ax, x + step / 2 - 2.5, -15, f"{factor:.2f}", NORMAL)
            box(ax, x, -29, step - 5, 7, "C2", f"{total:.2f}", LARGE)
            if k:
                arrow(ax, (x - 5, -25.5), (x - 0.2, -25.5), "-|>", 1.2)
    return fig


# --- attention in tiles ---------------------------------------------------------------------------


def flash_tiles(queries: int = 4, keys: int = 5, at: tuple[int, int] = (1, 2)) -> Figure:
    """What is in which memory while FlashAttention works on one tile.

    queries, keys: how many blocks of queries and tiles of keys. at: the block and the tile at work.
    """
    need(
        1 <= queries <= 6 and 1 <= keys <= 6 and at[0] < queries and at[1] < keys,
        f"tile {at} of {queries} x {keys}",
        "each tile is drawn",
        "1 to 6 blocks of queries and tiles of keys, counted from 0",
    )
    row, column = at
    alt = (
        f"The matrix of scores, {queries} blocks of queries by {keys} tiles of keys, is never "
        f"stored. Block {row} of the queries stays on the chip with its largest score, sum and "
        f"output. Tiles of keys and values come past one after another; tile {column} is on the "
        f"chip now, tiles before it are done, and the output is stored once at the end."
    )
    wide, high = 56 / keys, 44 / queries
    left, top = 19, 0
    with drawing(alt, -62, 21) as (fig, ax):
        for k in range(keys):
            here = k == column
            x = left + k * wide
            box(ax, x, top + 3, wide - 1, 5.5, "C1" if here else None, f"K{k}", SMALL)
            box(ax, x, top + 10, wide - 1, 5.5, "C1" if here else None, f"V{k}", SMALL)
        for q in range(queries):
            y = top - (q + 1) * high
            here = q == row
            box(ax, 6, y, 10, high - 1, "C0" if here else None, f"Q{q}", SMALL)
            box(ax, left + 58, y, 10, high - 1, "C2" if here else None, f"O{q}", SMALL)
            for k in range(keys):
                done = q < row or (here and k < column)
                if here and k == column:
                    box(ax, left + k * wide, y, wide - 1, high - 1, "C3", "now", SMALL)
                else:
                    corner = left + k * wide, y, wide - 1, high - 1
                    frame(ax, *corner, ":")
                    if done:
                        write(ax, corner[0] + wide / 2, y + high / 2 - 0.5, "done", SMALL)
        write(ax, left + 28, 18.5, "keys and values, tile by tile →", NORMAL)
        write(ax, 2, -22, "queries", NORMAL, rotation=90)
        write(ax, left + 63, 2, "output", NORMAL)
        write(ax, left + 28, -48, "scores: dotted, never stored", NORMAL)
        legend = (("C0", "shared memory, all the time"), ("C1", "shared memory, for one tile"))
        rest = (("C2", "registers: output, largest, sum"), ("C3", "registers, then gone"))
        for y, entries in ((-55, legend), (-60.5, rest)):
            for x, (colour, text) in zip((6, 53), entries, strict=True):
                box(ax, x, y - 1.5, 4, 3, colour)
                write(ax, x + 5.5, y, text, SMALL, ha="left")
    return fig


# --- the block table ------------------------------------------------------------------------------


def block_table(
    table: Sequence[Sequence[int]] = ((4, 1, 6), (2, 5)),
    contexts: Sequence[int] = (10, 7),
    block_size: int = 4,
    num_blocks: int = 8,
) -> Figure:
    """From a token to its place in the pool: two sequences, their tables, one pool.

    table: the blocks of each of two sequences, in order. contexts: their tokens.
    """
    used = [block for row in table for block in row]
    need(
        len(table) == len(contexts) == 2
        and len(set(used)) == len(used)
        and all(0 <= block < num_blocks for block in used)
        and all(-(-n // block_size) == len(row) for n, row in zip(contexts, table, strict=True)),
        f"tables {list(map(list, table))} for contexts of {list(contexts)}",
        "each sequence has as many blocks of its own as its tokens need",
        "block_table(((4, 1, 6), (2, 5)), (10, 7))",
    )
    free = num_blocks * block_size - sum(contexts)
    held = len(used) * block_size - sum(contexts)
    alt = (
        f"Two sequences of {contexts[0]} and {contexts[1]} tokens in blocks of {block_size}. Their "
        f"block tables are {', '.join(map(str, table[0]))} and {', '.join(map(str, table[1]))}: "
        f"the sequence's blocks lie in the pool in that order. Of the pool's "
        f"{num_blocks * block_size} places {free} hold no token, {held} of these in blocks that "
        f"a sequence has begun."
    )
    cell = 5.2
    with drawing(alt, -76, 8) as (fig, ax):
        cells = []
        for seq, (row, length) in enumerate(zip(table, contexts, strict=True)):
            y = -seq * 21
            write(ax, 0, y + 4, f"sequence {seq}", NORMAL, ha="left", weight="bold")
            write(ax, 21, y + 4, "tokens, in order", SMALL, ha="left")
            for token in range(len(row) * block_size):
                x = 2 + token * cell + (token // block_size) * 3
                kind = "element" if token < length else "idle"
                cells.append(Cell(x, y - 4, cell, 5, kind, 2 * seq))
                if token < length:
                    write(ax, x + cell / 2, y - 1.6, token, SMALL)
            for position, block in enumerate(row):
                x = 2 + position * (block_size * cell + 3) + block_size * cell / 2
                box(ax, x - 8.5, y - 12.5, 17, 5.5, COLOURS[2 * seq], f"block {block}", NORMAL)
                arrow(ax, (x, y - 4.2), (x, y - 7), "-|>", 1.1)
            write(ax, 76, y - 9.7, "block table", SMALL, ha="left")
        write(ax, 0, -43, "the pool", NORMAL, ha="left", weight="bold")
        owner = {block: (s, p) for s, row in enumerate(table) for p, block in enumerate(row)}
        half = -(-num_blocks // 2)
        for block in range(num_blocks):
            x, y = 2 + block % half * 25, -53 - block // half * 12
            write(ax, x + block_size * cell / 2, y + 6.6, f"block {block}", SMALL)
            for place in range(block_size):
                seq, position = owner.get(block, (1, None))
                token = None if position is None else position * block_size + place
                holds = token is not None and token < contexts[seq]
                kind = "element" if holds else "idle" if token is not None else "missing"
                cells.append(Cell(x + place * cell, y - 0.5, cell, 5, kind, 2 * seq))
                if holds:
                    write(ax, x + (place + 0.5) * cell, y + 2, token, SMALL)
        for x, kind, text in (
            (2, "element", "a token"),
            (24, "idle", "begun, still empty"),
            (60, "missing", "free, for any sequence"),
        ):
            cells.append(Cell(x, -74.5, 3.4, 3, kind, 2))
            write(ax, x + 4.6, -73, text, SMALL, ha="left")
        draw_cells(ax, cells)
    return fig
