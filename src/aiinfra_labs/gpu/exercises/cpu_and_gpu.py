"""The exercises of unit 3.1 on devices: a roof, a peak; and the verdicts on the talk's figures.

Figures are given in the units of data sheets (TFLOP/s, GB/s, MHz), because turning them into one
another is half of the work. `cpu_and_gpu_kernels.py` has the unit's exercises on kernels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.gpu.devices import Device, device, devices

from . import roofline_views as views

SKILL = "Roofline model"
TERA, GIGA = 1e12, 1e9
EXACT = 1e-9  # relative: the same arithmetic in another order

examine(
    "cpu-cores",
    verdict="corrected",
    figure="64 cores is too few for today's servers: a socket has up to 96 cores (EPYC 9654, 384 "
    "MiB of L3, 2022), 128 (Xeon 6980P, 504 MiB) or 192 (EPYC 9965, 2024). The makers promise 2.0 "
    "to 2.4 GHz for all cores at once (the base clock) and 3.7 to 3.9 for one core alone. What all "
    "cores reach together lies between the two and depends on power and on the instructions.",
    how="read from the makers' specifications of four server CPUs",
    source="https://www.amd.com/en/products/processors/server/epyc/9005-series/amd-epyc-9965.html",
)
examine(
    "h100-cores",
    verdict="corrected",
    figure="An H100 SXM has 132 SMs x 128 = 16,896 CUDA cores, the PCIe card 114 x 128 = 14,592. "
    "10,752 = 84 x 128 is another chip, the whole GA102 of 2020 (RTX A6000, A40).",
    how="SMs x FP32 units; the published peaks come out of the same product within 1 %",
    source="https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper",
)
examine(
    "flops",
    verdict="corrected",
    figure="CPU, at its base clock, the least that all its cores hold: 7.2 (Xeon 8480+) to 27.6 "
    "TFLOP/s (EPYC 9965) in FP32, and 115 with the Xeon's matrix unit in BF16. H100 SXM: 66.9 in "
    "FP32; 60 was the estimate at its announcement. FP16 on "
    "its tensor cores: 989; 1,979 needs half of the weights to be zero, in a pattern.",
    how="units x fma a clock x 2 x clock, held against what is published",
    source="https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper",
)
examine(
    "bandwidth",
    verdict="reproduced",
    figure="HBM3 on an H100 SXM: 3,350 GB/s. DDR5, a socket: 8 channels of 6,400 MT/s are 409.6 "
    "GB/s, which is the talk's 400. The four server CPUs here have 307 (8 channels of 4,800 MT/s), "
    "461 (12 of 4,800) or 614 (12 of 6,400). The ratio to these is 5 to 11.",
    how="channels x 8 bytes x transfers/s, from the specifications of four server CPUs",
    source="https://www.nvidia.com/en-us/data-center/h100/",
)
examine(
    "efficiency",
    verdict="corrected",
    figure="Peak over power limit, H100 SXM against four server CPUs: 1.7 to 4.7 times in FP32, "
    "2.7 and 4.3 in 16 bits where the CPU has a matrix unit, 3.7 to 5.5 in bytes/s. 26 to 69 times "
    "only if the GPU's FP16 tensor cores are set against the CPU's FP32.",
    how="computed from the specifications: bounds of both, not a measurement of power. The limit "
    "of a GPU module includes its memory; that of a CPU leaves its DRAM out, which favours the CPU",
    source="https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper",
)
examine(
    "generations",
    verdict="corrected",
    figure="Volta's tensor cores (2017) are the first, Turing's (2018) the second, Ampere's (2020) "
    "the third, Hopper's (2022) the fourth, Blackwell's (2024) the fifth. The 6,912 cores are the "
    "A100's, 108 x 64.",
    how="read from each generation's whitepaper",
    source="https://images.nvidia.com/aem-dam/en-zz/Solutions/data-center/"
    "nvidia-ampere-architecture-whitepaper.pdf",
)
examine(
    "sm-132",
    verdict="reproduced",
    figure="132 SMs on the SXM module, whose 3.35 TB/s the talk gives; 114 on the PCIe card; 144 "
    "on the whole chip, which is not sold.",
    how="66.9 TFLOP/s = 132 x 128 x 2 x 1.98 GHz",
    source="https://developer.nvidia.com/blog/nvidia-hopper-architecture-in-depth/",
)


def sheet(figures: Device) -> tuple[float, float]:
    """A device's FP32 peak and bandwidth as its data sheet has them: TFLOP/s and GB/s."""
    return figures.peak("fp32") / TERA, figures.bandwidth / GIGA


