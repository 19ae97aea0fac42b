"""The benchmark of the machine's own roofline runs, and what it stored has the same figures."""

import json
import subprocess
import sys

from aiinfra_labs.course.measured import measured


def test_a_quick_run_has_the_stored_ones_figures(root, tmp_path):
    out = tmp_path / "results" / "this_machine.json"
    script = root / "benchmarks" / "this_machine.py"
    command = [sys.executable, str(script), "--quick", "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
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
