"""The roofline explorer: its figures are Python's, and it works without a kernel."""

import json

import numpy as np
import pytest

from aiinfra_labs.course.figures import contrast
from aiinfra_labs.gpu.devices import devices
from aiinfra_labs.gpu.roofline import roofline
from aiinfra_labs.gpu.widgets.roofline import RooflineExplorer
from aiinfra_labs.gpu.widgets.roofs import CONTEXTS, SHOWN, rows, settled, tables
from widget_pages import result

# --- in Python ------------------------------------------------------------------------------------


def test_rows_are_the_rooflines():
    listed = rows("h100", "fp16_tensor", 10.0, 64, 0)
    assert [row.name for row in listed] == [
        "your kernel",
        "vector add",
        "matmul 256",
        "matmul 4,096",
        "decode, batch 64",
    ]
    roof = roofline("h100", "fp16_tensor")
    for row in listed:
        assert row.attainable == roof.attainable(row.intensity)
        assert row.bound == roof.bound_by(row.intensity)
    assert [row.bound for row in listed] == ["memory"] * 3 + ["compute", "memory"]


def test_a_precision_that_a_device_lacks_gives_way():
    assert settled("epyc_9654", "fp16_tensor") == "fp32"
    assert settled("xeon_8480", "fp8_tensor") == "bf16_matrix"
    assert settled("h100", "fp64") == "fp64"
    widget = RooflineExplorer(device="v100", precision="fp8_tensor")
    assert widget.precision == "fp16_tensor"
    widget.device = "epyc_9654"
    assert (widget.precision, widget.rows[0].bound) == ("fp32", "memory")
    assert "epyc_9654, fp32; 1 operations/byte: at most 0.461 TFLOP/s" in repr(widget)


def test_the_state_is_json_and_its_figures_are_the_datas():
    state = RooflineExplorer().get_state()
    json.dumps(state)
    assert "export default" in state["_esm"] and ".aiinfra-widget" in state["_css"]
    for key, entry in tables()["devices"].items():
        assert entry["bandwidth"] == devices()[key].bandwidth
        assert set(entry["peaks"]) <= set(tables()["precisions"])


# --- in the page ----------------------------------------------------------------------------------


def test_javascript_computes_as_python_does(shown):
    page = shown(RooflineExplorer())
    rng = np.random.default_rng(31)
    states, expected = [], []
    for key in SHOWN:
        for precision in devices()[key].precisions():
            for _ in range(4):
                exponent, doublings = float(rng.uniform(-2, 4)), int(rng.integers(0, 9))
                context = int(rng.choice(CONTEXTS))
                states.append(
                    {
                        "device": key,
                        "precision": precision,
                        "exponent": exponent,
                        "doublings": doublings,
                        "context": context,
                    }
                )
                expected += [
                    vars(row) for row in rows(key, precision, 10**exponent, 2**doublings, context)
                ]
    assert len(states) > 150
    got = page.evaluate(
        "all => all.flatMap(s => module.rows({...s, tables: state.tables}))", states
    )
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert (mine["name"], mine["bound"]) == (theirs["name"], theirs["bound"])
        assert mine["intensity"] == pytest.approx(theirs["intensity"], rel=1e-12)
        assert mine["attainable"] == pytest.approx(theirs["attainable"], rel=1e-12)


def test_moving_a_control_changes_the_result_without_a_kernel(shown):
    page = shown(RooflineExplorer())
    assert result(page) == (
        "your kernel: 1 operations/byte, at most 3.35 TFLOP/s, 0.339 % of the peak; bound by memory"
    )
    page.get_by_label("your kernel, ops/byte").focus()
    page.keyboard.press("End")
    assert result(page) == (
        "your kernel: 10,000 operations/byte, at most 989 TFLOP/s, 100 % of the peak; "
        "bound by compute"
    )
    page.get_by_label("precision").select_option("fp32")
    assert "at most 66.9 TFLOP/s" in result(page)
    page.get_by_label("batch of the decode step").fill("8")
    assert "decode, batch 256" in page.locator("table").inner_text()
    page.get_by_label("tokens of context").select_option("2048")
    assert page.evaluate("[state.exponent, state.precision, state.doublings, state.context]") == [
        4,
        "fp32",
        8,
        2048,
    ]
    page.get_by_label("device").select_option("epyc_9654")
    assert (
        "AMD EPYC 9654: 7.37 TFLOP/s, 461 GB/s; ridge at 16" in page.locator("#here").inner_text()
    )
    assert page.get_by_label("precision").locator("option").all_inner_texts() == ["FP32", "FP64"]
    assert page.evaluate("saved") == 5


