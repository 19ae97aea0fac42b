"""The drawings of unit 1.6: parts of a model, memory, budgets, and losses that were measured.

Each returns a matplotlib figure with its alt text, in the course's style:

    from aiinfra_labs.course import figures
    figures.show(drawings.parts(["gpt3", "llama-3-8b"]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm.scale.chinchilla import Law
from aiinfra_labs.llm.scale.loss_curve import Power
from aiinfra_labs.llm.scale.memory import MIXED, STAGES, model_states
from aiinfra_labs.llm.scale.parameters import parameters, total
from aiinfra_labs.llm.scale.shapes import known

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HATCHES = ("", "//", "..", "xx")  # so that no part is told by its colour alone


@styled
def parts(keys: Sequence[str]) -> Figure:
    """The share of each part in a model's parameters, a bar a model."""
    models = [known()[key] for key in keys]
    rows, left = np.arange(len(models)), np.zeros(len(models))
    shares = {"tables": [], "attention": [], "MLP": []}
    for model in models:
        have, whole = parameters(model.shape), total(model.shape)
        tables = have["embedding"] + have["positions"] + have["head"]
        for name, count in zip(shares, (tables, have["attention"], have["mlp"]), strict=True):
            shares[name].append(100 * count / whole)
    fig, ax = figures.figure(alt="-", height=0.9 + 0.34 * len(models))
    for k, (name, share) in enumerate(shares.items()):
        ax.barh(rows, share, 0.66, left=left, color=f"C{k}", hatch=HATCHES[k], label=name)
        left = left + share
    ax.set_yticks(rows, [f"{m.name}, {total(m.shape) / 1e9:.3g} B" for m in models])
    ax.invert_yaxis()
    ax.set(xlabel="% of the parameters", xlim=(0, 100))
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    said = "; ".join(
        f"{m.name} {', '.join(f'{shares[n][i]:.0f} % {n}' for n in shares)}"
        for i, m in enumerate(models)
    )
    return figures.describe(fig, f"Where the parameters are. {said}. Norms are too few to see.")


@styled
def states(count: float, gpus: int, memory: float) -> Figure:
    """GB on each GPU of weights, gradients and optimiser, a bar for each of ZeRO's stages."""
    fig, ax = figures.figure(alt="-", height=2.6)
    rows, left = np.arange(len(STAGES)), np.zeros(len(STAGES))
    for k, (name, each) in enumerate(
        (
            ("weights", MIXED.weights),
            ("gradients", MIXED.gradients),
            ("optimiser", MIXED.optimizer),
        )
    ):
        divided_from = 3 - k
        gb = [count * each / (gpus if stage >= divided_from else 1) / 1e9 for stage in STAGES]
        ax.barh(rows, gb, 0.66, left=left, color=f"C{k}", hatch=HATCHES[k], label=name)
        left = left + gb
    for row, whole in zip(rows, left, strict=True):
        beside = max(whole, memory)  # not on the dotted line
        ax.text(beside + 0.01 * left.max(), row, f"{whole:,.1f}", va="center")
    ax.axvline(memory, color=figures.INK, lw=1.2, ls=":")
    ax.set_yticks(rows, ["no ZeRO", *(f"stage {stage}" for stage in STAGES[1:])])
    ax.invert_yaxis()
    ax.set(xlabel=f"GB on each of {gpus} GPUs; dotted: the {memory:.0f} of one")
    ax.set_xlim(0, 1.14 * left.max())
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    wholes = [model_states(count, gpus, stage) / 1e9 for stage in STAGES]
    said = ", ".join(f"{gb:,.3g} GB in stage {s}" for s, gb in zip(STAGES, wholes, strict=True))
    return figures.describe(
        fig, f"{count / 1e9:.3g} B parameters on {gpus} GPUs of {memory:.0f} GB: {said}."
    )


@styled
def kept(lengths: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """KiB that one layer keeps for each token against the length of the sequence."""
    fig, ax = figures.figure(alt="-", height=2.8)
    for name, values in curves.items():
        ax.plot(lengths, values, marker="o", label=name)
    ax.set(xscale="log", xlabel="tokens in the sequence", ylabel="KiB a token and layer")
    ax.set_ylim(0)
    ax.set_xticks(lengths[::2], [f"{n:,}" for n in lengths[::2]])
    ax.minorticks_off()
    ax.grid(True)
    ax.legend(loc="upper left")
    said = "; ".join(f"{n} from {v[0]:.3g} to {v[-1]:.4g} KiB" for n, v in curves.items())
    return figures.describe(
        fig, f"What a layer keeps for each token, {lengths[0]} to {lengths[-1]:,} tokens: {said}."
    )


@styled
def budgets(law: Law, flops: Sequence[float]) -> Figure:
    """Loss against size with 6 N D held fixed, a curve a budget, and the best split of each."""
    fig, ax = figures.figure(alt="-", height=3.4)
    said = []
    for k, budget in enumerate(flops):
        best, tokens = law.optimum(budget)
        sizes = np.geomspace(best / 30, best * 30, 80)
        power = f"{np.log10(budget):.0f}"
        ax.plot(
            sizes,
            [law.loss(n, budget / 6 / n) for n in sizes],
            label=f"$10^{{{power}}}$ operations",
        )
        ax.plot([best], [law.loss(best, tokens)], "o", color=f"C{k}")
        said.append(f"{best:.2g} parameters at 1e{power}")
    ends = [law.optimum(b) for b in np.geomspace(flops[0] / 3, flops[-1] * 3, 30)]
    ax.plot([n for n, _ in ends], [law.loss(*e) for e in ends], color=figures.INK, lw=1, ls=":")
    ax.set(xscale="log", xlabel="parameters", ylabel="loss, nats a token")
    ax.grid(True)
    ax.legend(fontsize=8.5)
    return figures.describe(
        fig,
        "Loss against size along each budget: a valley each. Its bottom moves to larger models as "
        f"the budget grows: {', '.join(said)} operations.",
    )


@styled
def losses(runs: Sequence[Mapping[str, Any]], fits: Mapping[int, Power]) -> Figure:
    """Held-out loss against size, as measured, a line for each number of tokens."""
    fig, ax = figures.figure(alt="-", height=3.2)
    said = []
    for k, (tokens, power) in enumerate(fits.items()):
        points = sorted((r["parameters"], r["loss"]) for r in runs if r["tokens"] == tokens)
        x, y = zip(*points, strict=True)
        ends = np.geomspace(x[0] / 1.4, x[-1] * 1.4, 20)
        name = f"{tokens / 1e6:.1f} M tokens"
        ax.plot(ends, [power(n) for n in ends], color=f"C{k}", label=name)
        ax.plot(x, y, "o", color=f"C{k}")
        said.append(f"on {name} from {y[0]:.2f} with {x[0]:,} parameters to {y[-1]:.2f}")
        said[-1] += f" with {x[-1]:,}"
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="held-out loss, nats a token")
    low, high = ax.get_ylim()
    ticks = [t for t in np.arange(2, 7, 0.25) if low <= t <= high]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.grid(True)
    ax.legend()
    return figures.describe(
        fig, f"Loss falls with size: {'; '.join(said)}. Dots were measured, lines are power laws."
    )
