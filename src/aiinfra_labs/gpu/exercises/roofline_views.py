"""What `show` draws in unit 3.1: the learner's own figures under a device's roof. Unit 3.1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.figures import Picture, styled
from aiinfra_labs.gpu import latency
from aiinfra_labs.gpu.devices import Device
from aiinfra_labs.gpu.drawings.roofline import in_words
from aiinfra_labs.gpu.drawings.roofline import roofline as draw
from aiinfra_labs.gpu.roofline import Point, Roofline

if TYPE_CHECKING:
    pass

TERA, GIGA = 1e12, 1e9
WARPS = 64  # that an SM of the H100 holds


def under(roofs: Sequence[Roofline], points: Sequence[Point], said: str) -> Picture:
    """Points where the learner's intensity puts them."""
    return Picture(draw(roofs, points, alt=said))


@styled
def roof(function: Callable[..., Any], devices: Sequence[Device]) -> Picture:
    """The learner's roof for a few devices, as values of their function at many intensities."""
    intensity = np.geomspace(0.05, 2000, 60)
    fig, ax = figures.figure(alt="-", height=3.4)
    said = []
    for d in devices:
        peak, bandwidth = d.peak() / TERA, d.bandwidth / GIGA
        reached = [float(function(peak, bandwidth, float(i))) for i in intensity]
        ax.plot(intensity, reached, label=f"{d.name}: {peak:.3g} TFLOP/s, {bandwidth:,.4g} GB/s")
        ax.axvline(d.ridge(), lw=0.8, ls=":", color=figures.INK)
        said.append(f"{d.name} from {reached[0]:.3g} to {reached[-1]:.3g} TFLOP/s")
    ax.set(xscale="log", yscale="log", xlabel="operations/byte", ylabel="TFLOP/s, yours, FP32")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ax.grid(True)
    figures.describe(
        fig, f"By your function: {'; '.join(said)}. Dotted lines mark where the bend should be."
    )
    return Picture(fig)


@styled
def peaks(rows: Sequence[tuple[Device, str, float]]) -> Picture:
    """Each device's peak by the learner's formula against the published one."""
    fig, ax = figures.figure(alt="-", height=3.6)
    for precision, marker in (("fp32", "o"), ("fp16_tensor", "s")):
        chosen = [(d.peak(precision) / TERA, got) for d, p, got in rows if p == precision]
        x, y = zip(*chosen, strict=True)
        ax.plot(x, y, marker, label=precision, mfc="none", mew=1.4)
    ends = [0.2, 3000]
    ax.plot(ends, ends, color=figures.INK, lw=0.8, ls=":")
    ax.set(xscale="log", yscale="log", xlabel="TFLOP/s, published", ylabel="TFLOP/s, yours")
    ax.legend()
    ax.grid(True)
    off = [d.name for d, p, got in rows if abs(got / (d.peak(p) / TERA) - 1) > 0.013]
    far = (
        f"{len(off)} of {len(rows)} differ by more than 1.3 %" if off else "all agree within 1.3 %"
    )
    figures.describe(fig, f"Published peaks against yours; the dotted line is equality: {far}.")
    return Picture(fig)


@styled
def in_flight(
    d: Device, wait: float, needed: dict[int, int], title: str = "dots: your numbers"
) -> Picture:
    """The bandwidth that so many warps can keep busy, and the learner's numbers of warps."""
    warps = np.arange(1, WARPS + 1)
    fig, ax = figures.figure(alt="-", height=3.2)
    said = []
    for k, (size, mine) in enumerate(needed.items()):
        flying = warps * d["sms"] * latency.WARP * size  # bytes under way
        reached = np.minimum(flying / wait, d.bandwidth)
        ax.plot(warps, reached / GIGA, label=f"{size} bytes a lane")
        at = min(mine * d["sms"] * latency.WARP * size / wait, d.bandwidth)
        ax.plot([mine], [at / GIGA], "o", color=f"C{k}")
        said.append(f"{mine} warps with {size} bytes a lane reach {in_words(at)}B/s")
    ax.set(xlabel="warps of each SM that wait for a load", ylabel="GB/s", xlim=(0, WARPS + 1))
    ax.set_ylim(0, None)
    ax.legend(loc="lower right", title=title)
    ax.grid(True)
    figures.describe(fig, f"{d.name}, a latency of {wait * 1e9:.0f} ns: {'; '.join(said)}.")
    return Picture(fig)


@styled
def batches(
    d: Device, found: dict[int, int | None], curves: dict[int, Callable[[Any], Any]]
) -> Picture:
    """Intensity against batch for some contexts, with the ridge and the learner's batches."""
    batch = np.geomspace(1, 2048, 200)
    fig, ax = figures.figure(alt="-", height=3.4)
    said = []
    for k, (context, mine) in enumerate(found.items()):
        ax.plot(batch, curves[context](batch), label=f"context {context:,}")
        if mine is not None:
            ax.plot([mine], [curves[context](mine)], "o", color=f"C{k}")
        said.append(f"{mine} at a context of {context:,}")
    ridge = d.ridge("fp16_tensor")
    ax.axhline(ridge, color=figures.INK, lw=1, ls=":", label=f"ridge: {ridge:.0f}")
    ax.set(xscale="log", yscale="log", xlabel="batch", ylabel="operations/byte")
    ax.legend()
    ax.grid(True)
    figures.describe(
        fig,
        f"Intensity of a decode step on {d.name} against the batch; by your function the smallest "
        f"batch bound by arithmetic is {', '.join(said)}.",
    )
    return Picture(fig)
