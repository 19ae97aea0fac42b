"""The drawings of unit 4.3: a step's cost, policies against load, budgets, pools, two engines.

from aiinfra_labs.course import figures
figures.show(drawings.budgets(runs))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from aiinfra_labs.cloud.serving.replay import Timeline, percentile
from aiinfra_labs.cloud.serving.step_cost import work_of
from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aiinfra_labs.cloud.serving.step_cost import StepWork


class Clock(Protocol):
    """A cost with the number of tokens at which a step turns dear."""

    def __call__(self, work: StepWork) -> float: ...
    @property
    def turning_tokens(self) -> float:
        """Tokens of a step that cost as much as the step itself."""


@styled
def step_costs(costs: Mapping[str, Clock]) -> Figure:
    """How long a step takes by its tokens, over a step of one token: a line for each machine."""
    tokens = [2**i for i in range(12)]
    lines = {n: [c(work_of(0, t)) / c(work_of(0, 1)) for t in tokens] for n, c in costs.items()}
    said = "; ".join(
        f"{name}: {line[5]:.1f} times at 32 tokens, {line[-1]:.0f} times at {tokens[-1]:,}"
        for name, line in lines.items()
    )
    fig, ax = figures.figure(
        alt=f"How many times as long a step takes as one of a single token. {said}.", height=2.8
    )
    for i, (name, line) in enumerate(lines.items()):
        ax.plot(tokens, line, "o-", ms=3, label=name, color=f"C{i}")
        ax.axvline(costs[name].turning_tokens, color=f"C{i}", ls=":", lw=1.3)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(tokens[::2], [f"{t:,}" for t in tokens[::2]])
    ax.set_yticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    ax.set(xlabel="tokens in a step; dotted: as dear as the step itself", ylabel="times as long")
    ax.legend(fontsize=9)
    return fig


@styled
def policies(runs: Mapping[str, Mapping[float, Timeline]]) -> Figure:
    """Mean latency and throughput against the rate of requests: a line for each policy."""
    latency = {n: {r: _mean_latency(t) for r, t in by.items()} for n, by in runs.items()}
    through = {n: {r: t.throughput for r, t in by.items()} for n, by in runs.items()}
    most = max(next(iter(runs.values())))
    said = "; ".join(
        f"{n}: {latency[n][most]:.1f} s and {through[n][most]:,.0f} tokens/s" for n in runs
    )
    fig, axes = figures.figure(
        alt="Left: mean latency against requests a second. Right: new tokens a second. At "
        f"{most:g} requests a second, {said}.",
        height=2.8,
        ncols=2,
    )
    for i, name in enumerate(runs):
        style = {"marker": "osD"[i], "ms": 4, "label": name, "ls": ("-", "-", "--")[i]}
        axes[0].plot(list(latency[name]), list(latency[name].values()), **style)
        axes[1].plot(list(through[name]), list(through[name].values()), **style)
    axes[0].set(xlabel="requests a second", ylabel="mean latency, s", ylim=(0, None))
    axes[1].set(xlabel="requests a second", ylabel="new tokens a second", ylim=(0, None))
    axes[0].legend(fontsize=8)
    return fig


def _mean_latency(timeline: Timeline) -> float:
    times = timeline.requests.values()
    return sum(t.latency for t in times) / len(times)


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
    ax.axvline(turning, color=figures.INK, ls=":", lw=1.3)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(list(runs), [f"{b:,}" for b in runs], fontsize=8)
    ax.set(xlabel="tokens that a step may have", ylabel="ms")
    ax.legend(fontsize=9)
    return fig


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
    ax.legend(fontsize=9, loc="center right")
    return fig


@styled
def apart(gaps: Mapping[str, Sequence[float]], firsts: Mapping[str, Sequence[float]]) -> Figure:
    """Both latencies of each way, sorted: a point for each share of requests, and of gaps."""
    said = "; ".join(
        f"{n}: {1e3 * percentile(firsts[n], 0.9):,.0f} ms to the first token and a gap of "
        f"{1e3 * percentile(gaps[n], 0.99):.1f} ms"
        for n in gaps
    )
    fig, axes = figures.figure(
        alt=f"Left: the time to first token, right: the gaps between tokens, each sorted, for two "
        f"engines used in three ways. At 90 % of requests, and at 99 % of gaps: {said}.",
        height=2.8,
        ncols=2,
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
    axes[0].legend(fontsize=8)
    return fig


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
            write(ax, x + 21, 40, f"{name} engine", 11)
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
                    9,
                )
                write(ax, left + 4.5, low + 13.7, block, 9)
        arrow(ax, (44, 18), (56, 18), "-|>", 1.8)
        write(ax, 50, 25, "keys\nvalues\ntokens", 9)
    return fig
