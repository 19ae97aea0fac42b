"""The benchmark of unit 1.2 runs, and what is stored of it is what the page reads."""

import json
import sys

import pytest

import by_path
from aiinfra_labs.course.measured import measured
from aiinfra_labs.llm.extrapolation import WAYS, load_stored


@pytest.fixture
def benchmark(root):
    return by_path.loaded(root / "benchmarks" / "positions.py")


def test_a_quick_run_has_every_curve(benchmark, tmp_path, monkeypatch):
    out, weights = tmp_path / "out.json", tmp_path / "rope.safetensors"
    arguments = ["positions", "--quick", "--out", str(out), "--weights", str(weights)]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    agrees(json.loads(out.read_text()), seeds=1)
    assert load_stored(weights).way == "rope"


def test_what_is_stored_has_the_same_form():
    agrees(measured("positions")[0], seeds=1)


def agrees(found, seeds):
    bins = found["trained"] // found["bin"]
    assert len(found["seeds"]) >= seeds
    assert found["machine"]["date"] and found["machine"]["cpu"] and found["corpus"]
    for seed in found["seeds"]:
        assert list(seed["ways"]) == list(WAYS)
        for way, curve in seed["ways"].items():
            assert len(curve) == (bins if way == "learned" else found["factor"] * bins), way
            assert all(0.3 < loss < 12 for loss in curve)
        assert seed["rope"]["at once"]["as trained"] == seed["ways"]["rope"]
        assert set(seed["rope"]["tuned"]) <= set(seed["rope"]["at once"])
