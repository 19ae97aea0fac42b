"""One style for every figure: it reads on a light page and on a dark one, and it has alt text.

No single grey can be text on both: against white and the site's dark background (#14181e) the
best one reaches 4.2 on each, and AA asks for 4.5. So `show` puts the figure on the page as inline
SVG and turns the style's grey, `INK`, into `currentColor`: text and axes take the colour of the
page's own text, whatever the theme. The palette is for shapes, which AA asks 3 of; each colour
has that on both backgrounds.

    from aiinfra_labs.course import figures
    figures.use_style()
    fig, ax = figures.figure(alt="Time grows with n: 1 ms at 1,000, 10 ms at 10,000.")
    ax.plot(n, ms)
    figures.show(fig)

Several panels are several figures, each with its own alt text: `figures.show_panels(left, right)`
puts them beside each other where there is room, and on a phone below each other.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .parts import CourseError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

STYLE = "aiinfra_labs.course.aiinfra"  # as matplotlib names the style sheet of a package
READABLE = 9.5  # points: 9 pixels where a figure of 5.2 inches is as wide as a phone
INK = "#7b7b7b"
WHITE, BLACK = "#ffffff", "#101010"  # text on a filled shape: see `ink_on`
# Chosen so that each pair stays apart with normal, deuteranope and protanope vision.
PALETTE = {
    "blue": "#476cc3",
    "orange": "#d17d1a",
    "green": "#54a475",
    "purple": "#ab7af6",
    "red": "#bf3a39",
    "teal": "#00838d",
}
# Fonts that have Chinese, in the order in which they are tried.
CHINESE = ("Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei")

_PAGE = """<style>
.aiinfra-figure{margin:0;max-width:100%}
.aiinfra-figure svg{display:block;max-width:100%;height:auto}
.aiinfra-figure figcaption{display:none}
.aiinfra-panels{display:flex;flex-wrap:wrap;gap:1rem}
.aiinfra-panels>.aiinfra-figure{flex:1 1 15rem}
.text_html:has(> .aiinfra-figure,> .aiinfra-panels){background:none!important;
color:inherit!important;padding:0!important}
</style>"""


class FigureError(CourseError):
    """A figure that cannot be shown as it is."""


def use_style() -> None:
    """Make the course's style matplotlib's own for the rest of the session."""
    import matplotlib
    import matplotlib.style

    matplotlib.style.use(STYLE)
    matplotlib.rcParams["font.family"] = _fonts()


def figure(alt: str, width: float = 5.2, height: float = 3.2, **subplots: Any) -> tuple:
    """A figure in the style and its axes: `fig, ax = figure(alt="What it shows.")`.

    alt: what a reader who cannot see it should know: the finding, with its figures.
    width, height: inches; at 5.2 wide, labels of 9.5 points have 9 pixels on a phone.
    subplots: as for `Figure.subplots` (nrows, ncols, sharex, ...); the axes come back in its way.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context():
        use_style()
        fig = Figure(figsize=(width, height), layout="constrained")
        describe(fig, alt)
        return fig, fig.subplots(**subplots)


def describe(fig: Figure, alt: str) -> Figure:
    """Give a figure its alt text. It is kept as the figure's label."""
    if not alt.strip():
        raise FigureError(
            "a figure has no alt text",
            "a reader who cannot see it gets nothing else",
            'say what it shows: show(fig, alt="Sectors grow with the stride: 4 at 1, 32 at 8.")',
        )
    fig.set_label(" ".join(alt.split()))
    return fig


def show(fig: Figure, alt: str | None = None) -> None:
    """Put a figure on the page with its alt text; in a terminal, print the alt text.

    alt: needed unless the figure has one from `figure` or `describe`.
    """
    describe(fig, alt if alt is not None else str(fig.get_label() or ""))
    text = str(fig.get_label())
    if not _in_ipython():
        print(text)
        return
    from IPython.display import display

    display({"text/html": to_html(fig), "text/plain": text}, raw=True)


