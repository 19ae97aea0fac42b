"""The warp access viewer: its count is NumPy's and a plain set's, and it works without a kernel."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiinfra_labs.gpu.widgets.access import LANES, PATTERNS, addresses, cost, sectors
from aiinfra_labs.gpu.widgets.warp_access import WarpAccess, WarpAccessError
from widget_pages import result

SIZES = (1, 2, 4, 8, 16)


def counted(touched, itemsize):
    """Sectors, lines and bytes by brute force: one set of bytes."""
    touched_bytes = {a + b for a in touched if a >= 0 for b in range(itemsize)}
    return (
        len({byte // 32 for byte in touched_bytes}),
        len({byte // 128 for byte in touched_bytes}),
        len(touched_bytes),
    )


# --- the reference --------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-1, 5000), min_size=LANES, max_size=LANES),
    st.integers(1, 16),
)
def test_the_reference_counts_what_a_set_counts(touched, itemsize):
    figures = cost(np.array(touched), itemsize)
    assert (figures.sectors, figures.lines, figures.useful) == counted(touched, itemsize)
    assert figures.moved == 32 * figures.sectors
    assert figures.requests == any(a >= 0 for a in touched)


@given(
    st.sampled_from(PATTERNS),
    st.sampled_from(SIZES),
    st.integers(1, 33),
    st.integers(0, 31),
    st.integers(0, LANES),
    st.integers(0, 2**32 - 1),
)
def test_a_pattern_moves_lanes_but_not_the_set(pattern, itemsize, stride, offset, lanes, seed):
    touched = addresses(pattern, itemsize, stride, offset, lanes, seed)
    assert touched.shape == (LANES,) and (touched >= 0).sum() == lanes
    assert (touched[lanes:] == -1).all()
    linear = addresses("linear", itemsize, stride, offset, lanes)
    if pattern == "broadcast":
        assert set(touched[:lanes]) <= {offset * itemsize}
    else:
        assert sorted(touched) == sorted(linear)
        assert sectors(touched, itemsize) == sectors(linear, itemsize)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (4, 1, 128)),
        ({"offset": 1}, (5, 2, 128)),
        ({"stride": 2}, (8, 2, 128)),
        ({"stride": 8}, (32, 8, 128)),
        ({"stride": 33}, (32, 32, 128)),
        ({"itemsize": 8}, (8, 2, 256)),
        ({"pattern": "broadcast", "stride": 9}, (1, 1, 4)),
        ({"lanes": 1}, (1, 1, 4)),
        ({"lanes": 0}, (0, 0, 0)),
    ],
)
def test_known_figures(settings, expected):
    figures = cost(addresses(**settings), settings.get("itemsize", 4))
    assert (figures.sectors, figures.lines, figures.useful) == expected


def test_a_random_order_is_random_and_repeats():
    one, two = (addresses("permutation", seed=seed) for seed in (1, 2))
    assert (one == addresses("permutation", seed=1)).all()
    assert (one != two).any() and (one != addresses()).any()


def test_an_unknown_pattern_is_named():
    with pytest.raises(ValueError, match="no pattern 'diagonal'.*try one of linear"):
        addresses("diagonal")


# --- the widget, in Python ------------------------------------------------------------------------


def test_recorded_accesses():
    table = np.stack([np.arange(LANES) * 4, np.arange(LANES) * 128])
    widget = WarpAccess.from_accesses(table, 4, ["load a", "store b"])
    assert str(widget.cost) == "sectors: 4, useful bytes 128 of 128 (100 %)"
    widget.step = 1
    assert str(widget.cost) == "sectors: 32, useful bytes 128 of 1024 (13 %)"
    assert "step 2 of 2" in repr(widget)
    widget.step = 9
    assert widget.step == 1


@pytest.mark.parametrize(
    ("table", "itemsize", "labels", "what"),
    [
        (np.zeros((2, 31), int), 4, None, r"shape \(2, 31\)"),
        (np.zeros(32, int), 4, None, r"shape \(32,\)"),
        (np.zeros((0, 32), int), 4, None, "shape"),
        (np.zeros((1, 32)), 4, None, "float64"),
        (np.full((1, 32), -8), 4, None, "address -8 at step 0"),
        (np.zeros((1, 32), int), 0, None, "itemsize = 0"),
        (np.zeros((1, 32), int), 32, None, "itemsize = 32"),
        (np.zeros((1, 32), int), 4, ["a", "b"], "2 labels for 1 steps"),
        (np.zeros((10_001, 32), np.int8), 4, None, "10,001 steps"),
    ],
)
def test_accesses_that_cannot_be_drawn(table, itemsize, labels, what):
    with pytest.raises(WarpAccessError, match=what) as error:
        WarpAccess.from_accesses(table, itemsize, labels)
    assert error.value.why and error.value.try_


def test_the_state_is_json():
    state = WarpAccess.from_accesses(np.zeros((1, 32), np.int32), 4).get_state()
    json.dumps(state)
    assert "export default" in state["_esm"] and ".aiinfra-widget" in state["_css"]


# --- in the page ----------------------------------------------------------------------------------


def test_javascript_counts_as_python_does(shown):
    page = shown(WarpAccess())
    rng = np.random.default_rng(0)
    states = [
        {
            "pattern": PATTERNS[i % len(PATTERNS)],
            "itemsize": int(rng.choice(SIZES)),
            "stride": int(rng.integers(1, 34)),
            "offset": int(rng.integers(0, 32)),
            "lanes": int(rng.integers(0, 33)),
            "seed": int(rng.integers(0, 2**32)),
        }
        for i in range(400)
    ]
    got = page.evaluate("all => all.map(s => module.addresses(s))", states)
    expected = [addresses(**state).tolist() for state in states]
    assert got == expected

    loose = rng.integers(-40, 4000, (200, LANES)).clip(-1).tolist()  # aligned to nothing
    cases = [(a, s["itemsize"]) for a, s in zip(expected, states, strict=True)]
    cases += [(a, int(rng.integers(1, 17))) for a in loose]
    figures = page.evaluate("all => all.map(([a, size]) => module.cost(a, size))", cases)
    assert figures == [vars(cost(np.array(a), size)) for a, size in cases]


def test_moving_a_control_changes_the_count_without_a_kernel(shown):
    page = shown(WarpAccess())
    assert result(page) == "sectors: 4, useful bytes 128 of 128 (100 %)"
    stride = page.get_by_label("stride")
    stride.focus()
    page.keyboard.press("ArrowRight")
    assert result(page) == "sectors: 8, useful bytes 128 of 256 (50 %)"
    page.get_by_label("element size").select_option("8")
    assert result(page) == "sectors: 16, useful bytes 256 of 512 (50 %)"
    page.get_by_label("pattern").select_option("broadcast")
    assert result(page) == "sectors: 1, useful bytes 8 of 32 (25 %)"
    page.get_by_label("active lanes").fill("0")
    assert result(page) == "No lane is active: no request, no sector."
    assert page.evaluate("[state.stride, state.itemsize, state.pattern, state.lanes]") == [
        2,
        8,
        "broadcast",
        0,
    ]
    assert page.evaluate("saved") == 4


def test_a_seed_is_asked_for_where_it_matters_and_must_be_whole(shown):
    page = shown(WarpAccess())
    seed = page.get_by_label("seed")
    assert not seed.is_visible()
    page.get_by_label("pattern").select_option("permutation")
    assert seed.is_visible()
    for wrong in ("", "1.5", "-1", "99999999999"):
        seed.fill(wrong)
        assert page.evaluate("state.seed") == 1
    seed.fill("7")
    assert page.evaluate("state.seed") == 7


def test_recorded_steps_are_walked_with_the_keyboard(shown):
    table = np.stack([np.arange(LANES) * 4, np.arange(LANES) * 128, np.full(LANES, -1)])
    labels = ["load a, line 4", "store <b>", "nobody"]
    page = shown(WarpAccess.from_accesses(table, 4, labels, title="column sums"))
    assert page.get_by_label("stride").count() == 0
    assert "step 1 of 3: load a, line 4" in page.locator(".detail").inner_text()
    assert "36 sectors in 2 requests, 18.0 a request" in page.locator(".detail").inner_text()
    page.get_by_role("slider", name="step").focus()
    page.keyboard.press("ArrowRight")
    assert result(page) == "sectors: 32, useful bytes 128 of 1024 (13 %)"
    assert "store <b>" in page.locator(".detail").inner_text()
    page.keyboard.press("End")
    assert result(page) == "No lane is active: no request, no sector."
    assert page.locator(".title").inner_text() == "column sums"


def test_every_touched_sector_is_drawn_once(shown):
    page = shown(WarpAccess(stride=3, offset=5))
    figures = WarpAccess(stride=3, offset=5).cost
    assert page.locator(".memory .sector.fetched").count() == figures.sectors
    assert page.locator(".memory .item").count() == LANES
    assert page.locator(".warp .item").count() == LANES


def test_python_can_move_it_too_and_it_lets_go(shown):
    page = shown(WarpAccess())
    page.evaluate("model.from_python('stride', 8)")
    assert result(page).startswith("sectors: 32")
    assert page.get_by_label("stride").input_value() == "8"
    assert page.evaluate("model.heard()") > 0
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


WIDE = "[...document.querySelectorAll('#here *')].filter(e => {\
 const r = e.getBoundingClientRect(); return r.right > innerWidth + 0.5 || r.left < 0}).length"


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, width):
    for widget in (WarpAccess(stride=33, itemsize=16, offset=31), WarpAccess(itemsize=1)):
        page = shown(widget, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(WIDE) == 0


def test_every_input_has_a_name_and_the_picture_says_what_it_shows(shown):
    page = shown(WarpAccess())
    inputs = page.locator("input, select")
    for i in range(inputs.count()):
        assert (
            inputs.nth(i).evaluate("e => e.labels[0].innerText.trim()")
            or not inputs.nth(i).is_visible()
        )
    assert "sectors: 4" in page.locator("svg[role=img]").get_attribute("aria-label")
    assert page.locator("[aria-live=polite]").count() == 1
    # In JupyterLab's command mode the arrow keys belong to the notebook unless a widget says no.
    assert page.locator(".aiinfra-widget[data-lm-suppress-shortcuts] input").count() == 4


CONTRASTS = """() => {
  const rgba = (colour) => {
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const style = getComputedStyle(document.querySelector('.aiinfra-widget'));
  const paper = rgba(style.backgroundColor);
  const of = (selector, property) =>
    [...document.querySelectorAll(selector)].map((e) => rgba(getComputedStyle(e)[property]));
  return {
    paper,
    text: [rgba(style.color), ...of('.detail, .caption, .key, .result', 'color'),
           ...of('svg .name', 'fill')],
    fills: of('.memory .item', 'fill'), number: of('.memory .number', 'fill'),
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_reads_in_both_themes(shown, theme):
    from aiinfra_labs.course.figures import contrast

    colours = shown(WarpAccess(), theme=theme).evaluate(CONTRASTS)

    def hexed(rgb):
        return "#" + "".join(f"{channel:02x}" for channel in rgb)

    paper = hexed(colours["paper"])
    assert paper == {"light": "#ffffff", "dark": "#14181e"}[theme]
    assert min(contrast(hexed(text), paper) for text in colours["text"]) >= 4.5
    numbers = {hexed(number) for number in colours["number"]}
    fills = {hexed(fill) for fill in colours["fills"]}
    assert len(fills) == 4
    assert min(contrast(n, f) for n in numbers for f in fills) >= 4.5


def test_importing_the_gpu_chapter_costs_no_widget():
    probe = "import sys, aiinfra_labs.gpu; print('anywidget' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
