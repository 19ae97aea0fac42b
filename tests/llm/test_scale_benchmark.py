"""Unit 1.6: benchmarks/scaling.py can be stopped, and goes on to the same model."""

import math

import pytest
import torch

import by_path


@pytest.fixture
def scaling(root, monkeypatch):
    """The benchmark's module, with windows of 2 x 8 tokens and a small vocabulary."""
    module = by_path.loaded(root / "benchmarks" / "scaling.py")
    for name, value in (("CONTEXT", 8), ("BATCH", 2), ("VOCABULARY", 40)):
        monkeypatch.setattr(module, name, value)
    return module


def test_a_run_that_was_stopped_ends_as_one_that_was_not(scaling, tmp_path, capsys):
    shape, tokens = (32, 1, 1, 1, 16), 100 * 16
    stream = torch.randint(40, (500,), generator=torch.Generator().manual_seed(1))
    whole = scaling.run(shape, tokens, stream, tmp_path / "whole", math.inf)
    parts = [scaling.run(shape, tokens, stream, tmp_path / "parts", 0.0) for _ in range(4)]
    assert parts[:3] == [None] * 3 and parts[3] is not None  # 32 steps each, then the last 4
    for one, other in zip(whole.parameters(), parts[3].parameters(), strict=True):
        assert torch.equal(one, other)
    again = scaling.run(shape, tokens, stream, tmp_path / "parts", 0.0)
    assert torch.equal(again.lm_head.weight, whole.lm_head.weight)
    assert "step 96 of 100" in capsys.readouterr().out


def test_the_sizes_are_what_the_page_says(scaling):
    widths = [shape[0] for shape in scaling.SIZES]
    assert widths == sorted(widths) and len(widths) == 4
    rates = [scaling.recipe_of(w, 10_000).learning_rate * w for w in widths]
    assert max(rates) == pytest.approx(min(rates))
