"""The benchmark of a training step runs, and what it stored has the same figures."""

import json
import subprocess
import sys

from aiinfra_labs.course.measured import measured


def test_a_quick_run_has_the_stored_ones_figures(root, tmp_path):
    results = root / "benchmarks" / "results"
    before = sorted(results.iterdir())
    out = tmp_path / "results" / "training.json"
    script = root / "benchmarks" / "training.py"
    command = [sys.executable, str(script), "--quick", "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["machine"]["cpu"] in done.stdout and "times as long" in done.stdout
    assert figures["flops_a_step"] == 6 * figures["parameters"] * 2 * 16
    for stored in measured("training"):
        assert stored.keys() == figures.keys()
        assert stored["machine"].keys() == figures["machine"].keys()
        assert stored["parameters"] > 5e6
    assert sorted(results.iterdir()) == before
