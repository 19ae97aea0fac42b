"""The drawings of unit 3.1: what a GPU has more of than a CPU and less of, and its generations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..devices import Device, device
from ..emulator import sm_limits
from ..latency import take_turns
from .pieces import READABLE, STYLE, TINT, WARP, ink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..roofline import Roofline

GENERATIONS = ("c870", "c1060", "c2050", "k40", "m40", "p100", "v100", "a100_40gb", "h100", "b200")


def threads(d: Device) -> int:
    """Threads that a device keeps at once: of a CPU, those of its cores; of a GPU, 32 a warp."""
    if d.kind == "cpu":
        return int(d["threads"])
    return int(d["sms"]) * sm_limits(str(d.compute_capability)).max_warps * WARP


def cache(d: Device) -> float:
    """KiB of the last cache: L3 of a CPU, L2 of a GPU."""
    return d["l3" if d.kind == "cpu" else "l2"] * 1024


def shares(gpu: Device, cpu: Device) -> dict[str, tuple[float, float, str]]:
    """What each has, in the order of their ratio: name -> (of the GPU, of the CPU, unit)."""
    have = {
        "threads at once": (threads(gpu), threads(cpu), ""),
        "FP32 units": (gpu.fp32_units, cpu.fp32_units, ""),
        "peak, FP32": (gpu.peak() / 1e12, cpu.peak() / 1e12, "TFLOP/s"),
        "bandwidth": (gpu.bandwidth / 1e9, cpu.bandwidth / 1e9, "GB/s"),
        "power limit": (gpu["power"], cpu["power"], "W"),
        "clock, all cores": (gpu["clock"] / 1000, cpu["clock"] / 1000, "GHz"),
        "last cache": (cache(gpu) / 1024, cache(cpu) / 1024, "MiB"),
        "cache a thread": (cache(gpu) / threads(gpu), cache(cpu) / threads(cpu), "KiB"),
    }
    return dict(sorted(have.items(), key=lambda item: -item[1][0] / item[1][1]))


def give_and_take(gpu: Device, cpu: Device) -> Figure:
    """Bars of the GPU's figure over the CPU's, on a logarithmic axis about 1."""
    import matplotlib.style
    from matplotlib.figure import Figure

    have = shares(gpu, cpu)
    ratios = [of_gpu / of_cpu for of_gpu, of_cpu, _ in have.values()]
    said = "; ".join(
        f"{name} {_figure(of_gpu)} against {_figure(of_cpu)}{' ' + unit if unit else ''}"
        for name, (of_gpu, of_cpu, unit) in have.items()
    )
    with matplotlib.style.context(STYLE):
        fig = Figure(figsize=(5.2, 0.9 + 0.36 * len(have)), layout="constrained")
        fig.set_label(f"{gpu.name} against {cpu.name}: {said}.")
        ax = fig.subplots()
        places = range(len(have))
        colours = ["C0" if ratio > 1 else "C1" for ratio in ratios]
        ax.barh(places, [r - 1 for r in ratios], left=1, color=colours, height=0.62)
        for place, ratio, (of_gpu, of_cpu, unit) in zip(places, ratios, have.values(), strict=True):
            text = f"{_figure(of_gpu)} : {_figure(of_cpu)} {unit}".rstrip()
            _beside(ax, max(ratio, 1), place, text, 5)
        ax.axvline(1, color=ink(), lw=1)
        ax.set_xscale("log")
        ax.set_xlim(min(ratios) / 3, max(ratios) * 300)
        ax.set_xticks([0.001, 0.1, 1, 10, 1000], ["1/1000", "1/10", "1", "10", "1000"])
        ax.minorticks_off()
        ax.set_yticks(places, list(have))
        ax.invert_yaxis()
        ax.set_xlabel(f"{gpu.name} : {cpu.name}")
    return fig


def _beside(ax: Axes, x: float, y: float, text: str, right: float = 4) -> None:
    """What a bar that ends at (x, y) says, so many points to its right."""
    look = {"textcoords": "offset points", "va": "center", "fontsize": READABLE, "color": ink()}
    ax.annotate(text, (x, y), (right, 0), **look)


def turns(counts: Sequence[int], wait: float, transfer: float, until: float) -> Figure:
    """Loads of one SM over time, for each count of warps; below them, when the memory is busy.

    wait, transfer, until: ns, as in `latency.take_turns`.
    """
    import matplotlib.style
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    said = []
    with matplotlib.style.context(STYLE):
        rows = [n + 1.6 for n in counts]
        fig = Figure(figsize=(5.2, 0.7 + 0.2 * sum(rows) + 0.35 * len(rows)), layout="constrained")
        axes = fig.subplots(len(counts), sharex=True, height_ratios=rows, squeeze=False)[:, 0]
        for ax, warps in zip(axes, counts, strict=True):
            loads = [
                load
                for load in take_turns(warps, wait, transfer, int(warps * (until / wait + 2)))
                if load[1] < until
            ]
            for warp, asked, there in loads:
                ax.barh(
                    warp,
                    there - transfer - asked,
                    left=asked,
                    height=0.62,
                    color=to_rgba("C0", TINT),
                    edgecolor="C0",
                    lw=0.6,
                )
                for row in (warp, warps + 0.6):
                    ax.barh(row, transfer, left=there - transfer, height=0.8, color="C1", lw=0)
            named = f"{warps} warp{'s' * (warps > 1)}"
            ax.set_yticks([(warps - 1) / 2, warps + 0.6], [named, "memory"])
            ax.tick_params(axis="y", length=0)
            ax.set_xlim(0, until)
            ax.set_ylim(warps + 1.1, -0.6)
            ax.axhline(warps - 0.15, color=ink(), lw=0.6)
            share = warps * transfer / wait
            said.append(
                f"with {named} on the SM the memory brings bytes for {warps * transfer:.0f} of "
                f"each {wait:.0f} ns, {share:.1%} of the time"
            )
        axes[-1].set_xlabel("ns")
        fig.set_label(
            f"Over {until:.0f} ns: each warp asks, waits {wait:.0f} ns, and asks again; "
            f"{'; '.join(said)}."
        )
    return fig


def two_times(rows: Sequence[tuple[str, Roofline, float, float]]) -> Figure:
    """For each kernel two bars: the time of its bytes, and the time of its operations.

    rows: (name, roof, operations, bytes).
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    said = []
    with matplotlib.style.context(STYLE):
        fig = Figure(figsize=(5.2, 0.7 + 0.72 * len(rows)), layout="constrained")
        ax = fig.subplots()
        longest = max(roof.seconds(flops, nbytes) for _, roof, flops, nbytes in rows) * 1e6
        for k, (name, roof, flops, nbytes) in enumerate(rows):
            parts = ((nbytes / roof.bandwidth, "C0", "bytes"), (flops / roof.peak, "C1", "ops"))
            for side, (seconds, colour, what) in enumerate(parts):
                us = seconds * 1e6
                place = k + 0.2 * (2 * side - 1)
                ax.barh(place, us, height=0.36, color=colour)
                shown = f"{us:.2g}" if us < 1 else f"{us:.1f}"
                _beside(ax, us, place, f"{what} {shown} µs")
            said.append(
                f"{name}: {parts[0][0] * 1e6:.2f} µs for its bytes and "
                f"{parts[1][0] * 1e6:.2f} µs for its operations"
            )
        ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(0, longest * 1.35)
        ax.set_xlabel("µs for a million elements, at the device's full rate")
        fig.set_label(f"Two times for each kernel. {'; '.join(said)}.")
    return fig


