"""Unit 1.8: skills, rulers, and models that grow."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from torch.nn import functional as F

import by_path
from aiinfra_labs.course.measured import measured
from aiinfra_labs.llm.emergence import growth, metrics
from aiinfra_labs.llm.emergence.skills import EQUALS, NOT_GRADED, PLUS, Addition, Recall, shifted
from aiinfra_labs.llm.llama import Llama


def value(digits):
    return int("".join(map(str, digits)))


def test_a_sum_is_a_sum_and_the_test_is_never_trained_on():
    skill = Addition()
    trained, tested = skill.draw(500, torch.Generator().manual_seed(0)), skill.test()
    assert tested.shape == (4000, 12) and trained.shape == (500, 12)
    for rows, kept in ((trained.tolist(), False), (tested[:200].tolist(), True)):
        for row in rows:
            a, b, total = value(row[:3]), value(row[4:7]), value(row[8:])
            assert row[3] == PLUS and row[7] == EQUALS and a + b == total
            assert ((a + 3 * b) % 8 == 0) == kept


def test_a_key_has_one_value_and_only_the_value_is_graded():
    skill = Recall()
    facts = skill.test()
    assert [value(row[:3]) for row in facts.tolist()] == list(range(512))
    drawn = skill.draw(64, torch.Generator().manual_seed(0))
    assert all(row in facts.tolist() for row in drawn.tolist())
    ids, targets = shifted(facts, skill.answer)
    assert torch.equal(ids, facts[:, :-1])
    assert (targets[:, :3] == NOT_GRADED).all() and torch.equal(targets[:, 3:], facts[:, 4:])
    assert ids[0, 3] == EQUALS  # the place that predicts the first digit


def answers(b=50, t=6, v=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(v, (b, t), generator=generator)
    logits = torch.randn(b, t, v, generator=generator) + 3 * F.one_hot(targets, v)
    return logits, targets.masked_fill(torch.rand(b, t, generator=generator) < 0.2, NOT_GRADED)


def test_the_rulers_by_hand():
    logits, targets = answers()
    p = logits.double().softmax(-1).numpy()
    exact, tokens, nats, drawn = [], [], [], []
    for row, want in zip(p, targets.tolist(), strict=True):
        places = [i for i, t in enumerate(want) if t >= 0]
        hits = [bool(row[i].argmax() == want[i]) for i in places]
        chances = [row[i][want[i]] for i in places]
        exact.append(all(hits))
        tokens += hits
        nats += [-np.log(c) for c in chances]
        drawn.append(np.prod(chances))
    assert metrics.exact_match(logits, targets) == pytest.approx(np.mean(exact))
    assert metrics.token_accuracy(logits, targets) == pytest.approx(np.mean(tokens))
    assert metrics.nats_a_token(logits, targets) == pytest.approx(np.mean(nats), rel=1e-5)
    assert metrics.drawn_match(logits, targets) == pytest.approx(np.mean(drawn), rel=1e-5)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1).item()
    assert metrics.nats_a_token(logits, targets) == pytest.approx(loss, rel=1e-6)


def test_drawn_match_is_how_often_a_draw_is_right():
    logits, targets = answers(b=4, t=3, v=4)
    draws = torch.distributions.Categorical(logits=logits).sample((4000,))
    hits = ((draws == targets) | (targets < 0)).all(-1).float().mean().item()
    assert hits == pytest.approx(metrics.drawn_match(logits, targets), abs=0.02)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_edit_distance_is_rapidfuzz(one, other):
    assert metrics.edit_distance(one, other) == Levenshtein.distance(one, other)


def test_a_small_model_learns_a_little():
    skill, lesson = Recall(facts=8, answer=2), growth.Lesson(steps=150, batch=16)
    losses = []
    model = growth.taught(skill, 16, 0, lesson, lambda step, loss: losses.append(loss))
    grades = growth.graded(model, skill, 16, 0)
    assert losses[0] > 2.2 and grades.nats < 1.0 < losses[0]
    assert grades.parameters == model.parameter_count()
    again = growth.graded(growth.taught(skill, 16, 0, lesson), skill, 16, 0)
    assert again == grades


# --- what was measured ----------------------------------------------------------------------------


def stored():
    return measured("emergence")[0]


def test_every_size_and_seed_was_measured():
    for name, skill in (("recall", Recall()), ("addition", Addition())):
        kept = stored()["skills"][name]
        assert {key: kept[key] for key in asdict(skill)} == asdict(skill)
        seeds = {run["seed"] for run in kept["runs"]}
        assert len(seeds) >= 2
        assert sorted((run["width"], run["seed"]) for run in kept["runs"]) == sorted(
            (width, seed) for width in growth.WIDTHS for seed in seeds
        )
        for run in kept["runs"]:
            with torch.device("meta"):
                model = Llama(growth.config_of(run["width"]))
            assert run["parameters"] == model.parameter_count()


def test_the_benchmark_goes_on_where_it_was_stopped(root, tmp_path, capsys, monkeypatch):
    module = by_path.loaded(root / "benchmarks" / "emergence.py")
    monkeypatch.setitem(module.SKILLS, "recall", Recall(facts=8, answer=2))
    lesson, out = growth.Lesson(steps=2, batch=4), tmp_path / "emergence.json"
    module.measure(lesson, (4,), 1, ["recall"], out)
    module.measure(lesson, (4, 8), 1, ["recall"], out)
    found = json.loads(out.read_text())
    assert [run["width"] for run in found["skills"]["recall"]["runs"]] == [4, 8]
    assert capsys.readouterr().out.count("parameters") == 2  # width 4 was trained once
    with pytest.raises(SystemExit, match="another lesson"):
        module.measure(growth.Lesson(steps=3, batch=4), (4,), 1, ["recall"], out)
