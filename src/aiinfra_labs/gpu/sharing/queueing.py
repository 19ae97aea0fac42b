"""What queueing theory says of one server, to hold the simulation to. Unit 3.9.

Requests arrive by a Poisson process, one server serves them first come, first served. `rate` is in
requests a second, `service_ms` the mean time of service. Formulas: L. Kleinrock, *Queueing Systems*
1 (1975), chapters 3 and 5.
"""

from __future__ import annotations

import math

from aiinfra_labs import bounds


def use(rate: float, service_ms: float) -> float:
    """The share of time in which the server is busy: the utilisation law.

    rate: requests a second. service_ms: mean service, milliseconds. Raises ValueError below 0.
    """
    bounds.real("rate", rate, "requests a second", 0.0)
    bounds.real("service_ms", service_ms, "mean time of service, milliseconds", 0.0)
    return rate * service_ms / 1e3


def wait_ms(rate: float, service_ms: float, variation: float = 1.0) -> float:
    """Mean wait before service, M/G/1 (Pollaczek and Khinchine). Infinite from a use of 1 on.

    variation: standard deviation of the service time over its mean: 1 for exponential (M/M/1),
    0 for constant (M/D/1), which waits half as long.
    """
    bounds.real("variation", variation, "standard deviation over mean", 0.0)
    busy = use(rate, service_ms)
    if busy >= 1:
        return math.inf
    return busy * service_ms * (1 + variation**2) / (2 * (1 - busy))


def latency_percentile_ms(rate: float, service_ms: float, percent: float) -> float:
    """M/M/1: within this time `percent` percent of the requests are answered.

    The time from arrival to answer is exponential with the mean service / (1 - use).
    """
    most = math.nextafter(100.0, 0.0)
    bounds.real("percent", percent, "of the requests; within no time are all answered", 0.0, most)
    busy = use(rate, service_ms)
    if busy >= 1:
        return math.inf
    return -math.log(1 - percent / 100) * service_ms / (1 - busy)


def number_inside(rate: float, latency_ms: float) -> float:
    """Little's law: the mean number of requests that wait or are served.

    rate: requests a second. latency_ms: mean time from arrival to answer, milliseconds.
    """
    bounds.real("rate", rate, "requests a second", 0.0)
    bounds.real("latency_ms", latency_ms, "from arrival to answer, milliseconds", 0.0)
    return rate * latency_ms / 1e3
