"""The exercises of unit 3.1 on kernels: what bounds them, and what must be in flight.

Kernels run on the emulator; the learner's functions see what a profiler would tell of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu import emulator, latency
from aiinfra_labs.gpu.devices import device
from aiinfra_labs.gpu.emulator import Report
from aiinfra_labs.gpu.intensity import LLAMA_3_1_8B
from aiinfra_labs.gpu.kernels import cpu_and_gpu as kernels
from aiinfra_labs.gpu.roofline import Point, roofline

from . import roofline_views as views
from .cpu_and_gpu import EXACT, GIGA, SKILL, TERA, a_number, number, sheet

# --- 3.1.c -------------------------------------------------------------------------------------

COUNTS = "counts operations and bytes as the profiler names them"
DRAM = "counts the bytes that cross the DRAM bus, not those that threads ask for"
JUDGES = "judges by the device: the same kernel, another ridge"


@exercise(
    "3.1.c",
    title="Bound by memory or by arithmetic?",
    points=4,
    central=COUNTS,
    skill=SKILL,
    arguments=("metrics", "peak_tflops", "bandwidth_gb"),
    hints=(
        (
            COUNTS,
            "Three metrics count floating-point instructions: `..._fadd_...`, `..._fmul_...` and "
            "`..._ffma_...`. Which of them is worth two operations?",
        ),
        (
            DRAM,
            "A cache may serve one byte to many threads, and a sector may bring bytes that nobody "
            "asked for. `dram__bytes_read.sum` and `dram__bytes_write.sum` know of both.",
        ),
        (
            JUDGES,
            "The ridge is peak over bandwidth, in operations/byte: mind that one is given in "
            "TFLOP/s and the other in GB/s.",
        ),
    ),
)
def judge(function: Any, require: Any) -> None:
    """A launch's operations/byte from its metrics, and what bounds it on a device."""
    with require(COUNTS) as r:
        for name in ("vector_add", "horner"):
            _judged(r, function, name, "h100")
    with require(DRAM) as r:
        for name in ("every_eighth", "smooth"):
            _judged(r, function, name, "h100")
    with require(JUDGES) as r:
        for key in ("h100", "a100", "h200", "rtx4090"):
            for name in ("horner", "smooth"):
                _judged(r, function, name, key)


def _judged(r: Any, function: Any, name: str, key: str) -> None:
    d, report = device(key), launches()[name]
    peak_, bandwidth = sheet(d)
    with r.input(f"{name} on {d.name} ({peak_:.4g} TFLOP/s, {bandwidth:,.4g} GB/s)"):
        got = function(dict(report.metrics), peak_, bandwidth)
        r.that(
            isinstance(got, tuple | list) and len(got) == 2,
            what=f"{got!r} was returned",
            why="two things are asked for: the intensity, and what bounds the launch",
            try_='return intensity, "memory" or return intensity, "compute"',
            slip=True,
        )
        expected = report.arithmetic_intensity
        r.equal(
            number(got[0]),
            expected,
            name="operations/byte",
            tolerance=EXACT,
            why=_told_apart(number(got[0]), report),
            try_="sum the operations, an fma as two, and divide by the bytes of "
            "dram__bytes_read.sum and dram__bytes_write.sum",
        )
        bound = roofline(key).bound_by(expected)
        r.that(
            got[1] == bound,
            what=f'{got[1]!r}, expected "{bound}": {expected:.4g} operations/byte, and the ridge '
            f"is at {d.ridge():.4g}",
            why="below the ridge the bytes take longer, from the ridge on the operations",
            try_='compare the intensity with peak / bandwidth: "memory" below it, else "compute"',
        )


def _told_apart(got: Any, report: Report) -> str:
    """Which wrong figure was taken, if it is one of those that are easily taken."""
    instructions = report.fp32_add + report.fp32_mul + report.fp32_fma
    for wrong, why in (
        (instructions / report.dram_bytes, "an fma was counted once, and it is two operations"),
        (report.flops / report.bytes_requested, "these are the bytes that the threads ask for"),
        (report.flops / report.bytes_moved, "these are the bytes between threads and caches"),
        (report.flops / max(report.dram_bytes_read, 1), "what is written crosses the bus, too"),
        (report.dram_bytes / report.flops, "this is bytes for each operation, the other way round"),
    ):
        if isinstance(got, int | float) and math.isclose(got, wrong, rel_tol=1e-6):
            return why
    return "the intensity is floating-point operations over bytes of DRAM traffic"


_launched: dict[str, Report] = {}


