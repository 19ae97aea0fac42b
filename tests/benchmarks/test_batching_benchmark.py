"""The benchmark of unit 4.3 runs, and what is stored of it is what the page reads."""

import json
import sys

import pytest

import by_path
from aiinfra_labs.cloud.serving.step_cost import Linear
from aiinfra_labs.course.measured import measured


@pytest.fixture
def benchmark(root):
    return by_path.loaded(root / "benchmarks" / "batching.py")


def test_a_quick_run_has_every_figure(benchmark, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["batching", "--quick", "--out", str(out)])
    monkeypatch.setattr(benchmark, "DECODES", ((1, 32), (4, 64)))
    monkeypatch.setattr(benchmark, "PREFILLS", ((16, 0), (64, 512)))
    benchmark.main()
    agrees(benchmark, json.loads(out.read_text()))


def test_what_is_stored_has_the_same_form(benchmark):
    agrees(benchmark, measured("batching")[0])


def agrees(benchmark, found):
    assert found["machine"]["date"] and found["machine"]["cpu"]
    cost = Linear(**found["cost"])
    assert cost.fixed > 0 and cost.per_token > 0
    sizes = len(benchmark.DECODES) + len(benchmark.PREFILLS)
    assert len(found["steps"]) == sizes
    assert all(step["seconds"] > 0 for step in found["steps"])
    policies = found["policies"]
    assert set(policies) == {*benchmark.POLICIES, "static_over"}
    assert policies["static"]["steps"] >= policies["continuous"]["steps"]
    assert policies["static_over"]["static"] == 1
