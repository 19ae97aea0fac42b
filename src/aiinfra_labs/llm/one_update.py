"""One update in NumPy, with numbers small enough to follow by hand. Unit 1.4.

Four tokens may come next. Their four scores are all the weights that this smallest model has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TOKENS = ("x", "y", "0", "None")  # what may follow `self.x =`
SCORES = np.array([0.5, 1.0, 0.0, 0.0])  # the logits, before the update
TARGET = 0  # what the text goes on with: x
RATE = 2.0  # the learning rate


def update(scores: Array, target: int, rate: float) -> tuple[Array, float, Array]:
    """One step down the gradient. scores: [V]. Returns new scores, the loss before, its gradient.

    target: the token that came next. rate: how far to go.
    """
    shares = np.exp(scores) / np.exp(scores).sum()  # softmax
    loss = -np.log(shares[target])  # cross-entropy, in nats
    gradient = shares.copy()  # of the loss, by each score
    gradient[target] -= 1
    return scores - rate * gradient, loss, gradient
