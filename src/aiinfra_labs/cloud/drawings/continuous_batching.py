"""The drawings of unit 4.3: slots, steps and their cost, pauses, budgets, pools, two engines.

from aiinfra_labs.course import figures
figures.show(drawings.budgets(runs))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiinfra_labs.cloud.serving.replay import Timeline, percentile
from aiinfra_labs.cloud.serving.step_cost import work_of
from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aiinfra_labs.cloud.serving.attention import Layout
    from aiinfra_labs.cloud.serving.step_cost import RooflineCost, StepWork


LEAST = 10.5  # points: 9 pixels where a figure of 5.6 inches is as wide as a phone


def _legible(fig: Figure) -> Figure:
    """Let no text be smaller than a phone shows at 9 pixels."""
    from matplotlib.text import Text

    for text in fig.findobj(Text):
        text.set_fontsize(max(LEAST, text.get_fontsize()))
    return fig


# --- who has which slot --------------------------------------------------------------------------


@dataclass(frozen=True)
class Stay:
    """A request in a slot, from step `begin` on, before step `end`."""

    name: str
    slot: int
    begin: int
    end: int


def stays(run: Timeline) -> list[Stay]:
    """Who is in which slot in which steps: a request takes the first slot that is free."""
    found: list[Stay] = []
    held: dict[str, tuple[int, int]] = {}  # (slot, first step)
    for place, step in enumerate([*run.steps, None]):
        served = {s.name for s in step.served} if step else set()
        for name in [n for n in held if n not in served]:
            found.append(Stay(name, *held.pop(name), place))
        free = sorted(set(range(run.slots)) - {slot for slot, _ in held.values()})
        for name in sorted(served - held.keys(), key=lambda n: (len(n), n)):
            held[name] = (free.pop(0), place)
    return sorted(found, key=lambda stay: (stay.begin, stay.slot))


@styled
def slots(runs: Mapping[str, Timeline]) -> Figure:
    """A panel a run, one below the other: a row a slot, a column a step, and who is in it."""
    from matplotlib.colors import to_rgba

    said, panels = [], {}
    for name, run in runs.items():
        all_slots, used = run.slots * len(run.steps), sum(len(s.served) for s in run.steps)
        panels[name] = f"{name}: {len(run.steps)} steps, {all_slots - used} slots empty"
        ends = ", ".join(f"request {s.name} in steps {s.begin + 1} to {s.end}" for s in stays(run))
        said.append(f"{panels[name]} of {all_slots}; {ends}")
    fig, axes = figures.figure(
        alt="Rows are slots, columns are steps of the engine. " + ". ".join(said) + ".",
        height=0.55 + sum(0.36 + 0.26 * run.slots for run in runs.values()),
        nrows=len(runs),
        sharex=True,
        squeeze=False,
        height_ratios=[run.slots for run in runs.values()],
    )
    for ax, (name, run) in zip(axes[:, 0], runs.items(), strict=True):
        here = stays(run)
        for slot in range(run.slots):
            taken = {n for s in here if s.slot == slot for n in range(s.begin, s.end)}
            empty = [(n, 1) for n in range(len(run.steps)) if n not in taken]
            ax.broken_barh(empty, (slot - 0.42, 0.84), fc="none", hatch="...", lw=0)
        for stay in here:
            low, colour = stay.slot - 0.42, figures.PALETTE["blue"]
            look = {"fc": to_rgba(colour, 0.26), "ec": colour, "lw": 1.2}
            ax.broken_barh([(stay.begin, stay.end - stay.begin)], (low, 0.84), **look)
            ax.broken_barh([(stay.begin, 1)], (low, 0.84), fc=figures.PALETTE["orange"], lw=0)
            middle = (stay.begin + 1 + stay.end) / 2
            ax.text(middle, stay.slot, stay.name, ha="center", va="center", fontsize=11)
        ax.set_title(panels[name], fontsize=11.5)
        ax.set(ylim=(run.slots - 0.4, -0.6), yticks=range(run.slots))
        ax.set_yticklabels([f"slot {i + 1}" for i in range(run.slots)])
        ax.tick_params(left=False)
        for spine in ax.spines.values():
            spine.set_visible(False)
    longest = max(len(run.steps) for run in runs.values())
    axes[-1, 0].set(xlim=(0, longest), xlabel="steps of the engine; orange: the prompt's step")
    return _legible(fig)


@styled
def budget_of_steps(steps: Sequence[Sequence[tuple[str, int, int]]], budget: int) -> Figure:
    """A line a step, a cell a token of its budget: whose it is, and which of its request's.

    steps: of each step its pieces: (name of the request, first token, how many).
    """
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    names = sorted({name for step in steps for name, _, _ in step})
    colours = [figures.PALETTE[name] for name in ("blue", "orange", "green", "purple")]
    said = []
    fig, ax = figures.figure(alt="Steps.", height=0.25 + 0.32 * len(steps))
    for y, step in enumerate(steps):
        cells = [(name, start + n) for name, start, count in step for n in range(count)]
        told = ", ".join(f"{n} of {name} from token {start} on" for name, start, n in step)
        said.append(f"step {y + 1} computes {told}, and {budget - len(cells)} cells stay empty")
        for x in range(budget):
            look: dict[str, object] = {"fc": "none", "ec": figures.INK, "lw": 0.8, "ls": ":"}
            if x < len(cells):
                name, token = cells[x]
                colour = colours[names.index(name) % len(colours)]
                look = {"fc": to_rgba(colour, 0.26), "ec": colour, "lw": 1.0}
                first = x == 0 or cells[x - 1][0] != name
                label = f"{name}{token}" if first else str(token)
                ax.text(x + 0.5, y, label, ha="center", va="center", fontsize=LEAST)
            ax.add_patch(Rectangle((x + 0.04, y - 0.42), 0.92, 0.84, **look))
    figures.describe(fig, f"Steps with a budget of {budget} tokens. {'; '.join(said)}.")
    ax.set(xlim=(-0.02, budget), ylim=(len(steps) - 0.5, -0.5), xticks=[], yticks=range(len(steps)))
    ax.set_yticklabels([f"step {y + 1}" for y in range(len(steps))])
    ax.tick_params(left=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return _legible(fig)


# --- one step ------------------------------------------------------------------------------------


@styled
def mixed_step(layout: Layout, names: Sequence[str], texts: Sequence[str]) -> Figure:
    """One step's row of tokens, and below it what each token sees of the cache.

    names: of each sequence. texts: of each token of the row, [T].
    """
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    size, rows = layout.block_size, layout.rows.tolist()
    colours = [figures.PALETTE[name] for name in ("blue", "orange", "green", "purple")]
    owner: dict[int, tuple[int, int]] = {}  # slot: (sequence, position)
    for row, context in enumerate(layout.contexts.tolist()):
        for position in range(context):
            block = int(layout.block_table[row, position // size])
            owner[block * size + position % size] = (row, position)
    count = 1 + max(slot // size for slot in owner)
    told = "; ".join(
        f"{texts[t]!r} is {names[r]}'s token {layout.positions[t]}, in slot {layout.slots[t]}"
        for t, r in enumerate(rows)
    )
    fig, axes = figures.figure(
        alt=f"One step's row of {len(rows)} tokens: {told}. Below, what each of them sees of "
        f"{count} blocks of {size} slots: the slots of its own request, up to its own position.",
        height=1.75 + 0.3 * (len(rows) + 2),
        nrows=2,
        height_ratios=[5, len(rows) + 2.2],
    )
    top, below = axes
    lines = ("token", "request", "position", "slot")
    table = ([repr(t)[1:-1] for t in texts], [names[r] for r in rows])
    values = (*table, layout.positions.tolist(), layout.slots.tolist())
    for y, (line, cells) in enumerate(zip(lines, values, strict=True)):
        top.text(-0.15, y, line, ha="right", va="center", fontsize=11)
        for t, cell in enumerate(cells):
            look = {"fc": to_rgba(colours[rows[t]], 0.26), "ec": colours[rows[t]], "lw": 0.8}
            top.add_patch(Rectangle((t + 0.03, y - 0.44), 0.94, 0.88, **look))
            top.text(t + 0.5, y, cell, ha="center", va="center", fontsize=11)
    top.set(xlim=(-0.02, len(rows)), ylim=(3.6, -0.6), xticks=[], yticks=[])
    for slot in set(range(count * size)) - owner.keys():  # free
        for t in range(len(rows)):
            look = {"ec": figures.INK, "lw": 0.3, "fc": "none"}
            below.add_patch(Rectangle((slot, t), 1, 1, **look))
    for slot, (row, position) in owner.items():
        for t, (own, mine) in enumerate(zip(rows, layout.positions.tolist(), strict=True)):
            seen = own == row and position <= mine
            look = {"ec": figures.INK, "lw": 0.3, "fc": colours[row] if seen else "none"}
            below.add_patch(Rectangle((slot, t), 1, 1, **look))
        look = {"ha": "center", "va": "center", "fontsize": LEAST, "color": figures.INK}
        below.text(slot + 0.5, -0.55, f"{names[row]}{position}", **look, rotation=90)
    for block in range(count + 1):
        below.axvline(block * size, color=figures.INK, lw=1.4)
    below.set(xlim=(0, count * size), ylim=(len(rows), -1.3), xticks=[], yticks=[])
    for t, row in enumerate(rows):
        label = f"{names[row]}{layout.positions[t]}"
        below.text(-0.3, t + 0.5, label, ha="right", va="center", fontsize=11)
    for block in range(count):
        middle = (block + 0.5) * size
        below.text(middle, len(rows) + 0.2, f"block {block}", ha="center", va="top", fontsize=11)
    for ax in axes:
        for spine in ax.spines.values():
            spine.set_visible(False)
    return _legible(fig)


@styled
def kernel_times(clock: RooflineCost, tokens: Sequence[int], beside: StepWork) -> Figure:
    """The time of each kind of kernel, stacked, against the tokens of a chunk.

    beside: what else the step computes, such as one token each of sequences that decode.
    """
    works = [beside + work_of(0, n) for n in tokens]
    kinds = [kernel.name for kernel in clock.kernels(beside)]
    times = {
        name: [1e3 * clock.seconds(clock.kernels(work)[i]) for work in works]
        for i, name in enumerate(kinds)
    }
    totals = [1e3 * clock(work) for work in works]
    fig, ax = figures.figure(
        alt=f"Least time of a step against the tokens of a prompt's chunk in it, with "
        f"{beside.sequences} sequences that decode beside it: from {totals[0]:.1f} ms at "
        f"{tokens[0]} tokens to {totals[-1]:.1f} ms at {tokens[-1]:,}. The layers' products take "
        f"{times['layers'][0]:.1f} ms up to {clock.turning_tokens:.0f} tokens in all, and grow in "
        f"proportion behind it; attention takes {times['attention'][0]:.1f} ms or more all along.",
        height=2.6,
    )
    order = sorted(kinds, key=lambda name: name == "layers")
    hatches = dict(zip(order, ("..", "//", ""), strict=True))
    low = [0.0] * len(works)
    for name in order:
        high = [a + b for a, b in zip(low, times[name], strict=True)]
        colour = figures.PALETTE[("green", "orange", "blue")[order.index(name)]]
        look = {"alpha": 0.55, "hatch": hatches[name], "lw": 0}
        ax.fill_between(tokens, low, high, label=name, fc=colour, ec=figures.INK, **look)
        low = high
    turn = clock.turning_tokens - beside.tokens
    ax.axvline(turn, color=figures.INK, ls=":", lw=1.6)
    ax.set(xlabel="tokens of the chunk", ylabel="ms", xlim=(0, tokens[-1]), ylim=(0, None))
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(0.28, 1))
    return _legible(fig)


@styled
def pauses(runs: Mapping[str, Timeline], reader: str, paper: str) -> Figure:
    """When a reader gets tokens while a long prompt is computed: a panel a run."""
    longest, said, end = {}, [], 0.0
    spans = {}
    for name, run in runs.items():
        mine = [s for s in run.steps if any(w.name == paper for w in s.served)]
        prompt = [s for s in mine if any(w.name == paper and w.kind == "prefill" for w in s.served)]
        spans[name] = (prompt[0].begin, prompt[-1].end)
        longest[name] = 1e3 * max(run.requests[reader].gaps)
        end = max(end, spans[name][1])
        said.append(
            f"{name}: the paper takes {1e3 * (spans[name][1] - spans[name][0]):,.0f} ms, and the "
            f"longest pause is {longest[name]:,.0f} ms"
        )
    fig, axes = figures.figure(
        alt=f"When a reader gets tokens while a paper is computed. {'. '.join(said)}.",
        height=0.5 + 0.95 * len(runs),
        nrows=len(runs),
        sharex=True,
    )
    left = min(begin for begin, _ in spans.values()) - 0.06
    for ax, (name, run) in zip(axes, runs.items(), strict=True):
        begin, stop = spans[name]
        ax.axvspan(1e3 * begin, 1e3 * stop, color=figures.PALETTE["orange"], alpha=0.35, lw=0)
        times = [1e3 * t for t in run.requests[reader].tokens]
        ax.vlines(times, 0.1, 0.9, color=figures.PALETTE["blue"], lw=1.0)
        ax.set_title(f"{name}: longest pause {longest[name]:,.0f} ms")
        ax.set(ylim=(0, 1), yticks=[], xlim=(1e3 * left, 1e3 * (end + 0.06)))
        ax.spines["left"].set_visible(False)
    axes[-1].set(xlabel="ms; blue: a token for the reader, orange: the paper")
    return _legible(fig)


@styled
def engines(systems: Mapping[str, Mapping[str, Any]]) -> Figure:
    """New tokens a second of each system, as a bar."""
    rates = {name: one["new_tokens_a_second"] for name, one in systems.items()}
    names = sorted(rates, key=rates.__getitem__)
    said = ", ".join(f"{name} {rates[name]:,.0f}" for name in reversed(names))
    fig, ax = figures.figure(alt=f"New tokens a second: {said}.", height=0.7 + 0.42 * len(names))
    colours = [figures.PALETTE["blue" if "engine" in name else "orange"] for name in names]
    bars = ax.barh(names, [rates[name] for name in names], color=colours)
    for bar, name in zip(bars, names, strict=True):
        if "engine" not in name:
            bar.set_hatch("//")
    ax.bar_label(bars, [f" {rates[name]:,.0f}" for name in names])
    ax.set(xlabel="new tokens a second", xlim=(0, 1.15 * max(rates.values())))
    return _legible(fig)


@styled
def budgets(runs: Mapping[int, Timeline], turning: float) -> Figure:
    """Time to first token and the longest gap against the token budget of a step."""
    first = {b: 1e3 * percentile(t.firsts(), 0.9) for b, t in runs.items()}
    gap = {b: 1e3 * max(t.all_gaps()) for b, t in runs.items()}
    low, high = min(runs), max(runs)
    fig, ax = figures.figure(
        alt=f"Two latencies against the budget of a step. The time to first token, of which a "
        f"tenth of the requests have more, falls from {first[low]:,.0f} ms at {low} tokens to "
        f"{first[high]:,.0f} ms at {high:,}. The longest gap between two tokens grows from "
        f"{gap[low]:,.0f} to {gap[high]:,.0f} ms.",
        height=2.9,
    )
    ax.plot(list(first), list(first.values()), "o-", ms=4, label="time to first token, 90 %")
    ax.plot(list(gap), list(gap.values()), "s-", ms=4, label="longest gap")
    label = f"{turning:.0f} tokens: weights = products"
    ax.axvline(turning, color=figures.INK, ls=":", lw=1.3, label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(list(runs), [f"{b:,}" for b in runs])
    ax.set(xlabel="tokens that a step may have", ylabel="ms")
    ax.legend()
    return _legible(fig)


@styled
def pools(runs: Mapping[int, Timeline]) -> Figure:
    """Tokens that are computed again, and throughput, against the blocks of the pool."""
    again = {b: 100 * t.again / t.computed for b, t in runs.items()}
    largest, smallest = max(runs), min(runs)
    best = runs[largest].throughput
    share = {b: 100 * t.throughput / best for b, t in runs.items()}
    fig, ax = figures.figure(
        alt=f"Against the blocks of the pool, from {smallest} to {largest:,}: the share of "
        f"computed tokens that had been computed before, {again[smallest]:.0f} % in the smallest "
        f"pool and {again[largest]:.0f} % in the largest; and the throughput, which is "
        f"{share[smallest]:.0f} % of the largest pool's in the smallest.",
        height=2.7,
    )
    ax.plot(list(share), list(share.values()), "o-", ms=4, label="throughput, % of the largest's")
    ax.plot(list(again), list(again.values()), "s-", ms=4, label="computed again, % of all tokens")
    ax.set(xlabel="blocks of the pool", ylabel="%", ylim=(0, 105))
    ax.legend(loc="center right")
    return _legible(fig)


@styled
def apart(gaps: Mapping[str, Sequence[float]], firsts: Mapping[str, Sequence[float]]) -> Figure:
    """Both latencies of each way, sorted: a point for each share of requests, and of gaps."""
    said = "; ".join(
        f"{n}: {1e3 * percentile(firsts[n], 0.9):,.0f} ms to the first token and a gap of "
        f"{1e3 * percentile(gaps[n], 0.99):.1f} ms"
        for n in gaps
    )
    fig, axes = figures.figure(
        alt=f"Above: the time to first token, below: the gaps between tokens, each sorted, for two "
        f"engines used in three ways. At 90 % of requests, and at 99 % of gaps: {said}.",
        height=4.6,
        nrows=2,
    )
    for i, name in enumerate(gaps):
        for ax, values in ((axes[0], firsts[name]), (axes[1], gaps[name])):
            shares = [100 * (k + 1) / len(values) for k in range(len(values))]
            style = {"lw": 1.8, "ls": ("-", "--", "-")[i], "label": name}
            ax.plot([1e3 * v for v in values], shares, **style)
    for ax, name in ((axes[0], "time to first token, ms"), (axes[1], "gap, ms")):
        ax.set_xscale("log")
        ax.set(xlabel=name)
    axes[0].set_ylabel("% of requests below")
    axes[1].set(ylabel="% of gaps below", ylim=(90, 100.2))
    axes[0].legend()
    return _legible(fig)


@styled
def handover(block_size: int = 4, tokens: int = 10) -> Figure:
    """Two engines' pools: the blocks that travel, and the numbers that do not."""
    from aiinfra_labs.course.drawing import arrow, box, drawing, write

    tables = ([3, 6, 1], [0, 2, 5])
    with drawing(
        alt=f"A prefill engine and a decode engine, each with a pool of 8 blocks of {block_size} "
        f"tokens. A sequence of {tokens} tokens lies in blocks {tables[0]} of the first, and after "
        f"the hand-over in blocks {tables[1]} of the second. Three blocks and the tokens travel; "
        "block numbers do not.",
        bottom=0,
        top=43,
    ) as (fig, ax):
        for x, name, table in ((0, "prefill", tables[0]), (58, "decode", tables[1])):
            write(ax, x + 21, 40, f"{name} engine", 12)
            for block in range(8):
                left, low = x + 10.5 * (block % 4), 20 - 19 * (block // 4)
                place = table.index(block) if block in table else None
                box(
                    ax,
                    left,
                    low,
                    9,
                    12,
                    figures.PALETTE["blue"] if place is not None else None,
                    f"{place * block_size}-{min(tokens, (place + 1) * block_size) - 1}"
                    if place is not None
                    else "",
                    LEAST,
                )
                write(ax, left + 4.5, low + 13.9, block, LEAST)
        arrow(ax, (44, 18), (56, 18), "-|>", 1.8)
        write(ax, 50, 26, "keys\nvalues\ntokens", LEAST)
    return fig
