"""The attention viewer: what it shows are Python's numbers, and it works without a kernel."""

import numpy as np
import pytest
import torch

from aiinfra_labs.course.figures import contrast
from aiinfra_labs.llm.widgets.attention_viewer import (
    AttentionViewer,
    AttentionViewerError,
)
from aiinfra_labs.llm.widgets.attention_viewer import shown as written
from widget_pages import result

WORDS = ["我", "喜欢", "吃", "苹果", "，", "它", "很", "甜", "。"]


def weights(layers=2, heads=3, t=9, seed=0):
    scores = np.random.default_rng(seed).normal(0, 3, (layers, heads, t, t))
    return torch.softmax(torch.tensor(scores), dim=-1)


def viewer(**settings):
    return AttentionViewer(weights(), WORDS, **settings)


# --- in Python ------------------------------------------------------------------------------------


def test_it_keeps_the_weights_to_four_decimals():
    widget = viewer(layer=1, head=2, token=5)
    expected = weights()[1, 2, 5].numpy()
    assert np.abs(widget.row - expected).max() <= 0.5e-4 + 1e-12
    at = int(expected.argmax())
    assert widget.sentence == f"layer 1, head 2: 它 → {WORDS[at]} {written(widget.row[at])}"
    assert widget.sentence in repr(widget)


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (torch.zeros(1, 2, 2, 9, 9), r"shape \(1, 2, 2, 9, 9\), for 9 tokens"),
        (torch.zeros(2, 2, 9, 8), "shape"),
        (torch.zeros(0, 2, 9, 9), "shape"),
        (torch.zeros(1, 1, 9, 9, dtype=torch.int64), "int64"),
        (torch.full((1, 1, 9, 9), torch.nan), "81 of them not finite"),
        (torch.full((1, 1, 9, 9), 1.5), "from 1.5 to 1.5"),
        (torch.full((1, 1, 9, 9), -0.5), "from -0.5"),
        (torch.zeros(90, 90, 9, 9), "656,100 weights"),
    ],
)
def test_what_cannot_be_drawn_is_refused(table, what):
    with pytest.raises(AttentionViewerError, match=what) as error:
        AttentionViewer(table, WORDS)
    assert error.value.why and error.value.try_


def test_a_head_that_is_not_there_is_refused():
    with pytest.raises(AttentionViewerError, match="head = 3, and there are 3"):
        viewer(head=3)


# --- in the page ----------------------------------------------------------------------------------


def test_javascript_says_what_python_says(shown):
    page = shown(viewer())
    for layer in range(2):
        for head in range(3):
            for token in range(len(WORDS)):
                widget = viewer(layer=layer, head=head, token=token)
                settings = {"layer": layer, "head": head, "token": token}
                got = page.evaluate("s => module.sentence({ ...state, ...s })", settings)
                assert got == widget.sentence
                row = page.evaluate("s => module.row({ ...state, ...s })", settings)
                assert row == widget.row.tolist()


def test_halves_are_rounded_up_by_both(shown):
    uniform = AttentionViewer(torch.full((1, 1, 8, 8), 0.125), list("甲乙丙丁戊己庚辛"))
    assert uniform.sentence.endswith("甲 → 甲 0.13")
    assert result(shown(uniform)) == uniform.sentence
    shares = [i / 10_000 for i in range(0, 10_001, 25)]
    got = shown(viewer()).evaluate("all => all.map(module.shown)", shares)
    assert got == [written(share) for share in shares]


def test_every_share_that_is_drawn_is_the_row_s(shown):
    widget = viewer(layer=1, head=1, token=5)
    page = shown(widget)
    assert page.locator(".share").all_text_contents() == [written(share) for share in widget.row]
    widths = page.locator(".line").evaluate_all(
        "all => all.map(e => Number(e.getAttribute('stroke-width')))"
    )
    expected = [0.6 + 7 * share for share in widget.row if share >= 0.005]
    assert widths == pytest.approx(expected)
    shades = page.locator(".map .cell").evaluate_all(
        "all => all.map(e => Number(e.getAttribute('fill-opacity')))"
    )
    table = np.array(widget.weights[1][1]).ravel()
    assert shades == pytest.approx(list(0.06 + 0.94 * table), abs=6e-4)


