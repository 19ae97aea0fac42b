"""From operations to days and money. Unit 1.6.

MFU, model FLOPs utilisation, is the share of the peak that goes into operations which the model
asks for: 6 N D over what the devices could have done in the time that they were rented
(Chowdhery et al., arXiv:2204.02311, appendix B). What is recomputed does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiinfra_labs import bounds

HOUR, DAY = 3600, 24  # seconds, hours


@dataclass(frozen=True)
class Run:
    """A training run on rented devices. hours: device-hours."""

    hours: float
    days: float
    dollars: float


def run(flops: float, devices: int, peak: float, mfu: float, price: float) -> Run:
    """How long `devices` of a `peak` (operations/s) take, and what they cost at $ a device-hour.

    flops: operations of the whole training. Raises ValueError where nothing would be done, more
    than the peak, or for a price below 0.
    """
    why = "the share of the peak that the model uses; large runs report 0.3 to 0.5"
    bounds.real("mfu", mfu, why, most=1.0, above=0.0)
    bounds.whole("devices", devices, "without a device there is no run")
    bounds.real("peak", peak, "operations/s of a device", above=0.0)
    bounds.real("flops", flops, "operations of the training", 0.0)
    bounds.real("price", price, "dollars a device-hour", 0.0)
    hours = flops / (peak * mfu) / HOUR
    return Run(hours, hours / devices / DAY, hours * price)


def mfu(flops: float, hours: float, peak: float) -> float:
    """The share of the peak that a run of so many device-hours used.

    flops: operations. peak: operations/s of a device. Raises ValueError for a number that is not
    above 0. More than 1 means that one of the three is wrong.
    """
    bounds.real("flops", flops, "operations of the training", 0.0)
    bounds.real("hours", hours, "device-hours of the run", above=0.0)
    bounds.real("peak", peak, "operations/s of a device", above=0.0)
    return flops / (hours * HOUR * peak)
