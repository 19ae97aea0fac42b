"""The comparison with a GPU, as far as a machine without one can try it.

The sample of ncu's output is written by hand after what `ncu --csv --print-units base` prints.
"""

import os
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def gpu_truth(root):
    sys.path.insert(0, str(root / "benchmarks"))  # as for a script of that folder
    try:
        import gpu_truth

        yield gpu_truth
    finally:
        sys.path.remove(str(root / "benchmarks"))


HEADER = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size",'
    '"Grid Size","Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"'
)


def ncu_text(launches):
    """What ncu prints for [(kernel, {metric: value as text}), ...]."""
    lines = [
        "==PROF== Connected to process 4711 (/usr/bin/python3.12)",
        '==PROF== Profiling "vector_add" - 0: 0%....50%....100% - 1 pass',
        "==PROF== Disconnected from process 4711",
        HEADER,
    ]
    for number, (kernel, metrics) in enumerate(launches):
        for name, value in metrics.items():
            lines.append(
                f'"{number}","4711","python3.12","127.0.0.1","{kernel}(Array<float, 1, C>, int)",'
                f'"1","7","(256, 1, 1)","(64, 1, 1)","0","9.0","Command line profiler metrics",'
                f'"{name}","","{value}"'
            )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def emulated(gpu_truth):
    return gpu_truth.on_emulator()


def as_a_gpu_would(gpu_truth, emulated):
    """Outputs and launches of a GPU that does all as the emulator does."""
    names = gpu_truth.metric_names()
    outputs = {name: output.copy() for name, (output, _) in emulated.items()}
    text = ncu_text(
        (f"cudapy::{name}", {m: f"{getattr(report, f):,}" for f, m in names.items()})
        for name, (_, report) in emulated.items()
    )
    return outputs, gpu_truth.counters_of(text)


@pytest.fixture
def compared(gpu_truth, emulated, monkeypatch):
    monkeypatch.setattr(gpu_truth, "on_emulator", lambda: emulated)
    return gpu_truth.compare


def test_ncus_rows_become_launches(gpu_truth):
    text = ncu_text(
        [
            ("cudapy::vector_add", {"l1tex__t_requests.sum": "1,024", "a.ratio": "31.5"}),
            ("cudapy::saxpy", {"l1tex__t_requests.sum": "8", "b.pct": "n/a", "c.sum": "1.5e+03"}),
        ]
    )
    first, second = gpu_truth.counters_of(text)
    assert first["kernel"].startswith("cudapy::vector_add(")
    assert first["metrics"] == {"l1tex__t_requests.sum": 1024, "a.ratio": 31.5}
    assert second["metrics"] == {"l1tex__t_requests.sum": 8, "c.sum": 1500}


def test_launches_stay_in_order_beyond_the_tenth(gpu_truth):
    text = ncu_text((f"k{n}", {"x.sum": str(n)}) for n in range(12))
    assert [c["metrics"]["x.sum"] for c in gpu_truth.counters_of(text)] == list(range(12))


def test_a_gpu_that_does_the_same_is_found_equal(gpu_truth, emulated, compared):
    found = compared(*as_a_gpu_would(gpu_truth, emulated), "")["cases"]
    assert len(found) >= 12
    for name, case in found.items():
        assert case["output"] == {"verdict": "equal"}, name
        assert len(case["counters"]) == len(gpu_truth.metric_names())
        assert {c["verdict"] for c in case["counters"].values()} == {"equal"}, name


def test_every_difference_is_found_and_told_from_the_explained(gpu_truth, emulated, compared):
    outputs, launches = as_a_gpu_would(gpu_truth, emulated)
    names = gpu_truth.metric_names()
    outputs["vector_add"][3] += np.float32(1)
    outputs["matmul_tiled"][0, 0] = np.nextafter(outputs["matmul_tiled"][0, 0], np.float32(99))
    launches[0]["metrics"][names["global_load_sectors"]] += 1
    launches[0]["metrics"][names["fp32_fma"]] += 64
    cases = compared(outputs, launches, "")["cases"]
    assert cases["vector_add"]["output"]["verdict"] == "differs"
    assert cases["vector_add"]["output"]["elements"] == 1
    tiled = cases["matmul_tiled"]["output"]
    assert tiled["verdict"] == "differs, explained" and "fma" in tiled["why"]
    assert tiled["largest_difference_in_units_of_the_last_place"] == 1
    counters = cases["vector_add"]["counters"]
    assert counters["global_load_sectors"]["verdict"] == "differs"
    assert counters["fp32_fma"]["verdict"] == "differs, explained"
    assert counters["global_store_sectors"]["verdict"] == "equal"
    machine = {"device": "A GPU", "date": "2026-01-01"}
    text = gpu_truth.summary({"machine": machine, "cases": cases, "no_counters": ""})
    assert "global_load_sectors" in text and "1 of 16384 elements" in text


def test_a_launch_that_ncu_did_not_expect_is_no_comparison(gpu_truth, emulated, compared):
    outputs, launches = as_a_gpu_would(gpu_truth, emulated)
    with pytest.raises(gpu_truth.NothingMeasured, match="was launched"):
        compared(outputs, launches[1:] + launches[:1], "")


def test_every_metric_is_one_that_ncu_takes(gpu_truth):
    for name in gpu_truth.metric_names().values():
        assert name.rpartition(".")[2] in ("sum", "ratio", "pct"), name


def test_ncus_command_sets_no_clocks_and_names_every_metric(gpu_truth, tmp_path):
    command = gpu_truth.ncu_command("ncu", ["a.sum", "b.sum"], tmp_path / "log")
    at = command.index("--clock-control")
    assert command[at + 1] == "none"
    assert command[-1] == "a.sum,b.sum" and "--csv" in command


@pytest.mark.parametrize(
    ("code", "log", "said"),
    [
        (0, ncu_text([("k", {"x.sum": "1"})]), ""),
        (0, "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n", "may not read"),
        (1, "==ERROR== Unknown metric\n", "Unknown metric"),
        (0, "", "no message"),
    ],
)
def test_why_there_are_no_counters_is_one_line(gpu_truth, code, log, said):
    done = subprocess.CompletedProcess([], code, "", "")
    why = gpu_truth.why_no_counters(done, log)
    assert said in why and "\n" not in why
    assert bool(why) == bool(said)


def test_without_ncu_outputs_alone_are_compared(gpu_truth, emulated, compared):
    outputs, _ = as_a_gpu_would(gpu_truth, emulated)
    figures = compared(outputs, None, "ncu is not installed")
    assert all("counters" not in case for case in figures["cases"].values())
    machine = {"device": "A GPU", "date": "2026-01-01"}
    assert "ncu is not installed" in gpu_truth.summary({"machine": machine, **figures})


def test_without_a_gpu_it_says_so_in_one_line(root):
    script = root / "benchmarks" / "gpu_truth.py"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "no GPU" in done.stderr
