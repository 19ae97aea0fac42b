"""The drawings of unit 4.2: block tables, where KV memory goes, what a small pool costs.

from aiinfra_labs.course import figures
figures.show(drawings.usage(runs, published))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aiinfra_labs.cloud.serving.kv_memory import Replay
from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import NORMAL, SMALL, arrow, box, drawing, write
from aiinfra_labs.course.figures import PALETTE, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (PALETTE["blue"], PALETTE["orange"])
HATCHES = ("", "//", "..", "xx")  # so that no part is told by its colour alone


def tables(
    texts: Mapping[str, Sequence[str]], block_tables: Mapping[str, Sequence[int]], blocks: int
) -> Figure:
    """Two sequences' tokens by blocks, their tables, and the pool between them.

    texts: by sequence, the text of each of its blocks. block_tables: by sequence, where each lies.
    """
    (above, below) = texts
    owners: dict[int, list[str]] = {}
    for name, table in block_tables.items():
        for block in table:
            owners.setdefault(block, []).append(name)
    shared = [block for block, names in owners.items() if len(names) > 1]
    said = "; ".join(f"{n}: {', '.join(map(str, t))}" for n, t in block_tables.items())
    alt = (
        f"Two sequences and a pool of {blocks} blocks. Tables: {said}. Blocks of one sequence "
        f"lie anywhere; block {', '.join(map(str, shared)) or 'none'} is shared."
    )
    step = 100 / blocks
    held = {b: texts[names[0]][block_tables[names[0]].index(b)] for b, names in owners.items()}
    with drawing(alt, 0, 56) as (fig, ax):
        for block in range(blocks):
            names = owners.get(block, [])
            colour = None
            if names:
                colour = (
                    PALETTE["green"] if len(names) > 1 else COLOURS[[above, below].index(names[0])]
                )
            text = "\n".join(held.get(block, "").rsplit(" ", 1))
            box(ax, block * step + 0.8, 23, step - 1.6, 10, colour, text, SMALL)
            write(ax, block * step + step / 2, 20.8, block, SMALL)
        write(ax, 99, 35.5, "the pool", SMALL, ha="right")
        for name, y, edge, end in ((above, 45, 45, 33.6), (below, 1, 11, 19)):
            write(ax, 1, y + 5, name, NORMAL, ha="left")
            for place, block in enumerate(block_tables[name]):
                x = 14 + place * 22
                colour = COLOURS[[above, below].index(name)]
                box(ax, x, y, 19, 10, colour, texts[name][place], SMALL)
                arrow(ax, (x + 9.5, edge), (block * step + step / 2, end), "->", 1.2)
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
        height=3.0,
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
    ax.set(xlim=(0, 100), ylim=(len(runs) - 0.4, -0.6), xlabel="% of the slots")
    ax.set_yticks(range(len(runs)), list(runs), fontsize=9)
    fig.legend(loc="outside upper center", ncols=4, fontsize=9)
    return fig


@styled
def too_small(repeated: Mapping[int, float], hits: Mapping[str, Mapping[int, float]]) -> Figure:
    """Two ways in which a pool is too small: work that is done again, prefixes that are lost.

    repeated: by blocks of the pool, tokens computed for each that was needed. hits: by order of
    the requests, then by blocks, the share of the prefixes' tokens that was found.
    """
    worst, best = min(repeated), max(repeated)
    ends = "; ".join(
        f"{name}: {row[min(row)]:.0%} in {min(row)} blocks, {row[max(row)]:.0%} in {max(row)}"
        for name, row in hits.items()
    )
    fig, axes = figures.figure(
        alt=f"Left: tokens computed for each that is needed, by the pool: {repeated[best]:.2f} "
        f"with {best:,} blocks, {repeated[worst]:.2f} with {worst}. Right: the share of eight "
        f"prefixes' tokens that is found, against the pool. {ends}.",
        width=6.4,
        height=2.9,
        ncols=2,
    )
    left, right = axes
    left.plot(list(repeated), list(repeated.values()), "o-", ms=4)
    left.axhline(1, color=figures.INK, ls=":", lw=1.2)
    left.set_xscale("log", base=2)
    left.set_xticks(list(repeated), [f"{n:,}" for n in repeated], fontsize=8)
    left.minorticks_off()
    left.set(xlabel="blocks", ylabel="tokens computed / needed", ylim=(0.9, None))
    left.set_title("computed again", fontsize=10)
    for (name, row), style in zip(hits.items(), ("o-", "s--"), strict=False):
        right.plot(list(row), [100 * x for x in row.values()], style, ms=3, label=name)
    right.set(xlabel="blocks", ylabel="% found", ylim=(-3, 103))
    right.set_title("found again", fontsize=10)
    right.legend(fontsize=8)
    return fig
