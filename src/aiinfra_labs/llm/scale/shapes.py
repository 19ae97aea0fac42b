"""The shape of a decoder-only model: the few numbers that all others follow from. Unit 1.6.

`shape("llama-3-8b")` reads `models.toml`, where each shape has its source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from aiinfra_labs import bounds

from .. import config_keys


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: keys and values are made from one short vector a token.

    DeepSeek-V2, arXiv:2405.04434, section 2.1; unit 1.7 builds it.
    """

    q_rank: int | None  # of the vector that queries are made from; None: made in one step
    kv_rank: int  # of the one that keys and values are made from
    rope_dim: int  # dimensions of a key, shared by all heads, that carry the position
    value_dim: int  # of a head's value

    def __post_init__(self) -> None:
        for name in ("kv_rank", "rope_dim", "value_dim"):
            bounds.whole(name, getattr(self, name), "numbers of a vector")
        if self.q_rank is not None:
            bounds.whole("q_rank", self.q_rank, "numbers of a vector; None where there is none")


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP: a router picks `chosen` of `routed` a token."""

    routed: int
    chosen: int
    shared: int  # that every token goes through
    width: int  # of one expert's hidden layer
    dense_layers: int = 0  # the first layers, which keep an ordinary MLP

    def __post_init__(self) -> None:
        bounds.whole("routed", self.routed, "experts that a router picks from")
        bounds.whole("chosen", self.chosen, "experts that a token goes through", 1, self.routed)
        bounds.whole("shared", self.shared, "experts that every token goes through", 0)
        bounds.whole("width", self.width, "of one expert's hidden layer")
        bounds.whole("dense_layers", self.dense_layers, "layers with an ordinary MLP", 0)


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer. Names differ from paper to paper; the numbers are the same."""

    layers: int
    width: int  # of the residual stream: hidden_size, d_model, n_embd
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    vocabulary: int
    gated: bool = True  # SwiGLU, GeGLU: three matrices, not two
    tied: bool = True  # the table of embeddings is the last matrix, too
    biases: bool = False  # on each matrix of a block and each norm, as GPT-2 has
    positions: int = 0  # rows of a learned table
    norms: int = 2  # of a block; one where attention and MLP stand side by side, as in PaLM
    latent: Latent | None = None
    experts: Experts | None = None

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_width", "vocabulary"):
            bounds.whole(name, getattr(self, name), "a model has at least one of each")
        bounds.whole("positions", self.positions, "rows of a learned table; 0: there is none", 0)
        bounds.whole("norms", self.norms, "of a block", 1, 4)
        if self.heads % self.kv_heads:
            raise bounds.SettingError(
                f"{self.heads} heads and {self.kv_heads} kv heads",
                "each kv head serves the same number of query heads",
                "kv heads that divide the heads",
            )
        if self.experts is not None and self.experts.dense_layers > self.layers:
            raise bounds.SettingError(
                f"{self.experts.dense_layers} dense layers of {self.layers}",
                "the first layers keep an ordinary MLP, and no more than there are",
                "the layers of its config.json",
            )


NEEDED = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)
LLAMA = (*NEEDED, "num_key_value_heads", "head_dim", "tie_word_embeddings")
MIXTRAL = ("num_local_experts", "num_experts_per_tok")
DEEPSEEK_NEEDED = (
    "kv_lora_rank",
    "qk_rope_head_dim",
    "qk_nope_head_dim",
    "v_head_dim",
    "n_routed_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
)
DEEPSEEK = (
    *DEEPSEEK_NEEDED,
    "q_lora_rank",
    "qk_head_dim",
    "n_shared_experts",
    "first_k_dense_replace",
)
# What has no part in the number of parameters, operations or bytes.
NO_SIZE = (
    "max_position_embeddings",
    "n_group",
    "norm_topk_prob",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "routed_scaling_factor",
    "scoring_func",
    "topk_group",
    "topk_method",
)
FAMILIES = ("llama", "mistral", "mixtral", "deepseek_v3")


