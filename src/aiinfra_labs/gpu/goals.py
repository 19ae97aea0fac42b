"""What share of its peak and of its bandwidth a kernel can reach at once. Unit 3.7.

By the roofline (unit 3.1): at I operations for each byte a kernel reaches min(peak, I x bandwidth)
operations/s, and moves that many / I bytes/s. With r = I / ridge the shares are min(1, r) of the
peak and min(1, 1 / r) of the bandwidth: one of them is below 1 wherever r is not 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .roofline import Roofline


def shares(roof: Roofline, intensity: Any) -> tuple[Any, Any]:
    """(of the peak, of the bandwidth), at most. intensity: operations/byte, number or array."""
    reached = roof.attainable(intensity)
    return reached / roof.peak, reached / np.asarray(intensity) / roof.bandwidth


def window(roof: Roofline, of_peak: float, of_bandwidth: float) -> tuple[float, float] | None:
    """The intensities, from and to, at which both shares can be reached; None where none is.

    There is one for all goals of at most 1: the ridge itself reaches both.
    """
    low, high = of_peak * roof.ridge, roof.ridge / of_bandwidth
    return (low, high) if low <= high else None
