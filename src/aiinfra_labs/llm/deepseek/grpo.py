"""Group relative policy optimisation: answers to one question are each other's baseline. Unit 1.7.

DeepSeekMath, arXiv:2402.03300, section 4.1; DeepSeek-R1, arXiv:2501.12948, section 2.2.1. PPO's
clipped objective (arXiv:1707.06347), without its second network that guesses what to expect.

Q: questions, G: answers to each, T: tokens of the longest answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """The loss to minimise, and what it is made of, for the record.

    surrogate, kl: means over answers. clipped: the share of tokens whose gradient was cut off.
    """

    loss: Tensor
    surrogate: float
    kl: float
    clipped: float


def advantages(rewards: Tensor, eps: float = 1e-6) -> Tensor:
    """(r - mean) / std within each group, with the population's std: float [..., G].

    A group whose answers are all as good teaches nothing: its advantages are 0. (Libraries differ:
    TRL takes the sample's std, a constant factor.)
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / (rewards.std(-1, correction=0, keepdim=True) + eps)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ratio A, clip(ratio, 1 - clip, 1 + clip) A): no gain from going further than that.

    ratio: how much likelier a token has become since its answer was drawn.
    """
    near = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio * advantage, near * advantage)


def kl_estimate(new: Tensor, reference: Tensor) -> Tensor:
    """r - log r - 1 with r = reference / new, of log-probabilities: 0 or more, token by token.

    Drawn from `new`, its mean is KL(new || reference) (Schulman, "Approximating KL divergence").
    """
    log_ratio = reference - new
    return log_ratio.exp() - log_ratio - 1


def mean_over_answers(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over each answer's own tokens, then over answers. x, mask: [..., T]."""
    return ((x * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()


def objective(
    new: Tensor,
    old: Tensor,
    reference: Tensor,
    advantage: Tensor,
    mask: Tensor,
    clip: float = 0.2,
    beta: float = 0.01,
) -> Terms:
    """GRPO's loss: what is gained on the clipped ratio, less beta x KL, with the sign turned.

    new, old, reference: log-probabilities of each answer's tokens, [..., G, T], by the model that
    is trained, by itself when it wrote them, and by the one it started from. advantage: [..., G].
    mask: 1 for an answer's own tokens, [..., G, T].
    """
    mask = mask.to(new.dtype)
    ratio = torch.exp(new - old)
    advantage = advantage[..., None]  # every token of an answer has the answer's
    surrogate = clipped_surrogate(ratio, advantage, clip)
    kl = kl_estimate(new, reference)
    loss = -mean_over_answers(surrogate - beta * kl, mask)
    cut = (advantage > 0) & (ratio > 1 + clip) | (advantage < 0) & (ratio < 1 - clip)
    return Terms(
        loss,
        float(mean_over_answers(surrogate, mask).detach()),
        float(mean_over_answers(kl, mask).detach()),
        float((cut * mask).sum() / mask.sum().clamp(min=1)),
    )
