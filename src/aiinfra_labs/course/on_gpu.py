"""What `benchmarks/gpu.py` measured on a GPU, drawn for a page: `on_gpu.show("transpose")`.

Where nothing is stored, nothing is shown: a page has the tag `needs-gpu-results` on all cells of
such a section, and the site leaves them out (see `published`). Each figure names its device and
date: a course that is read without a GPU still shows what one did, and when.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import figures
from .measured import measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stored(ladder: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """The ladder as each machine measured it, the newest first: `machine` beside its figures."""
    try:
        found = measured("gpu", folder)
    except FileNotFoundError:
        return []
    return [
        {"machine": one["machine"], **one["ladders"][ladder]}
        for one in found
        if ladder in one["ladders"]
    ]


def show(ladder: str, folder: Path | None = None) -> None:
    """Draw the ladder for each machine that measured it; nothing where none has."""
    for one in stored(ladder, folder):
        figures.show(draw(ladder, one))


def draw(name: str, ladder: dict[str, Any]) -> Figure:
    """Bars of what each step reached, in TFLOP/s or GB/s, with its share of the baseline."""
    machine, steps, base = ladder["machine"], ladder["steps"], ladder["baseline"]
    key, unit = ("teraflops", "TFLOP/s") if ladder["flops"] else ("gigabytes_per_second", "GB/s")
    timed = {step: found for step, found in steps.items() if "milliseconds" in found}
    wrong = [step for step in steps if step not in timed]
    rates = [found[key] for found in timed.values()]
    said = [
        f"{_digits(rate)} {unit}" + (f", {f['share_of_baseline']:.0%}" if step != base else "")
        for rate, (step, f) in zip(rates, timed.items(), strict=True)
    ]
    title = f"{name}, {ladder['size']}: {machine['device']}, {machine['date']}"
    alt = f"{title}. " + "; ".join(f"{step} {text}" for step, text in zip(timed, said, strict=True))
    alt += f". Percentages are of {base}." if base else "."
    if wrong:
        alt += f" Wrong, and so not timed: {', '.join(wrong)}."
    fig, ax = figures.figure(alt=alt, height=0.9 + 0.34 * len(timed))
    places = range(len(timed))
    colours = [figures.PALETTE["orange" if step == base else "blue"] for step in timed]
    ax.barh(places, rates, color=colours)
    for place, rate, text in zip(places, rates, said, strict=True):
        ax.annotate(text, (rate, place), xytext=(4, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, list(timed))
    ax.invert_yaxis()
    ax.set_xlim(0, max(rates, default=1) * 1.45)
    ax.set_xlabel(unit)
    ax.set_title(title, fontsize=9)
    return fig


def _digits(rate: float) -> str:
    """Three digits that count, and no exponent: 0.312, 23.1, 2,480."""
    return f"{float(f'{rate:.3g}'):,.{max(0, 2 - len(str(int(rate))) + 1)}f}"