def from_config(config: Mapping[str, Any]) -> Shape:
    """The shape that a `config.json` describes: of a Llama, a Mixtral, or a DeepSeek-V3.

    The course's own `LlamaConfig.to_dict()` and `DeepSeekConfig.to_dict()` are such, too. Raises
    ValueError for a key that is not understood, such as biases or another activation, and for a
    size that is missing.
    """
    if isinstance(config, Mapping):  # how positions are turned costs nothing, whatever the rule
        config = {key: value for key, value in config.items() if key not in NO_SIZE}
    found = config_keys.read(config, (*LLAMA, *MIXTRAL, *DEEPSEEK), FAMILIES, "from_config")
    config_keys.needed(found, NEEDED)
    if "kv_lora_rank" in found:
        return _deepseek(found)
    heads = found["num_attention_heads"]
    if "num_local_experts" not in found and (odd := set(found) - set(LLAMA)):
        raise bounds.SettingError(
            f"the config sets {sorted(odd)[0]}, and is neither of a Mixtral nor of a DeepSeek-V3",
            "experts and latent attention are described by several keys together",
            "the whole config.json",
        )
    return Shape(
        layers=found["num_hidden_layers"],
        width=found["hidden_size"],
        heads=heads,
        kv_heads=found.get("num_key_value_heads", heads),
        head_dim=found.get("head_dim") or found["hidden_size"] // heads,
        mlp_width=found["intermediate_size"],
        vocabulary=found["vocab_size"],
        tied=found.get("tie_word_embeddings", False),
        experts=_mixtral(found) if "num_local_experts" in found else None,
    )


def _mixtral(found: Mapping[str, Any]) -> Experts:
    """Experts in every layer, each as wide as a Llama's MLP (arXiv:2401.04088, section 2.1)."""
    config_keys.needed(found, MIXTRAL)
    chosen = found["num_experts_per_tok"]
    return Experts(found["num_local_experts"], chosen, 0, found["intermediate_size"])


def _deepseek(found: Mapping[str, Any]) -> Shape:
    """Latent attention, and experts in all layers but the first."""
    absent = {"n_shared_experts": 1, "first_k_dense_replace": 1, "q_lora_rank": None}
    found = absent | found
    config_keys.needed(found, DEEPSEEK_NEEDED)
    return Shape(
        layers=found["num_hidden_layers"],
        width=found["hidden_size"],
        heads=found["num_attention_heads"],
        kv_heads=found["num_attention_heads"],
        head_dim=found["qk_nope_head_dim"],
        mlp_width=found["intermediate_size"],
        vocabulary=found["vocab_size"],
        tied=found.get("tie_word_embeddings", False),
        latent=Latent(
            q_rank=found["q_lora_rank"],
            kv_rank=found["kv_lora_rank"],
            rope_dim=found["qk_rope_head_dim"],
            value_dim=found["v_head_dim"],
        ),
        experts=Experts(
            routed=found["n_routed_experts"],
            chosen=found["num_experts_per_tok"],
            shared=found["n_shared_experts"],
            width=found["moe_intermediate_size"],
            dense_layers=min(found["first_k_dense_replace"], found["num_hidden_layers"]),
        ),
    )


@dataclass(frozen=True)
class Known:
    """A model of `models.toml`: its shape, and the document that gives it."""

    key: str
    name: str
    shape: Shape
    source: str


@cache
def known() -> dict[str, Known]:
    """Every model of `models.toml`, in its order."""
    return read(files(__package__).joinpath("models.toml").read_text(encoding="utf-8"))


def read(text: str) -> dict[str, Known]:
    """The models of a text in the form of `models.toml`."""
    return {key: _known(key, entry) for key, entry in tomllib.loads(text).items()}


def shape(key: str) -> Shape:
    """The shape of a model by its key. Raises ValueError for one that is not there."""
    if key not in known():
        raise bounds.SettingError(
            f"there is no model {key!r}",
            "shapes are read from models.toml",
            f"one of {', '.join(known())}",
        )
    return known()[key].shape


def _known(key: str, entry: dict[str, Any]) -> Known:
    name, source = entry.pop("name"), entry.pop("source")
    for part, kind in (("latent", Latent), ("experts", Experts)):
        if part in entry:
            entry[part] = kind(**entry[part])
    return Known(key, name, Shape(**entry), source)
