"""From operations to days and money. Unit 1.6.

MFU, model FLOPs utilisation, is the share of the peak that goes into operations which the model
asks for: 6 N D over what the devices could have done in the time that they were rented
(Chowdhery et al., arXiv:2204.02311, appendix B). What is recomputed does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR, DAY = 3600, 24  # seconds, hours


@dataclass(frozen=True)
class Run:
    """A training run on rented devices. hours: device-hours."""

    hours: float
    days: float
    dollars: float


def run(flops: float, devices: int, peak: float, mfu: float, price: float) -> Run:
    """How long `devices` of a `peak` (operations/s) take, and what they cost at $ a device-hour.

    Raises ValueError where nothing would be done, or more than the peak.
    """
    if not 0 < mfu <= 1:
        raise ValueError(
            f"an MFU of {mfu}\n"
            "Why: it is the share of the peak that the model uses, above 0 and at most 1\n"
            "Try: 0.3 to 0.5, which large runs report"
        )
    if devices < 1 or peak <= 0:
        raise ValueError(
            f"{devices} devices of {peak:g} operations/s\n"
            "Why: without a device there is no run\n"
            "Try: at least one, and its peak in operations/s"
        )
    hours = flops / (peak * mfu) / HOUR
    return Run(hours, hours / devices / DAY, hours * price)


def mfu(flops: float, hours: float, peak: float) -> float:
    """The share of the peak that a run of so many device-hours used."""
    return flops / (hours * HOUR * peak)