# --- 3.1.a -------------------------------------------------------------------------------------

SLOPE = "memory decides below the ridge"
FLAT = "arithmetic decides above it"


@exercise(
    "3.1.a",
    title="The roof",
    points=4,
    central=SLOPE,
    skill=SKILL,
    arguments=("peak_tflops", "bandwidth_gb", "intensity"),
    hints=(
        (
            SLOPE,
            "A kernel that does `intensity` operations for each byte cannot do more of them in a "
            "second than the bytes that arrive allow. How many GB arrive, how many operations are "
            "done with them, and how many TFLOP is that?",
        ),
        (SLOPE, "GB/s x operations/byte are GFLOP/s; a thousand of them make a TFLOP/s."),
        (
            FLAT,
            "There are two limits, and both hold at all times. Which of two limits is the one that "
            "you meet first?",
        ),
        "`min` of the peak and of bandwidth x intensity, in the same unit.",
    ),
)
def attainable(function: Any, require: Any) -> None:
    """The operations/s that a kernel can reach at most, from a device's figures."""
    keys = ("h100", "a100", "l4", "rtx4090", "epyc_9654")
    with require(SLOPE) as r:
        for key in keys:
            d = device(key)
            for intensity in (1 / 12, 0.5, 3.0, 0.9 * d.ridge()):
                _at(r, function, d, intensity)
    with require(FLAT) as r:
        for key in keys:
            d = device(key)
            for intensity in (1.1 * d.ridge(), 150.0, 4096.0):
                _at(r, function, d, intensity)
    with require("holds where nothing is computed, and where the two limits meet") as r:
        for key in keys:
            _at(r, function, device(key), 0.0)
            _at(r, function, device(key), device(key).ridge())


def _at(r: Any, function: Any, d: Device, intensity: float) -> None:
    peak, bandwidth = sheet(d)
    label = f"{d.name}: {peak:.4g} TFLOP/s, {bandwidth:,.4g} GB/s, {intensity:.4g} operations/byte"
    with r.input(label):
        limit = min(peak, bandwidth * intensity / 1000)
        which = "peak" if limit == peak else "bandwidth x intensity"
        r.equal(
            number(function(peak, bandwidth, intensity)),
            limit,
            name="TFLOP/s",
            tolerance=EXACT,
            why=f"this device's ridge is at {d.ridge():.4g} operations/byte, so the limit here is "
            f"{which}",
            try_="work out both limits for this input by hand, in TFLOP/s: which is met first?",
        )


def number(value: Any) -> Any:
    """A NumPy scalar or 0-d array as the number it is."""
    is_scalar = isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0
    return value.item() if is_scalar else value


def a_number(r: Any, value: Any, what: str, also: str = "") -> None:
    """Fails the requirement unless the value is a number that can be compared."""
    r.that(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        what=f"{_shown(value)} was returned",
        why=f"{what} is asked for, a number{also}",
        try_="end the function with return and that number",
        slip=not isinstance(value, int | float),
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]} ..."


@attainable.show
def _show_attainable(function: Any) -> views.Picture:
    return views.roof(function, [device(key) for key in ("h100", "a100", "epyc_9654")])


# --- 3.1.b -------------------------------------------------------------------------------------

CORES = "counts a GPU's FP32 units"
TENSOR = "counts its tensor cores, at their own clock"
LANES = "counts the lanes of a CPU's vectors"


