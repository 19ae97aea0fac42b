"""How long a launch would take on a device, at best: the roofline model. Unit 3.8.

A launch needs at least the time in which each part of the device could do its share alone: DRAM
its bytes, the floating-point units of each precision their operations, shared memory its wavefronts
(one a clock and SM: 32 banks of 4 bytes, CUDA C++ Programming Guide). The longest bounds it.
(Williams, Waterman and Patterson, Communications of the ACM 52 (2009), 65.)

It is a model, and nearly a lower bound: a warm L2, or one that keeps what was written, spares
traffic to DRAM that is counted here. It knows no latency, no launch overhead, no instruction that
is not a floating-point operation, no L1. It takes for granted that the device runs at its boost
clock, that all its SMs are busy if the grid has a block for each, and that a sum and a product join
in an fma: peak rates count an fma as two, so that a kernel of sums alone reaches half of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..devices import device_profile
from ..errors import EmulatorError
from .showing import ReportTable, scaled


class Counted(Protocol):
    """What an estimate needs of a report."""

    blocks: int
    dram_bytes: int | None
    flops: int
    flops_by_dtype: dict[str, int]
    shared_load_wavefronts: int
    shared_store_wavefronts: int
    arithmetic_intensity: float | None


@dataclass(frozen=True, repr=False)
class Estimate:
    """parts: seconds that each part of the device needs for its share, had it all to itself."""

    device: str
    parts: dict[str, float]
    intensity: float | None  # operations for each byte of DRAM traffic
    ridge: float  # the intensity at which DRAM and the units take as long
    sms_used: int
    sms: int

    @property
    def seconds(self) -> float:
        """As long as the part that takes longest."""
        return max(self.parts.values())

    @property
    def bound_by(self) -> str:
        """The part that takes longest; "nothing counted" where no part has a share."""
        name = max(self.parts, key=self.parts.__getitem__)
        return name if self.parts[name] > 0 else "nothing counted"

    def _table(self) -> ReportTable:
        rows = [("time, at best", scaled(self.seconds, "s")), ("bound by", self.bound_by)]
        rows += [(f"{part} alone", scaled(time, "s")) for part, time in self.parts.items() if time]
        if self.intensity is not None:
            rows.append(("operations per DRAM byte", f"{self.intensity:.3g}"))
            rows.append(("operations per DRAM byte at the ridge", f"{self.ridge:.3g}"))
        rows.append(("SMs with a block", f"{self.sms_used} of {self.sms}"))
        return ReportTable(rows, title=f"roofline model, not a measurement: {self.device}")

    def __str__(self) -> str:
        return self._table().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table().html()


def estimate(report: Counted, device: str | None = None) -> Estimate:
    """The roofline estimate of a report's launch on a device profile ("a100"), by name.

    The bytes of DRAM are those of the report, counted with the L2 of the device that was stood for.
    """
    if report.dram_bytes is None:
        raise EmulatorError(
            "the bytes that reach DRAM are not known for this launch",
            "the model of the L2 gave up: its lines crowd into few of the cache's sets",
            "estimate a launch on smaller arrays",
        )
    profile = device_profile(device)
    sms = profile.multiprocessors
    used = min(report.blocks, sms) or sms  # of a sum of launches the grids are not known
    share = used / sms
    parts = {"DRAM": report.dram_bytes / profile.memory_bandwidth}
    for dtype, operations in report.flops_by_dtype.items():
        parts[f"{dtype} units"] = operations / (profile.peak_flops[dtype] * share)
    wavefronts = report.shared_load_wavefronts + report.shared_store_wavefronts
    parts["shared memory"] = wavefronts / (profile.clock * used)
    busiest = max(report.flops_by_dtype, key=lambda dtype: parts[f"{dtype} units"])
    if not report.flops:
        busiest = "fp32"
    return Estimate(
        profile.name,
        parts,
        report.arithmetic_intensity,
        profile.peak_flops[busiest] / profile.memory_bandwidth,
        used,
        sms,
    )
