"""How much faster speculation is: formulas, and a simulation that needs no model. Unit 4.4.

a: the rate of acceptance, k: drafted tokens a step, c: the time of a draft token over the time of a
step of the model for one token. Leviathan et al., arXiv:2211.17192, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aiinfra_labs.llm import phases
from aiinfra_labs.llm.phases import PhaseCost
from aiinfra_labs.llm.scale.shapes import Shape


def expected_tokens(a: float, k: int) -> float:
    """Tokens of a step on average: 1 + a + ... + a^k = (1 - a^(k+1)) / (1 - a).

    For drafts each of which is accepted with probability a, whatever the others are.
    """
    return float(k + 1) if a == 1 else (1 - a ** (k + 1)) / (1 - a)


def speedup(a: float, k: int, c: float, verify: float = 1.0) -> float:
    """Tokens of a step over the time of a step; without speculation each costs 1.

    verify: the time of a step for k + 1 tokens over that of a step for one.
    """
    return expected_tokens(a, k) / (k * c + verify)


def best_drafts(a: float, c: float, verify: Sequence[float]) -> tuple[int, float]:
    """(k, speedup) of the fastest, the smallest k of equal ones. verify[k]: of k + 1 tokens.

    A k of 0 is no speculation, and its speedup is 1.
    """
    found = [1.0, *(speedup(a, k, c, verify[k]) for k in range(1, len(verify)))]
    best = int(np.argmax(found))
    return best, found[best]


def simulate(a: float, k: int, steps: int, seed: int = 0) -> np.ndarray:
    """Tokens of each of so many steps, int64 [steps]: drafts are accepted until one is not."""
    right = np.random.default_rng(seed).random((steps, k)) < a
    return 1 + np.cumprod(right, axis=1).sum(axis=1)


def verify(shape: Shape, context: int, drafts: int, batch: int = 1, itemsize: int = 2) -> PhaseCost:
    """A step in which each of `batch` sequences has one token and so many drafts computed.

    Weights and caches are read once, as in `phases.decode`; operations are those of all tokens.
    """
    one = phases.decode(shape, context, batch, itemsize)
    more = drafts + 1
    return replace(one, flops=one.flops * more, attention_flops=one.attention_flops * more)
