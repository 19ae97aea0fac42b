"""The emulator held to a GPU: the same kernels, their results by the bit, their counters by name.

    python benchmarks/gpu_truth.py [--out FILE]

On a machine with a GPU, each launch of `course_kernels` runs there (Numba CUDA) and on the
emulator. Results are compared to the last bit. Where Nsight Compute's command line, `ncu`, is
installed, the GPU's counters are compared with the emulator's: each is equal, or differs for a
reason that `EXPLAINED` gives, or is a difference to be looked into. What was found is stored with
the device's name and the date in `benchmarks/results`. Without a GPU it says so, and ends with 2.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
NO_RIGHTS = "ERR_NVGPUCTRPERM"  # ncu's word for: this user may not read the counters

COMPILED = "the compiler joins a product and a sum into one fma, and adds work of its own"
PREDICATED = "the compiler turns a short branch into predicated instructions, which do not branch"
SOURCE = "the emulator counts operations of the source, the GPU machine instructions"
EXPLAINED = {
    **{f"fp{bits}_{kind}": COMPILED for bits in (16, 32, 64) for kind in ("add", "mul", "fma")},
    "divergent_branches": PREDICATED,
    "branch_efficiency": PREDICATED,
    "lanes_per_instruction": SOURCE,
    "local_load_requests": "the compiler keeps a local array in registers where it can",
    "local_store_requests": "the compiler keeps a local array in registers where it can",
}


class NothingMeasured(Exception):
    """There is nothing to measure with; the text says why, in one line."""


# --- on the GPU -------------------------------------------------------------------------------


def find_gpu() -> dict[str, Any]:
    """The device, as it names itself. Raises `NothingMeasured` where there is none."""
    try:
        from numba import cuda

        available = cuda.is_available()
    except Exception as error:  # a broken driver raises many kinds of error
        raise NothingMeasured(f"no GPU can be used: {type(error).__name__}: {error}") from None
    if not available:
        raise NothingMeasured("no GPU that Numba can use was found: nothing was measured")
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    return {
        "device": name,
        "compute_capability": list(device.compute_capability),
        "cuda": list(cuda.runtime.get_version()),
        "cpu": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("numpy", "numba", "numba-cuda")},
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def run_cases(file: Path) -> None:
    """Launch each case once on the GPU, and write its output to `file`. Runs in its own process."""
    from numba import cuda

    from course_kernels import compared_cases

    found = {}
    for case in compared_cases():
        launch, output = case.launch(cuda.to_device)
        launch()
        cuda.synchronize()
        found[case.name] = output.copy_to_host()
    np.savez(file, **found)


def on_device(metrics: Iterable[str]) -> tuple[dict[str, np.ndarray], list[dict] | None, str]:
    """Each case's output, each launch's counters (None without them), and why there are none."""
    ncu = shutil.which("ncu")
    with tempfile.TemporaryDirectory() as folder:
        outputs, log = Path(folder) / "outputs.npz", Path(folder) / "ncu.csv"
        command = [sys.executable, __file__, "--run", str(outputs)]
        missing = "" if ncu else "ncu, Nsight Compute's command line, is not installed"
        if ncu:
            done = _child(ncu_command(ncu, metrics, log) + command)
            text = log.read_text(encoding="utf-8") if log.exists() else ""
            missing = why_no_counters(done, text)
        if missing:
            done = _child(command)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise NothingMeasured(f"the kernels do not run on the GPU: {last}")
        with np.load(outputs) as arrays:
            results = dict(arrays)
        return results, None if missing else counters_of(text), missing


def ncu_command(ncu: str, metrics: Iterable[str], log: Path) -> list[str]:
    """`ncu` with its options; what it profiles comes behind."""
    options = ["--csv", "--clock-control", "none", "--print-units", "base", "--log-file", str(log)]
    return [ncu, *options, "--metrics", ",".join(metrics)]


def _child(command: list[str]) -> subprocess.CompletedProcess:
    environment = os.environ | {"AIINFRA_CUDA": "device"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def why_no_counters(done: subprocess.CompletedProcess, log: str) -> str:
    """Empty where ncu has done its work."""
    said = log + done.stdout + done.stderr
    if NO_RIGHTS in said:
        return f"this user may not read the GPU's counters ({NO_RIGHTS}): see NVIDIA's page on it"
    if done.returncode or '"Metric Name"' not in log:
        lines = [line for line in said.splitlines() if line.startswith("==ERROR==")]
        return f"ncu failed: {(lines or ['no message'])[0]}"
    return ""


def counters_of(text: str) -> list[dict[str, Any]]:
    """Each launch of `ncu --csv`, in order: {"kernel": its name, "metrics": {name: value}}.

    ncu writes one row for a metric of a launch, below a header that begins with "ID", and lines of
    its own, which begin with ==, before. A metric that the device lacks has the value n/a.
    """
    lines = [line for line in text.splitlines() if line.startswith('"')]
    launches: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(lines):
        launch = launches.setdefault(row["ID"], {"kernel": row["Kernel Name"], "metrics": {}})
        value = row["Metric Value"].replace(",", "")
        if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value, re.IGNORECASE):
            launch["metrics"][row["Metric Name"]] = float(value)
    return [launches[key] for key in sorted(launches, key=int)]


# --- compared with the emulator ---------------------------------------------------------------


def metric_names() -> dict[str, str]:
    """Figure of the emulator -> the name of Nsight Compute's metric, as ncu takes it."""
    from aiinfra_labs.gpu.emulator.counters.figures import NSIGHT

    return {
        figure: name if re.search(r"\.(sum|ratio|pct)$", name) else f"{name}.sum"
        for figure, name in NSIGHT.items()
    }


