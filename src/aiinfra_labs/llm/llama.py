"""A decoder-only transformer in Llama's shape, the course's own model. Unit 1.4.

RMSNorm before each part, rotary positions, grouped-query attention, SwiGLU (Touvron et al.,
arXiv:2302.13971). The parameters bear the names of Hugging Face's checkpoints, so that a file that
`transformers` saved loads here, and the other way round. B: batch, T: tokens, C: hidden size,
H: heads, D: head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from . import config_keys
from .attention import causal_mask, repeat_kv
from .embedding import TokenEmbedding
from .positions import KeepsFloat32, rope_angles, rope_frequencies, rotate


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a model, by the names of `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 1024
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    attention_bias: bool = False  # of all four projections
    mlp_bias: bool = False
    sliding_window: int | None = None  # tokens a query looks back over, its own too: Mistral's

    def __post_init__(self) -> None:
        for name in SIZES:
            bounds.whole(name, getattr(self, name), "a model has at least one of each")
        bounds.real("rope_theta", self.rope_theta, "frequencies are powers of it", above=0.0)
        bounds.real("rms_norm_eps", self.rms_norm_eps, "it keeps the norm of zeros from 0 / 0", 0.0)
        for name in ("tie_word_embeddings", "attention_bias", "mlp_bias"):
            bounds.one_of(name, getattr(self, name), (True, False), "yes or no")
        if self.sliding_window is not None:
            bounds.whole("sliding_window", self.sliding_window, "a query sees itself, at least")
            if self.attention_bias or self.mlp_bias:
                raise bounds.SettingError(
                    f"sliding_window is {self.sliding_window}, and there are biases",
                    "the window is Mistral's and the biases are Llama's: no checkpoint has both",
                    "one of the two",
                )
        for whole, part in (
            ("hidden_size", "num_attention_heads"),
            ("num_attention_heads", "num_key_value_heads"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise bounds.SettingError(
                    f"{whole} is {getattr(self, whole)} and {part} {getattr(self, part)}",
                    f"{whole} is divided among them evenly",
                    f"a {whole} that is a multiple of {part}",
                )
        if self.head_dim % 2:
            raise bounds.SettingError(
                f"head_dim is {self.head_dim}: hidden_size {self.hidden_size} by "
                f"{self.num_attention_heads} heads",
                "RoPE turns the dimensions of a head in pairs",
                "a hidden_size that gives each head an even number of them",
            )

    @property
    def head_dim(self) -> int:
        """Dimensions of a head: hidden_size / num_attention_heads."""
        return self.hidden_size // self.num_attention_heads

    def to_dict(self) -> dict[str, object]:
        """The settings by the names of `config.json`; rare ones only where they are set."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in RARE or value not in (False, None)
        }

    @property
    def family(self) -> str:
        """The model_type of a checkpoint: a window over all layers makes a Mistral of a Llama."""
        return "llama" if self.sliding_window is None else "mistral"

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> LlamaConfig:
        """The shape that a `config.json` describes: the course's, or one that transformers wrote.

        What it leaves out is as in `transformers.LlamaConfig`, or for a model_type of "mistral" as
        in `MistralConfig`. Raises ValueError for a key that is not understood, such as a rule of
        scaled positions, and for a size that is missing.
        """
        families = ("llama", "mistral")
        found = config_keys.read(config, (*SETTINGS, "head_dim"), families, "this Llama")
        config_keys.needed(found, SIZES[:5])
        absent: dict[str, Any] = {
            "num_key_value_heads": found["num_attention_heads"],
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        }
        family = config.get("model_type")
        if family == "mistral":
            absent |= {"num_key_value_heads": 8, "max_position_embeddings": 131_072}
            absent |= {"sliding_window": config.get("sliding_window", 4096)}  # a null is kept
        for key in RARE:
            if key in found and found[key] and family not in (None, RARE[key]):
                raise bounds.SettingError(
                    f"the config sets {key} to {found[key]!r}, and is of a {family}",
                    f"transformers passes the key over there, and heeds it in a {RARE[key]}",
                    f"model_type of {RARE[key]!r}, if the model was trained so",
                )
        head_dim = found.pop("head_dim", None)
        made = cls(**(absent | found))
        config_keys.agrees(
            {} if head_dim is None else {"head_dim": head_dim},
            "head_dim",
            made.head_dim,
            "this Llama's heads share the hidden size evenly",
        )
        return made


SETTINGS = tuple(LlamaConfig.__dataclass_fields__)
SIZES = SETTINGS[:7]  # whole numbers; the first five have no default
RARE = {"attention_bias": "llama", "mlp_bias": "llama", "sliding_window": "mistral"}  # whose


