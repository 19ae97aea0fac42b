"""What unit 4.4's page and lab draw says what it drew, and the benchmark's steps are real ones."""

import json

import numpy as np
import pytest

import by_path
from aiinfra_labs.cloud.drawings import speculative_decoding as drawings
from aiinfra_labs.cloud.exercises import speculative_decoding as rule
from aiinfra_labs.cloud.exercises import speculative_decoding_views as views
from aiinfra_labs.cloud.serving import speculation_workload, speedup


def test_shares_are_the_areas():
    p, q = [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]
    fig = drawings.shares(p, q, ["a", "b", "c"])
    heights = [bar.get_height() for bar in fig.axes[0].patches]
    assert heights == pytest.approx([0.25, 0.25, 0.2, 0.25, 0.05, 0, 0, 0, 0.3])
    assert [bar.get_visible() for bar in fig.axes[0].patches[6:]] == [False, False, True]
    assert "0.70 lies under both" in fig.get_label()


def test_a_run_shows_each_draft_and_the_models_own_token():
    steps = [((), 0, "a"), ("bcde", 4, "f"), ("gxyz", 1, "h"), ("vw", 0, "i")]
    fig = drawings.run(steps)
    boxes = fig.axes[0].patches
    filled = sum(box.get_facecolor()[3] > 0 for box in boxes)
    assert len(boxes) == 10 + 4 and filled == 5 + 4
    rows = {}
    for text in fig.axes[0].texts:
        rows.setdefault(text.get_position()[1], []).append(text.get_text())
    assert rows[2] == ["step 3", "g", "h", "x", "y", "z"]  # the own token stands where it differs
    left = {round(b.get_y() + 0.4): [] for b in boxes}
    for box in boxes:
        left[round(box.get_y() + 0.4)].append((box.get_x(), box.get_width()))
    gaps = [b[0] - a[0] - a[1] for a, b in zip(left[2], left[2][1:], strict=False)]
    assert gaps == pytest.approx([0.4, 1.6, 0.4, 0.4])  # what was thrown away stands apart
    assert [t.get_text() for t in fig.legends[0].get_texts()][-1] == "thrown away"
    assert "9 tokens, 2.2 a step" in fig.get_label()


def test_the_lines_are_the_formula():
    fig = drawings.speedups((0.1,), (4,))
    x, y = fig.axes[0].lines[0].get_data()
    assert y[20] == speedup.speedup(float(x[20]), 4, 0.1)


def test_what_was_measured_is_drawn_and_reaches_what_was_asked(root):
    """The issue's mark: where acceptance is over 0.7, at least 1.5 times as fast."""
    for file in (root / "benchmarks" / "results").glob("speculation-*.json"):
        found = json.loads(file.read_text(encoding="utf-8"))
        fig = drawings.measured(found)
        speeds = [row["lookup 4"]["speedup"] for row in found["batches"].values()]
        assert fig.axes[1].lines[0].get_ydata().tolist() == speeds
        right = [r for r in found["texts"]["repeating"].values() if (r["acceptance"] or 0) > 0.7]
        assert right and all(r["speedup"] >= 1.5 for r in right)


def test_the_prompts_are_no_two_alike():
    for make in (speculation_workload.repeating, speculation_workload.new):
        assert len(set(make(40))) == 40 and make(3) == make(40)[:3]


def test_a_draft_that_is_drawn_is_looked_for_in_the_text():
    found = views.found([1, 2, 3, 1], [2, 3])
    assert "from place 1 on" in found.figure.get_label()
    assert "nothing there" in views.found([1, 2], []).figure.get_label()


def test_outcomes_are_counted_not_estimated():
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])

    def exact(p, q, token, random):
        if random() * q[token] < p[token]:
            return token
        lacking = np.cumsum(np.maximum(p - q, 0))
        return int(np.searchsorted(lacking, random() * lacking[-1], side="right"))

    assert rule.outcomes(exact, p, q, 1) == pytest.approx([0.5, 0.5, 0])
    with pytest.raises(ValueError, match="called three times"):
        rule.outcomes(lambda p, q, t, random: int(random() + random() + random()), p, q, 1)


def test_a_step_of_the_benchmark_runs_what_it_says(root, llama):
    from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig

    module = by_path.loaded(root / "benchmarks" / "speculation.py")
    runner = Engine(llama[1], None, EngineConfig(num_blocks=16, attention="torch")).runner
    counts = []
    own = runner.forward
    runner.forward = lambda ids, layout: (
        counts.append((len(ids), int(layout.contexts[0]))),
        own(ids, layout),
    )[1]
    module.step(runner, 1, 64)
    module.step(runner, 5, 64)
    assert counts == [(1, 65), (5, 69)]
