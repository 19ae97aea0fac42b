"""A mixture of experts: many small MLPs, of which a router gives each token a few. Unit 1.7.

DeepSeekMoE, arXiv:2401.06066: fine-grained experts, and shared ones that every token goes through.
DeepSeek-V3, arXiv:2412.19437, section 2.1.2: sigmoid scores, and a bias that moves the choice only.

T: tokens, C: hidden size, E: routed experts, K: experts a token, M: width of an expert.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from ..llama import MLP
from ..positions import KeepsFloat32
from .config import DeepSeekConfig


@dataclass(frozen=True)
class Routing:
    """Where tokens go. scores: [T, E]. experts: int64 [T, K]. weights: [T, K]."""

    scores: Tensor
    experts: Tensor
    weights: Tensor

    @property
    def load(self) -> Tensor:
        """How many tokens each expert was given: int64 [E]."""
        return self.experts.flatten().bincount(minlength=self.scores.shape[1])


def choose(scores: Tensor, bias: Tensor, k: int, groups: int = 1, reached: int = 1) -> Tensor:
    """The k experts of each token with the largest score + bias: int64 [T, K].

    scores: [T, E]. bias: [E]. Experts stand in `groups`, and a token may go to those of `reached`
    groups, the ones whose two best experts together score highest: fewer machines to send it to.
    Raises ValueError where k experts cannot be reached, or a score is nan.
    """
    experts = scores.shape[-1]
    bounds.whole("groups", groups, "experts stand in groups of equal size", 1, experts)
    bounds.whole("reached", reached, "groups that a token may go to", 1, groups)
    bounds.whole("k", k, "experts that a token goes to", 1, experts // groups * reached)
    if experts % groups:
        raise bounds.SettingError(
            f"{experts} experts in {groups} groups",
            "all groups have the same number of experts",
            "groups that divide the experts",
        )
    if scores.isnan().any():
        raise bounds.SettingError(
            "a router's score is nan",
            "an order of experts needs numbers: the training has diverged, or its input is nan",
            "an older checkpoint, or a lower learning rate",
        )
    wanted = scores + bias  # [T, E]
    if reached < groups:
        by_group = wanted.unflatten(1, (groups, -1))  # [T, groups, E / groups]
        best = by_group.topk(min(2, by_group.shape[-1]), -1)[0].sum(-1)  # [T, groups]
        near = torch.zeros_like(best, dtype=torch.bool)
        near.scatter_(1, best.topk(reached, -1)[1], True)
        wanted = by_group.masked_fill(~near[..., None], -torch.inf).flatten(1)
    return wanted.topk(k, -1)[1]


class Router(KeepsFloat32):
    """Scores every expert for every token, and chooses.

    The bias stays float32 in a model of another precision: steps of 0.001, added to a bias near 1,
    would be rounded away by bfloat16.
    """

    float32 = ("e_score_correction_bias",)

    def __init__(self, config: DeepSeekConfig):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        nn.init.normal_(self.weight, std=0.02)
        # Added to the scores for the choice, never to the weights; no gradient reaches it.
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))

    def forward(self, x: Tensor) -> Routing:
        """x: float [T, C]."""
        config = self.config
        # float32: a near tie must not be rounded.
        logits = F.linear(x.float(), self.weight.float())  # [T, E]
        scores = logits.sigmoid() if config.scoring_func == "sigmoid" else logits.softmax(-1)
        experts = choose(
            scores.detach(),
            self.e_score_correction_bias,
            config.num_experts_per_tok,
            config.n_group,
            config.topk_group,
        )
        weights = scores.gather(1, experts)  # [T, K]
        if config.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(scores, experts, weights * config.routed_scaling_factor)


class Experts(nn.Module):
    """All routed experts, each a SwiGLU; gate and up lie in one matrix."""

    def __init__(self, config: DeepSeekConfig):
        super().__init__()
        e, c, m = config.n_routed_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(e, 2 * m, c))
        self.down_proj = nn.Parameter(torch.empty(e, c, m))
        for weight in (self.gate_up_proj, self.down_proj):
            nn.init.normal_(weight, std=0.02)

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """x: [T, C] to [T, C]. Each expert sees the tokens that it was given, and no others."""
        k = routing.experts.shape[1]
        order = routing.experts.flatten().argsort(stable=True)  # [T K]: one expert's side by side
        given = order.split(routing.load.tolist())
        weights, out = routing.weights.flatten(), torch.zeros_like(x)
        for rows, gate_up, down in zip(
            given, self.gate_up_proj.unbind(0), self.down_proj.unbind(0), strict=True
        ):
            if len(rows):
                tokens = rows // k
                gate, up = F.linear(x[tokens], gate_up).chunk(2, dim=-1)  # [n, M] each
                y = F.linear(F.silu(gate) * up, down) * weights[rows, None]  # [n, C]
                out = out.index_add(0, tokens, y.to(out.dtype))
        return out


class MoE(nn.Module):
    """Routed experts by their weights, and the shared ones for every token."""

    def __init__(self, config: DeepSeekConfig):
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        shared = config.n_shared_experts * config.moe_intermediate_size
        self.shared_experts = MLP(replace(config, intermediate_size=shared))
        self.routing: Routing | None = None  # of the last call, for what balances the load

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C]."""
        tokens = x.flatten(0, -2)  # [T, C]
        self.routing = self.gate(tokens)
        out = self.experts(tokens, self.routing) + self.shared_experts(tokens)
        return out.view(x.shape)
