"""A figure reads on a light page and on a dark one, has alt text, and never changes by itself."""

import json
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_hex

from aiinfra_labs.course import figures, page_rules
from aiinfra_labs.course.drawing import SMALL, drawing, write
from aiinfra_labs.course.figures import INK, PALETTE, FigureError, contrast

# The site's light and dark themes (text and code on it), and JupyterLab's dark one.
PAGES = ("#ffffff", "#14181e", "#121212", "#111111")


class Tags(HTMLParser):
    """The elements of a page, each with its attributes."""

    def __init__(self, html):
        super().__init__()
        self.all = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))

    def named(self, name):
        return [attributes for tag, attributes in self.all if tag == name]


@pytest.fixture
def sine():
    """Makes a figure as a page does: in the style, with Chinese in it."""
    with matplotlib.rc_context():
        figures.use_style()
        yield make_sine


def make_sine(alt="A wave: 0 at 0, 1 at 1."):
    fig, ax = figures.figure(alt=alt)
    ax.plot([0, 1, 2], [0, 1, 0], label="一")
    ax.set_title("波 & wave")
    ax.legend()
    return fig


# --- colours --------------------------------------------------------------------------------------


def test_contrast_is_wcags():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)
    assert contrast("#ffffff", "#767676") == contrast("#767676", "#ffffff")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", PALETTE)
def test_shapes_stand_out_on_both_pages(name, page):
    assert contrast(PALETTE[name], page) >= 3


@pytest.mark.parametrize("fill", PALETTE.values())
def test_text_on_a_shape_reads(fill):
    assert contrast(figures.ink_on(fill), fill) >= 4.5


def test_no_grey_is_text_on_both_pages():
    """Why `show` uses currentColor. The style's own grey, seen in a plain plot, is the best one."""

    def worst(grey):
        return min(contrast(grey, page) for page in PAGES[:2])

    greys = {f"#{v:02x}{v:02x}{v:02x}": 0 for v in range(256)}
    best = max(worst(grey) for grey in greys)
    assert best < 4.5
    assert worst(INK) == best > 4.2


def test_the_style_sheet_and_the_module_have_the_same_colours():
    with matplotlib.rc_context():
        figures.use_style()
        rc = matplotlib.rcParams
        assert [to_hex(c) for c in rc["axes.prop_cycle"].by_key()["color"]] == [*PALETTE.values()]
        names = ("text.color", "xtick.color", "axes.edgecolor", "grid.color")
        assert {to_hex(rc[name]) for name in names} == {INK}
        assert rc["figure.facecolor"] == rc["axes.facecolor"] == rc["savefig.facecolor"] == "none"


# --- on the page ----------------------------------------------------------------------------------


def test_text_takes_the_colour_of_the_page(sine):
    html = figures.to_html(sine())
    assert html.count("currentColor") > 10
    assert INK not in html
    assert "#000000" not in html and "#ffffff" not in html


def test_alt_text_is_on_the_picture(sine):
    (svg,) = Tags(figures.to_html(sine('"4" < 5 & \\1'))).named("svg")
    assert svg["role"] == "img" and svg["aria-label"] == '"4" < 5 & \\1'
    assert svg["viewbox"].startswith("0 0 ") and svg["width"] == "499"


def test_a_page_without_svg_and_styles_still_has_the_text(sine):
    html = figures.to_html(sine())
    bare = re.sub(r"<(svg|style).*?</\1>", "", html, flags=re.DOTALL)
    assert re.sub(r"<[^>]*>", "", bare) == "Figure: A wave: 0 at 0, 1 at 1."
    assert "figcaption{display:none}" in html


def test_no_alt_text_is_an_error(sine):
    fig = sine()
    fig.set_label("")
    with pytest.raises(FigureError, match="no alt text") as error:
        figures.show(fig)
    assert error.value.why and "alt=" in error.value.try_
    with pytest.raises(FigureError):
        figures.figure(alt=" ")


def test_the_same_figure_is_the_same_text(sine):
    assert figures.to_html(sine()) == figures.to_html(sine())
    assert not re.search(r"<metadata|<dc:date|<\?xml|<!DOCTYPE", figures.to_html(sine()))


