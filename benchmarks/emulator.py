"""How fast the emulator runs kernels, beside Numba's own CUDA simulator. Units 3.2 to 3.6.

    python benchmarks/emulator.py [--quick] [--out FILE]

One run measures all: the kernels of unit 3.2 on 1,048,576 elements, with and without the profiler's
counters, against the simulator (whose time for each thread does not depend on how many there are,
so it is given fewer); the kernels of units 3.2 to 3.6 on the same data on both; launches of tiny
grids; growth from 2**10 to 2**24 threads and a product of 1024 x 1024 matrices, with the memory
they take. Times are medians of several repetitions, the simulator's of the second group those of
one launch. They are seconds of the processor, which other programs on the machine do not stretch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("AIINFRA_CUDA", "emulator")

import numpy as np

from aiinfra_labs.gpu.kernels import cuda_model, matmul
from course_kernels import cases

RESULTS = Path(__file__).parent / "results"
THREADS_PER_BLOCK = 256
BLOCK = (16, 16)
TINY = (1, 32, 256)  # threads of one block
ALPHA = np.float32(2)


def machine() -> dict[str, Any]:
    """What the figures were measured on, as the CPU and the packages name themselves."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        cpu = named[1].strip() if named else cpu
    return {
        "cpu": cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def median_seconds(launch: Callable[[], Any], repetitions: int) -> float:
    """The median time of a call, after one call that is not timed."""
    launch()
    return statistics.median(_seconds(launch) for _ in range(repetitions))


def _seconds(launch: Callable[[], Any]) -> float:
    start = time.process_time()
    launch()
    return time.process_time() - start


def vectors(n: int) -> list[np.ndarray]:
    """a, b and out of vector addition: float32 [n]."""
    rng = np.random.default_rng(0)
    return [rng.random(n, dtype=np.float32), rng.random(n, dtype=np.float32), np.zeros(n, "f4")]


def launches(kernels: dict[str, Any], to_device: Callable, n: int) -> dict[str, Callable]:
    """A launch of each kernel of unit 3.2 on n elements or pixels, arrays already on the device."""
    side = int(n**0.5)
    rng = np.random.default_rng(0)
    a, b, out = map(to_device, vectors(n))
    rgb = to_device(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    grey_image = to_device(rng.random((side, side), dtype=np.float32))
    image = to_device(np.zeros((side, side), np.float32))
    blocks = cuda_model.blocks_for(n, THREADS_PER_BLOCK)
    tiles = cuda_model.blocks_for_image((side, side), BLOCK)
    return {
        "vector_add": lambda: kernels["vector_add"][blocks, THREADS_PER_BLOCK](a, b, out),
        # a quarter of the threads, so that each goes round four times
        "saxpy": lambda: kernels["saxpy"][max(1, blocks // 4), THREADS_PER_BLOCK](ALPHA, a, out),
        "grey": lambda: kernels["grey"][tiles, BLOCK](rgb, image),
        "blur": lambda: kernels["blur"][tiles, BLOCK](grey_image, image),
    }


def on_emulator(n: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Seconds of each kernel on n elements, counters off and on."""
    from aiinfra_labs.gpu import emulator

    kernels = {name: getattr(cuda_model, name) for name in ("vector_add", "saxpy", "grey", "blur")}
    found = {}
    for name, launch in launches(kernels, emulator.to_device, n).items():

        def counted(launch: Callable = launch) -> None:
            with emulator.profile():
                launch()

        off, on = median_seconds(launch, repetitions), median_seconds(counted, repetitions)
        found[name] = {"elements": n, "counters_off": off, "counters_on": on}
    return found


def cases_on_emulator(quick: bool, repetitions: int) -> dict[str, dict[str, float]]:
    """Seconds of each case of `course_kernels`, counters off and on."""
    from aiinfra_labs.gpu import emulator

    found = {}
    for case in cases(quick):
        launch, _ = case.launch(emulator.to_device)

        def counted(launch: Callable = launch) -> None:
            with emulator.profile():
                launch()

        off, on = median_seconds(launch, repetitions), median_seconds(counted, repetitions)
        found[case.name] = {"elements": case.elements, "counters_off": off, "counters_on": on}
    return found


def cases_on_simulator(quick: bool) -> dict[str, dict[str, float]]:
    """Seconds of one launch of each case; nothing is compiled, so no launch has to come first."""
    from numba import cuda

    found = {}
    for case in cases(quick):
        if case.simulated:
            launch, _ = case.launch(cuda.to_device, _simulated(case.kernel))
            found[case.name] = {"elements": case.elements, "seconds": _seconds(launch)}
    return found


def _simulated(kernel: Any) -> Any:
    """The same code, with the simulator's `cuda` in place of the emulator's."""
    from numba import cuda

    function = kernel.py_func
    scope = function.__globals__ | {"cuda": cuda}
    return cuda.jit(types.FunctionType(function.__code__, scope, function.__name__))


def on_simulator(n: int, repetitions: int) -> dict[str, Any]:
    """The same kernels under Numba's simulator. Runs in a process with NUMBA_ENABLE_CUDASIM=1."""
    from numba import cuda

    kernels = {}
    for name in ("vector_add", "saxpy", "grey", "blur"):
        kernels[name] = _simulated(getattr(cuda_model, name))
    found = {
        name: {"elements": n, "seconds": median_seconds(launch, repetitions)}
        for name, launch in launches(kernels, cuda.to_device, n).items()
    }
    return {"kernels": found, "tiny": tiny(kernels["vector_add"], cuda.to_device, 5 * repetitions)}


def tiny(kernel: Any, to_device: Callable, repetitions: int) -> dict[str, float]:
    """Seconds of a launch of one block of few threads."""
    arrays = [to_device(array) for array in vectors(max(TINY))]
    return {
        str(threads): median_seconds(lambda t=threads: kernel[1, t](*arrays), repetitions)
        for threads in TINY
    }


def grow(n: int, counted: bool) -> dict[str, Any]:
    """One vector addition of n threads, and the memory it took beyond its arrays."""
    from aiinfra_labs.gpu import emulator

    context = emulator.profile if counted else nullcontext
    blocks = cuda_model.blocks_for(n, THREADS_PER_BLOCK)
    arrays = [emulator.device_array(n, np.float32) for _ in range(3)]
    for value, array in enumerate(arrays):  # filled in place: a copy would hide the peak
        array[:] = value
    small = [emulator.to_device(array) for array in vectors(32)]
    cuda_model.vector_add[1, 32](*small)  # translation is no part of the growth
    before = _peak()
    with context():
        seconds = _seconds(lambda: cuda_model.vector_add[blocks, THREADS_PER_BLOCK](*arrays))
    peak = _peak()
    return {
        "threads": n,
        "seconds": seconds,
        "array_bytes": sum(array.nbytes for array in arrays),
        "peak_bytes": peak,
        "peak_growth_bytes": peak - before,
    }


def multiply(side: int) -> dict[str, Any]:
    """A tiled product of matrices [side, side] with counters, and the memory of the process."""
    from aiinfra_labs.gpu import emulator

    a, b, c = (emulator.device_array((side, side), np.float32) for _ in range(3))
    a[:] = b[:] = 1
    blocks = (cuda_model.blocks_for(side, matmul.TILE),) * 2
    with emulator.profile() as p:
        seconds = _seconds(lambda: matmul.matmul_tiled[blocks, (matmul.TILE,) * 2](a, b, c))
    assert (c.copy_to_host() == side).all()
    return {
        "side": side,
        "seconds": seconds,
        "peak_bytes": _peak(),
        "global_load_sectors": p.report.global_load_sectors,
    }


def _peak() -> int:
    """The most memory that the process has held so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held when it started this process
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"))[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child(*arguments: str, **environment: str) -> Any:
    """This script in a process of its own; its last line is JSON."""
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(quick: bool) -> dict[str, Any]:
    """Every figure, as the file of results holds it."""
    repetitions = 2 if quick else 9
    n, few = (1 << 14, 256) if quick else (1 << 20, 4096)
    powers = range(10, 13) if quick else range(10, 25)
    theirs = child("--simulator", str(few), str(2 if quick else 3), NUMBA_ENABLE_CUDASIM="1")
    ours = on_emulator(n, repetitions)
    their_cases = child("--cases", *(["--quick"] if quick else []), NUMBA_ENABLE_CUDASIM="1")
    our_cases = cases_on_emulator(quick, repetitions)
    return {
        "machine": machine(),
        "repetitions": repetitions,
        "kernels": {name: compared(times, theirs["kernels"][name]) for name, times in ours.items()},
        "same_data": {
            name: compared(times, their_cases[name]) if name in their_cases else alone(times)
            for name, times in our_cases.items()
        },
        "matmul": child("--multiply", "64" if quick else "1024"),
        "tiny": tiny_compared(theirs["tiny"], repetitions),
        "growth": [child("--grow", str(1 << p)) for p in powers],
        "growth_counted": [child("--grow", str(1 << p), "--counted") for p in powers],
    }


def compared(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """One kernel: times, and how many times faster the emulator is for each element."""
    simulator = theirs["seconds"] / theirs["elements"]
    return {
        "elements": ours["elements"],
        "counters_off_seconds": ours["counters_off"],
        "counters_on_seconds": ours["counters_on"],
        "simulator_elements": theirs["elements"],
        "simulator_seconds": theirs["seconds"],
        "faster_counters_off": simulator * ours["elements"] / ours["counters_off"],
        "faster_counters_on": simulator * ours["elements"] / ours["counters_on"],
        "counters_cost": ours["counters_on"] / ours["counters_off"],
    }


def alone(ours: dict[str, float]) -> dict[str, Any]:
    """A kernel that the simulator cannot run."""
    return {
        "elements": ours["elements"],
        "counters_off_seconds": ours["counters_off"],
        "counters_on_seconds": ours["counters_on"],
        "counters_cost": ours["counters_on"] / ours["counters_off"],
    }


def tiny_compared(theirs: dict[str, float], repetitions: int) -> dict[str, Any]:
    from aiinfra_labs.gpu import emulator

    ours = tiny(cuda_model.vector_add, emulator.to_device, 20 * repetitions)
    return {
        threads: {
            "emulator_seconds": ours[threads],
            "simulator_seconds": theirs[threads],
            "faster": theirs[threads] / ours[threads],
        }
        for threads in ours
    }


def summary(figures: dict[str, Any]) -> str:
    """The figures as text for a terminal."""
    m = figures["machine"]
    text = [
        f"{m['cpu']}, {m['cores']} cores; Python {m['python']}, NumPy {m['numpy']}, "
        f"Numba {m['numba']}; {m['date']}",
        "",
        f"{'kernel':<20}{'elements':>10}{'off':>10}{'on':>10}{'on/off':>8}"
        f"{'x simulator, off':>18}{'on':>8}",
    ]
    for name, k in [*figures["kernels"].items(), *figures["same_data"].items()]:
        row = (
            f"{name:<20}{k['elements']:>10,}{k['counters_off_seconds'] * 1e3:>7.1f} ms"
            f"{k['counters_on_seconds'] * 1e3:>7.1f} ms{k['counters_cost']:>8.2f}"
        )
        if "faster_counters_off" in k:
            row += f"{k['faster_counters_off']:>18,.0f}{k['faster_counters_on']:>8,.0f}"
        text.append(row)
    product = figures["matmul"]
    text += [
        "",
        f"matmul_tiled, {product['side']} x {product['side']}, counters on: "
        f"{product['seconds']:.1f} s, {product['peak_bytes'] / 2**20:,.0f} MiB in all",
    ]
    text += ["", f"{'threads':<10}{'emulator':>12}{'simulator':>12}{'x':>8}   (one block)"]
    for threads, t in figures["tiny"].items():
        text.append(
            f"{threads:<10}{t['emulator_seconds'] * 1e6:>9.0f} us"
            f"{t['simulator_seconds'] * 1e6:>9.0f} us{t['faster']:>8.1f}"
        )
    text += ["", f"{'threads':>12}{'off':>12}{'on':>12}{'memory beyond the arrays':>28}"]
    for off, on in zip(figures["growth"], figures["growth_counted"], strict=True):
        text.append(
            f"{off['threads']:>12,}{off['seconds'] * 1e3:>9.1f} ms{on['seconds'] * 1e3:>9.1f} ms"
            f"{on['peak_growth_bytes'] / 2**20:>24.1f} MiB"
        )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--simulator", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cases", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--multiply", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.simulator:
        print(json.dumps(on_simulator(*options.simulator)))
        return
    if options.cases:
        print(json.dumps(cases_on_simulator(options.quick)))
        return
    if options.multiply:
        print(json.dumps(multiply(options.multiply)))
        return
    if options.grow:
        print(json.dumps(grow(options.grow, options.counted)))
        return
    figures = measure(options.quick)
    out = options.out
    if out is None and not options.quick:  # a quick run replaces no measurement
        name = re.sub(r"[^a-z0-9]+", "-", figures["machine"]["cpu"].lower()).strip("-")
        out = RESULTS / f"emulator-{name}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(summary(figures))


if __name__ == "__main__":
    main()
