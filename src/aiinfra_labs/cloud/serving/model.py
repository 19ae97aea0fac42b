"""The decoder that the engine serves: Llama, Mistral, Qwen2, Qwen3 differ in few lines. Unit 4.3.

Tokens of all sequences lie in one row, [T], without padding: a step may hold 500 tokens of one
prompt and one token of each of 60 other sequences. Only attention needs to know which token is
whose, and it is given to the model as a function; so the model knows nothing of caches or batches.

T: tokens of the step, C: hidden size, H: heads, K: kv heads, D: head_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs.llm import rope_scaling
from aiinfra_labs.llm.positions import rope_frequencies, rotate

# attend(layer, query [T, H, D], key [T, K, D], value [T, K, D], window) -> [T, H, D]: puts keys and
# values where they belong, and lets each query look back over its own sequence: over all of it
# (None), or over the last `window` tokens, its own included.
Attend = Callable[[int, Tensor, Tensor, Tensor, int | None], Tensor]


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder, by the names of `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] = field(default_factory=dict)  # {"rope_type": "llama3", ...}
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    qkv_bias: bool = False  # Qwen2
    o_bias: bool = False  # with qkv_bias: what Llama and Qwen3 call attention_bias
    mlp_bias: bool = False
    qk_norm: bool = False  # Qwen3
    windows: tuple[int | None, ...] = ()  # tokens that each layer looks back over; None, (): all

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in all layers, float32."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * 4

    def window(self, layer: int) -> int | None:
        """Tokens that a query of the layer looks back over, its own included; None: all."""
        return self.windows[layer] if self.windows else None


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) x weight, over the last axis."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        """float [..., C] to [..., C]."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Projections, rotary positions, and whatever attention the engine has."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.window = config.window(layer)
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        # One product instead of three: the weights of q, k and v below each other.
        rows = (self.heads + 2 * self.kv_heads) * config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, rows, bias=config.qkv_bias)
        self.o_proj = nn.Linear(self.heads * config.head_dim, config.hidden_size, config.o_bias)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.qk_norm = config.qk_norm

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """x: float [T, C]. cos, sin: [T, 1, D / 2], of each token's position. Returns [T, C]."""
        t, rotated = len(x), self.heads + self.kv_heads
        qkv = self.qkv_proj(x).view(t, rotated + self.kv_heads, self.head_dim)  # [T, H + 2 K, D]
        turned, value = qkv[:, :rotated], qkv[:, rotated:]
        if self.qk_norm:
            query, key = turned.split((self.heads, self.kv_heads), dim=1)
            turned = torch.cat((self.q_norm(query), self.k_norm(key)), dim=1)
        turned = rotate(turned, cos, sin)  # queries and keys alike, [T, H + K, D]
        query, key = turned.split((self.heads, self.kv_heads), dim=1)
        return self.o_proj(attend(self.layer, query, key, value, self.window).reshape(t, -1))


class MLP(nn.Module):
    """SwiGLU; the weights of gate and up below each other."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        c, hidden = config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Linear(c, 2 * hidden, bias=config.mlp_bias)
        self.down_proj = nn.Linear(hidden, c, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """float [..., C] to [..., C]."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """float [T, C] to [T, C]; angles and `attend` are the attention's."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class CausalLM(nn.Module):
    """ids [T] to hidden states [T, C], and of those that are asked for, logits."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        cos, sin = rotary_table(config)
        self.register_buffer("cos", cos, persistent=False)  # [positions, 1, D / 2]
        self.register_buffer("sin", sin, persistent=False)

    @classmethod
    def unfilled(
        cls, config: ModelConfig, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> CausalLM:
        """A model without weights, which a checkpoint fills: no number is drawn to be replaced."""
        with torch.device("meta"):  # shapes alone
            model = cls(config)
        model = model.to(dtype).to_empty(device=device)
        if config.tie_word_embeddings:
            model.lm_head.weight = model.embed_tokens.weight
        cos, sin = rotary_table(config)
        model.cos, model.sin = cos.to(device, dtype), sin.to(device, dtype)
        return model

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """ids, positions: int64 [T]. Returns the hidden states behind the last norm, [T, C]."""
        x = self.embed_tokens(ids)
        cos, sin = self.cos[positions], self.sin[positions]  # [T, 1, D / 2], for all heads
        for layer in self.layers:
            x = layer(x, cos, sin, attend)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., C] to [..., vocabulary]."""
        return self.lm_head(hidden)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the embedding, and of all that is computed."""
        return self.embed_tokens.weight.dtype


def rotary_table(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin for every position and pair: float32 [positions, 1, D / 2] each."""
    d, base, rule = config.head_dim, config.rope_theta, config.rope_scaling
    frequencies, stretch = rope_frequencies(d, base), 1.0
    kind = rule.get("rope_type", "default")
    trained = rule.get("original_max_position_embeddings", config.max_position_embeddings)
    if kind == "linear":
        frequencies = rope_scaling.linear(frequencies, rule["factor"])
    elif kind == "llama3":
        low, high = rule["low_freq_factor"], rule["high_freq_factor"]
        frequencies = rope_scaling.llama3(frequencies, rule["factor"], trained, low, high)
    elif kind == "yarn":
        slow, fast = rule.get("beta_slow") or 1, rule.get("beta_fast") or 32  # 0 is "not given"
        whole_pairs = rule.get("truncate", True)
        frequencies, _ = rope_scaling.yarn(
            d, base, rule["factor"], trained, slow, fast, whole_pairs
        )
        stretch = rope_scaling.yarn_stretch(
            rule["factor"],
            rule.get("attention_factor"),
            rule.get("mscale"),
            rule.get("mscale_all_dim"),
        )
    angles = torch.arange(config.max_position_embeddings)[:, None, None] * frequencies
    return angles.cos() * stretch, angles.sin() * stretch


def causal_attention(
    layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None = None
) -> Tensor:
    """An `Attend` for one whole sequence and no cache: what training and perplexity need."""
    return whole_sequences(1, query, key, value, window)


def whole_sequences(
    count: int, query: Tensor, key: Tensor, value: Tensor, window: int | None = None
) -> Tensor:
    """Causal attention of `count` sequences of one length, one behind the other, and no cache.

    query: [count x T, H, D]. key, value: [count x T, K, D]. Returns [count x T, H, D].
    """
    q, k, v = (x.unflatten(0, (count, -1)).transpose(1, 2) for x in (query, key, value))
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)  # [count, H, T, D]
    mask = window_mask(q.shape[2], window, q.device)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return out.transpose(1, 2).flatten(0, 1)


def window_mask(tokens: int, window: int | None, device: torch.device) -> Tensor | None:
    """Which keys each query of a whole sequence sees: bool [T, T]; None: all up to its own."""
    if window is None or window >= tokens:
        return None
    ones = torch.ones(tokens, tokens, dtype=torch.bool, device=device)
    return ones.tril().triu(1 - window)