def test_the_keyboard_moves_layer_head_and_token(shown):
    page = shown(viewer())
    assert result(page) == viewer().sentence
    page.get_by_role("tab", name="layer 0").focus()
    page.keyboard.press("ArrowRight")
    assert result(page) == viewer(layer=1).sentence
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert result(page) == viewer(layer=1, head=2).sentence
    page.keyboard.press("ArrowRight")  # round to the first
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert result(page) == viewer(layer=1, head=2, token=5).sentence
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "它"
    assert page.evaluate("[state.layer, state.head, state.token]") == [1, 2, 5]
    assert page.evaluate("saved") == 9
    assert page.get_by_role("tab", selected=True).count() == 2


def test_the_pointer_shows_a_row_and_a_click_keeps_it(shown):
    page = shown(viewer(token=5))
    page.locator(".lines .hit").nth(3).hover()
    assert result(page) == viewer(token=3).sentence
    page.mouse.move(1, 1)
    assert result(page) == viewer(token=5).sentence
    page.locator(".map .hit").nth(7).click()
    page.mouse.move(1, 1)
    assert result(page) == viewer(token=7).sentence


def test_python_can_move_it_too_and_it_lets_go(shown):
    page = shown(viewer())
    page.evaluate("model.from_python('token', 4)")
    assert result(page) == viewer(token=4).sentence
    page.evaluate("model.from_python('layer', 9)")  # is not there: left as it is
    assert result(page) == viewer(token=4).sentence
    assert page.evaluate("model.heard()") > 0
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


WIDE = "[...document.querySelectorAll('#here *')].filter(e => {\
 const r = e.getBoundingClientRect(); return r.right > innerWidth + 0.5 || r.left < 0}).length"


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, width):
    long = [f"token{i}" for i in range(22)]
    for widget in (viewer(title="它"), AttentionViewer(weights(1, 8, 22), long)):
        page = shown(widget, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(WIDE) == 0


def test_every_picture_and_input_has_a_name(shown):
    page = shown(viewer(token=5))
    pictures = page.locator("svg[role=img]")
    names = [pictures.nth(i).get_attribute("aria-label") for i in range(pictures.count())]
    assert len(names) == 2
    assert viewer(token=5).sentence in names[0] and "苹果" in names[0]
    assert names[1] == "map of layer 0, head 0: rows look at columns"
    assert page.locator("[aria-live=polite]").count() == 1
    assert page.locator("input").get_attribute("aria-label") == "the token that looks"
    assert page.locator(".aiinfra-widget[data-lm-suppress-shortcuts]").count() == 1


CONTRASTS = """() => {
  const rgba = (colour) => {
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const style = getComputedStyle(document.querySelector('.aiinfra-widget'));
  const of = (selector, property) =>
    [...document.querySelectorAll(selector)].map((e) => rgba(getComputedStyle(e)[property]));
  return {
    paper: rgba(style.backgroundColor),
    text: [rgba(style.color), ...of('.detail, .caption, .result, [role=tab]', 'color'),
           ...of('svg text', 'fill')],
    shapes: [...of('.line', 'stroke'), ...of('.frame', 'stroke')],
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_reads_in_both_themes(shown, theme):
    colours = shown(viewer(), theme=theme).evaluate(CONTRASTS)

    def hexed(rgb):
        return "#" + "".join(f"{channel:02x}" for channel in rgb)

    paper = hexed(colours["paper"])
    assert paper == {"light": "#ffffff", "dark": "#14181e"}[theme]
    assert min(contrast(hexed(text), paper) for text in colours["text"]) >= 4.5
    assert min(contrast(hexed(shape), paper) for shape in colours["shapes"]) >= 3
