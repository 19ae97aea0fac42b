"""What `show` draws in unit 4.2: slots read, a pool over time, names of blocks, who is evicted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled

if TYPE_CHECKING:
    from .paged_kv_cache_case import Case

COLOURS = tuple(figures.PALETTE.values())


def _cell(ax: Any, x: float, y: float, colour: str | None, text: str = "", **more: Any) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    look = {"facecolor": to_rgba(colour, 0.3), "edgecolor": colour} if colour else {"fill": False}
    look = {"edgecolor": figures.INK, "linewidth": 1.0} | look | more
    ax.add_patch(Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, **look))
    if text:
        ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8)


@styled
def slots_read(function: Callable[..., Any], case: Case) -> Picture:
    """Which slots of the pool have a part in the learner's result: each is changed in turn."""
    blocks, size = case.keys.shape[:2]
    keys, values = (np.nan_to_num(x) for x in (case.keys, case.values))

    def run(changed: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(
                function(case.query.copy(), keys.copy(), changed, list(case.table), case.context)
            )

    plain = run(values.copy())
    read = np.zeros((blocks, size), bool)
    for block in range(blocks):
        for offset in range(size):
            changed = values.copy()
            changed[block, offset] += 100
            read[block, offset] = not np.allclose(run(changed), plain, equal_nan=True)
    token = {(case.table[t // size], t % size): t for t in range(case.context)}
    right = sum(read[at] for at in token)
    fig, ax = figures.figure(
        alt=f"The pool of {blocks} blocks of {size} slots. Your result depends on "
        f"{int(read.sum())} slots; {right} hold one of the context's {case.context} tokens.",
        height=2.1,
    )
    for block in range(blocks):
        for offset in range(size):
            mine = token.get((block, offset))
            colour = COLOURS[0] if read[block, offset] else None
            if read[block, offset] and mine is None:
                colour = figures.PALETTE["red"]
            _cell(ax, block, offset, colour, "" if mine is None else str(mine))
    ax.set(xlim=(0, blocks), ylim=(size, 0), xlabel="block of the pool", ylabel="slot")
    ax.set_xticks([b + 0.5 for b in range(blocks)], [str(b) for b in range(blocks)])
    ax.set_yticks([])
    ax.set_title("numbers: the sequence's tokens; blue: you read it; red: not yours", fontsize=9)
    return Picture(fig)


@styled
def pool_over_time(
    seen: Sequence[dict[str, list[int]]], blocks: int, copies: Sequence[tuple[int, int]]
) -> Picture:
    """Who names which block, after each operation on the learner's pool."""
    most = max(len({b for t in tables.values() for b in t}) for tables in seen)
    fig, ax = figures.figure(
        alt=f"The {blocks} blocks of your pool after each of {len(seen)} operations on sequences "
        f"a, b and c, where c is a fork of a. At most {most} blocks are in use, and "
        f"{len(copies)} was copied: {', '.join(f'{a} to {b}' for a, b in copies) or 'none'}.",
        height=2.9,
    )
    for step, tables in enumerate(seen):
        for block in range(blocks):
            names = [name for name, table in tables.items() if block in table]
            colour = COLOURS["abc".index(names[0])] if names else None
            look = {"linewidth": 2.2} if len(names) > 1 else {}
            _cell(ax, step, block, colour, "".join(names), **look)
    ax.set(xlim=(0, len(seen)), ylim=(blocks, 0), xlabel="operation", ylabel="block")
    ax.set_xticks([s + 0.5 for s in range(len(seen))], [str(s + 1) for s in range(len(seen))])
    ax.set_yticks([b + 0.5 for b in range(blocks)], [str(b) for b in range(blocks)])
    return Picture(fig)


@styled
def names(texts: Sequence[str], found: Sequence[Sequence[Hashable]], size: int) -> Picture:
    """Texts in blocks; blocks with the same name have the same colour."""
    known: dict[Hashable, int] = {}
    for row in found:
        for name in row:
            known.setdefault(name, len(known))
    shared = len(set(found[0]) & set(found[1])), len(set(found[0]) & set(found[2]))
    fig, ax = figures.figure(
        alt=f"Three texts in blocks of {size} characters, a colour for each of your "
        f"{len(known)} names. The second shares {shared[0]} names with the first, the third "
        f"{shared[1]}.",
        height=1.7,
    )
    for y, (text, row) in enumerate(zip(texts, found, strict=True)):
        for x in range(-(-len(text) // size)):
            part = text[x * size : (x + 1) * size].replace(" ", "·")
            named = x < len(row)
            number = known[row[x]] if named else 0
            _cell(ax, x, y, COLOURS[number % len(COLOURS)] if named else None)
            ax.text(
                x + 0.5, y + 0.38, part, ha="center", va="center", fontsize=9, family="monospace"
            )
            ax.text(
                x + 0.5,
                y + 0.74,
                str(number) if named else "",
                ha="center",
                va="center",
                fontsize=7,
            )
    ax.set(xlim=(0, -(-len(texts[0]) // size)), ylim=(len(texts), 0), xlabel="block")
    ax.set_xticks([])
    ax.set_yticks([])
    return Picture(fig)


@styled
def eviction(tables: dict[str, list[int]], taken: Sequence[int]) -> Picture:
    """When each block of three ended sequences is overwritten: 1 is first."""
    order = {block: place + 1 for place, block in enumerate(taken)}
    said = "; ".join(
        f"{name}: {', '.join(str(order.get(b, 'never')) for b in table)}"
        for name, table in tables.items()
    )
    longest = max(map(len, tables.values()))
    fig, ax = figures.figure(
        alt="Three sequences, the one that ended first above. When each of their blocks is "
        f"overwritten, from head to tail: {said}.",
        height=1.9,
    )
    for y, (name, table) in enumerate(tables.items()):
        for x, block in enumerate(table):
            _cell(ax, x, y, COLOURS[y], str(order.get(block, "–")))
        ax.text(-0.15, y + 0.5, name, ha="right", va="center", fontsize=10)
    ax.set(xlim=(-0.5, longest), ylim=(len(tables), 0), xlabel="block of the sequence, head first")
    ax.set_xticks([])
    ax.set_yticks([])
    return Picture(fig)