def test_a_readers_own_settings_change_nothing(sine):
    plain = figures.to_html(sine())
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 30, "text.color": "red"}):
        assert figures.to_html(sine()) == plain


def test_two_figures_on_a_page_share_no_id(sine):
    one, two = (
        [a["id"] for _, a in Tags(figures.to_html(sine(alt))).all if "id" in a]
        for alt in ("One.", "Two.")
    )
    assert one and len(set(one + two)) == len(one) + len(two)


def test_every_reference_within_a_figure_is_met(sine):
    html = figures.to_html(sine())
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', html))
    assert references == {a["id"] for _, a in Tags(html).all if "id" in a}


def test_chinese_is_drawn_and_nothing_is_warned_of(sine, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.to_html(sine())
    assert "findfont" not in caplog.text


def test_a_terminal_gets_the_alt_text(sine, capsys):
    figures.show(sine())
    assert capsys.readouterr().out == "A wave: 0 at 0, 1 at 1.\n"


NOTEBOOK = """
from aiinfra_labs.course import figures
figures.use_style()
fig, ax = figures.figure(alt="Nothing yet.")
ax.plot([0, 1])
figures.show(fig, alt="A line from 0 to 1.")
"""


def test_in_a_notebook_and_on_the_site(tmp_path):
    """One output, which JupyterLab and myst-nb both show: HTML, with the alt text as plain text."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    notebook = new_notebook(cells=[new_code_cell(NOTEBOOK)])
    NotebookClient(notebook, kernel_name="python3", timeout=600, startup_timeout=600).execute()
    (output,) = notebook.cells[0].outputs
    assert output["data"]["text/plain"] == "A line from 0 to 1."
    assert set(output["data"]) == {"text/html", "text/plain"}

    (tmp_path / "page.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    # myst-nb's own command, with no site around it, writes the page that the site's theme frames.
    run = subprocess.run(
        ["mystnb-docutils-html5", "--nb-execution-mode=off", "page.ipynb", "page.html"],
        cwd=tmp_path,
        env={"PATH": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "WARNING" not in run.stderr
    pictures = [a for a in Tags((tmp_path / "page.html").read_text()).named("svg") if "role" in a]
    assert [(a["role"], a["aria-label"]) for a in pictures] == [("img", "A line from 0 to 1.")]


def test_importing_costs_no_matplotlib():
    probe = "import sys, aiinfra_labs.course.figures; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_use_style_holds_for_plain_plots():
    with matplotlib.rc_context():
        figures.use_style()
        assert to_hex(matplotlib.rcParams["text.color"]) == INK
        assert matplotlib.rcParams["font.family"][0] == "DejaVu Sans"


# --- on a phone -----------------------------------------------------------------------------------


def labels(html):
    return page_rules.smallest_label(html[html.index("<svg") :])


def test_a_figure_of_the_usual_width_has_labels_that_a_phone_shows(sine):
    assert labels(figures.to_html(sine("A wave."))) >= page_rules.LABEL
    wide, ax = figures.figure(alt="A wave.", width=6)
    ax.plot([1, 2])
    assert labels(figures.to_html(wide)) < page_rules.LABEL


def test_a_drawing_of_86_units_keeps_its_small_words():
    for width, good in ((86, True), (100, False)):
        with drawing("Words.", 0, 20, width) as (fig, ax):
            write(ax, 10, 10, "small", SMALL)
        assert (round(labels(figures.to_html(fig)), 1) >= page_rules.LABEL) is good


def test_panels_are_images_of_their_own(sine, capsys):
    left, right = sine("A wave."), sine("Another wave.")
    html = figures.Panels((left, right))._repr_html_()
    assert html.count("<style>") == 1 and html.count("<svg") == 2
    assert html.count('class="aiinfra-figure"') == 2 and html.count('class="aiinfra-panels"') == 1
    assert 'aria-label="A wave."' in html and 'aria-label="Another wave."' in html
    figures.show_panels(left, right)
    assert capsys.readouterr().out == "A wave.\nAnother wave.\n"


def test_a_panel_without_alt_text_is_an_error(sine):
    bare = sine("A wave.")
    bare.set_label("")
    with pytest.raises(FigureError, match="no alt text"):
        figures.show_panels(sine("A wave."), bare)
