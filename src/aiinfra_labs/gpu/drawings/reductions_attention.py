"""The drawings of unit 3.6: trees of sums, one query over its keys, memories, a block table.

Each returns a figure with its alt text as the figure's label. Numbers in a drawing are worked out
by the formula that it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .pieces import (
    COLOURS,
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

READ = 11  # points: the smallest that a phone still shows at 9 pixels
BIG = 13
VALUES = (5, 3, 8, 1, 7, 2, 9, 4)


# --- trees of sums --------------------------------------------------------------------------------


def additions(interleaved: bool, count: int = len(VALUES)) -> list[list[tuple[int, int]]]:
    """For each step of a tree, who adds whose value: (thread, the thread it reads from).

    interleaved: neighbours first, 1, 2, 4 ... apart; else halves first, ... 4, 2, 1 apart.
    """
    distances = [1 << k for k in range(count.bit_length() - 1)]
    if interleaved:
        return [[(t, t + d) for t in range(0, count, 2 * d)] for d in distances]
    return [[(t, t + d) for t in range(d)] for d in reversed(distances)]


def partial_sums(interleaved: bool, values: Sequence[float]) -> list[dict[int, float]]:
    """What each thread at work holds: all values, then the sums after each step, by thread."""
    held = dict(enumerate(values))
    after = [dict(held)]
    for step in additions(interleaved, len(values)):
        for thread, source in step:
            held[thread] += held[source]
        after.append({thread: held[thread] for thread, _ in step})
    return after


def trees(values: Sequence[float] = VALUES) -> Figure:
    """Values added by neighbours and by halves, with the partial sums. values: 2, 4 or 8."""
    need(
        len(values) in (2, 4, 8),
        f"{len(values)} values",
        "a tree halves them at each step, and each is drawn",
        "2, 4 or 8 of them",
    )
    steps = len(values).bit_length() - 1
    row, high = 11, 11 * steps + 20
    told = []
    for interleaved, name in ((True, "Neighbours first"), (False, "Halves first")):
        after = partial_sums(interleaved, values)[1:]
        told.append(
            f"{name}: "
            + "; ".join(
                f"after step {k}, " + ", ".join(f"thread {t} holds {v:g}" for t, v in sums.items())
                for k, sums in enumerate(after, 1)
            )
        )
    alt = (
        f"Two trees add {', '.join(f'{v:g}' for v in values)} in {steps} steps. {'. '.join(told)}. "
        "In the first the threads at work lie ever further apart, in the second they stay together."
    )
    with drawing(alt, -2 * high + 4, 5) as (fig, ax):
        for panel, (interleaved, name, what) in enumerate(
            (
                (True, "neighbours first", "threads at work: far apart"),
                (False, "halves first", "threads at work: side by side"),
            )
        ):
            top = -panel * high
            write(ax, 0, top + 2, name, BIG, ha="left", weight="bold")
            write(ax, 100, top + 2, what, READ, ha="right")
            _tree(ax, top - 9, row, interleaved, values)
    return fig


def _tree(ax: Axes, top: float, row: float, interleaved: bool, values: Sequence[float]) -> None:
    wide = 86 / len(values)

    def across(thread: int) -> float:
        return 15 + (thread + 0.5) * wide

    cells = []
    for step, held in enumerate(partial_sums(interleaved, values)):
        y = top - step * row
        write(ax, 12, y, f"step {step}" if step else "value", READ, ha="right")
        for thread, value in held.items():
            cells.append(Cell(across(thread) - 4, y - 3.4, 8, 6.8, "element", 2 * (step > 0)))
            write(ax, across(thread), y, f"{value:g}", BIG)
        for thread, source in additions(interleaved, len(values))[step - 1] if step else ():
            for start in (thread, source):
                ends = [across(start), across(thread)], [y + row - 3.6, y + 3.6]
                ax.plot(*ends, color=ink(), lw=1.1, ls="-")
    draw_cells(ax, cells)


# --- one query on its way over tiles --------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What a query remembers after a tile, and how: its weights in the tile, the old's factor."""

    largest: float
    factor: float
    weights: tuple[float, ...]
    total: float
    output: float


def over_tiles(scores: Sequence[float], values: Sequence[float], tile: int) -> list[Known]:
    """A query's three numbers after each tile of keys. values: one number a key."""
    largest, total, output = -math.inf, 0.0, 0.0
    after = []
    for start in range(0, len(scores), tile):
        part = scores[start : start + tile]
        new = max(largest, *part)
        factor = math.exp(largest - new)
        weights = tuple(math.exp(score - new) for score in part)
        total = total * factor + sum(weights)
        output = output * factor + sum(
            w * v for w, v in zip(weights, values[start : start + tile], strict=True)
        )
        largest = new
        after.append(Known(largest, factor, weights, total, output))
    return after


