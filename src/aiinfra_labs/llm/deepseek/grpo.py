"""Group relative policy optimisation: answers to one question are each other's baseline. Unit 1.7.

DeepSeekMath, arXiv:2402.03300, section 4.1; DeepSeek-R1, arXiv:2501.12948, section 2.2.1. PPO's
clipped objective (arXiv:1707.06347), without its second network that guesses what to expect.

Q: questions, G: answers to each, T: tokens of the longest answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aiinfra_labs import bounds


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

    A group whose answers are all as good teaches nothing: its advantages are 0, exactly. The mean
    of equal numbers need not be that number once it is rounded, and what is left, over eps, would
    be no small advantage. (Libraries differ: TRL takes the sample's std, a constant factor.)

    rewards: a number for each answer, [..., G]. Raises ValueError for one that is not finite, for
    an empty group, or an eps that is not above 0.
    """
    eps = bounds.real("eps", eps, "it keeps equal rewards from 0 / 0", above=0.0)
    rewards = torch.as_tensor(rewards)
    if not rewards.is_floating_point():
        rewards = rewards.float()
    if not rewards.dim() or not rewards.numel() or not rewards.isfinite().all():
        raise bounds.SettingError(
            f"rewards {list(rewards.shape)}, of which {int(rewards.isfinite().sum())} are finite",
            "an answer is measured by the others to its question, so there is at least one, and "
            "each has a reward",
            "a tensor [questions, answers] of finite numbers",
        )
    centred = rewards - rewards.mean(-1, keepdim=True)
    alike = rewards.amax(-1, keepdim=True) == rewards.amin(-1, keepdim=True)
    scaled = centred / (rewards.std(-1, correction=0, keepdim=True) + eps)
    return scaled.masked_fill(alike, 0)


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ratio A, clip(ratio, 1 - clip, 1 + clip) A): no gain from going further than that.

    ratio: how much likelier a token has become since its answer was drawn, [...]. advantage:
    broadcasts to it. clip: above 0. Returns [...]. Raises ValueError for another clip.
    """
    clip = bounds.real("clip", clip, "so far a ratio may go from 1 and still gain", above=0.0)
    near = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio * advantage, near * advantage)


def kl_estimate(new: Tensor, reference: Tensor) -> Tensor:
    """r - log r - 1 with r = reference / new, of log-probabilities: 0 or more, token by token.

    Drawn from `new`, its mean is KL(new || reference) (Schulman, "Approximating KL divergence").
    new, reference: nats, [...]. Returns [...].
    """
    log_ratio = reference - new
    return log_ratio.exp() - log_ratio - 1


def mean_over_answers(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over each answer's own tokens, then over answers. x, mask: [..., T].

    What x is elsewhere does not matter, be it nan. An answer without a token counts as 0. Raises
    ValueError for shapes that differ, or where there is no answer.
    """
    mask = mask.bool()
    if x.shape != mask.shape or not x.dim() or not x.shape[:-1].numel():
        raise bounds.SettingError(
            f"values {list(x.shape)} and a mask {list(mask.shape)}",
            "each token of each answer is the answer's own or padding",
            "both [..., tokens], of at least one answer",
        )
    return (torch.where(mask, x, 0).sum(-1) / mask.sum(-1).clamp(min=1)).mean()


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
    mask: 1 for an answer's own tokens, [..., G, T]. What stands elsewhere has no part in the loss
    or in its gradient, whatever it is. Raises ValueError for shapes that do not fit.
    """
    beta = bounds.real("beta", beta, "the weight of the KL term", 0.0)
    clip = bounds.real("clip", clip, "so far a ratio may go from 1 and still gain", above=0.0)
    own = mask.bool()
    if not new.shape == old.shape == reference.shape == own.shape or (
        advantage.shape != new.shape[:-1]
    ):
        raise bounds.SettingError(
            f"log-probabilities {list(new.shape)}, {list(old.shape)} and {list(reference.shape)}, "
            f"a mask {list(own.shape)} and advantages {list(advantage.shape)}",
            "each answer has an advantage, and each of its tokens all the others",
            "tensors [..., answers, tokens], and advantages [..., answers]",
        )
    # Before exp: what overflows there is infinite, and 0 times infinity is nan, in the loss and in
    # its gradient.
    new, old, reference = (x.masked_fill(~own, 0) for x in (new, old, reference))
    ratio = torch.exp(new - old)
    advantage = advantage[..., None]  # every token of an answer has the answer's
    surrogate = clipped_surrogate(ratio, advantage, clip)
    kl = kl_estimate(new, reference)
    loss = -mean_over_answers(surrogate - beta * kl, own)
    cut = (advantage > 0) & (ratio > 1 + clip) | (advantage < 0) & (ratio < 1 - clip)
    return Terms(
        loss,
        float(mean_over_answers(surrogate, own).detach()),
        float(mean_over_answers(kl, own).detach()),
        float((cut & own).sum() / own.sum().clamp(min=1)),
    )
