"""The drawings of unit 4.3 say in words what they draw, with the figures of the runs."""

import numpy as np
import pytest

from aiinfra_labs.cloud.drawings import continuous_batching as drawings
from aiinfra_labs.cloud.serving.attention import Layout
from aiinfra_labs.cloud.serving.engine import EngineConfig
from aiinfra_labs.cloud.serving.replay import engine_without_model, replay
from aiinfra_labs.cloud.serving.step_cost import Linear, RooflineCost, StepWork, work_of
from aiinfra_labs.cloud.serving.workloads import RequestShape
from aiinfra_labs.course.figures import to_html
from aiinfra_labs.llm.scale.shapes import shape

COST = Linear(0.004, 0.0005, 0, 0)


def run(budget=16, blocks=64):
    rule = EngineConfig(
        num_blocks=blocks, max_step_tokens=budget, max_sequences=4, prefix_caching=False
    )
    requests = [RequestShape(0.01 * (i // 2), [0] * (5 + 9 * i), 6 + i, i) for i in range(8)]
    return replay(engine_without_model(rule, 128), requests, COST)


def alt(figure):
    assert "<svg" in to_html(figure)
    return str(figure.get_label())


def test_every_slot_of_every_step_is_a_stay_or_empty():
    timeline = run()
    found = drawings.stays(timeline)
    assert sorted(s.name for s in found) == sorted(timeline.requests)  # each in one slot, once
    for place, step in enumerate(timeline.steps):
        here = [s for s in found if s.begin <= place < s.end]
        assert {s.name for s in here} == {served.name for served in step.served}
        assert len({s.slot for s in here}) == len(here)
        assert all(0 <= s.slot < timeline.slots for s in here)


def test_slots_are_told_with_those_that_stand_empty():
    runs = {"one": run(), "other": run(8)}
    text = alt(drawings.slots(runs))
    for name, timeline in runs.items():
        used = sum(len(step.served) for step in timeline.steps)
        empty = timeline.slots * len(timeline.steps) - used
        assert f"{name}: {len(timeline.steps)} steps, {empty} slots empty" in text


def test_a_preempted_request_leaves_its_slot_and_comes_again():
    timeline = run(16, 8)
    assert timeline.preemptions
    found = drawings.stays(timeline)
    assert len(found) > len(timeline.requests)


def test_a_step_has_a_cell_for_each_token_of_its_budget():
    figure = drawings.budget_of_steps([[("a", 0, 3)], [("a", 3, 1), ("b", 7, 4)]], 5)
    text = alt(figure)
    assert "step 1 computes 3 of a from token 0 on, and 2 cells stay empty" in text
    assert "step 2 computes 1 of a from token 3 on, 4 of b from token 7 on, and 0 cells" in text
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.texts] == ["a0", "1", "2", "a3", "b7", "8", "9", "10"]
    filled = [cell.get_facecolor() for cell in ax.patches if cell.get_facecolor()[3] > 0]
    assert len(ax.patches) == 2 * 5 and len(filled) == 8
    assert filled[0] == filled[3] != filled[4] == filled[7]  # a colour a request


def test_a_mixed_step_colours_what_each_token_sees():
    table = np.array([[2, 0], [1, 0]], np.int32)
    layout = Layout(np.array([1, 2]), np.array([3, 2]), table, 4)
    figure = drawings.mixed_step(layout, ["a", "b"], ["x", "y", "z"])
    text = alt(figure)
    assert "'x' is a's token 2, in slot 10" in text and "'z' is b's token 1, in slot 5" in text
    squares = figure.axes[1].patches
    coloured = [p for p in squares if p.get_facecolor()[3] > 0]
    assert len(squares) == 3 * 3 * 4 and len(coloured) == 3 + 1 + 2


def test_the_kernels_of_a_step_add_up_to_its_time():
    clock = RooflineCost(shape("llama-3-8b"), 989e12, 3.35e12)
    beside = StepWork(8, 8 * 512, 8 * 512, 8)
    figure = drawings.kernel_times(clock, [1, 256, 1024], beside)
    text = alt(figure)
    assert f"to {1e3 * clock(beside + work_of(0, 1024)):.1f} ms at 1,024" in text
    (dotted,) = (line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    assert dotted.get_xdata()[0] == pytest.approx(clock.turning_tokens - 8)


def test_pauses_are_told_of_the_reader_and_the_paper():
    requests = [RequestShape(0, [0] * 4, 60, 0), RequestShape(0.1, [0] * 90, 2, 1)]
    runs = {}
    for budget in (16, 128):
        rule = EngineConfig(max_step_tokens=budget, prefix_caching=False)
        runs[f"{budget} tokens"] = replay(engine_without_model(rule, 128), requests, COST)
    text = alt(drawings.pauses(runs, "0", "1"))
    for name, timeline in runs.items():
        pause = 1e3 * max(timeline.requests["0"].gaps)
        prompt = [s for s in timeline.steps if any(w.kind == "prefill" for w in s.served)][1:]
        took = 1e3 * (prompt[-1].end - prompt[0].begin)  # the first prompt is the reader's own
        assert f"{name}: the paper takes {took:,.0f} ms" in text
        assert f"pause is {pause:,.0f} ms" in text


def test_engines_are_told_by_their_rate():
    found = {"engine": {"new_tokens_a_second": 1200.0}, "other": {"new_tokens_a_second": 300.0}}
    assert "engine 1,200, other 300" in alt(drawings.engines(found))


def test_budgets_are_told_at_both_ends():
    runs = {b: run(b) for b in (8, 32, 128)}
    text = alt(drawings.budgets(runs, 8))
    for budget in (8, 128):
        assert f"{1e3 * max(runs[budget].all_gaps()):,.0f}" in text
        late = sorted(runs[budget].firsts())[7]  # of 8: 90 % have their first token by then
        assert f"{1e3 * late:,.0f} ms at {budget}" in text
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
