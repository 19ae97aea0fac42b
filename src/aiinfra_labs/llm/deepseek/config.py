"""The shape of a DeepSeek-V3-like decoder, by the names of its `config.json`. Unit 1.7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiinfra_labs import bounds

from .. import config_keys

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
        for name in SIZES:
            bounds.whole(name, getattr(self, name), "a model has at least one of each")
        if self.q_lora_rank is not None:
            bounds.whole("q_lora_rank", self.q_lora_rank, "of what queries are made from; or None")
        bounds.whole("first_k_dense_replace", self.first_k_dense_replace, "of the layers", 0)
        for name, what in (
            ("rope_theta", "frequencies are powers of it"),
            ("routed_scaling_factor", "what the chosen experts give is multiplied by it"),
        ):
            bounds.real(name, getattr(self, name), what, above=0.0)
        bounds.real("rms_norm_eps", self.rms_norm_eps, "it keeps the norm of zeros from 0 / 0", 0.0)
        for name in ("norm_topk_prob", "tie_word_embeddings"):
            bounds.one_of(name, getattr(self, name), (True, False), "yes or no")
        if self.qk_rope_head_dim % 2:
            raise bounds.SettingError(
                f"qk_rope_head_dim is {self.qk_rope_head_dim}",
                "RoPE turns the dimensions in pairs",
                "an even number",
            )
        if self.scoring_func not in SCORES:
            raise bounds.SettingError(
                f"scoring_func is {self.scoring_func!r}",
                "a router's scores are sigmoids, as in V3, or a softmax, as in V2",
                " or ".join(SCORES),
            )
        if self.n_routed_experts % self.n_group:
            raise bounds.SettingError(
                f"{self.n_routed_experts} experts in {self.n_group} groups",
                "all groups have the same number of experts",
                "groups that divide the experts",
            )
        reachable = self.n_routed_experts // self.n_group * self.topk_group
        if self.num_experts_per_tok > reachable or self.topk_group > self.n_group:
            raise bounds.SettingError(
                f"{self.num_experts_per_tok} experts a token, in {self.topk_group} of "
                f"{self.n_group} groups",
                f"a token reaches {reachable} experts, and goes through at least 1",
                "fewer experts a token, or more groups that it may go to",
            )

    @property
    def qk_head_dim(self) -> int:
        """Numbers of a query or key of one head."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def to_dict(self) -> dict[str, object]:
        """The settings by the names of `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> DeepSeekConfig:
        """The shape that a `config.json` describes: the course's, or one of a DeepSeek-V3.

        What it leaves out is as in `transformers.DeepseekV3Config`; a size has to be there. Raises
        ValueError for a key that is not understood: YaRN's positions, V2's choice of experts.
        """
        repeated = ("head_dim", "qk_head_dim", "num_key_value_heads", "topk_method")
        fields = (*cls.__dataclass_fields__, *repeated)
        found = config_keys.read(config, fields, ("deepseek_v3",), "this DeepSeek")
        config_keys.needed(found, [name for name in SIZES if name not in LEFT_OUT])
        why = "latent attention has one key and one value for each query head, of these sizes"
        rope = found["qk_rope_head_dim"]
        for key, value, reason in (
            ("head_dim", rope, why),
            ("qk_head_dim", rope + found["qk_nope_head_dim"], why),
            ("num_key_value_heads", found["num_attention_heads"], why),
            ("topk_method", "noaux_tc", "experts are chosen by score and bias, as in V3"),
        ):
            config_keys.agrees(found, key, value, reason)
        rank = config.get("q_lora_rank", 1536)  # null is a value here: no latent for queries
        return cls(**(LEFT_OUT | found | {"q_lora_rank": rank}))


SIZES = (
    *tuple(DeepSeekConfig.__dataclass_fields__)[:13],
    *("n_group", "topk_group", "max_position_embeddings"),
)
# What transformers takes where a file says nothing.
LEFT_OUT = {
    "n_shared_experts": 1,
    "n_group": 8,
    "topk_group": 4,
    "first_k_dense_replace": 3,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
