"""The drawings of unit 3.7: occupancy, warps that part, chains of instructions, formats.

Each is made from what it shows: the calculator's answers, a traced launch, issue times, formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aiinfra_labs.gpu.dependencies import Instructions, issue_times
from aiinfra_labs.gpu.emulator import LaunchError, Occupancy, device_profiles, occupancy_of
from aiinfra_labs.gpu.precision import Format

from .pieces import LARGE, NORMAL, SMALL, STYLE, Cell, box, draw_cells, drawing, ink, need, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour for what allows no further block, the same on the page and in the widget.
LIMITS = {
    "warps": "#476cc3",
    "blocks": "#ab7af6",
    "registers": "#d17d1a",
    "shared memory": "#54a475",
}
REFUSED = "#bf3a39"
WARP = 32


# --- occupancy -----------------------------------------------------------------------------------


def occupancy_curves(threads: int, registers: int, shared: int, device: str = "h100") -> Figure:
    """Occupancy against each of the three, the others as given; colour: what is used up.

    threads: of a block. registers: of a thread. shared: bytes of a block. Raises LaunchError
    where the block itself cannot be launched.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    here = occupancy_of(threads, registers, shared, device)
    most = device_profiles()[device].shared_memory_per_block
    curves = (
        ("registers a thread", range(8, 256), registers, lambda n: (threads, n, shared)),
        ("threads a block", range(32, 1025, 32), threads, lambda n: (n, registers, shared)),
        (
            "shared memory a block, KB",
            range(0, most + 1, 1024),
            shared,
            lambda n: (threads, registers, n),
        ),
    )
    said = (
        f"Occupancy of a block of {threads} threads with {registers} registers a thread and "
        f"{shared:,} bytes of shared memory on an {here.device}: {here.fraction:.0%}, limited by "
        f"{' and '.join(here.limited_by)}. Three curves of steps: it falls as registers or shared "
        "memory grow, and jumps up and down with the threads a block."
    )
    with matplotlib.style.context(STYLE):
        fig = Figure(figsize=(5.6, 5.6), layout="constrained")
        fig.set_label(said)
        axes = fig.subplots(3)
        for ax, (name, values, at, block) in zip(axes, curves, strict=True):
            scale = 1024 if "KB" in name else 1
            _draw_curve(ax, [(n / scale, _occupancy(*block(n), device)) for n in values])
            ax.plot(at / scale, here.fraction, "o", ms=8, mfc="none", mec=ink(), mew=1.6, zorder=5)
            ax.set_xlabel(name)
            ax.set_ylim(0, 1.25)
            ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes[0].set_title("named: what allows no further block; circle: the block", fontsize=NORMAL)
    return fig


def _occupancy(threads: int, registers: int, shared: int, device: str) -> Occupancy | None:
    try:
        return occupancy_of(threads, registers, shared, device)
    except LaunchError:
        return None


def _draw_curve(ax: Axes, points: list[tuple[float, Occupancy | None]]) -> None:
    """Steps, each in the colour of what allows no further block; the longest of each is named."""
    step = points[1][0] - points[0][0]
    looks = [(f.fraction, f.limited_by[0]) if f else (0.0, "cannot be launched") for _, f in points]
    longest: dict[str, tuple[float, float, float, float]] = {}
    begin = 0
    for end in range(1, len(points) + 1):
        if end == len(points) or looks[end] != looks[begin]:
            height, limit = looks[begin]
            left, right = points[begin][0] - step / 2, points[end - 1][0] + step / 2
            look = {"color": LIMITS.get(limit, REFUSED), "ls": "-", "solid_capstyle": "butt"}
            ax.plot([left, right], [height, height], lw=3, **look)
            run = right - left, -height, left, right  # of runs as long, the lowest
            longest[limit] = max(longest.get(limit, run), run)
            begin = end
    end = points[-1][0]
    for limit, (_, depth, left, right) in longest.items():
        x, side = (left + right) / 2, "center"
        if x < 0.12 * end or x > 0.88 * end:
            x, side = (left, "left") if x < 0.12 * end else (right, "right")
        ax.text(x, 0.06 - depth, limit, fontsize=SMALL, ha=side, va="bottom")


# --- warps that part -----------------------------------------------------------------------------


