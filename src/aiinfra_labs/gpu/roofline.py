"""The roofline: what a kernel can reach, and whether memory or arithmetic stops it. Unit 3.1.

    attainable(I) = min(peak, I x bandwidth)          I: operations for each byte of DRAM traffic

(Williams, Waterman and Patterson, "Roofline", Communications of the ACM 52 (2009), 65.) The ridge,
where the two meet, is peak / bandwidth. `drawings/roofline.py` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs import bounds

from .devices import DeviceError, device

if TYPE_CHECKING:
    from .emulator import Report

MEMORY, COMPUTE = "memory", "compute"


@dataclass(frozen=True)
class Roofline:
    """One roof: `peak` in operations/s, `bandwidth` in bytes/s."""

    name: str
    peak: float
    bandwidth: float

    def __post_init__(self) -> None:
        bounds.real("peak", self.peak, "operations/s", above=0.0, error=DeviceError)
        bounds.real("bandwidth", self.bandwidth, "bytes/s", above=0.0, error=DeviceError)

    @property
    def ridge(self) -> float:
        """Operations for each byte from which on arithmetic is the limit."""
        return self.peak / self.bandwidth

    def attainable(self, intensity: Any) -> Any:
        """Operations/s at most, at an intensity in operations/byte, or at an array of them.

        Raises `DeviceError` for an intensity that is negative or nan; infinite is no byte at all.
        """
        try:
            sound = bool(np.all(np.asarray(intensity, np.float64) >= 0))
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise DeviceError(
                f"an intensity of {intensity!r:.60}",
                "it is operations for each byte, so it is no less than 0",
                "the operations over the bytes of the kernel",
            )
        return np.minimum(self.peak, np.multiply(intensity, self.bandwidth))

    def bound_by(self, intensity: float) -> str:
        """What stops a kernel of this intensity, operations/byte: "memory" or "compute".

        Raises `DeviceError` for an intensity that is negative or nan.
        """
        if intensity != float("inf"):
            bounds.real("intensity", intensity, "operations/byte", 0.0, error=DeviceError)
        return MEMORY if intensity < self.ridge else COMPUTE

    def seconds(self, flops: float, nbytes: float) -> float:
        """The least time for so many operations and bytes: as long as the longer of the two.

        Raises `DeviceError` for a count that is negative or nan.
        """
        bounds.real("flops", flops, "operations", 0.0, error=DeviceError)
        bounds.real("nbytes", nbytes, "bytes of memory traffic", 0.0, error=DeviceError)
        return max(flops / self.peak, nbytes / self.bandwidth)


@dataclass(frozen=True)
class Point:
    """A kernel under a roof.

    intensity: operations/byte. performance: operations/s, where it was measured; None puts the
    point on the roof, which is the model's answer and no measurement. roof: which of the roofs of
    a drawing it stands under, from 0.
    """

    name: str
    intensity: float
    performance: float | None = None
    roof: int = 0


def roofline(key: str, precision: str = "fp32") -> Roofline:
    """The roof of a device and a precision: `roofline("h100", "fp16_tensor")`.

    Raises `DeviceError` for a device, or a precision of it, that is not in the data.
    """
    found = device(key)
    peak = found.peak(precision)
    return Roofline(f"{found.name}, {PRECISIONS[precision]}", peak, found.bandwidth)


PRECISIONS = {
    "fp64": "FP64",
    "fp32": "FP32",
    "fp16": "FP16",
    "fp16_tensor": "FP16 tensor",
    "fp16_tensor_sparse": "FP16 tensor, sparse",
    "fp8_tensor": "FP8 tensor",
    "bf16_matrix": "BF16 matrix",
}


def point_of(report: Report, name: str | None = None, roof: int = 0) -> Point:
    """The point of a profiled launch: its operations over its bytes of DRAM, both counted.

    Raises `DeviceError` where the report has no such ratio.
    """
    if report.arithmetic_intensity is None:
        why = "the model of the L2 gave up" if report.dram_bytes is None else "it touched no memory"
        raise DeviceError(
            f"{report.kernel or 'this report'} has no arithmetic intensity",
            f"that is operations over bytes of DRAM, and {why}",
            "profile one launch that reads or writes arrays, on small arrays",
        )
    return Point(name or report.kernel, report.arithmetic_intensity, roof=roof)
