"""The benchmark of unit 1.5 runs, and what is stored of it is what the page reads."""

import json
import sys

import pytest

import by_path
from aiinfra_labs.course.measured import measured


@pytest.fixture
def benchmark(root):
    return by_path.loaded(root / "benchmarks" / "generation.py")


def test_a_quick_run_has_every_figure(benchmark, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["generation", "--quick", "--out", str(out)])
    benchmark.main()
    agrees(benchmark, json.loads(out.read_text()))


def test_what_is_stored_has_the_same_form(benchmark):
    agrees(benchmark, measured("generation")[0])


def agrees(benchmark, found):
    assert found["machine"]["date"] and found["machine"]["cpu"]
    for name, sizes in (
        ("batch", benchmark.BATCHES),
        ("context", benchmark.CONTEXTS),
        ("prefill", benchmark.PROMPTS),
    ):
        assert list(found[name]) == [str(size) for size in sizes]
        assert all(value > 0 for value in found[name].values())
    assert set(found["generate"]["seconds"]) == {"ours", "transformers", "without_cache"}
    assert found["transformers_over_ours"] > 0 and found["without_cache_over_ours"] > 0
