"""The drawings of unit 4.3 say in words what they draw, with the figures of the runs."""

import pytest

from aiinfra_labs.cloud.drawings import continuous_batching as drawings
from aiinfra_labs.cloud.serving.engine import EngineConfig
from aiinfra_labs.cloud.serving.replay import engine_without_model, replay
from aiinfra_labs.cloud.serving.step_cost import Linear
from aiinfra_labs.cloud.serving.workloads import RequestShape
from aiinfra_labs.course.figures import to_html

COST = Linear(0.004, 0.0005, 0, 0)


def run(budget=16, blocks=64):
    rule = EngineConfig(
        num_blocks=blocks, max_step_tokens=budget, max_sequences=4, prefix_caching=False
    )
    requests = [RequestShape(0.01 * i, [0] * (20 + 9 * i), 6 + i, i) for i in range(8)]
    return replay(engine_without_model(rule, 128), requests, COST)


def alt(figure):
    assert "<svg" in to_html(figure)
    return str(figure.get_label())


def test_a_step_s_cost_is_told_over_one_token():
    figure = drawings.step_costs({"a machine": COST})
    assert "a machine: 4.4 times at 32 tokens, 228 times at 2,048" in alt(figure)
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [8]


def test_policies_are_told_at_the_highest_rate():
    runs = {"one": {1: run(), 3: run(64)}, "other": {1: run(8), 3: run(16)}}
    text = alt(drawings.policies(runs))
    assert "At 3 requests a second" in text
    for by in runs.values():
        assert f"{by[3].throughput:,.0f} tokens/s" in text


def test_budgets_are_told_at_both_ends():
    runs = {b: run(b) for b in (8, 32, 128)}
    text = alt(drawings.budgets(runs, 8))
    for budget in (8, 128):
        assert f"{1e3 * max(runs[budget].all_gaps()):,.0f}" in text
    assert "at 128" in text


def test_pools_tell_what_is_computed_again():
    runs = {b: run(16, b) for b in (64, 8)}
    small = runs[8]
    assert small.again > 0
    text = alt(drawings.pools(runs))
    assert f"{100 * small.again / small.computed:.0f} % in the smallest" in text
    assert f"{100 * small.throughput / runs[64].throughput:.0f} % of the largest pool's" in text


def test_two_engines_are_told_by_their_percentiles():
    values = {n: [0.001 * (k + 1) * i for k in range(100)] for i, n in ((1, "x"), (2, "y"))}
    text = alt(drawings.apart(values, values))
    assert "x: 90 ms to the first token and a gap of 99.0 ms" in text
    assert "y: 180 ms to the first token and a gap of 198.0 ms" in text


@pytest.mark.parametrize("tokens", [9, 10, 12])
def test_the_hand_over_names_blocks_that_travel(tokens):
    figure = drawings.handover(4, tokens)
    assert f"a sequence of {tokens} tokens".lower() in alt(figure).lower()
    texts = {t.get_text() for t in figure.axes[0].texts}
    assert {"0-3", "4-7", f"8-{tokens - 1}"} <= texts