def passes(traces: Sequence[tuple[str, list[np.ndarray]]]) -> Figure:
    """Who works in each pass of a warp over a branch. traces: (name, one mask a side).

    masks: bool [warps, 32], from a traced launch: the lanes that stored on that side of the branch.
    A side on which no lane of a warp works is not gone through, and not drawn.
    """
    need(bool(traces), "nothing to draw", "each row is a kernel's trace", "trace a launch")
    rows = [
        (name, warp, [(side, mask[warp]) for side, mask in enumerate(masks) if mask[warp].any()])
        for name, masks in traces
        for warp in range(len(masks[0]))
    ]
    height = sum(2 + 6.2 * len(made) for _, _, made in rows) + 6 * len(traces)
    said = "; ".join(
        f"{name}, warp {warp}: {len(made)} pass{'es' * (len(made) != 1)} with "
        f"{' and '.join(str(int(mask.sum())) for _, mask in made)} active lanes"
        for name, warp, made in rows
    )
    alt = f"The 32 lanes of each warp at a branch, pass by pass. {said}."
    with drawing(alt, 0, height) as (fig, ax):
        y, last = height, None
        for name, warp, made in rows:
            if name != last:
                y -= 6
                write(ax, 0, y + 3, name, LARGE, ha="left", weight="bold")
                last = name
            write(ax, 0, y - 3, f"warp {warp}", NORMAL, ha="left")
            for number, (side, mask) in enumerate(made, 1):
                y -= 6.2
                write(ax, 12, y + 3.2, f"pass {number}", SMALL, ha="left")
                _draw_pass(ax, y + 1, mask, side)
            y -= 2
        return fig


def _draw_pass(ax: Axes, y: float, mask: np.ndarray, side: int) -> None:
    wide = 2.3
    cells = [
        Cell(24 + wide * lane, y, wide * 0.86, 4.4, "element" if on else "idle", side)
        for lane, on in enumerate(mask)
    ]
    draw_cells(ax, cells)


# --- chains --------------------------------------------------------------------------------------


def schedule(rows: Sequence[tuple[str, Instructions, int]], latency: int) -> Figure:
    """When a scheduler issues what. rows: (name, instructions of a warp, warps)."""
    made = [(name, issue_times(code, latency, warps)) for name, code, warps in rows]
    ends = [max(times[-1] + latency for times in warps) for _, warps in made]
    names = [
        f"{name}: {code.count * warps} instructions in {end} cycles"
        for (name, code, warps), end in zip(rows, ends, strict=True)
    ]
    said = "; ".join(names)
    longest = max(ends)
    height = 13 * len(made) + 3
    with drawing(f"Issue of dependent instructions, {latency} cycles each. {said}.", 0, height) as (
        fig,
        ax,
    ):
        scale = 99 / longest
        for row, (name, (_, warps), end) in enumerate(zip(names, made, ends, strict=True)):
            y = height - 13 * row - 9
            write(ax, 0, y + 7, name, NORMAL, ha="left")
            busy = np.zeros(end, bool)
            for number, times in enumerate(warps):
                for cycle in times:
                    box(ax, cycle * scale, y, scale * 0.9, 4.6, f"C{number % 4}")
                    busy[cycle] = True
            idle = [Cell(c * scale, y, scale * 0.9, 4.6, "missing") for c in np.flatnonzero(~busy)]
            draw_cells(ax, idle)
        write(ax, 0, 1, "colour: the warp; dotted: nothing issued", SMALL, ha="left")
        return fig


# --- formats -------------------------------------------------------------------------------------


def formats(shown: Sequence[Format]) -> Figure:
    """The bits of each format: sign, exponent, mantissa."""
    said = "; ".join(
        f"{f.name}: 1 sign bit, {f.exponent_bits} of exponent, {f.mantissa_bits} of mantissa, "
        f"largest {f.largest:.4g}"
        for f in shown
    )
    height = 8.5 * len(shown) + 6
    wide = 2.35
    with drawing(f"Floating-point formats. {said}.", 0, height) as (fig, ax):
        for row, f in enumerate(shown):
            y = height - 8.5 * row - 12.5
            write(ax, 0, y + 2.6, f.name, NORMAL, ha="left", weight="bold")
            kinds = [0] + [1] * f.exponent_bits + [2] * f.mantissa_bits
            cells = [
                Cell(18 + wide * k, y, wide * 0.86, 5.2, "element", kind)
                for k, kind in enumerate(kinds)
            ]
            draw_cells(ax, cells)
            if f.bits <= 20:
                text = f"{_power(f.smallest)} to {_power(f.largest)}"
                write(ax, 19 + wide * f.bits + 1, y + 2.6, text, SMALL, ha="left")
        x = 18.0
        for kind, name in enumerate(("sign", "exponent", "mantissa")):
            draw_cells(ax, [Cell(x, height - 4, 2.2, 3.4, "element", kind)])
            write(ax, x + 3.4, height - 2.3, name, SMALL, ha="left")
            x += 20
        return fig


def _power(value: float) -> str:
    return f"{value:,.0f}" if 1 <= value < 1e6 else f"{value:.1e}"
