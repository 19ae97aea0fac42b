"""The sampling sliders: their filters are sampling.py's, and they work without a kernel."""

import pytest
import torch

from aiinfra_labs.course.figures import contrast
from aiinfra_labs.llm.sampling import Sampling, SamplingError, entropy
from aiinfra_labs.llm.widgets.sampling_sliders import SamplingSliders
from widget_pages import result


def sliders(**settings):
    """Two prompts of 300 tokens."""
    generator = torch.Generator().manual_seed(0)
    rows = 3 * torch.randn(2, 300, generator=generator)
    return SamplingSliders(
        {"def read(": rows[0], "import ": rows[1]}, [f"w{i}" for i in range(300)], **settings
    )


def test_javascript_filters_as_python_does(shown):
    widget = sliders()
    page = shown(widget)
    generator = torch.Generator().manual_seed(1)
    cases = []
    for _ in range(400):
        t, p, m = (torch.rand(3, generator=generator) * torch.tensor([2.0, 1.0, 0.5])).tolist()
        k = int(torch.randint(0, 60, (), generator=generator))
        cases.append(
            {
                "temperature": [t, 0.0, 1.0][len(cases) % 3],
                "top_k": [k, 0][len(cases) % 2],
                "top_p": [p, 1.0][len(cases) // 2 % 2],
                "min_p": [m, 0.0][len(cases) // 4 % 2],
            }
        )
    row = widget.prompts["def read("]["logits"]
    ask = "([row, all]) => all.map((s) => { const p = module.probabilities(row, s);"
    ask += " return [p, module.entropy(p)]; })"
    logits = torch.tensor([row], dtype=torch.float64)
    lengths = set()
    for case, (found, bits) in zip(cases, page.evaluate(ask, [row, cases]), strict=True):
        rule = Sampling(**{**case, "top_k": case["top_k"] or None})
        expected = rule(logits, torch.zeros(1, 1, dtype=torch.int64))
        assert torch.allclose(torch.tensor(found).double(), expected.softmax(-1)[0], atol=1e-6), (
            case
        )
        assert [p > 0 for p in found] == (expected.softmax(-1)[0] > 0).tolist(), case
        assert bits == pytest.approx(entropy(expected).item(), abs=1e-6)
        lengths.add(sum(p > 0 for p in found))
    assert len(lengths) > 20


def test_moving_a_control_changes_the_answer_without_a_kernel(shown):
    widget = sliders()
    page = shown(widget)
    assert result(page).startswith("300 tokens can be drawn; entropy ")
    page.get_by_label("temperature").fill("0")
    best = widget.prompts["def read("]["words"][0]
    said = f"1 token can be drawn; entropy 0.00 bits; likeliest {best}: 100.0 %"
    assert result(page) == said
    assert page.locator("li.out").count() == 19
    page.get_by_label("temperature").fill("1")
    page.get_by_label("top-k").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert result(page).startswith("2 tokens can be drawn")
    page.get_by_label("prompt").select_option("import ")
    assert widget.prompts["import "]["words"][0] in result(page)
    assert page.evaluate("saved") == 5
    page.evaluate("model.from_python('top_k', 7)")
    assert result(page).startswith("7 tokens can be drawn")
    page.evaluate("stop()")
    assert page.evaluate("model.heard()") == 0


def test_what_python_says_is_what_is_shown(shown):
    widget = sliders(temperature=1.4, top_p=0.95, min_p=0.01, title="The next token")
    page = shown(widget)
    kept = int((widget.probabilities() > 0).sum())
    assert result(page).startswith(f"{kept} tokens can be drawn")
    assert repr(widget).endswith(f"T = 1.4, {kept} tokens can be drawn)")
    assert page.locator(".title").inner_text() == "The next token"


@pytest.mark.parametrize("width", [320, 390, 1000])
def test_nothing_is_cut_off(shown, width):
    page = shown(sliders(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


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
    text: of('.result, .caption, .key, .rest, code, .share', 'color'),
    shapes: [...of('.bar', 'backgroundColor'), ...of('.own', 'borderLeftColor')],
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_reads_in_both_themes(shown, theme):
    colours = shown(sliders(top_k=5), theme=theme).evaluate(COLOURS)
    assert colours["paper"] == {"light": "#ffffff", "dark": "#14181e"}[theme]
    assert min(contrast(text, colours["paper"]) for text in colours["text"]) >= 4.5
    assert min(contrast(shape, colours["paper"]) for shape in colours["shapes"]) >= 3


def test_every_input_has_a_name(shown):
    page = shown(sliders())
    inputs = page.locator("input, select")
    assert inputs.count() == 5
    for i in range(5):
        assert inputs.nth(i).evaluate("e => e.labels[0].innerText.trim()")
    assert page.locator(".aiinfra-widget[data-lm-suppress-shortcuts] input").count() == 4


def test_logits_are_needed():
    with pytest.raises(SamplingError):
        SamplingSliders({}, [])