def one_query(
    scores: Sequence[float] = (1, 3, 2, 0, 2, 5, 4, 1),
    values: Sequence[float] = (10, 20, 30, 40, 50, 60, 70, 80),
) -> Figure:
    """A query that meets eight keys in two tiles of four: what it remembers after each."""
    need(
        len(scores) == len(values) == 8,
        f"{len(scores)} scores and {len(values)} values",
        "two tiles of four keys are drawn",
        "eight of each",
    )
    after = over_tiles(scores, values, 4)
    told = [
        f"Tile {k}: scores {', '.join(f'{s:g}' for s in scores[4 * k - 4 : 4 * k])}; the old sum "
        f"and output are multiplied by {one.factor:.2f}; largest {one.largest:g}, sum "
        f"{one.total:.2f}, output {one.output:.1f}"
        for k, one in enumerate(after, 1)
    ]
    last = after[-1]
    alt = (
        "One query meets eight keys in two tiles and remembers three numbers. "
        f"{'. '.join(told)}. In the end output / sum is {last.output / last.total:.1f}."
    )
    with drawing(alt, -109, 4) as (fig, ax):
        for k, one in enumerate(after):
            top = -45 * k
            part = slice(4 * k, 4 * k + 4)
            write(ax, 11, top, f"tile {k + 1} of the keys", BIG, ha="left", weight="bold")
            rows = (
                ("score", "C0", [f"{s:g}" for s in scores[part]]),
                (f"exp(score − {one.largest:g})", None, [f"{w:.2f}" for w in one.weights]),
                ("value", "C1", [f"{v:g}" for v in values[part]]),
            )
            for r, (name, colour, texts) in enumerate(rows):
                y = top - 8 - 8.5 * r
                write(ax, 34, y, name, READ, ha="right")
                for c, text in enumerate(texts):
                    box(ax, 37 + 16 * c, y - 3.4, 14, 6.8, colour, text, BIG)
            y = top - 36 - 10.5 * (k > 0)  # room for what happens to the old ones
            if k:
                old = after[k - 1]
                factor = f"× exp({old.largest:g} − {one.largest:g}) +"
                added = one.output - old.output * one.factor
                for line, text in enumerate(
                    (
                        f"sum: {old.total:.2f} {factor} {sum(one.weights):.2f}",
                        f"output: {old.output:.1f} {factor} {added:.1f}",
                    )
                ):
                    write(ax, 17, y + 12.4 - 5.8 * line, text, READ, ha="left")
                arrow(ax, (4, -39.5), (4, y + 3.4), "-|>", 1.6)
            write(ax, 0, y, "kept", READ, ha="left", weight="bold")
            remembered = (
                ("largest", f"{one.largest:g}"),
                ("sum", f"{one.total:.2f}"),
                ("output", f"{one.output:.1f}"),
            )
            for c, (name, text) in enumerate(remembered):
                box(ax, 11 + 30 * c, y - 4, 27, 8, "C2", f"{name} {text}", BIG)
        text = f"attention = output / sum = {last.output:.1f} / {last.total:.2f}"
        write(ax, 0, -103.5, text, BIG, ha="left")
        write(ax, 66, -103.5, f"= {last.output / last.total:.1f}", BIG, ha="left", weight="bold")
    return fig


# --- what lies in which memory --------------------------------------------------------------------


