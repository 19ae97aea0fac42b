"""How fast the course's kernels are on a GPU, beside a copy and the vendor's library.

    python benchmarks/gpu.py [--quick] [--out FILE]

Each ladder of `gpu_steps` is checked, then timed with the device's own events: the steps take
turns, so that a clock that changes changes all of them, and each one's figure is the median. Times
become bandwidths and rates, and shares of the baseline measured in the same run. Stored by device
and date in `benchmarks/results`. PyTorch gives the library's side where it is installed, else CuPy
does. Without a GPU it says so, and ends with 2.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
WARM_UPS, REPETITIONS = 3, 21
SAMPLE = 10.0  # milliseconds that one sample should take, so that no launch shows


class Gpu:
    """The GPU that Numba uses, with the library's kernels on the same arrays."""

    def __init__(self) -> None:
        from numba import cuda

        self.cuda = cuda
        self.libraries = [library for library in (_torch(), _cupy()) if library is not None]

    def array(self, host: np.ndarray) -> Any:
        return self.cuda.to_device(host)

    def kernel(self, kernel: Any) -> Any:
        return kernel  # with AIINFRA_CUDA=device, the course's kernels are Numba's

    def copy(self, source: Any, target: Any) -> None:
        target.copy_to_device(source)

    def library(self, name: str, *arrays: Any, **options: Any) -> Callable[[], Any] | None:
        for library in self.libraries:
            if name in library:
                return library[name](*arrays, **options)
        return None

    def milliseconds(self, launch: Callable[[], Any], times: int) -> float:
        """One launch's share of `times` in a row, by the device's clock.

        The host needs some microseconds for a launch. In a row, it runs ahead of the device, and
        what it needs does not show.
        """
        start, end = self.cuda.event(), self.cuda.event()
        start.record()
        for _ in range(times):
            launch()
        end.record()
        end.synchronize()
        return self.cuda.event_elapsed_time(start, end) / times

    def describe(self) -> dict[str, Any]:
        from gpu_truth import find_gpu

        device = self.cuda.get_current_device()
        return find_gpu() | {
            "multiprocessors": device.MULTIPROCESSOR_COUNT,
            "boost_clock_khz": device.CLOCK_RATE,
            "libraries": [library["name"] for library in self.libraries],
        }


def _torch() -> dict[str, Any] | None:
    """PyTorch's kernels in full float32: no TF32, which rounds the inputs to 10 bits."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

    def seen(array: Any) -> Any:
        return torch.as_tensor(array, device="cuda")  # the same memory, by the array interface

    def matmul(a: Any, b: Any, out: Any) -> Callable[[], Any]:
        a, b, out = map(seen, (a, b, out))
        return lambda: torch.matmul(a, b, out=out)

    def total(x: Any, out: Any) -> Callable[[], Any]:
        x, out = seen(x), seen(out)
        return lambda: torch.sum(x, dim=0, keepdim=True, out=out)

    def softmax(x: Any, out: Any) -> Callable[[], Any]:
        x, out = seen(x), seen(out)
        return lambda: torch.softmax(x, dim=-1, out=out)

    def attention(q: Any, k: Any, v: Any, out: Any, causal: bool) -> Callable[[], Any]:
        q, k, v, out = map(seen, (q, k, v, out))
        attend = torch.nn.functional.scaled_dot_product_attention
        return lambda: out.copy_(attend(q, k, v, is_causal=causal))

    return {
        "name": f"torch {torch.__version__}",
        "matmul": matmul,
        "sum": total,
        "softmax": softmax,
        "attention": attention,
    }


def _cupy() -> dict[str, Any] | None:
    """CuPy's: cuBLAS for matmul, CUB for sums."""
    try:
        import cupy

        cupy.zeros(1)
    except Exception:  # `import cupy` works without a GPU, and its first array fails in many ways
        return None

    def matmul(a: Any, b: Any, out: Any) -> Callable[[], Any]:
        a, b, out = map(cupy.asarray, (a, b, out))
        return lambda: cupy.matmul(a, b, out=out)

    def total(x: Any, out: Any) -> Callable[[], Any]:
        x, out = cupy.asarray(x), cupy.asarray(out)
        return lambda: cupy.sum(x, axis=0, keepdims=True, out=out)

    return {"name": f"cupy {cupy.__version__}", "matmul": matmul, "sum": total}


# --- measuring ----------------------------------------------------------------------------------


