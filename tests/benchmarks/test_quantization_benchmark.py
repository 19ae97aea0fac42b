"""The benchmark of unit 4.5 runs, and what is stored of it is what the page reads."""

import json
import sys

import pytest

import by_path
from aiinfra_labs.course.measured import measured


@pytest.fixture
def benchmark(root):
    return by_path.loaded(root / "benchmarks" / "quantization.py")


def test_a_quick_run_has_every_section_and_keeps_the_others(benchmark, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    for only in (["speed"], ["rounding", "training", "students"]):
        arguments = ["quantization", "--quick", "--out", str(out), "--only", *only]
        monkeypatch.setattr(sys, "argv", arguments)
        benchmark.main()
    agrees(json.loads(out.read_text(encoding="utf-8")), measured("quantization")[0])


def agrees(found, stored):
    assert found["machine"].keys() == stored["machine"].keys()
    assert stored["machine"]["date"] and stored["model"]["parameters"] > 1e6
    for section in ("rounding", "training", "students"):
        assert found[section]["rows"].keys() == stored[section]["rows"].keys()
        for row in (*found[section]["rows"].values(), *stored[section]["rows"].values()):
            assert row["perplexity"] > 1 and row["bytes"] > 0 and 0 <= row["same_choice"] <= 1
    assert found["rounding"]["widths"].keys() == stored["rounding"]["widths"].keys()
    times, kept = (f["speed"]["milliseconds"] for f in (found, stored))
    assert times.keys() == kept.keys()
    for kind, row in times.items():
        assert row.keys() == kept[kind].keys() and all(t > 0 for t in row.values())


def test_what_is_stored_is_in_the_order_that_the_page_tells(benchmark):
    rows = measured("quantization")[0]["rounding"]["rows"]
    trained = measured("quantization")[0]["training"]["rows"]

    def value(name):
        return (rows | trained)[name]["perplexity"]

    base, int2 = value("fp16"), "int2, groups of 32, affine"
    assert abs(value("int8, per channel") / base - 1) < 0.005
    assert value("int4, groups of 32") < value("int4, per channel") < value("int4, per tensor")
    assert value("GPTQ, int4, groups of 32") < value("int4, groups of 32")
    assert value("GPTQ, " + int2) < value(int2) < value("ternary, groups of 32")
    assert value("QAT, " + int2) < value("trained on, then " + int2)
    assert value("2:4, sparsegpt") < value("2:4, magnitude")
    assert abs(value("int8 cache") / base - 1) < 0.005