@exercise(
    "3.1.b",
    title="A peak from the data sheet",
    points=4,
    central=CORES,
    skill=SKILL,
    arguments=("figures", "precision"),
    hints=(
        (
            CORES,
            'An SM starts `figures["fp32_per_sm"]` fused multiply-adds in each clock, and each is '
            "two operations. How many SMs, and how many clocks a second?",
        ),
        (CORES, "MHz are 1e6 clocks a second, a TFLOP is 1e12 operations."),
        (
            TENSOR,
            'The tensor cores have their own count, `figures["tensor_fp16_per_sm"]`, and on some '
            'devices a clock of their own: `figures.get("tensor_clock", figures["clock"])`.',
        ),
        (
            LANES,
            "A vector unit of 512 bits holds 512 / 32 numbers of FP32, or 512 / 64 of FP64, and "
            "does an fma on all of them in a clock. A core has several units.",
        ),
    ),
)
def peak(function: Any, require: Any) -> None:
    """TFLOP/s by formula, for GPUs and CPUs, held against what the makers publish."""
    with require(CORES) as r:
        for key in ("h100", "a100", "t4", "rtx4090", "mi300x", "c870"):
            _published(r, function, device(key), "fp32", 0.011)
    with require(TENSOR) as r:
        for key in ("v100", "a100", "h100", "h100_pcie", "l4"):
            _published(r, function, device(key), "fp16_tensor", 0.011)
    with require(LANES) as r:
        for key in ("xeon_8480", "epyc_9654", "epyc_9965"):
            for precision in ("fp32", "fp64"):
                _published(r, function, device(key), precision, EXACT)


NEEDED = ("sms", "fp32_per_sm", "tensor_fp16_per_sm", "tensor_clock", "clock")
NEEDED += ("cores", "fma_units", "vector_bits")


def data_sheet(key: str) -> dict[str, float]:
    """The figures that a peak is made of, of one device: clocks in MHz. What the lab shows."""
    d = device(key)
    return {name: d[name] for name in NEEDED if name in d}


def _published(r: Any, function: Any, d: Device, precision: str, within: float) -> None:
    figures = data_sheet(d.key)
    with r.input(f"{d.name}, {precision}: {figures}"):
        expected = d.peak(precision) / TERA
        got = number(function(dict(figures), precision))
        a_number(r, got, "a peak in TFLOP/s")
        r.that(
            abs(got / expected - 1) <= within,
            what=f"{got:.6g} TFLOP/s, {got / expected:.3g} times the {expected:.6g} "
            + ("that the maker publishes" if d.kind == "gpu" else "of its units"),
            why=_factor(got / expected, figures),
            try_="write the product down with its units: which factor is missing, or there twice?",
        )


def _factor(ratio: float, figures: dict[str, float]) -> str:
    """What a wrong result is off by, where that is a factor that people know."""
    clocks = figures.get("tensor_clock", 0) and figures["clock"] / figures["tensor_clock"]
    for factor, why in (
        (0.5, "an fma is two operations, a product and a sum"),
        (2, "an fma is two operations, not four"),
        (32, "an SM's units are counted one by one: the 32 lanes of a warp are among them"),
        (clocks, "the tensor cores of this device run at a clock of their own"),
    ):
        if factor and math.isclose(ratio, factor, rel_tol=0.005):
            return why
    power = math.log10(ratio) if ratio > 0 else 0.5
    if abs(power) > 1 and abs(power - round(power)) < 0.01:
        return f"it is off by a power of ten: {round(power):+d}"
    return "the peak is units x fma for each unit and clock x 2 x clocks a second"


@peak.show
def _show_peak(function: Any) -> views.Picture:
    rows = []
    for d in devices().values():
        if "clock" in d:
            for precision in ("fp32", "fp16_tensor"):
                if precision in d.precisions():
                    rows.append((d, precision, number(function(data_sheet(d.key), precision))))
    return views.peaks(rows)
