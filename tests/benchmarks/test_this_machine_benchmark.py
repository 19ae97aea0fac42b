"""The benchmark of the machine's own roofline runs, and what it stored has the same figures."""

import json
import subprocess
import sys

import pytest

import by_path
from aiinfra_labs.course.measured import measured


def test_a_quick_run_has_the_stored_ones_figures(root, tmp_path):
    out = tmp_path / "results" / "this_machine.json"
    script = root / "benchmarks" / "this_machine.py"
    command = [sys.executable, str(script), "--quick", "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["rounds"] == 1
    assert figures["machine"]["cpu"] in done.stdout and "GFLOP/s" in done.stdout
    for stored in measured("this_machine"):
        assert stored.keys() == figures.keys()
        assert stored["machine"].keys() == figures["machine"].keys()
    rates = [value for key, value in figures.items() if key not in ("machine", "rounds")]
    assert all(isinstance(value, float) for value in rates) and len(rates) == 5


def test_a_quick_run_replaces_no_measurement(root):
    before = sorted((root / "benchmarks" / "results").iterdir())
    script = root / "benchmarks" / "this_machine.py"
    subprocess.run([sys.executable, str(script), "--quick"], check=True, capture_output=True)
    assert sorted((root / "benchmarks" / "results").iterdir()) == before


def test_rounds_that_are_added_keep_the_best_of_each_figure(root):
    benchmark = by_path.loaded(root / "benchmarks" / "this_machine.py")
    here = {"cpu": "a CPU", "cores": 2, "date": "2026-11-25"}
    new = {"machine": here, "rounds": 3, "add_rate": 5.0, "access_in_turn": 2.0}
    old = {"machine": here | {"date": "2026-11-24"}, "rounds": 8, "add_rate": 6.0}
    both = benchmark.added(new, old)
    assert both == new | {"rounds": 11, "add_rate": 6.0}
    assert benchmark.added(new, old | {"access_in_turn": 1.0})["access_in_turn"] == 1.0
    with pytest.raises(SystemExit, match="another machine"):
        benchmark.added(new, old | {"machine": here | {"cores": 4}})
