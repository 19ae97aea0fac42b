"""One request's way through all layers: the book's frontispiece, and where on it a unit lies.

from aiinfra_labs.course import figures, frontispiece
figures.show(frontispiece.draw())  # all layers, with their units
frontispiece.here("3.2")  # the same as one line, with one layer marked: a cell's last line
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from .parts import CourseError
from .units import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Layer:
    """A layer of the stack: its name, what it does with a request, and the units about it."""

    name: str
    does: str
    units: tuple[str, ...]


WAY = (
    Layer("client", "asks, and reads tokens as they come", ("2.1", "2.2", "4.9", "4.10")),
    Layer("gateway", "checks the key, picks a replica", ("4.7",)),
    Layer("engine", "puts requests into one batch", ("4.3", "4.4")),
    Layer("KV cache", "finds blocks for keys and values", ("4.2", "4.8")),
    Layer("model", "prefills the prompt, then decodes", ("1.1", "1.2", "1.3", "1.4", "1.5")),
    Layer("weights", "are trained, shrunk, split", ("1.6", "1.7", "1.8", "4.5", "4.6")),
    Layer("kernels", "do the arithmetic, by threads", ("3.2", "3.3", "3.4", "3.5", "3.6", "3.8")),
    Layer("GPU", "has cores, memory, a share for each", ("3.1", "3.7", "3.9")),
)
# What stands beside the way rather than on it.
AROUND = Layer("around it", "cluster, operations, people", ("4.1", "4.11", "2.3"))
SUMMARY = ("5.1", "5.2", "5.3", "5.4")  # on no layer: they look at the whole

HEIGHT, GAP = 11.5, 2.2  # of a layer, and between two; the drawing is 100 wide
LEFT, RIGHT, NAME = 8.0, 92.0, 27.0  # the layers' edges, and where their names end
CHIP = 7.4  # the width of a unit's number
COLOURS = {"1": "C3", "2": "C5", "3": "C1", "4": "C0", "5": "C2"}  # of the chapters


class FrontispieceError(CourseError):
    """A unit that lies on no layer."""


def layer_of(unit: str) -> Layer | None:
    """The layer that a unit is about; None for the summary, which is about all of them."""
    if unit not in UNITS:
        raise FrontispieceError(
            f"there is no unit {unit!r}",
            "a unit is the number of its chapter and its own",
            'for example here("3.2")',
        )
    return next((layer for layer in (*WAY, AROUND) if unit in layer.units), None)


@dataclass(frozen=True)
class Place:
    """Where on a request's way a unit lies: one line in a notebook and in a terminal."""

    unit: str

    def _said(self) -> str:
        """What is said of a unit that lies on no layer of the way; else nothing."""
        layer = layer_of(self.unit)
        if layer is None:
            return "This unit looks at all of it."
        return f"This unit lies {layer.name}: {layer.does}." if layer is AROUND else ""

    def __repr__(self) -> str:
        here = layer_of(self.unit)
        names = " > ".join(f"[{w.name}]" if w is here else w.name for w in WAY)
        return f"A request's way: {names}. {self._said()}".strip()

    def _repr_html_(self) -> str:
        here = layer_of(self.unit)
        names = " → ".join(
            f'<strong aria-current="location">{escape(layer.name)}</strong>'
            if layer is here
            else escape(layer.name)
            for layer in WAY
        )
        said = f" {escape(self._said())}" if self._said() else ""
        text = f"A request’s way: {names}.{said}"
        return f'<p class="aiinfra-place" style="font-size:0.85em;margin:0">{text}</p>'


def here(unit: str) -> Place:
    """One line that says where on a request's way a unit lies."""
    layer_of(unit)  # raises FrontispieceError for a unit that is not there
    return Place(unit)


def draw() -> Figure:
    """The way of a request, with its alt text."""
    layers = (*WAY, AROUND)
    bottom = -len(layers) * (HEIGHT + GAP) - 1
    told = "; ".join(f"{layer.name} ({', '.join(layer.units)})" for layer in layers)
    alt = (
        "One request goes down through all layers, and its tokens come back up. The layers, with "
        f"the units about each: {told}."
    )
    with _drawing(alt, bottom, 5) as (fig, ax):
        for number, layer in enumerate(layers):
            low = -(number + 1) * (HEIGHT + GAP)
            middle = low + HEIGHT / 2
            _box(ax, LEFT, low, RIGHT - LEFT, HEIGHT, None, "--" if layer is AROUND else "-")
            ax.text(NAME, middle, layer.name, ha="right", va="center", fontsize=12, weight="bold")
            ax.text(NAME + 3, middle + 2.7, layer.does, va="center", fontsize=11)
            for place, unit in enumerate(layer.units):
                x = NAME + 3 + place * (CHIP + 1)
                _box(ax, x, middle - 4.6, CHIP, 4.8, COLOURS[unit[0]])
                ax.text(x + CHIP / 2, middle - 2.3, unit, ha="center", va="center", fontsize=10.5)
        end = -len(WAY) * (HEIGHT + GAP) + HEIGHT / 2
        for x, name, start, stop in ((4, "request", 0, end), (96, "tokens", end, 0)):
            _arrow(ax, (x, start), (x, stop))
            ax.text(x, 2.5, name, ha="left" if x < 50 else "right", va="center", fontsize=11)
    return fig


# --- pieces --------------------------------------------------------------------------------------


@contextmanager
def _drawing(alt: str, bottom: float, top: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of the style, 100 wide, from `bottom` to `top` high, with no axes to see."""
    import matplotlib
    from matplotlib.figure import Figure

    from .figures import describe, in_the_style

    with in_the_style():
        fig = Figure(figsize=(5.6, 5.6 * (top - bottom) / 100))
        describe(fig, alt)
        ax = fig.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(0, 100)
        ax.set_ylim(bottom, top)
        with matplotlib.rc_context({"font.size": 10.5}):
            yield fig, ax


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, colour: str | None, line: str = "-"
) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    look = {"facecolor": to_rgba(colour, 0.26), "edgecolor": colour} if colour else {"fill": False}
    corners = "round,pad=0,rounding_size=1"
    box = FancyBboxPatch((x, y), width, height, boxstyle=corners, linewidth=1.1, **look)
    box.set_linestyle(line)
    ax.add_patch(box)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    from matplotlib import rcParams

    look = {"arrowstyle": "-|>", "color": rcParams["text.color"], "lw": 1.3}
    ax.annotate("", end, start, arrowprops=look | {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 9})
