"""The drawings of unit 4.2: block tables, where KV memory goes, what a small pool costs.

from aiinfra_labs.course import figures
figures.show(drawings.usage(runs, published))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import arrow, box, drawing, frame, many, write
from aiinfra_labs.course.figures import PALETTE, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aiinfra_labs.cloud.serving.kv_memory import Replay

COLOURS = (PALETTE["blue"], PALETTE["orange"])
HATCHES = ("", "//", "..", "xx")  # so that no part is told by its colour alone
TEXT = 11.5  # points: 9 pixels and more where a phone shows the drawing 350 pixels wide
ROW = 7.5  # height of a block of the pool


def block_tables(
    words: Mapping[str, Sequence[str]],
    block_tables: Mapping[str, Sequence[int]],
    blocks: int,
    block_size: int,
    marked: tuple[str, int],
) -> Figure:
    """Two sequences' block tables on the left, the pool that they point into on the right.

    words: by sequence, the text of each token. block_tables: by sequence, where its blocks lie.
    marked: (sequence, token) whose slot is framed, and worked out below the pool.
    """
    name, token = marked
    place, offset = divmod(token, block_size)
    block = block_tables[name][place]
    said = "; ".join(f"{n}: {', '.join(map(str, t))}" for n, t in block_tables.items())
    alt = (
        f"The block tables of {len(words)} sequences and a pool of {blocks} blocks with "
        f"{block_size} slots each. Tables: {said}. The blocks of a sequence lie anywhere in the "
        f"pool. Token {token} of {name}, {words[name][token]!r}, is in entry {place} of the table, "
        f"which names block {block}, at offset {offset}: slot {block * block_size + offset}."
    )
    slot, left = 12.6, 49.0  # width of a slot, and where the pool begins
    with drawing(alt, -14, ROW * blocks + 6) as (fig, ax):

        def middle(row: float) -> float:
            return ROW * (blocks - row - 0.5)

        write(ax, left - 5, ROW * blocks + 3.5, "block", TEXT)
        for column in range(block_size):
            at = left + (column + 0.5) * slot
            write(ax, at, ROW * blocks + 3.5, f"offset {column}", TEXT)
        for row in range(blocks):
            write(ax, left - 3.5, middle(row), row, TEXT)
            for column in range(block_size):
                box(ax, left + column * slot + 0.4, middle(row) - 3.2, slot - 0.8, 6.4, None)
        row = -0.6
        for colour, (owner, table) in zip(COLOURS, block_tables.items(), strict=True):
            write(ax, 0, middle(row), f"{owner}'s block table", TEXT, ha="left")
            for entry, named in enumerate(table):
                row += 1
                write(ax, 8, middle(row), entry, TEXT)
                box(ax, 12, middle(row) - 3.2, 11, 6.4, colour, str(named), TEXT)
                arrow(ax, (23.6, middle(row)), (left - 6, middle(named)), "->", 1.3)
                held = words[owner][entry * block_size : (entry + 1) * block_size]
                for column, word in enumerate(held):
                    number = entry * block_size + column
                    look = (left + column * slot + 0.4, middle(named) - 3.2, slot - 0.8, 6.4)
                    box(ax, *look, colour, f"{number} {word}", TEXT)
                    if (owner, number) == marked:
                        frame(ax, *look, "-")
                        frame(ax, look[0] - 0.5, look[1] - 0.5, slot + 0.2, 7.4, "-")
            row += 1.6
        found = f"entry {token} // {block_size} = {place}, so block {block}"
        write(ax, 50, -4.5, f"Token {token} of {name}: {found},", TEXT)
        number = f"{block} x {block_size} + {offset} = slot {block * block_size + offset}"
        write(ax, 50, -10.5, f"offset {token} % {block_size} = {offset}: {number}", TEXT)
    return fig


def prefix_tree(rows: Mapping[str, Sequence[tuple[str, int, str, int]]]) -> Figure:
    """Blocks that several sequences name, as a tree: each depends on all before it.

    rows: by sequence, (words, block, name, tables that name it) of each of its blocks.
    """
    nodes: dict[int, list[tuple[int, int]]] = {}  # block: (row, place) of all that name it
    for y, blocks in enumerate(rows.values()):
        for x, (_, block, _, _) in enumerate(blocks):
            nodes.setdefault(block, []).append((y, x))
    shared = sorted(block for block, owners in nodes.items() if len(owners) > 1)
    said = "; ".join(f"{owner}: {', '.join(str(b[1]) for b in row)}" for owner, row in rows.items())
    alt = (
        f"The blocks of {len(rows)} sequences as a tree. {said}. Blocks "
        f"{', '.join(map(str, shared))} are named by more than one table. A block's name depends "
        "on all text up to its end, so equal words behind different text have different names."
    )
    high, wide, gap = 14.0, 28.0, 3.0
    count = len(rows)
    with drawing(alt, 0, count * (high + gap) + 1) as (fig, ax):

        def centre(block: int) -> tuple[float, float]:
            places = nodes[block]
            row = sum(y for y, _ in places) / len(places)
            return 7 + places[0][1] * (wide + 4), (count - row - 0.5) * (high + gap)

        for y, (owner, blocks) in enumerate(rows.items()):
            write(ax, 1, (count - y - 0.5) * (high + gap), owner, 13)
            beginning = (6.8, centre(blocks[0][1])[1])
            arrow(ax, (3, (count - y - 0.5) * (high + gap)), beginning, "->", 1.3)
            for (_, before, _, _), (_, block, _, _) in pairwise(blocks):
                (x1, y1), (x2, y2) = centre(before), centre(block)
                arrow(ax, (x1 + wide, y1), (x2, y2), "->", 1.3)
            for words, block, name, tables in blocks:
                x, middle = centre(block)
                if nodes[block][0][0] != y:
                    continue  # drawn with its first owner
                colour = PALETTE["green"] if tables > 1 else COLOURS[0]
                text = f"{words}\nblock {block}: {many(tables, 'table')}\nname {name}"
                box(ax, x, middle - high / 2, wide, high, colour, text, TEXT)
    return fig


@styled
def usage(runs: Mapping[str, Replay], published: Mapping[str, float]) -> Figure:
    """Where KV memory goes, a bar for each way to give it out; published: % that holds tokens."""
    parts = ("tokens", "reserved", "internal", "external")
    said = []
    for name, run in runs.items():
        mean = run.mean
        shares = (f"{100 * getattr(mean, part) / mean.total:.0f} % {part}" for part in parts)
        paper = f" (the paper: {published[name]:g} % tokens)" if name in published else ""
        said.append(f"{name}: {', '.join(shares)}{paper}")
    fig, ax = figures.figure(
        alt=f"Where the slots of KV memory go, on average while requests wait. {'; '.join(said)}.",
        height=4.0,
    )
    colours = [PALETTE[c] for c in ("blue", "green", "orange", "red")]
    for y, (name, run) in enumerate(runs.items()):
        mean, left = run.mean, 0.0
        for part, colour, hatch in zip(parts, colours, HATCHES, strict=True):
            share = 100 * getattr(mean, part) / mean.total
            ax.barh(
                y,
                share,
                left=left,
                color=colour,
                hatch=hatch,
                edgecolor=figures.INK,
                height=0.62,
                linewidth=0.6,
                label=part if y == 0 else None,
            )
            left += share
        if name in published:
            ax.plot(published[name], y - 0.42, "v", color=figures.INK, ms=8, clip_on=False)
    ax.set(xlim=(0, 100), ylim=(len(runs) - 0.4, -0.6))
    ax.set_xlabel("% of the slots", fontsize=TEXT)
    ax.tick_params(axis="x", labelsize=TEXT)
    names = [name.replace(", ", ",\n").replace("powers of", "powers\nof") for name in runs]
    ax.set_yticks(range(len(runs)), names, fontsize=TEXT)
    fig.legend(loc="outside upper center", ncols=2, fontsize=TEXT)
    return fig


@styled
def cliff(hits: Mapping[str, Mapping[int, float]], needed: int) -> Figure:
    """What a prefix cache finds, by its size and the order of the requests.

    hits: by order, then by blocks of the pool, the share of the prefixes' tokens that was found.
    needed: blocks of all prefixes together.
    """
    ends = "; ".join(
        f"{name}: {row[min(row)]:.0%} in {min(row)} blocks, {row[max(row)]:.0%} in {max(row)}"
        for name, row in hits.items()
    )
    fig, ax = figures.figure(
        alt=f"The share of the prefixes' tokens that is found, by the blocks of the pool. All "
        f"prefixes together have {needed} blocks. {ends}.",
        height=2.7,
    )
    for (name, row), style in zip(hits.items(), ("o-", "s--"), strict=True):
        ax.plot(list(row), [100 * x for x in row.values()], style, label=name)
    ax.axvline(needed, color=figures.INK, ls=":", lw=1.2)
    ax.text(needed + 2, 4, f"all prefixes:\n{needed} blocks", fontsize=TEXT)
    ax.tick_params(labelsize=TEXT)
    ax.set_xlabel("blocks of the pool", fontsize=TEXT)
    ax.set_ylabel("% found", fontsize=TEXT)
    ax.set_ylim(-3, 103)
    fig.legend(loc="outside upper center", ncols=2, fontsize=TEXT)
    return fig