def test_a_device_without_the_precision_takes_another(shown):
    page = shown(RooflineExplorer(precision="fp8_tensor"))
    page.get_by_label("device").select_option("v100")
    assert page.get_by_label("precision").input_value() == "fp16_tensor"
    assert page.evaluate("[state.device, state.precision]") == ["v100", "fp16_tensor"]


def test_each_kernel_is_drawn_where_its_figures_are(shown):
    page = shown(RooflineExplorer(exponent=1.0, doublings=5))
    marks = page.locator("svg circle")
    assert marks.count() == 5 == page.locator("tbody tr").count()
    kinds = page.evaluate("[...document.querySelectorAll('circle')].map(c => c.classList[1])")
    assert sorted(kinds) == ["compute"] + ["memory"] * 4
    places = page.evaluate(
        "[...document.querySelectorAll('circle')].map(c => [+c.getAttribute('cx'),"
        " +c.getAttribute('cy')])"
    )
    by_intensity = sorted(
        zip(RooflineExplorer(exponent=1.0, doublings=5).rows, places[::-1], strict=True),
        key=lambda pair: pair[0].intensity,
    )
    xs, ys = zip(*(place for _, place in by_intensity), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys, reverse=True)


def test_python_can_move_it_too_and_it_lets_go(shown):
    page = shown(RooflineExplorer())
    page.evaluate("model.from_python('exponent', 2)")
    assert result(page).startswith("your kernel: 100 operations/byte")
    assert page.evaluate("model.heard()") > 0
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


WIDE = "[...document.querySelectorAll('#here *')].filter(e => {\
 if (e.closest('.listing') && !e.matches('.listing')) return false;\
 const r = e.getBoundingClientRect(); return r.right > innerWidth + 0.5 || r.left < 0}).length"


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, width):
    page = shown(RooflineExplorer(title="One kernel under one roof"), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE) == 0  # the table alone is scrolled where it is too wide


def test_every_input_has_a_name_and_the_picture_says_what_it_shows(shown):
    page = shown(RooflineExplorer())
    inputs = page.locator("input, select")
    assert inputs.count() == 5
    for i in range(inputs.count()):
        assert inputs.nth(i).evaluate("e => e.labels[0].innerText.trim()")
    said = page.locator("svg[role=img]").get_attribute("aria-label")
    assert "E, decode, batch 1: 1 operations/byte" in said and "ridge at 295" in said
    assert page.locator("[aria-live=polite]").count() == 1
    assert page.locator(".aiinfra-widget[data-lm-suppress-shortcuts] input").count() == 2


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
    text: [rgba(style.color), ...of('.detail, .caption, .result, th, td', 'color'),
           ...of('svg .tick', 'fill')],
    roof: of('svg .roof', 'stroke'),
    fills: of('svg .mark', 'fill'), letter: of('svg .letter', 'fill'),
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_reads_in_both_themes(shown, theme):
    colours = shown(RooflineExplorer(), theme=theme).evaluate(CONTRASTS)

    def hexed(rgb):
        return "#" + "".join(f"{channel:02x}" for channel in rgb)

    paper = hexed(colours["paper"])
    assert paper == {"light": "#ffffff", "dark": "#14181e"}[theme]
    assert min(contrast(hexed(text), paper) for text in colours["text"]) >= 4.5
    assert min(contrast(hexed(line), paper) for line in colours["roof"]) >= 3
    fills = {hexed(fill) for fill in colours["fills"]}
    assert min(contrast(hexed(n), f) for n in colours["letter"] for f in fills) >= 4.5
