"""A power law through measured losses: a straight line where both axes are logarithms. Unit 1.6.

Kaplan et al., arXiv:2001.08361: L = (N_c / N)^alpha while nothing but the size holds the loss up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Power:
    """y = factor x^-exponent. error: the largest relative distance of a point from the line."""

    factor: float
    exponent: float
    error: float

    def __call__(self, x: float) -> float:
        return self.factor * x**-self.exponent


def fit(x: Sequence[float], y: Sequence[float]) -> Power:
    """Least squares of log y over log x. Raises ValueError for fewer than three points."""
    if len(x) < 3 or len(x) != len(y):
        raise ValueError(
            f"{len(x)} sizes and {len(y)} losses\n"
            "Why: a line goes through any two points, and says nothing\n"
            "Try: at least three sizes, each with its loss"
        )
    slope, height = np.polyfit(np.log(x), np.log(y), 1)
    line = np.exp(height) * np.asarray(x, float) ** slope
    error = float(np.max(np.abs(np.asarray(y) / line - 1)))
    return Power(float(np.exp(height)), float(-slope), error)
