"""The drawings of unit 4.5: a group in bytes, what rounding takes off, methods, widths and speed.

Each returns a matplotlib figure with its alt text, in the course's style:

    from aiinfra_labs.course import figures
    figures.show(drawings.group_in_bytes())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aiinfra_labs.cloud.serving.quantization import gptq, integers
from aiinfra_labs.cloud.serving.quantization.calibration import Inputs
from aiinfra_labs.cloud.serving.quantization.integers import Scheme
from aiinfra_labs.course import figures
from aiinfra_labs.course.drawing import NORMAL, SMALL, arrow, box, drawing, ink, write
from aiinfra_labs.course.figures import PALETTE, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = {"nearest": "o", "GPTQ": "s", "AWQ": "^", "QAT": "D", "2:4": "v", "layers": "X"}
COLOURS = dict(zip(MARKERS, ("blue", "green", "orange", "purple", "red", "teal"), strict=True))


def group_in_bytes() -> Figure:
    """Thirty-two weights of int4 as they are stored: a scale, and sixteen bytes of two codes."""
    alt = (
        "A group of 32 weights in int4 takes 18 bytes: a scale of 2 bytes in float16, and 16 bytes "
        "of two codes each. One byte is shown larger: the even column's code plus 8 in its low "
        "four bits, the odd column's in its high four bits."
    )
    with drawing(alt, 0, 36) as (fig, ax):
        box(ax, 0, 22, 13, 8, PALETTE["orange"], "scale")
        width = 5.2
        for i in range(16):
            box(ax, 15 + i * width, 22, width - 0.4, 8, PALETTE["blue"])
        write(ax, 6.5, 33, "2 bytes", SMALL)
        write(ax, 56, 33, "16 bytes: 32 codes", SMALL)
        x = 15 + 5 * width + width / 2 - 0.2
        for edge, to in ((x - 2.4, 24), (x + 2.4, 76)):
            ax.plot([edge, to], [22, 12], color=ink(), lw=0.8, ls="-")
        box(ax, 24, 4, 26, 8, PALETTE["teal"], "odd column + 8", NORMAL)
        box(ax, 50, 4, 26, 8, PALETTE["green"], "even column + 8", NORMAL)
        write(ax, 37, 1.2, "high 4 bits", SMALL)
        write(ax, 63, 1.2, "low 4 bits", SMALL)
        arrow(ax, (88, 8), (77.5, 8), "->", 1.0)
        write(ax, 94.5, 8, "one byte", SMALL)
    return fig


@styled
def row_errors(row: Tensor, group: int = 32) -> Figure:
    """A row of weights [K], and how far each is off in int4: one scale, and a scale a group."""
    weight = row[None]
    off = {
        "one scale for the row": (integers.rounded(weight, Scheme(4)) - weight).abs()[0],
        f"a scale for each {group}": (integers.rounded(weight, Scheme(4, group)) - weight).abs()[0],
    }
    means = {name: float(errors.mean()) for name, errors in off.items()}
    one, many = means.values()
    fig, (top, bottom) = figures.figure(
        alt=f"Above, a row of {len(row)} weights of the model, the largest {row.abs().max():.2f}. "
        f"Below, how far each is off in int4: {one:.4f} on average with one scale for the row, "
        f"{many:.4f} with a scale for each {group}.",
        height=3.6,
        nrows=2,
        sharex=True,
    )
    top.plot(row, ".", ms=3, color=PALETTE["blue"])
    top.set(ylabel="weight")
    for (name, errors), style in zip(off.items(), ("-", "--"), strict=True):
        parts = errors.view(-1, group).mean(1).repeat_interleave(group)
        bottom.plot(parts, ls=style, label=name)
    for ax in (top, bottom):
        for edge in range(group, len(row), group):
            ax.axvline(edge - 0.5, color=figures.INK, ls=":", lw=0.6)
    bottom.set(xlabel="input", ylabel="off by, mean", ylim=(0, 1.45 * bottom.get_ylim()[1]))
    bottom.legend(fontsize=9, loc="upper right", ncols=2)
    return fig


@styled
def widths(found: Mapping[str, Any]) -> Figure:
    """Perplexity by bits a weight: rounding to the nearest, and what does better at two bits."""
    rows, curves = found["rounding"]["rows"], found["rounding"]["widths"]
    base = rows["fp16"]["perplexity"]
    points = {
        "GPTQ": rows["GPTQ, int2, groups of 32, affine"]["perplexity"],
        "QAT": found["training"]["rows"]["QAT, int2, groups of 32, affine"]["perplexity"],
    }
    said = "; ".join(
        f"{name}: {', '.join(f'{v:.1f} at {b}' for b, v in curve.items())} bits"
        for name, curve in curves.items()
    )
    fig, ax = figures.figure(
        alt=f"Perplexity against bits a weight. fp16 has {base:.1f}. Rounded to the nearest, "
        f"{said}. At 2 bits in groups GPTQ reaches {points['GPTQ']:.1f} and training with the "
        f"rounding in it {points['QAT']:.1f}.",
        height=3.0,
    )
    for (name, curve), style in zip(curves.items(), ("o-", "s--"), strict=True):
        ax.plot([int(b) for b in curve], list(curve.values()), style, ms=4, label=name)
    for name, value in points.items():
        fill = "none" if name == "QAT" else PALETTE[COLOURS[name]]  # the other may lie below it
        look = {"color": PALETTE[COLOURS[name]], "mfc": fill, "ms": 8, "ls": ""}
        ax.plot([2], [value], MARKERS[name], label=name, **look)
    ax.axhline(base, color=figures.INK, ls=":", lw=1.2)
    ax.set_yscale("log")
    ax.set(xlabel="bits a weight, scales not counted", ylabel="perplexity")
    ax.set_xticks([2, 3, 4, 6, 8])
    ticks = [t for t in (15, 20, 30, 50, 100, 200, 500, 1000) if t <= 1.2 * ax.get_ylim()[1]]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.legend(fontsize=9)
    return fig


@styled
def powers(errors: Mapping[str, Sequence[float]]) -> Figure:
    """The outputs' error of layers by the power that AWQ tries, over that of rounding alone."""
    best = {name: min(line) / line[0] for name, line in errors.items()}
    count = len(next(iter(errors.values())))
    fig, ax = figures.figure(
        alt="The error of the outputs against AWQ's power, over that of rounding alone. The least "
        f"is {'; '.join(f'{b:.2f} for {name}' for name, b in best.items())}.",
        height=2.7,
    )
    for (name, line), style in zip(errors.items(), ("-", "--", "-.", ":"), strict=False):
        xs = [i / count for i in range(count)]
        ax.plot(xs, [e / line[0] for e in line], ls=style, label=name)
    ax.set(xlabel="power of the input's size", ylabel="error, over rounding's", ylim=(0, None))
    ax.legend(fontsize=9)
    return fig


