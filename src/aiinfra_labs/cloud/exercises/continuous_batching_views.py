"""What `show` draws in unit 4.3: the learner's own steps, pool and tables. Unit 4.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled


@styled
def timeline(
    steps: Sequence[Mapping[str, tuple[int, bool]]],
    requests: Sequence[tuple[str, int, int, int]],
) -> Picture:
    """A row a request, a column a step: what the learner's plan gave. The budget was 16."""
    names = [name for name, *_ in sorted(requests, key=lambda q: (q[1], int(q[0][1:])))]
    arrival = {name: step for name, step, *_ in requests}
    spent = [sum(tokens for tokens, _ in step.values()) for step in steps]
    fig, ax = figures.figure(
        alt=f"Your {len(steps)} steps for {len(names)} requests, a row each: prompt tokens in "
        f"orange, decoded ones in blue, dots while a request waits. "
        f"{sum(spent)} tokens in all, at most {max(spent, default=0)} in a step of 16.",
        height=2.9,
    )
    for row, name in enumerate(names):
        got = [i for i, step in enumerate(steps) if name in step]
        for i in got:
            tokens, prompt = steps[i][name]
            colour = figures.PALETTE["orange" if prompt else "blue"]
            ax.broken_barh([(i, 0.9)], (row - 0.4, 0.8), color=colour)
            if prompt and tokens > 9:
                ink = figures.ink_on(colour)
                ax.text(i + 0.45, row, str(tokens), ha="center", va="center", fontsize=6, color=ink)
        waits = [i for i in range(arrival[name], got[-1] if got else len(steps)) if i not in got]
        ax.plot([i + 0.45 for i in waits], [row] * len(waits), ".", ms=3, color=figures.INK)
    ax.set(xlabel="step", xlim=(0, len(steps)), ylim=(len(names) - 0.4, -0.6))
    ax.set_yticks(range(len(names)), names)
    return Picture(fig)


@styled
def pool(
    running: Sequence[tuple[str, int, int]], free: int, kept: Sequence[str], out: Sequence[str]
) -> Picture:
    """Blocks before and after: who holds how many, and whom the learner preempts."""
    total = free + sum(held for _, held, _ in running)
    after = [(name, wanted) for name, _, wanted in running if name in kept]
    used = sum(wanted for _, wanted in after)
    fig, ax = figures.figure(
        alt=f"A pool of {total} blocks. Before: "
        + ", ".join(f"{name} holds {held}" for name, held, _ in running)
        + f". You preempt {', '.join(out) or 'nobody'}; those that stay hold {used} blocks.",
        height=1.9,
    )
    for row, blocks in enumerate(([(n, h) for n, h, _ in running], after)):
        left = 0
        for name, count in blocks:
            colour = list(figures.PALETTE.values())[ord(name[0]) % len(figures.PALETTE)]
            ax.barh(row, count, left=left, color=colour, edgecolor=figures.INK)
            ink = figures.ink_on(colour)
            ax.text(left + count / 2, row, f"{name} {count}", ha="center", va="center", color=ink)
            left += count
    ax.axvline(total, color=figures.INK, ls=":", lw=1.4)
    ax.set_yticks([0, 1], ["before", "after"])
    ax.set(xlabel=f"blocks; the pool ends at {total}", ylim=(1.6, -0.6))
    return Picture(fig)


@styled
def handed(
    old: Sequence[int], new: Sequence[int], source_free: Sequence[int], target_free: Sequence[int]
) -> Picture:
    """Two pools of 24 blocks: where the sequence lay, and where it lies now."""
    lost = sum(block not in source_free for block in old)
    fig, axes = figures.figure(
        alt=f"Two pools of 24 blocks. The sequence lay in blocks {list(old)} of the source, of "
        f"which {len(old) - lost} are free again; it lies in {list(new)} of the target.",
        height=1.8,
        nrows=2,
    )
    for ax, name, table, free in (
        (axes[0], "source", old, source_free),
        (axes[1], "target", new, target_free),
    ):
        for block in range(24):
            mine = block in table
            empty = block in free
            colour = figures.PALETTE["blue"] if mine and not empty else figures.INK
            ax.barh(0, 0.86, left=block, fill=not empty, color=colour, edgecolor=figures.INK)
            if mine:
                place = list(table).index(block)
                ink = None if empty else figures.ink_on(colour)
                ax.text(block + 0.43, 0, str(place), ha="center", va="center", color=ink)
        ax.set(xlim=(-0.2, 24), yticks=[])
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.set_xticks([])
    axes[1].set_xlabel("blocks 0 to 23: filled is in use, a number its place in the table")
    return Picture(fig)
