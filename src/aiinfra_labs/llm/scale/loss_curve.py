"""A power law through measured losses: a straight line where both axes are logarithms. Unit 1.6.

Kaplan et al., arXiv:2001.08361: L = (N_c / N)^alpha while nothing but the size holds the loss up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiinfra_labs import bounds


@dataclass(frozen=True)
class Power:
    """y = factor x^-exponent. error: the largest relative distance of a point from the line."""

    factor: float
    exponent: float
    error: float

    def __call__(self, x: float) -> float:
        """y at x. Raises ValueError for an x that is not above 0."""
        bounds.real("x", x, "a power law has no value at 0", above=0.0)
        return self.factor * x**-self.exponent


def fit(x: Sequence[float], y: Sequence[float]) -> Power:
    """Least squares of log y over log x.

    Raises ValueError for fewer than three points, for one without a logarithm (nan, infinite, 0 or
    less), or where all sizes are one.
    """
    if len(x) < 3 or len(x) != len(y):
        raise bounds.SettingError(
            f"{len(x)} sizes and {len(y)} losses",
            "a line goes through any two points, and says nothing",
            "at least three sizes, each with its loss",
        )
    for name, values in (("a size", x), ("a loss", y)):
        for value in values:
            bounds.real(name, value, "both axes are logarithms", above=0.0)
    if len(set(map(float, x))) < 2:
        raise bounds.SettingError(
            f"{len(x)} losses of one size, {float(x[0]):g}",
            "no line is the steepest or the flattest through points above each other",
            "sizes that differ",
        )
    slope, height = np.polyfit(np.log(x), np.log(y), 1)
    line = np.exp(height) * np.asarray(x, float) ** slope
    error = float(np.max(np.abs(np.asarray(y) / line - 1)))
    return Power(float(np.exp(height)), float(-slope), error)