def show_panels(*figs: Figure) -> None:
    """Put figures on the page as the panels of one: in a row where they fit, else in a column.

    Each has its alt text from `figure` or `describe`. Panels of 3.6 by 3 inches stand two in a row
    on a desk, and keep their labels above 9 pixels on a phone.
    """
    panels = Panels(figs)
    for fig in figs:
        describe(fig, str(fig.get_label() or ""))
    if not _in_ipython():
        print(panels)
        return
    from IPython.display import display

    display({"text/html": panels._repr_html_(), "text/plain": repr(panels)}, raw=True)


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorator: draw in the course's style, which gives "C0", legends and text their colours."""

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> T:
        with in_the_style():
            return draw(*args, **kwargs)

    return in_style


@contextmanager
def in_the_style() -> Iterator[None]:
    """Draw in the course's style within the block, Chinese included; then as before."""
    from matplotlib import rc_context

    with rc_context():
        use_style()
        yield


@dataclass(frozen=True)
class Picture:
    """A figure as a value: drawn where a notebook shows it; in a terminal, its alt text."""

    figure: Figure

    def _repr_html_(self) -> str:
        return to_html(self.figure)

    def __repr__(self) -> str:
        return str(self.figure.get_label())


@dataclass(frozen=True)
class Panels:
    """Several figures as one value: each an image of its own, so that they can wrap."""

    figures: tuple[Figure, ...]

    def _repr_html_(self) -> str:
        inside = "".join(to_html(fig).removeprefix(_PAGE) for fig in self.figures)
        return f'{_PAGE}<div class="aiinfra-panels">{inside}</div>'

    def __repr__(self) -> str:
        return "\n".join(str(fig.get_label()) for fig in self.figures)


def to_html(fig: Figure) -> str:
    """The figure as inline SVG with its alt text, in the colours of the page that it stands on.

    The same figure gives the same text, to the byte, where the same fonts are installed.
    """
    alt = str(fig.get_label())
    svg = to_svg(fig)
    salt = hashlib.sha256((svg + alt).encode()).hexdigest()[:8]
    svg = _own_ids(svg[svg.index("<svg") :], f"f{salt}").replace(INK, "currentColor")
    width = f"{fig.get_size_inches()[0] * 96:.0f}"
    opening = f'<svg role="img" aria-label="{escape(alt)}" width="{width}" '
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"{_literal(opening)}\1>", svg, count=1)
    # Seen where a page strips SVG and styles: a notebook that JupyterLab does not trust, GitHub.
    caption = f"<figcaption>Figure: {escape(alt)}</figcaption>"
    return f'{_PAGE}<figure class="aiinfra-figure">{svg.strip()}{caption}</figure>'


def to_svg(fig: Figure) -> str:
    """The figure as an SVG file, without a date, text as outlines: for a file beside a page."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context():
        use_style()
        fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"\s*<metadata>.*?</metadata>", "", out.getvalue(), flags=re.DOTALL)


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", 0 to 1, as WCAG 2.2 defines it."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21. AA asks for 4.5 of text and 3 of shapes."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def ink_on(fill: str) -> str:
    """The text colour that reads better on a shape filled with `fill`: `WHITE` or `BLACK`."""
    return max(WHITE, BLACK, key=lambda ink: contrast(ink, fill))


def _fonts() -> list[str]:
    """DejaVu Sans, which comes with matplotlib, then a Chinese font if one is installed.

    By name, because matplotlib looks a missing glyph up only in families named so, not in all of
    "sans-serif"; and only installed ones, because it warns of each other in the notebook.
    """
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *[name for name in CHINESE if name in installed][:1]]


def _own_ids(svg: str, prefix: str) -> str:
    """Keep the ids that are referred to, under a prefix: figures on one page must not share any."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    names = {name: f"{prefix}-{number}" for number, name in enumerate(sorted(used))}

    def rename(match: re.Match[str]) -> str:
        name = match[1]
        return f' id="{names[name]}"' if name in names else ""

    svg = re.sub(r' id="([^"]*)"', rename, svg)
    return re.sub(r'(href="#|url\(#)([^")]+)', lambda match: f"{match[1]}{names[match[2]]}", svg)


def _literal(text: str) -> str:
    """Text as the replacement of `re.sub`, where a backslash would mean a group."""
    return text.replace("\\", r"\\")


def _in_ipython() -> bool:
    import sys

    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
