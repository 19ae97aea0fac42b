"""The emulator's benchmark: what it stored meets what the emulator promises, and it runs."""

import json
import subprocess
import sys

import pytest

from aiinfra_labs.course.measured import measured, results_folder

FASTER, COUNTERS_COST = 60, 5  # the promise, for vector addition of 1,048,576 elements
KERNELS = {"vector_add", "saxpy", "grey", "blur"}


@pytest.fixture(scope="module")
def quick(root, tmp_path_factory):
    """The figures of a quick run: their structure, not their values, is looked at."""
    out = tmp_path_factory.mktemp("bench") / "results" / "emulator.json"
    script = root / "benchmarks" / "emulator.py"
    command = [sys.executable, str(script), "--quick", "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    return json.loads(out.read_text(encoding="utf-8")), done.stdout


def shape(value):
    """The structure of a result: keys and kinds of value, lists by their first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])]
    return "number" if isinstance(value, int | float) else "text"


def test_the_stored_results_meet_the_promise():
    for figures in measured("emulator"):
        addition = figures["kernels"]["vector_add"]
        assert addition["elements"] == 1 << 20
        assert addition["simulator_elements"] == 4096
        assert addition["faster_counters_on"] >= FASTER
        assert addition["counters_cost"] <= COUNTERS_COST
        assert figures["repetitions"] >= 5
        for kernel in figures["kernels"].values():
            assert min(kernel["faster_counters_off"], kernel["faster_counters_on"]) >= FASTER
        assert all(t["faster"] > 1 for t in figures["tiny"].values())


def test_the_stored_results_on_the_same_data_meet_the_promise():
    """Times faster than Numba's simulator, counters on and off: 200 and 1,000 where blocks share
    memory or turn a matrix, 60 and 150 elsewhere."""
    fast = {
        *("transpose_naive", "transpose_tiled", "transpose_padded"),
        *("matmul_tiled", "block_sums_tree"),
    }
    for figures in measured("emulator"):
        for name, k in figures["same_data"].items():
            if "faster_counters_on" not in k:
                continue  # shuffles, which the simulator lacks
            on, off = (200, 1000) if name in fast else (60, 150)
            assert k["faster_counters_on"] >= on, name
            assert k["faster_counters_off"] >= off, name
        assert figures["matmul"]["side"] == 1024
        assert figures["matmul"]["peak_bytes"] < 2 << 30
        assert max(g["peak_bytes"] for g in figures["growth"]) < 4 << 30


def test_the_stored_ratios_follow_from_the_stored_times():
    for figures in measured("emulator"):
        for k in figures["kernels"].values():
            simulator = k["simulator_seconds"] / k["simulator_elements"]
            emulator = k["counters_on_seconds"] / k["elements"]
            assert simulator / emulator == pytest.approx(k["faster_counters_on"])


def test_memory_stays_bounded_as_the_grid_grows():
    for figures in measured("emulator"):
        for growth in (figures["growth"], figures["growth_counted"]):
            assert [g["threads"] for g in growth] == [1 << p for p in range(10, 25)]
            assert max(g["peak_growth_bytes"] for g in growth) < 64 << 20  # 16 M threads included


def test_a_result_names_what_it_was_measured_on():
    for figures in measured("emulator"):
        assert set(figures["machine"]) == {"cpu", "cores", "python", "numpy", "numba", "date"}
        assert all(figures["machine"].values())


def test_the_quick_run_has_the_structure_of_the_stored_one(quick):
    figures, text = quick
    assert shape(figures) == shape(measured("emulator")[0])
    assert set(figures["kernels"]) == KERNELS
    assert all(name in text for name in KERNELS)


def test_the_newest_result_comes_first(tmp_path):
    for cpu, date in (("a", "2026-01-01"), ("b", "2026-03-01"), ("c", "2026-02-01")):
        figures = {"machine": {"cpu": cpu, "date": date}}
        (tmp_path / f"thing-{cpu}.json").write_text(json.dumps(figures))
    assert [f["machine"]["cpu"] for f in measured("thing", tmp_path)] == ["b", "c", "a"]


def test_what_was_not_measured_names_the_command():
    with pytest.raises(FileNotFoundError, match=r"python benchmarks/nothing\.py"):
        measured("nothing")
    with pytest.raises(FileNotFoundError, match="beside the course"):
        results_folder(type(results_folder())("/"))
