"""The loss as a law of size and tokens, and the best split of a budget. Unit 1.6.

Hoffmann et al., arXiv:2203.15556: L(N, D) = E + A / N^alpha + B / D^beta, fitted to more than 400
models. E is the entropy of the text, which no model goes below.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiinfra_labs import bounds


@dataclass(frozen=True)
class Law:
    """Loss in nats a token, from parameters N and tokens D."""

    floor: float  # E
    a: float
    b: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        bounds.real("floor", self.floor, "nats a token that no model goes below", 0.0)
        for name in ("a", "b", "alpha", "beta"):
            bounds.real(name, getattr(self, name), "losses fall with size and tokens", above=0.0)

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats a token of a model of N parameters that was trained on D tokens: equation 2.

        Raises ValueError for a number that is not above 0.
        """
        bounds.real("parameters", parameters, "of a model", above=0.0)
        bounds.real("tokens", tokens, "that the model was trained on", above=0.0)
        return self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta

    def optimum(self, flops: float) -> tuple[float, float]:
        """(N, D) of the least loss with 6 N D = flops: equation 4 of the paper.

        Along the budget, the derivatives of both terms by log N must cancel:
        alpha A / N^alpha = beta B / D^beta. Raises ValueError for a budget that is not above 0.
        """
        bounds.real("flops", flops, "operations of the training", above=0.0)
        both = self.alpha + self.beta
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1 / both)
        budget = flops / 6
        return g * budget ** (self.beta / both), budget ** (self.alpha / both) / g


# As printed in the paper, section D.3 (equation 10). They are rounded, and the fit was not run to
# its end: Besiroglu et al., arXiv:2404.10102, read the points off the figure and fitted anew.
HOFFMANN = Law(floor=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28)
BESIROGLU = Law(floor=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658)
