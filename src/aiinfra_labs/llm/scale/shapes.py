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


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: keys and values are made from one short vector a token.

    DeepSeek-V2, arXiv:2405.04434, section 2.1; unit 1.7 builds it.
    """

    q_rank: int  # of the vector that queries are made from
    kv_rank: int  # of the one that keys and values are made from
    rope_dim: int  # dimensions of a key, shared by all heads, that carry the position
    value_dim: int  # of a head's value


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP: a router picks `chosen` of `routed` a token."""

    routed: int
    chosen: int
    shared: int  # that every token goes through
    width: int  # of one expert's hidden layer
    dense_layers: int = 0  # the first layers, which keep an ordinary MLP


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
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}\n"
                    "Why: a model has at least one of each\n"
                    "Try: the numbers of its config.json, or of the table in its paper"
                )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} heads and {self.kv_heads} kv heads\n"
                "Why: each kv head serves the same number of query heads\n"
                "Try: kv heads that divide the heads"
            )


def from_config(config: Mapping[str, Any]) -> Shape:
    """The shape that a Llama-like `config.json` describes; `LlamaConfig.to_dict()` is one."""
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads", heads),
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        mlp_width=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
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
        raise ValueError(
            f"there is no model {key!r}\n"
            "Why: shapes are read from models.toml\n"
            f"Try: one of {', '.join(known())}"
        )
    return known()[key].shape


def _known(key: str, entry: dict[str, Any]) -> Known:
    name, source = entry.pop("name"), entry.pop("source")
    for part, kind in (("latent", Latent), ("experts", Experts)):
        if part in entry:
            entry[part] = kind(**entry[part])
    return Known(key, name, Shape(**entry), source)
