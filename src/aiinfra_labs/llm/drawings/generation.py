"""The drawings of unit 1.5: what each call reads, entropy by temperature, both phases measured.

from aiinfra_labs.course import figures
figures.show(drawings.calls())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import styled
from aiinfra_labs.llm import phases, sampling
from aiinfra_labs.llm.scale.shapes import Shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def calls(prompt: int = 6, new: int = 5) -> Figure:
    """A row a call of the model: which tokens it reads, and which it finds in the cache."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    without = sum(range(prompt, prompt + new))
    fig, axes = figures.figure(
        alt=f"Calls of the model for a prompt of {prompt} tokens and {new} new ones, a row each. "
        f"Without a cache each call reads all tokens so far, {without} in all. With one, the first "
        f"call reads the {prompt} of the prompt, and each further call one token, and finds the "
        f"others in the cache: {prompt + new - 1} in all.",
        height=2.6,
        ncols=2,
    )
    for ax, cached in zip(axes, (False, True), strict=True):
        for row in range(new):
            for token in range(prompt + row):
                found = cached and row > 0 and token < prompt + row - 1
                colour = "C0" if token < prompt else "C1"
                face = to_rgba(colour, 0.15 if found else 1.0)
                box = Rectangle((token, row), 0.88, 0.8, facecolor=face, edgecolor=colour, lw=0.8)
                ax.add_patch(box)
        reads = prompt + new - 1 if cached else without
        ax.set_title(f"{'with' if cached else 'without'} a cache: {reads} reads", fontsize=10)
        ax.set(xlim=(-0.2, prompt + new), ylim=(new + 0.1, -0.3), xlabel="token")
        ax.set_xticks([])
        ax.set_yticks([row + 0.4 for row in range(new)], [str(row + 1) for row in range(new)])
    axes[0].set_ylabel("call")
    return fig


@styled
def entropies(rows: Mapping[str, Tensor], most: float = 2.0) -> Figure:
    """Entropy of the next token against the temperature, a line for each prompt's logits [V]."""
    temperatures = torch.linspace(0, most, 41).tolist()
    lines = {
        name: [float(sampling.entropy(sampling.temperature(row, t))) for t in temperatures]
        for name, row in rows.items()
    }
    said = "; ".join(
        f"{name!r} {line[20]:.1f} at T = 1, {line[-1]:.1f} at {most:g}"
        for name, line in lines.items()
    )
    fig, ax = figures.figure(
        alt="Entropy of the next token, in bits, against the temperature: every line starts at 0 "
        f"and rises all the way. {said}.",
        height=2.9,
    )
    for name, line in lines.items():
        ax.plot(temperatures, line, label=name.strip("\n"))
    ax.axvline(1, color=figures.INK, ls=":", lw=1.2)
    ax.set(xlabel="temperature", ylabel="entropy, bits", xlim=(0, most), ylim=(0, None))
    ax.legend(fontsize=9, prop={"family": "monospace", "size": 9})
    return fig


@styled
def measured(found: Mapping[str, Any]) -> Figure:
    """A step of decoding by batch and by length, and a prefill by length: what was measured."""
    batch = {int(n): 1e3 * t for n, t in found["batch"].items()}
    context = {int(n): 1e3 * t for n, t in found["context"].items()}
    prefill = {int(n): 1e3 * t for n, t in found["prefill"].items()}
    last, longest, prompt = max(batch), max(context), max(prefill)
    fig, axes = figures.figure(
        alt=f"Three measurements of a model of {found['parameters'] / 1e6:.0f} million parameters. "
        f"A step of decoding takes {batch[last] / batch[1]:.1f} times as long for a batch of "
        f"{last} as for a batch of 1. At batch {found['length_batch']}, it takes "
        f"{context[longest] / context[min(context)]:.1f} times as long with {longest} tokens of "
        f"context as with {min(context)}. A prefill of {prompt} tokens takes "
        f"{prefill[prompt] / batch[1]:.0f} times as long as one step of decoding.",
        width=6.6,
        height=2.7,
        ncols=3,
    )
    for ax, times, name, title in (
        (axes[0], batch, "batch", "decode: batch"),
        (axes[1], context, "tokens in the cache", "decode: length"),
        (axes[2], prefill, "tokens of prompt", "prefill"),
    ):
        ax.plot(list(times), list(times.values()), "o-", ms=4)
        ax.set_xscale("log", base=2)
        ax.set(xlabel=name, ylim=(0, None))
        ax.set_title(title, fontsize=10)
        ax.set_xticks(list(times), [str(n) for n in times], fontsize=8, rotation=60)
    axes[0].set_ylabel("ms a call")
    # What a call for each sequence, or each token, of its own would take.
    for ax, times, unit in ((axes[0], batch, batch[1]), (axes[2], prefill, batch[1])):
        top = 1.15 * max(times.values())
        ax.plot(list(times), [unit * n for n in times], color=figures.INK, ls=":", lw=1.2)
        ax.set_ylim(0, top)
    return fig


@styled
def intensities(
    shape: Shape, ridge: float, name: str, contexts: Sequence[int] = (128, 2048, 16384)
) -> Figure:
    """Operations a byte of a step of decoding against the batch, and a machine's ridge."""
    batches = [2**i for i in range(11)]
    lines = {c: [phases.decode(shape, c, b).intensity for b in batches] for c in contexts}
    said = "; ".join(f"{line[-1]:.0f} at {c:,} tokens" for c, line in lines.items())
    fig, ax = figures.figure(
        alt=f"Operations a byte of decoding against the batch, from 1 to {batches[-1]:,}. All "
        f"lines begin at about 1. At {batches[-1]:,} they reach {said}. The ridge of the {name} is "
        f"{ridge:.0f}.",
        height=2.9,
    )
    for context, line in lines.items():
        ax.plot(batches, line, label=f"{context:,} tokens of context")
    ax.axhline(ridge, color=figures.INK, ls=":", lw=1.4)
    ax.text(1, ridge * 1.12, f"{name}: {ridge:.0f}", fontsize=9, color=figures.INK)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set(xlabel="batch", ylabel="operations a byte")
    ax.legend(fontsize=9, loc="lower right")
    return fig
