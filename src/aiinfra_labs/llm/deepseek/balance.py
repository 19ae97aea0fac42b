"""How evenly experts are loaded, and two ways to even it out. Unit 1.7.

E: experts, K: experts a token, T: tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .moe import Routing


def violation(load: Tensor) -> float:
    """By how much the busiest expert exceeds the mean load: 0 is balanced, E / K - 1 the worst.

    load: [E]. "MaxVio" of Wang et al., arXiv:2408.15664. Where experts lie on different GPUs, all
    wait for the busiest. Raises ValueError for a load that is negative or all 0.
    """
    load = _checked(load)
    return float(load.max() / load.mean()) - 1


def auxiliary_loss(routing: Routing) -> Tensor:
    """sum_i f_i P_i: f_i the share of tokens that expert i was given, P_i the mean of its scores.

    f_i = E / (K T) x its tokens, 1 where loads are even; P_i, of scores that sum to 1 for a token.
    1 for even loads. The gradient comes through P alone: it lowers the scores of busy experts.
    DeepSeekMoE, arXiv:2401.06066, section 3.3; after Switch Transformer, arXiv:2101.03961.
    """
    tokens, experts = routing.scores.shape
    chosen = routing.experts.shape[1]
    f = routing.load * (experts / (chosen * tokens))  # [E], a count: no gradient
    p = (routing.scores / routing.scores.sum(-1, keepdim=True)).mean(0)  # [E]
    return (f * p).sum()


@torch.no_grad()
def move_bias(bias: Tensor, load: Tensor, gamma: float) -> Tensor:
    """b_i + gamma where expert i was given less than the mean, b_i - gamma where more.

    bias: [E]. load: [E], of the last step. DeepSeek-V3, arXiv:2412.19437, section 2.1.2, with
    gamma = 0.001; the sign and not the size of the error, so that no step is large. Returns [E].
    Raises ValueError for a gamma below 0, or another number of biases than of experts.
    """
    gamma = bounds.real("gamma", gamma, "by so much a bias goes up or down", 0.0)
    load = load.double()
    if bias.shape != load.shape or not load.isfinite().all():
        raise bounds.SettingError(
            f"biases {list(bias.shape)} and loads {list(load.shape)}",
            "each expert has one of both, and a load is a count",
            "the bias and the load of the same router",
        )
    return bias + gamma * torch.sign(load.mean() - load).to(bias)


def busiest_device(load: Tensor, devices: int) -> float:
    """How many times the mean the busiest of `devices` has to do, experts dealt out in order.

    Expert parallelism: a step lasts as long as its busiest device takes. load: [E]. Raises
    ValueError where the devices do not divide the experts.
    """
    load = _checked(load)
    bounds.whole("devices", devices, "experts are dealt out to them", 1, len(load))
    if len(load) % devices:
        raise bounds.SettingError(
            f"{len(load)} experts on {devices} devices",
            "each device has as many as any other",
            f"devices that divide {len(load)}",
        )
    shares = load.unflatten(0, (devices, -1)).sum(-1)  # [devices]
    return float(shares.max() / shares.mean())


def _checked(load: Tensor) -> Tensor:
    """A load as float64 [E]: counts, of which some are not 0."""
    wide = torch.as_tensor(load).double()
    if wide.dim() != 1 or not wide.numel() or not (wide >= 0).all() or not wide.sum().isfinite():
        raise bounds.SettingError(
            f"a load of {wide.tolist()!r:.80}",
            "it is a count of tokens for each expert",
            "the load of a routing, int64 [experts]",
        )
    if not wide.sum():
        raise bounds.SettingError(
            f"a load of 0 for all {len(wide)} experts",
            "without a token none is busier than the others",
            "the load of a routing of at least one token",
        )
    return wide
