"""A decoder-only transformer in Llama's shape, the course's own model. Unit 1.4.

RMSNorm before each part, rotary positions, grouped-query attention, SwiGLU (Touvron et al.,
arXiv:2302.13971). The parameters bear the names of Hugging Face's checkpoints, so that a file that
`transformers` saved loads here, and the other way round. B: batch, T: tokens, C: hidden size,
H: heads, D: head_dim.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import causal_mask, repeat_kv
from .positions import rope_angles, rope_frequencies, rotate


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

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(
                    f"{name} is {value}\nWhy: a model has at least one of each\nTry: 1 or more"
                )
        for whole, part in (
            ("hidden_size", "num_attention_heads"),
            ("num_attention_heads", "num_key_value_heads"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole} is {getattr(self, whole)} and {part} {getattr(self, part)}\n"
                    f"Why: {whole} is divided among them evenly\n"
                    f"Try: a {whole} that is a multiple of {part}"
                )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


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
        c, d = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(c, config.num_attention_heads * d, bias=False)
        self.k_proj = nn.Linear(c, config.num_key_value_heads * d, bias=False)
        self.v_proj = nn.Linear(c, config.num_key_value_heads * d, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * d, c, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        b, t, _ = x.shape
        d = self.config.head_dim
        query = self.q_proj(x).view(b, t, -1, d).transpose(1, 2)  # [B, H, T, D]
        key = self.k_proj(x).view(b, t, -1, d).transpose(1, 2)  # [B, kv_heads, T, D]
        value = self.v_proj(x).view(b, t, -1, d).transpose(1, 2)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        out = causal(query, key, value)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`attention` of unit 1.3 in one call, which keeps no scores [B, H, T, S] for the gradient.

    query: [B, H, T, D]. key, value: [B, kv_heads, S, D], S >= T: the last query sees all keys.
    """
    b, h, t, d = query.shape
    s, group = key.shape[2], h // key.shape[1]
    if t == 1:  # decoding: a kv head's queries are rows against its one key, and nothing is copied
        rows = query.view(b, -1, group, d)  # [B, kv_heads, group, D]
        return F.scaled_dot_product_attention(rows, key, value).view(b, h, 1, d)
    key, value = repeat_kv(key, group), repeat_kv(value, group)
    if t == s:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    mask = causal_mask(t, s, query.device)  # is_causal would align the first query with the first
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class MLP(nn.Module):
    """SwiGLU: silu(x W_gate) x W_up, and back (Shazeer, arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        c, hidden = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(c, hidden, bias=False)
        self.up_proj = nn.Linear(c, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, c, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) x weight, in float32 (Zhang and Sennrich, arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
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
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, blocks, and a norm: token ids [B, T] to hidden states [B, T, C]."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        frequencies = rope_frequencies(config.head_dim, config.rope_theta)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        start = 0 if cache is None else len(cache)
        end = start + ids.shape[1]
        if end > self.config.max_position_embeddings:
            raise ValueError(
                f"{end} tokens, and the model's context is {self.config.max_position_embeddings}\n"
                "Why: it was trained on positions up to there, and knows none behind\n"
                "Try: a shorter prompt, or fewer new tokens"
            )
        cos, sin = rope_angles(torch.arange(start, end, device=ids.device), self.frequencies)
        try:
            x = self.embed_tokens(ids)  # [B, T, C]
        except IndexError:
            raise ValueError(
                f"ids {int(ids.min())} to {int(ids.max())}, and the model has a vocabulary of "
                f"{self.config.vocab_size}\n"
                "Why: each id is a row of the embedding\n"
                "Try: the tokenizer that this model was trained with"
            ) from None
        for block in self.layers:
            x = block(x, cos, sin, cache)
        return self.norm(x)


class Llama(nn.Module):
    """The whole model: token ids [B, T] to logits [B, T, vocabulary]."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.apply(self._initialise)
        # What a block adds to the sum is made smaller, the more blocks there are (GPT-2).
        for name, weight in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.num_hidden_layers))
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """ids: int64 [B, T]. With a cache, the ids that are not in it yet."""
        return self.lm_head(self.model(ids, cache))

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the next token, in nats. ids, targets: int64 [B, T]; -1: none."""
        logits = self(ids)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)

    def parameter_count(self) -> int:
        """Each parameter once, the tied embedding too."""
        return sum(p.numel() for p in self.parameters())
