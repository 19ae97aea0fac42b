"""The occupancy explorer: its calculator is the emulator's, and it works without a kernel."""

import random

import pytest
import traitlets

from aiinfra_labs.course.figures import contrast
from aiinfra_labs.gpu.emulator import LaunchError, device_profiles, occupancy_of
from aiinfra_labs.gpu.widgets.occupancy import OccupancyExplorer, tables
from widget_pages import result


def calculated(device, threads, registers, shared):
    """The emulator's answer in the form of the JavaScript's."""
    try:
        found = occupancy_of(threads, registers, shared, device)
    except LaunchError:
        return None
    return {
        "limits": found.limits,
        "blocks": found.blocks_per_sm,
        "warps": found.warps_per_sm,
        "fraction": found.fraction,
        "limitedBy": found.limited_by,
    }


def test_javascript_calculates_as_the_emulator_does(shown):
    page = shown(OccupancyExplorer())
    rng = random.Random(0)
    cases = []
    for _ in range(3000):
        device = rng.choice(list(device_profiles()))
        most = device_profiles()[device].shared_memory_per_block
        cases.append(
            (
                device,
                rng.choice([rng.randint(1, 1024), 32 * rng.randint(1, 32), 1025]),
                rng.choice([rng.randint(1, 255), rng.randint(16, 72), 256]),
                rng.choice([0, rng.randint(0, most + 100), rng.randint(0, 20_000)]),
            )
        )
    ask = "all => all.map(([d, ...block]) => module.occupancy(state.devices[d], ...block))"
    refused = 0
    for case, got in zip(cases, page.evaluate(ask, cases), strict=True):
        expected = calculated(*case)
        refused += expected is None
        if expected is None:
            assert got["refused"], case
        else:
            assert {name: got[name] for name in expected} == expected, case
    assert 200 < refused < 2800


def test_moving_a_control_changes_the_answer_without_a_kernel(shown):
    page = shown(OccupancyExplorer())
    assert result(page) == "100 %: 8 blocks, 64 of 64 warps; limited by warps and registers"
    registers = page.get_by_label("registers a thread")
    registers.focus()
    page.keyboard.press("ArrowRight")
    assert result(page) == "75 %: 6 blocks, 48 of 64 warps; limited by registers"
    page.get_by_label("threads a block").fill("1024")
    assert result(page) == "50 %: 1 block, 32 of 64 warps; limited by registers"
    page.get_by_label("device").select_option("rtx3090")
    assert "of 48 warps" in result(page)
    registers.fill("80")
    assert result(page) == (
        "Cannot be launched: an SM has 65,536 registers, too few for one block."
    )
    assert page.evaluate("[state.device, state.threads, state.registers]") == ["rtx3090", 1024, 80]
    assert page.evaluate("saved") == 4


def test_another_device_gives_a_block_no_more_than_it_has(shown):
    page = shown(OccupancyExplorer(shared=200 * 1024))
    assert result(page) == "12.5 %: 1 block, 8 of 64 warps; limited by shared memory"
    page.get_by_label("device").select_option("t4")
    assert page.evaluate("state.shared") == 65536
    assert "1 block" in result(page)
    assert OccupancyExplorer(device="t4", shared=200 * 1024).shared == 65536


def test_as_many_places_are_filled_as_there_are_warps(shown):
    for settings in ({"registers": 40}, {"device": "t4", "threads": 96}, {"threads": 64}):
        widget = OccupancyExplorer(**settings)
        page = shown(widget)
        assert page.locator(".places .filled").count() == widget.occupancy.warps_per_sm
        assert page.locator(".places .place").count() == widget.occupancy.max_warps
        said = page.locator(".places svg").get_attribute("aria-label")
        assert said.startswith(f"{widget.occupancy.warps_per_sm} of ")


def test_python_can_move_it_too_and_it_lets_go(shown):
    page = shown(OccupancyExplorer(title="Fill an SM"))
    assert page.locator(".title").inner_text() == "Fill an SM"
    page.evaluate("model.from_python('threads', 32)")
    assert result(page) == "50 %: 32 blocks, 32 of 64 warps; limited by blocks"
    assert page.get_by_label("threads a block").input_value() == "32"
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


WIDE = "[...document.querySelectorAll('#here *')].filter(e => {\
 const r = e.getBoundingClientRect(); return r.right > innerWidth + 0.5 || r.left < 0}).length"


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, width):
    page = shown(OccupancyExplorer(shared=20_000), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE) == 0


COLOURS = """() => {
  const rgba = (colour) => {
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return '#' + [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map((c) => c.toString(16).padStart(2, '0')).join('');
  };
  const of = (selector, property) =>
    [...document.querySelectorAll(selector)].map((e) => rgba(getComputedStyle(e)[property]));
  return {
    paper: of('.aiinfra-widget', 'backgroundColor')[0],
    text: [...of('.result, .detail, .caption, .key', 'color'), ...of('.curves text', 'fill')],
    shapes: [...of('.swatch', 'backgroundColor'), ...of('.curve', 'stroke')],
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_curves_read_in_both_themes(shown, theme):
    colours = shown(OccupancyExplorer(shared=20_000), theme=theme).evaluate(COLOURS)
    assert colours["paper"] == {"light": "#ffffff", "dark": "#14181e"}[theme]
    assert min(contrast(text, colours["paper"]) for text in colours["text"]) >= 4.5
    assert min(contrast(shape, colours["paper"]) for shape in colours["shapes"]) >= 3
    assert len(set(colours["shapes"])) == 5


def test_every_input_has_a_name(shown):
    page = shown(OccupancyExplorer())
    inputs = page.locator("input, select")
    assert inputs.count() == 4
    for i in range(4):
        assert inputs.nth(i).evaluate("e => e.labels[0].innerText.trim()")
    assert page.locator("[aria-live=polite]").count() == 1
    # In JupyterLab's command mode the arrow keys belong to the notebook unless a widget says no.
    assert page.locator(".aiinfra-widget[data-lm-suppress-shortcuts] input").count() == 3


def test_in_python():
    widget = OccupancyExplorer(threads=128, registers=64, device="a100")
    assert repr(widget).endswith("128 threads, 64 registers, 0 B: 50.0%)")
    assert "cannot be launched" in repr(OccupancyExplorer(threads=1024, registers=80))
    with pytest.raises(traitlets.TraitError):
        OccupancyExplorer(device="gtx480")
    assert set(tables()) == set(device_profiles())
    assert tables()["h100"]["shared_memory_reserved"] == 1024