@styled
def feedback(weight: Tensor, inputs: Inputs, scheme: Scheme) -> Figure:
    """The outputs' error while columns of a layer [N, K] are rounded, without and with feedback."""
    columns = range(0, weight.shape[1] + 1, max(1, weight.shape[1] // 32))
    nearest = integers.rounded(weight, scheme)
    plain = []
    for j in columns:
        partly = torch.cat((nearest[:, :j], weight[:, j:]), 1)
        plain.append(100 * inputs.error(partly, weight))
    found: dict[int, float] = {}

    def note(j: int, w: Tensor) -> None:
        if j in columns:
            found[j] = 100 * inputs.error(w, weight)

    q = gptq.gptq(weight, inputs, scheme, watch=note)
    found[weight.shape[1]] = 100 * inputs.error(integers.dequantize(q), weight)
    lines = {"to the nearest": plain, "GPTQ": [found[j] for j in columns]}
    fig, ax = figures.figure(
        alt="The error of a layer's outputs, in percent of them, against the columns that are "
        f"rounded: at the end {lines['to the nearest'][-1]:.2f} % to the nearest, and "
        f"{lines['GPTQ'][-1]:.2f} % where each error is made good by the columns behind.",
        height=2.7,
    )
    for (name, line), style in zip(lines.items(), ("--", "-"), strict=True):
        ax.plot(columns, line, ls=style, label=name)
    ax.set(xlabel="columns that are rounded", ylabel="error of the outputs, %", ylim=(0, None))
    ax.legend(fontsize=9)
    return fig


@styled
def frontier(rows: Mapping[str, Mapping[str, Any]], kinds: Mapping[str, str]) -> Figure:
    """Perplexity against megabytes: a point for each way. kinds: name to one of `MARKERS`."""
    base = rows["fp16"]
    said = "; ".join(
        f"{name} {rows[name]['bytes'] / 1e6:.1f} MB, {rows[name]['perplexity']:.1f}"
        for name in kinds
    )
    fig, ax = figures.figure(
        alt=f"Perplexity against the size of the model. fp16 has {base['bytes'] / 1e6:.1f} MB and "
        f"{base['perplexity']:.1f}. {said}.",
        height=3.4,
    )
    ax.plot(base["bytes"] / 1e6, base["perplexity"], "*", ms=11, color=figures.INK, label="fp16")
    for kind, marker in MARKERS.items():
        own = [rows[name] for name, k in kinds.items() if k == kind]
        if own:
            xs, ys = [r["bytes"] / 1e6 for r in own], [r["perplexity"] for r in own]
            colour = PALETTE[COLOURS[kind]]
            fill = "none" if kind in ("AWQ", "QAT") else colour  # others may lie below them
            ax.plot(xs, ys, marker, ms=8, ls="", color=colour, mfc=fill, label=_named(kind))
    ax.axhline(base["perplexity"], color=figures.INK, ls=":", lw=1)
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ticks = [t for t in (15, 17, 20, 25, 30, 40, 60, 100) if low <= t <= high]
    ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="stored, MB", ylabel="perplexity")
    ax.legend(fontsize=9)
    return fig


def _named(kind: str) -> str:
    return {"nearest": "to the nearest", "layers": "half the layers"}.get(kind, kind)


@styled
def speeds(found: Mapping[str, Any]) -> Figure:
    """One large layer in every form, for one token and for many: over the time of fp32."""
    times = found["speed"]["milliseconds"]
    one, many = times["layer, 1"], times["layer, 256"]
    names = list(one)
    said = "; ".join(
        f"{n} {one[n] / one['fp32']:.2f} and {many[n] / many['fp32']:.2f}" for n in names
    )
    fig, ax = figures.figure(
        alt="Time of one layer over that of fp32, for 1 token and for 256: " + said + ".",
        height=3.2,
    )
    places = range(len(names))
    for shift, (label, row) in zip(
        (0.2, -0.2), (("1 token", one), ("256 tokens", many)), strict=True
    ):
        ax.barh(
            [p + shift for p in places],
            [row[n] / row["fp32"] for n in names],
            height=0.36,
            label=label,
        )
    ax.axvline(1, color=figures.INK, ls=":", lw=1.2)
    ax.set_xscale("log")
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if t <= ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="time, over that of fp32")
    ax.set_yticks(list(places), [n.replace(", groups of 32", ", 32") for n in names])
    ax.invert_yaxis()
    ax.legend(fontsize=9)
    return fig
