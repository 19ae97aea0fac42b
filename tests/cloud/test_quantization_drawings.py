"""The drawings of unit 4.5 show what is computed, in colours that read in light and dark; and what
the verdict says is what was measured."""

import re

import pytest
import torch

from aiinfra_labs.cloud.drawings import quantization as drawings
from aiinfra_labs.cloud.exercises import quantization as exercises
from aiinfra_labs.cloud.serving.quantization import gptq, integers
from aiinfra_labs.cloud.serving.quantization.calibration import Inputs
from aiinfra_labs.cloud.serving.quantization.integers import Scheme
from aiinfra_labs.course import claims, figures
from aiinfra_labs.course.measured import measured

torch.manual_seed(0)
WEIGHT = torch.randn(8, 64)
INPUTS = Inputs.of(torch.randn(200, 24) @ torch.randn(24, 64) + 0.2 * torch.randn(200, 64))
KINDS = {"GPTQ, int4, groups of 32": "GPTQ", "int4, groups of 32": "nearest", "2:4, wanda": "2:4"}
DRAWN = {
    "group_in_bytes": drawings.group_in_bytes,
    "row_errors": lambda: drawings.row_errors(WEIGHT[0], 16),
    "widths": lambda: drawings.widths(measured("quantization")[0]),
    "powers": lambda: drawings.powers({"one": [1.0, 0.5, 0.8], "other": [2.0, 1.9, 2.5]}),
    "feedback": lambda: drawings.feedback(WEIGHT, INPUTS, Scheme(3, 16)),
    "frontier": lambda: drawings.frontier(measured("quantization")[0]["rounding"]["rows"], KINDS),
    "speeds": lambda: drawings.speeds(measured("quantization")[0]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_reads_in_light_and_dark(name):
    figure = DRAWN[name]()
    html = figures.to_html(figure)
    assert html.count("<svg") == 1 and len(str(figure.get_label()).split()) > 15
    texts = re.findall(r"<g[^>]*scale\([^>]*>", html)
    assert texts and all("currentColor" in group for group in texts)
    assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())


def test_feedback_ends_at_what_gptq_gives():
    scheme = Scheme(3, 16)
    ax = drawings.feedback(WEIGHT, INPUTS, scheme).axes[0]
    plain, fed_back = (line.get_ydata() for line in ax.get_lines())
    q = gptq.gptq(WEIGHT, INPUTS, scheme)
    assert fed_back[-1] == pytest.approx(100 * INPUTS.error(integers.dequantize(q), WEIGHT))
    assert plain[-1] == pytest.approx(100 * INPUTS.error(integers.rounded(WEIGHT, scheme), WEIGHT))
    assert fed_back[0] == plain[0] == 0 and fed_back[-1] < plain[-1]


def test_the_frontier_has_a_point_for_each_way():
    rows = measured("quantization")[0]["rounding"]["rows"]
    ax = drawings.frontier(rows, KINDS).axes[0]
    lines = [line.get_data() for line in ax.get_lines()]
    points = {(float(x), float(y)) for xs, ys in lines for x, y in zip(xs, ys, strict=True)}
    for name in (*KINDS, "fp16"):
        assert (rows[name]["bytes"] / 1e6, rows[name]["perplexity"]) in points


def test_the_verdict_says_what_was_measured():
    assert exercises.SKILL
    (claim,) = (c for c in claims.all_claims() if c.id == "quant")
    found = measured("quantization")[0]
    rows, trained = found["rounding"]["rows"], found["training"]["rows"]
    base = rows["fp16"]["perplexity"]

    assert abs(rows["int8, per channel"]["perplexity"] / base - 1) < 0.001
    assert "within 0.1 %" in claim.figure
    for row in (
        rows["int4, groups of 32"],
        rows["GPTQ, int4, groups of 32"],
        rows["int2, groups of 32, affine"],
        rows["GPTQ, int2, groups of 32, affine"],
        trained["QAT, int2, groups of 32, affine"],
        rows["ternary, groups of 32"],
        trained["QAT, ternary, groups of 32"],
    ):
        more = f"{row['perplexity'] / base - 1:+.1%}".replace("%", " %")
        assert more in claim.figure, more
