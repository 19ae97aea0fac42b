"""Numba-CUDA's own suite: the stored result holds its thresholds, and a part of it runs here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REFEREE = Path(__file__).with_name("referee.py")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "referee.json"
FAST = ("test_warp_ops", "test_localmem", "test_recursion", "test_vector_type", "test_iterators")


@pytest.fixture(scope="module")
def stored():
    return json.loads(RESULTS.read_text(encoding="utf-8"))["modules"]


def test_the_emulator_passes_what_the_simulator_passes(stored):
    tests = [t for module in stored.values() for t in module.values()]
    theirs = [t for t in tests if t["simulator"] == "passed"]
    both = [t for t in theirs if t["emulator"] == "passed"]
    assert len(theirs) > 600
    assert len(both) >= 0.95 * len(theirs)
    assert sum(t["emulator"] == "passed" for t in tests) > len(theirs)


def test_every_difference_has_its_reason(stored):
    lost = {
        f"{module}.{name}"
        for module, tests in stored.items()
        for name, t in tests.items()
        if t["simulator"] == "passed" != t["emulator"] and not t.get("reason")
    }
    assert not lost


def test_warp_operations_and_local_memory(stored):
    for module, least in (("test_warp_ops", 18), ("test_localmem", 9)):
        assert sum(t["emulator"] == "passed" for t in stored[module].values()) >= least


def test_a_part_of_the_suite_passes_now_as_it_did_when_it_was_stored(stored):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(REFEREE), "--emulator", *FAST],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    passed = {
        line.split()[0]: int(line.split()[2]) for line in run.stdout.splitlines() if " 0 " in line
    }
    for module in FAST:
        then = sum(t["emulator"] == "passed" for t in stored[module].values())
        assert passed[module] >= then, run.stdout