def on_emulator() -> dict[str, tuple[np.ndarray, Any]]:
    """Each case's output and report."""
    from aiinfra_labs.gpu import emulator
    from course_kernels import compared_cases

    found = {}
    for case in compared_cases():
        kernel = case.kernel
        if not hasattr(kernel, "function"):  # on a device the course's kernels are Numba's
            kernel = emulator.jit(kernel.py_func)
        launch, output = case.launch(emulator.to_device, kernel)
        with emulator.profile() as p:
            launch()
        found[case.name] = output.copy_to_host(), p.report
    return found


def compare_outputs(ours: np.ndarray, theirs: np.ndarray, inexact: str) -> dict[str, Any]:
    """Whether two results are equal in every bit, and how far apart they are where not."""
    bits = np.dtype(f"u{ours.dtype.itemsize}")
    same = ours.view(bits) == theirs.view(bits)
    if ours.dtype.kind == "f":
        same |= np.isnan(ours) & np.isnan(theirs)
    if same.all():
        return {"verdict": "equal"}
    a, b = (x[~same].astype(np.float64) for x in (ours, theirs))
    spacing = np.spacing(np.abs(theirs[~same])) if ours.dtype.kind == "f" else 1
    return {
        "verdict": "differs, explained" if inexact else "differs",
        "why": inexact,
        "elements": int(np.count_nonzero(~same)),
        "of": int(same.size),
        "largest_difference_in_units_of_the_last_place": float(np.max(np.abs(a - b) / spacing)),
    }


def compare_counters(report: Any, metrics: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Each figure of the emulator beside the GPU's; those that the GPU does not give are left out.

    Counts must be equal; a ratio or a percentage agrees to 4 digits, as ncu prints it.
    """
    found = {}
    for figure, name in metric_names().items():
        if name not in metrics:
            continue
        ours, theirs = float(getattr(report, figure)), metrics[name]
        near = abs(ours - theirs) <= (0 if name.endswith(".sum") else 1e-4 * abs(theirs))
        found[figure] = {"emulator": ours, "gpu": theirs, "verdict": "equal"}
        if not near:
            why = EXPLAINED.get(figure, "")
            found[figure] |= {"verdict": "differs, explained" if why else "differs", "why": why}
    return found


def compare(
    outputs: dict[str, np.ndarray], launches: list[dict] | None, missing: str
) -> dict[str, Any]:
    """Every case: its output, and its counters where there are any."""
    from course_kernels import compared_cases

    emulated, found = on_emulator(), {}
    for number, case in enumerate(compared_cases()):
        ours, report = emulated[case.name]
        entry: dict[str, Any] = {"output": compare_outputs(ours, outputs[case.name], case.inexact)}
        if launches is not None:
            launch = launches[number]
            if case.name not in launch["kernel"]:
                raise NothingMeasured(f"ncu saw {launch['kernel']} where {case.name} was launched")
            entry["counters"] = compare_counters(report, launch["metrics"])
        found[case.name] = entry
    return {"cases": found, "no_counters": missing}


def summary(figures: dict[str, Any]) -> str:
    """What was found, as text for a terminal."""
    machine = figures["machine"]
    text = [f"{machine['device']}, {machine['date']}", ""]
    for name, case in figures["cases"].items():
        output = case["output"]
        line = f"{name:<20} output {output['verdict']}"
        if output["verdict"] != "equal":
            line += (
                f": {output['elements']} of {output['of']} elements, by up to "
                f"{output['largest_difference_in_units_of_the_last_place']:.0f} units of the last "
                f"place{'; ' + output['why'] if output['why'] else ''}"
            )
        text.append(line)
        for figure, c in case.get("counters", {}).items():
            if c["verdict"] != "equal":
                why = f"; {c['why']}" if c["why"] else ""
                text.append(f"    {figure}: {c['emulator']:g} here, {c['gpu']:g} there{why}")
        if "counters" in case:
            equal = sum(c["verdict"] == "equal" for c in case["counters"].values())
            text.append(f"    {equal} of {len(case['counters'])} counters equal")
    if figures["no_counters"]:
        text += ["", f"Counters are not compared: {figures['no_counters']}."]
    return "\n".join(text)


def measure(device: Callable[..., Any] = on_device) -> dict[str, Any]:
    """Everything, as the file of results holds it."""
    machine = find_gpu()
    return {"machine": machine, **compare(*device(metric_names().values()))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_cases(options.run)
        return 0
    os.environ["AIINFRA_CUDA"] = "emulator"
    try:
        figures = measure()
    except NothingMeasured as nothing:
        print(f"bench-gpu: {nothing}.", file=sys.stderr)
        return 2
    name = re.sub(r"[^a-z0-9]+", "-", figures["machine"]["device"].lower()).strip("-")
    out = options.out or RESULTS / f"gpu_truth-{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(summary(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