def measure_ladder(machine: Any, ladder: Any, repetitions: int = REPETITIONS) -> dict[str, Any]:
    """Each step checked, then timed in turns. A step that is wrong has an error and no time."""
    from gpu_steps import relative_error

    common = ladder.expected()
    steps: dict[str, dict[str, Any]] = {}
    for step in ladder.steps:
        step.launch()
        expected = common if step.expected is None else step.expected()
        error = relative_error(step.output(), expected)
        steps[step.name] = {"relative_error": error, "right": error <= ladder.error}
    right = [step for step in ladder.steps if steps[step.name]["right"]]
    launches = {}
    for step in right:
        once = machine.milliseconds(step.launch, WARM_UPS)
        launches[step.name] = max(1, min(50, round(SAMPLE / once)))
    times: dict[str, list[float]] = {step.name: [] for step in right}
    for _ in range(repetitions):
        for step in right:
            times[step.name].append(machine.milliseconds(step.launch, launches[step.name]))
    for name, found in times.items():
        steps[name] |= _figures(found, ladder)
    _shares(steps, [step.name for step in right if step.baseline])
    return {
        "unit": ladder.unit,
        "size": ladder.size,
        "least_bytes": ladder.least_bytes,
        "flops": ladder.flops,
        "asked_share": ladder.asked,
        "baseline": next((s.name for s in ladder.steps if s.baseline), None),
        "steps": steps,
    }


def _figures(milliseconds: list[float], ladder: Any) -> dict[str, float]:
    """The median and its spread, and what it makes of the ladder's bytes and operations."""
    quarters = statistics.quantiles(milliseconds, n=4)
    median = statistics.median(milliseconds)
    found = {
        "milliseconds": median,
        "spread": (quarters[2] - quarters[0]) / median,  # the middle half of all, over the median
        "gigabytes_per_second": ladder.least_bytes / median / 1e6,
    }
    if ladder.flops:
        found["teraflops"] = ladder.flops / median / 1e9
    return found


def _shares(steps: dict[str, dict[str, Any]], baselines: list[str]) -> None:
    if baselines:
        base = steps[baselines[0]]["milliseconds"]
        for step in steps.values():
            if "milliseconds" in step:
                step["share_of_baseline"] = base / step["milliseconds"]


def measure(machine: Any, quick: bool = False) -> dict[str, Any]:
    """Everything, as the file of results holds it."""
    from gpu_steps import ladders

    found = {}
    for ladder in ladders(machine, quick):
        found[ladder.name] = measure_ladder(machine, ladder, 3 if quick else REPETITIONS)
        print(table(ladder.name, found[ladder.name]), flush=True)
    return {"machine": machine.describe(), "ladders": found}


def table(name: str, ladder: dict[str, Any]) -> str:
    """One ladder as text for a terminal."""
    lines = [f"{name}, {ladder['size']}"]
    for step, found in ladder["steps"].items():
        if not found["right"]:
            lines.append(f"  {step:<24} WRONG: relative error {found['relative_error']:.1e}")
            continue
        rate = f"{found['gigabytes_per_second']:>9,.0f} GB/s"
        if "teraflops" in found:
            rate = f"{found['teraflops']:>9.2f} TFLOP/s"
        share = found.get("share_of_baseline")
        beside = "" if share is None else f"  {share:6.1%} of {ladder['baseline']}"
        lines.append(f"  {step:<24}{found['milliseconds']:>10.3f} ms {rate}{beside}")
    if (asked := ladder["asked_share"]) is not None:
        best = max(
            (
                s["share_of_baseline"]
                for n, s in ladder["steps"].items()
                if n != ladder["baseline"] and "share_of_baseline" in s
            ),
            default=None,
        )
        said = (
            "not measured"
            if best is None
            else f"{best:.1%}, reached"
            if best >= asked
            else (f"{best:.1%}, missed")
        )
        lines.append(f"  asked: {asked:.0%} of {ladder['baseline']}; {said}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script out")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args()
    os.environ["AIINFRA_CUDA"] = "device"
    from gpu_truth import NothingMeasured, find_gpu

    try:
        device = find_gpu()["device"]
    except NothingMeasured as nothing:
        print(f"bench-gpu: {nothing}.", file=sys.stderr)
        return 2
    figures = measure(Gpu(), options.quick)
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    if options.quick and not options.out:
        print("Not stored: so little data measures launches. --out FILE keeps it.")
        return 0
    out = options.out or RESULTS / f"gpu-{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"stored in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