def peaks(rows: Sequence[tuple[str, float]]) -> Figure:
    """Peaks as bars on a logarithmic axis. rows: (name, operations/s)."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(STYLE):
        fig = Figure(figsize=(5.2, 0.7 + 0.34 * len(rows)), layout="constrained")
        ax = fig.subplots()
        for place, (name, rate) in enumerate(rows):
            tera = rate / 1e12
            ax.barh(place, tera, height=0.62, color="C1" if name.startswith("CPU") else "C0")
            _beside(ax, tera, place, f"{tera:,.1f}" if tera < 100 else f"{tera:,.0f}")
        ax.set_xscale("log")
        ax.set_xlim(1, max(rate for _, rate in rows) / 1e12 * 4)
        ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
        ax.minorticks_off()
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        ax.invert_yaxis()
        ax.set_xlabel("TFLOP/s")
        fig.set_label(
            "Peaks in TFLOP/s: " + "; ".join(f"{n} {r / 1e12:,.1f}" for n, r in rows) + "."
        )
    return fig


def timeline() -> Figure:
    """Peaks and bandwidth of NVIDIA's compute cards, one a generation, over the years."""
    import matplotlib.style
    from matplotlib.figure import Figure

    cards = [device(key) for key in GENERATIONS]
    with_tensor = [d for d in cards if "fp16_tensor" in d]
    first, last = cards[0], cards[-1]
    alt = (
        f"From {first.name} ({first.year}) to {last.name} ({last.year}): FP32 from "
        f"{first['fp32']:g} to {last['fp32']:g} TFLOP/s, bandwidth from {first['bandwidth']:g} to "
        f"{last['bandwidth']:,g} GB/s; FP16 on tensor cores from {with_tensor[0]['fp16_tensor']:g} "
        f"({with_tensor[0].architecture}) to {last['fp16_tensor']:,g} TFLOP/s."
    )
    with matplotlib.style.context(STYLE):
        fig = Figure(figsize=(5.2, 4.2), layout="constrained")
        fig.set_label(alt)
        ax = fig.subplots()
        years = [d.year for d in cards]
        tensor = [(d.year, d["fp16_tensor"]) for d in with_tensor]
        ax.plot(*zip(*tensor, strict=True), marker="s", color="C2", label="FP16 tensor, TFLOP/s")
        fp32 = [d["fp32"] for d in cards]
        ax.plot(years, fp32, marker="o", color="C0", ls="--", label="FP32, TFLOP/s")
        tera = [d["bandwidth"] / 1000 for d in cards]
        ax.plot(years, tera, marker="^", color="C1", ls="-.", label="bandwidth, TB/s")
        named: set[str] = set()
        for d in cards:
            if d.architecture not in named:
                named.add(d.architecture)
                ax.axvline(d.year, lw=0.6, ls=":", color=ink())
                look = {"rotation": 90, "va": "bottom", "ha": "right", "fontsize": READABLE}
                ax.text(d.year, 0.011, f"{d.architecture} ", **look)
        ax.set_yscale("log")
        ax.set_ylim(0.01, 6000)
        ax.set_yticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1,000"])
        ax.minorticks_off()
        ax.set_xlim(first.year - 1.2, last.year + 0.8)
        ax.set_xticks(range(2008, last.year + 1, 4))
        ax.legend(loc="upper left")
    return fig


def _figure(value: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{float(f'{value:.3g}'):,.10g}" if value < 1000 else f"{value:,.0f}"