def launches() -> dict[str, Report]:
    """The emulator's report of each kernel of the exercise, each launched once."""
    if not _launched:
        rng = np.random.default_rng(31)
        n = 1 << 12
        for kernel, elements, read in (
            (kernels.vector_add, n, 2),
            (kernels.horner, n, 1),
            (kernels.every_eighth, n, 1),
            (kernels.smooth, n, 1),
        ):
            reach = 8 * n if kernel is kernels.every_eighth else n
            sources = [rng.uniform(1, 2, reach).astype(np.float32) for _ in range(read)]
            arrays = map(emulator.to_device, (*sources, np.zeros(elements, np.float32)))
            emulated = emulator.jit(kernel.py_func)
            with emulator.profile() as p:
                emulated[n // 128, 128](*arrays)
            _launched[kernel.__name__] = p.report
    return _launched


@judge.show
def _show_judge(function: Any) -> views.Picture:
    d = device("h100")
    found = {name: function(dict(report.metrics), *sheet(d)) for name, report in launches().items()}
    points = [Point(name, float(got[0])) for name, got in found.items()]
    said = "; ".join(
        f"{name}: {got[0]:.3g} operations/byte, {got[1]}" for name, got in found.items()
    )
    return views.under([roofline("h100"), roofline("a100")], points, f"By your function, {said}.")


# --- 3.1.d -------------------------------------------------------------------------------------

FILLS = "keeps a device's memory busy"
WHOLE = "counts whole warps"


@exercise(
    "3.1.d",
    title="Little's law: how many warps hide the latency",
    points=4,
    central=FILLS,
    skill=SKILL,
    arguments=("bandwidth_gb", "latency_ns", "sms", "bytes_a_lane"),
    hints=(
        (
            FILLS,
            "If 3 bytes leave the memory in each nanosecond and each is under way for 300 of them, "
            "how many are under way at any moment?",
        ),
        (
            FILLS,
            "Bytes under way = bandwidth x latency (GB/s x ns are bytes). They are shared out over "
            "the SMs; a warp that waits for one load has 32 x bytes_a_lane under way.",
        ),
        (WHOLE, "Half a warp cannot wait: `math.ceil`."),
    ),
)
def warps_in_flight(function: Any, require: Any) -> None:
    """Warps that each SM needs waiting for a load, so that the memory never waits."""
    # ns, bytes: of the H100, A100 and RTX 4090 as measured (arXiv:2402.13499), else round figures
    cases = (
        ("h100", 273.0, 4),
        ("a100", 331.0, 4),
        ("rtx4090", 215.0, 4),
        ("t4", 350.0, 4),
        ("h200", 273.0, 4),
    )
    with require(FILLS) as r:
        for key, wait, size in cases:
            _warps(r, function, key, wait, size)
    with require("needs fewer where each lane asks for more") as r:
        for key, wait, _ in cases:
            for size in (8, 16):
                _warps(r, function, key, wait, size)
    with require(WHOLE) as r, r.input("H100, 273 ns, 4 bytes a lane"):
        d = device("h100")
        got = function(d.bandwidth / GIGA, 273.0, int(d["sms"]), 4)
        r.that(
            isinstance(got, int | np.integer) and not isinstance(got, bool),
            what=f"{got!r} is no whole number",
            why="an SM holds whole warps, and one too few leaves the bus idle",
            try_="round up: math.ceil gives an int",
            slip=True,
        )


def _warps(r: Any, function: Any, key: str, wait: float, size: int) -> None:
    d = device(key)
    bandwidth, sms = d.bandwidth / GIGA, int(d["sms"])
    flying = latency.bytes_in_flight(d.bandwidth, wait * 1e-9)
    exact = latency.warps_needed(flying / sms, size)
    with r.input(f"{d.name}: {bandwidth:,.4g} GB/s, {wait:g} ns, {sms} SMs, {size} bytes a lane"):
        got = number(function(bandwidth, wait, sms, size))
        a_number(r, got, "a count of warps")
        r.that(
            got == math.ceil(exact),
            what=f"{got:.6g} warps an SM, expected {math.ceil(exact)}",
            why=f"{flying:,.0f} bytes are under way, {flying / sms:,.0f} for each SM, and a warp's "
            f"load is {32 * size}: {exact:.2f} warps",
            try_="work out the bytes under way first, then share them out: over SMs, over warps",
        )


@warps_in_flight.show
def _show_warps(function: Any) -> views.Picture:
    d = device("h100")
    needed = {
        size: int(function(d.bandwidth / GIGA, 273.0, int(d["sms"]), size)) for size in (4, 8, 16)
    }
    return views.in_flight(d, 273e-9, needed)


# --- 3.1.e -------------------------------------------------------------------------------------

# Weights, and bytes of cache a token: one answer that knows a single model by heart fails.
MODELS = (
    (LLAMA_3_1_8B.weights, LLAMA_3_1_8B.kv_bytes()),
    (3_000_000_000, 114_688),
    (70_553_706_496, 327_680),
)
SHORT = "finds the batch where the weights are all there is to read"
CACHE = "counts each sequence's own KV cache"
NEVER = "says None where no batch is enough"


@exercise(
    "3.1.e",
    title="From which batch on is decoding bound by arithmetic?",
    points=4,
    central=CACHE,
    skill=SKILL,
    arguments=("peak_tflops", "bandwidth_gb", "weights", "kv_bytes", "context"),
    hints=(
        (
            SHORT,
            "One step does 2 operations for each weight and sequence, and reads each weight (2 "
            "bytes) once, for all of them. What is the intensity of a batch of 1, of 2, of b?",
        ),
        (
            CACHE,
            "Each sequence also reads its own cache, context x kv_bytes, and nobody shares it: the "
            "bytes are 2 x weights + batch x context x kv_bytes.",
        ),
        (
            NEVER,
            "As the batch grows, the caches outgrow the weights. Towards which intensity does it "
            "go then, and is that above the ridge?",
        ),
        (
            NEVER,
            "Solve operations / bytes >= ridge for the batch: "
            "b (2 w - ridge s k) >= 2 w ridge. What if the bracket is not positive?",
        ),
    ),
)
def smallest_batch(function: Any, require: Any) -> None:
    """The smallest batch at which a decode step is bound by arithmetic; None if there is none."""
    with require(SHORT) as r:
        for key in ("h100", "a100", "b200", "l4"):
            for weights, kv_bytes in MODELS:
                _batch(r, function, key, weights, kv_bytes, 0)
    with require(CACHE) as r:
        for key, context in (("h100", 64), ("h100", 200), ("a100", 256), ("a100", 500)):
            for weights, kv_bytes in MODELS:
                _batch(r, function, key, weights, kv_bytes, context)
    with require(NEVER) as r:
        for key, context in (("h100", 2048), ("a100", 8192), ("b200", 512)):
            for weights, kv_bytes in MODELS:
                _batch(r, function, key, weights, kv_bytes, context)


def batch_by_trial(ridge: float, weights: int, kv: int, context: int) -> int | None:
    """The same by trying each batch, from 1 up; what a batch gains ends at 2 weights / cache."""
    batch = np.arange(1, 20_001)
    intensity = 2.0 * weights * batch / (2.0 * weights + 1.0 * batch * context * kv)
    reached = np.flatnonzero(intensity >= ridge)
    return int(batch[reached[0]]) if len(reached) else None


def _batch(r: Any, function: Any, key: str, weights: int, kv: int, context: int) -> None:
    d = device(key)
    ridge = d.ridge("fp16_tensor")
    expected = batch_by_trial(ridge, weights, kv, context)
    with r.input(
        f"{d.name}, {weights:,} weights, {kv:,} bytes of cache a token, context {context}"
    ):
        got = function(d.peak("fp16_tensor") / TERA, d.bandwidth / GIGA, weights, kv, context)
        got = number(got)
        if got is not None:
            a_number(r, got, "a batch", also=" or None")
            r.whole(got, "the batch")
        limit = 2 * weights / (context * kv) if context else math.inf
        r.that(
            got == expected,
            what=f"{got!r}, expected {expected}: the ridge is at {ridge:.4g} operations/byte",
            why=f"however large the batch, it stays below {limit:.4g} operations/byte"
            if expected is None
            else f"at a batch of {expected} it does "
            f"{_intensity(expected, weights, kv, context):.5g} operations/byte, at {expected - 1} "
            f"{_intensity(expected - 1, weights, kv, context):.5g}",
            try_="return None when no batch reaches the ridge"
            if expected is None
            else "2 w b operations over 2 w + b s k bytes; the batch is a whole number, rounded up",
        )


def _intensity(batch: int, weights: int, kv: int, context: int) -> float:
    return 2 * weights * batch / (2 * weights + batch * context * kv)


@smallest_batch.show
def _show_smallest_batch(function: Any) -> views.Picture:
    m, d = LLAMA_3_1_8B, device("h100")
    found = {
        context: function(
            d.peak("fp16_tensor") / TERA, d.bandwidth / GIGA, m.weights, m.kv_bytes(), context
        )
        for context in (0, 200, 2048)
    }
    curves = {s: lambda b, s=s: _intensity(b, m.weights, m.kv_bytes(), s) for s in found}
    return views.batches(d, found, curves)