class KVCache:
    """Keys and values of the tokens so far, a tensor a layer: [B, kv_heads, T, D]."""

    def __init__(self, layers: int):
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers

    def __len__(self) -> int:
        """How many tokens it holds."""
        return 0 if self.keys[0] is None else self.keys[0].shape[2]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of the layer, the new ones last."""
        if self.keys[layer] is not None:
            key = torch.cat((self.keys[layer], key), dim=2)
            value = torch.cat((self.values[layer], value), dim=2)
        self.keys[layer], self.values[layer] = key, value
        return key, value


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: LlamaConfig, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        c, d, bias = config.hidden_size, config.head_dim, config.attention_bias
        self.q_proj = nn.Linear(c, config.num_attention_heads * d, bias=bias)
        self.k_proj = nn.Linear(c, config.num_key_value_heads * d, bias=bias)
        self.v_proj = nn.Linear(c, config.num_key_value_heads * d, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * d, c, bias=bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """x: float [B, T, C]. cos, sin: [T, D / 2], of these tokens' positions. Returns [B, T, C].

        With a cache, queries see what it holds, too, and it grows by T.
        """
        b, t, _ = x.shape
        d = self.config.head_dim
        query = self.q_proj(x).view(b, t, -1, d).transpose(1, 2)  # [B, H, T, D]
        key = self.k_proj(x).view(b, t, -1, d).transpose(1, 2)  # [B, kv_heads, T, D]
        value = self.v_proj(x).view(b, t, -1, d).transpose(1, 2)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        out = causal(query, key, value, self.config.sliding_window)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))


def causal(query: Tensor, key: Tensor, value: Tensor, window: int | None = None) -> Tensor:
    """`attention` of unit 1.3 in one call, which keeps no scores [B, H, T, S] for the gradient.

    query: [B, H, T, D]. key, value: [B, kv_heads, S, D], S >= T: the last query sees all keys.
    window: a query sees only so many keys, its own and those before it; None: all before it.
    Raises ValueError for a window of no key.
    """
    b, h, t, d = query.shape
    if window is not None:
        bounds.whole("window", window, "a query sees its own key at least")
    if window is not None and key.shape[2] > window + t - 1:  # nobody sees the ones before
        key, value = key[:, :, 1 - t - window :], value[:, :, 1 - t - window :]
    s, group = key.shape[2], h // key.shape[1]
    if t == 1:  # decoding: a kv head's queries are rows against its one key, and nothing is copied
        rows = query.view(b, -1, group, d)  # [B, kv_heads, group, D]
        return F.scaled_dot_product_attention(rows, key, value).view(b, h, 1, d)
    key, value = repeat_kv(key, group), repeat_kv(value, group)
    windowed = window is not None and window < s
    if t == s and not windowed:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mask = causal_mask(t, s, query.device)  # is_causal would align the first query with the first
    if windowed:
        mask = mask.triu(s - t + 1 - window)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class MLP(nn.Module):
    """SwiGLU: silu(x W_gate) x W_up, and back (Shazeer, arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig, bias: bool = False):
        super().__init__()
        c, hidden = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(c, hidden, bias=bias)
        self.up_proj = nn.Linear(c, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, c, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """float [..., C] to [..., C]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) x weight, in float32 (Zhang and Sennrich, arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., C], in the type of x."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the sum x runs through all layers."""

    def __init__(self, config: LlamaConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config, config.mlp_bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """[B, T, C] to [B, T, C]. Angles and cache are the attention's."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(KeepsFloat32):
    """Embedding, blocks, and a norm: token ids [B, T] to hidden states [B, T, C].

    `frequencies`, RoPE's, stay float32 in a model of another precision.
    """

    float32 = ("frequencies",)

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        frequencies = rope_frequencies(config.head_dim, config.rope_theta)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """ids: int64 [B, T], with a cache those that are not in it yet. Returns [B, T, C].

        Raises ValueError for an id outside the vocabulary, or more tokens than the context.
        """
        start = 0 if cache is None else len(cache)
        end = start + ids.shape[1]
        if end > self.config.max_position_embeddings:
            raise ValueError(
                f"{end} tokens, and the model's context is {self.config.max_position_embeddings}\n"
                "Why: it was trained on positions up to there, and knows none behind\n"
                "Try: a shorter prompt, or fewer new tokens"
            )
        cos, sin = rope_angles(torch.arange(start, end, device=ids.device), self.frequencies)
        x = self.embed_tokens(ids)  # [B, T, C]
        for block in self.layers:
            x = block(x, cos, sin, cache)
        return self.norm(x)


class LanguageModel(nn.Module):
    """What decoders have in common: `forward(ids)` gives logits [B, T, vocabulary]."""

    def initialise(self, into_the_sum: tuple[str, ...], layers: int) -> None:
        """Draw all weights. into_the_sum: ends of names, of what blocks add to the sum x: it is
        made smaller, the more blocks there are (GPT-2)."""
        self.apply(_draw)
        for name, weight in self.named_parameters():
            if name.endswith(into_the_sum):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers))

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the next token, in nats. ids, targets: int64 [B, T]; -1: none."""
        logits = self(ids)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)

    def parameter_count(self) -> int:
        """Each parameter once, the tied embedding too; buffers are none."""
        return sum(p.numel() for p in self.parameters())


def _draw(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class Llama(LanguageModel):
    """The whole model: token ids [B, T] to logits [B, T, vocabulary]."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.initialise(("o_proj.weight", "down_proj.weight"), config.num_hidden_layers)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """ids: int64 [B, T], with a cache those that are not in it yet. Returns [B, T, vocabulary].

        Raises ValueError for an id outside the vocabulary, or more tokens than the context.
        """
        return self.lm_head(self.model(ids, cache))
