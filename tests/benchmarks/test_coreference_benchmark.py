"""The benchmark of unit 1.3 runs, and what is stored of it is what the page reads."""

import json
import sys

import pytest

import by_path
from aiinfra_labs.course.measured import measured
from aiinfra_labs.llm.pronoun_model import PronounConfig


@pytest.fixture
def benchmark(root):
    return by_path.loaded(root / "benchmarks" / "coreference.py")


def test_a_quick_run_has_every_way(benchmark, tmp_path, monkeypatch):
    out, weights = tmp_path / "out.json", tmp_path / "weights"
    arguments = ["coreference", "--quick", "--out", str(out), "--weights", str(weights)]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    agrees(json.loads(out.read_text(encoding="utf-8")), benchmark.WAYS)
    names = sorted(path.name for path in weights.iterdir())
    assert names == ["pronoun_blind.safetensors", "pronoun_free.safetensors"]


def test_what_is_stored_has_the_same_form(benchmark):
    agrees(measured("coreference")[0], benchmark.WAYS)


def agrees(found, ways):
    config = PronounConfig(**found["config"])
    assert found["machine"]["date"] and found["machine"]["cpu"] and found["machine"]["torch"]
    assert list(found["ways"]) == list(ways)
    for models in found["ways"].values():
        for model in models:
            assert 0 <= model["accuracy"] <= 1 and 0 <= model["hidden"] <= 1
            assert len(model["hidden_in"]) == config.layers
            for key in ("talk", "test", "without_head"):
                assert [len(layer) for layer in model[key]] == [config.heads] * config.layers
                assert all(0 <= x <= 1 for layer in model[key] for x in layer)