def memories(tokens: int = 512, head_dim: int = 32, queries: int = 16, keys: int = 32) -> Figure:
    """What one block of FlashAttention holds in each memory. tokens, head_dim: of one head.

    queries: of a block. keys: of a tile. All numbers have 4 bytes.
    """
    need(
        tokens % queries == tokens % keys == 0,
        f"{tokens} tokens in blocks of {queries} and tiles of {keys}",
        "whole blocks and whole tiles are drawn",
        "memories(512, 32, 16, 32)",
    )
    matrix = 4 * tokens * head_dim >> 10  # KB
    held = 4 * head_dim * (queries + 2 * keys) >> 10  # KB
    alt = (
        f"DRAM holds Q, K, V and the output, each {tokens} by {head_dim} and {matrix} KB. A block "
        f"copies {queries} queries into shared memory once, and keys and values in "
        f"{tokens // keys} tiles of {keys}: {held} KB at a time. A warp keeps {keys} scores, "
        f"largest, sum and the output of one query in registers, and stores the output once. The "
        f"{tokens} by {tokens} scores lie in no memory."
    )
    columns = ((0, "Q", "C0"), (27, "K", "C1"), (52, "V", "C1"), (80, "output", "C2"))
    with drawing(alt, -51.5, 4) as (fig, ax):
        write(ax, 0, 1.5, "DRAM", BIG, ha="left", weight="bold")
        write(ax, 100, 1.5, f"each {tokens} × {head_dim}, {matrix} KB", READ, ha="right")
        for x, name, colour in columns:
            frame(ax, x, -13.5, 20, 12, "-")
            walks = colour == "C1"
            box(ax, x, -4.7 if walks else -6.7, 20, 3, colour)
            write(ax, x + 8, -10.7, name, BIG)
            if walks:
                arrow(ax, (x + 17, -5), (x + 17, -12.5), "-|>", 1.1)
        for x in (10, 37, 62):
            arrow(ax, (x, -14), (x, -19), "-|>", 1.6)
            arrow(ax, (x, -31), (x, -35.5), "-|>", 1.6)
        arrow(ax, (90, -40.5), (90, -14), "-|>", 1.6)
        write(ax, 12, -16.5, "once", READ, ha="left")
        write(ax, 49.5, -16.5, f"in {tokens // keys} tiles", READ)
        write(ax, 88, -27, "once", READ, ha="right")
        for y, name, what in (
            (-21.5, "shared memory", f"of a block: {held} KB"),
            (-38, "registers", "of a warp: one query"),
        ):
            write(ax, 0, y, name, BIG, ha="left", weight="bold")
            write(ax, 72, y, what, READ, ha="right")
        for x, text, colour in (
            (0, f"{queries} queries", "C0"),
            (27, f"{keys} keys", "C1"),
            (52, f"{keys} values", "C1"),
        ):
            box(ax, x, -30.5, 20, 6.5, colour, text, READ)
        for x, wide, text, colour in (
            (0, 20, f"{keys} scores", "C4"),
            (27, 20, "largest", "C2"),
            (52, 20, "sum", "C2"),
            (80, 20, "output", "C2"),
        ):
            box(ax, x, -47, wide, 6.5, colour, text, READ)
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
    with drawing(alt, -82, 8) as (fig, ax):
        cells = []
        for seq, (row, length) in enumerate(zip(table, contexts, strict=True)):
            y = -seq * 21
            write(ax, 0, y + 4, f"sequence {seq}", READ, ha="left", weight="bold")
            write(ax, 21, y + 4, "tokens, in order", READ, ha="left")
            for token in range(len(row) * block_size):
                x = 2 + token * cell + (token // block_size) * 3
                kind = "element" if token < length else "idle"
                cells.append(Cell(x, y - 4, cell, 5, kind, 2 * seq))
                if token < length:
                    write(ax, x + cell / 2, y - 1.6, token, READ)
            for position, block in enumerate(row):
                x = 2 + position * (block_size * cell + 3) + block_size * cell / 2
                box(ax, x - 8.5, y - 12.5, 17, 5.5, COLOURS[2 * seq], f"block {block}", READ)
                arrow(ax, (x, y - 4.2), (x, y - 7), "-|>", 1.1)
            write(ax, x + 11, y - 9.7, f"block table of {seq}", READ, ha="left")
        write(ax, 0, -39.5, "the pool", READ, ha="left", weight="bold")
        owner = {block: (s, p) for s, row in enumerate(table) for p, block in enumerate(row)}
        half = -(-num_blocks // 2)
        for block in range(num_blocks):
            x, y = 2 + block % half * 25, -53 - block // half * 12
            write(ax, x + block_size * cell / 2, y + 6.6, f"block {block}", READ)
            for place in range(block_size):
                seq, position = owner.get(block, (1, None))
                token = None if position is None else position * block_size + place
                holds = token is not None and token < contexts[seq]
                kind = "element" if holds else "idle" if token is not None else "missing"
                cells.append(Cell(x + place * cell, y - 0.5, cell, 5, kind, 2 * seq))
                if holds:
                    write(ax, x + (place + 0.5) * cell, y + 2, token, READ)
        for x, y, kind, colour, text in (
            (2, -73, "element", 0, "token of sequence 0"),
            (52, -73, "element", 2, "token of sequence 1"),
            (2, -79, "idle", 2, "reserved, still empty"),
            (52, -79, "missing", 2, "free, for any sequence"),
        ):
            cells.append(Cell(x, y - 1.5, 3.4, 3, kind, colour))
            write(ax, x + 4.6, y, text, READ, ha="left")
        draw_cells(ax, cells)
    return fig
