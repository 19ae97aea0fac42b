"""The shape of a DeepSeek-V3-like decoder, by the names of its `config.json`. Unit 1.7."""

from __future__ import annotations

from dataclasses import asdict, dataclass

SCORES = ("sigmoid", "softmax")  # V3 and V2: how a router turns logits into scores


@dataclass(frozen=True)
class DeepSeekConfig:
    """Latent attention in every layer, a mixture of experts in all but the first few.

    A key of a head is `qk_nope_head_dim` numbers made from the latent, and `qk_rope_head_dim` that
    carry the position and are shared by all heads.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int  # of the MLP in the first layers
    moe_intermediate_size: int  # of one expert
    num_hidden_layers: int
    num_attention_heads: int
    kv_lora_rank: int  # of the latent that keys and values are made from
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    n_routed_experts: int
    num_experts_per_tok: int
    n_shared_experts: int = 1
    q_lora_rank: int | None = None  # None: queries are made in one step
    first_k_dense_replace: int = 1  # layers with an ordinary MLP
    n_group: int = 1  # groups of experts, such as those of one machine
    topk_group: int = 1  # groups that a token may go to
    scoring_func: str = "sigmoid"
    norm_topk_prob: bool = True  # weights of the chosen experts sum to 1 ...
    routed_scaling_factor: float = 1.0  # ... times this
    max_position_embeddings: int = 1024
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        if self.scoring_func not in SCORES:
            raise ValueError(
                f"scoring_func is {self.scoring_func!r}\n"
                "Why: a router's scores are sigmoids, as in V3, or a softmax, as in V2\n"
                f"Try: {' or '.join(SCORES)}"
            )
        if self.n_routed_experts % self.n_group:
            raise ValueError(
                f"{self.n_routed_experts} experts in {self.n_group} groups\n"
                "Why: all groups have the same number of experts\n"
                "Try: groups that divide the experts"
            )
        reachable = self.n_routed_experts // self.n_group * self.topk_group
        if not 1 <= self.num_experts_per_tok <= reachable or self.topk_group > self.n_group:
            raise ValueError(
                f"{self.num_experts_per_tok} experts a token, in {self.topk_group} of "
                f"{self.n_group} groups\n"
                f"Why: a token reaches {reachable} experts, and goes through at least 1\n"
                "Try: fewer experts a token, or more groups that it may go to"
            )

    @property
    def qk_head_dim(self) -> int:
        """Numbers of a query or key of one head."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
