"""`benchmarks/gpu.py` as far as a machine without a GPU can try it: on the emulator, by set times.

What the steps launch runs for real, on little data, and is compared with NumPy. Only the clock and
the library's kernels are made up: each launch is said to take as long as the test says.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator


@pytest.fixture(scope="module")
def gpu(root):
    sys.path.insert(0, str(root / "benchmarks"))  # as for a script of that folder
    try:
        import gpu

        yield gpu
    finally:
        sys.path.remove(str(root / "benchmarks"))


class OnEmulator:
    """Each launch is said to take `milliseconds`; NumPy is the library."""

    def __init__(self, times=lambda number: 1.0):
        self.times, self.samples = times, 0

    def array(self, host):
        return emulator.to_device(host)

    def kernel(self, kernel):
        return kernel if hasattr(kernel, "function") else emulator.jit(kernel.py_func)

    def copy(self, source, target):
        target.copy_to_device(source)

    def library(self, name, *arrays, **options):
        *inputs, out = arrays

        def softmax(x):
            e = np.exp(x - x.max(axis=-1, keepdims=True))
            return e / e.sum(axis=-1, keepdims=True)

        def attention(q, k, v):
            scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
            if options["causal"]:
                scores[..., ~np.tri(*scores.shape[-2:], dtype=bool)] = -np.inf
            return softmax(scores) @ v

        does = {"matmul": np.matmul, "sum": np.sum, "softmax": softmax, "attention": attention}
        if name not in does:
            return None

        def launch():
            found = does[name](*(a.copy_to_host().astype(float) for a in inputs))
            out.copy_to_device(np.asarray(found, np.float32).reshape(out.shape))

        return launch

    def milliseconds(self, launch, times):
        launch()
        self.samples += 1
        return self.times(self.samples)

    def describe(self):
        return {"device": "none: the emulator", "date": "2026-11-24"}


@pytest.fixture(scope="module")
def found(gpu):
    return gpu.measure(OnEmulator(), quick=True)


def test_every_step_of_every_ladder_is_right_and_timed(found):
    for name, ladder in found["ladders"].items():
        assert ladder["baseline"] in ladder["steps"], name
        assert len(ladder["steps"]) >= 2, name
        for step, figures in ladder["steps"].items():
            assert figures["right"], (name, step, figures)
            assert figures["milliseconds"] == 1.0
            assert figures["share_of_baseline"] == 1.0
            assert figures["gigabytes_per_second"] == pytest.approx(ladder["least_bytes"] / 1e6)


def test_the_result_is_json_and_names_units_of_the_course(found):
    again = json.loads(json.dumps(found))
    assert {ladder["unit"] for ladder in again["ladders"].values()} >= {"3.2", "3.4", "3.5", "3.6"}


def test_the_table_says_what_was_asked_and_reached(gpu, found):
    text = gpu.table("vector_add", found["ladders"]["vector_add"])
    assert "asked: 90% of copy; 100.0%, reached" in text
    slow = json.loads(json.dumps(found["ladders"]["vector_add"]))
    slow["steps"]["vector_add"]["share_of_baseline"] = 0.5
    assert "asked: 90% of copy; 50.0%, missed" in gpu.table("vector_add", slow)


def test_a_wrong_kernel_has_no_time(gpu):
    import gpu_steps

    machine = OnEmulator()
    ladder = gpu_steps.vector_add(machine, quick=True)
    out = machine.array(np.full(1 << 12, np.nan, np.float32))
    ladder.add("lazy", lambda: None, out)
    steps = gpu.measure_ladder(machine, ladder, repetitions=2)["steps"]
    assert not steps["lazy"]["right"] and "milliseconds" not in steps["lazy"]
    assert steps["vector_add"]["right"]
    assert "lazy                     WRONG" in gpu.table("x", {**_shell(ladder), "steps": steps})


def _shell(ladder):
    return {"size": ladder.size, "baseline": "copy", "asked_share": None}


def test_steps_take_turns_and_the_median_counts(gpu):
    """With 2 steps, odd samples are the first's: a clock that runs slow at first hits both."""
    import gpu_steps

    machine = OnEmulator(lambda number: 100.0 if number <= 4 else 2.0 if number % 2 else 4.0)
    ladder = gpu_steps.vector_add(machine, quick=True)
    steps = gpu.measure_ladder(machine, ladder, repetitions=11)["steps"]
    assert steps["vector_add"]["milliseconds"] == 2.0
    assert steps["copy"]["milliseconds"] == 4.0
    assert steps["vector_add"]["share_of_baseline"] == 2.0


def test_without_a_gpu_it_says_so(root):
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"],
        cwd=root,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "AIINFRA_CUDA": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bench-gpu: no GPU") and "Traceback" not in done.stderr
