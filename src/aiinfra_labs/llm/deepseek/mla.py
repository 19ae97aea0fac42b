"""Multi-head latent attention: keys and values are made from one short vector a token. Unit 1.7.

DeepSeek-V2, arXiv:2405.04434, section 2.1. Only that vector, the latent, and one short key for the
position are cached. Attention is computed from them in two ways that give the same: expanded, with
a key and a value for each head; absorbed, with queries brought into the latent's space.

B: batch, T: new tokens, S: all tokens, C: hidden size, H: heads, L: kv_lora_rank, N and R: a key's
dimensions without and with position, V: a value's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import causal_mask
from ..llama import RMSNorm
from ..positions import halves_first, rotate
from .config import DeepSeekConfig

EPS = 1e-6  # of the norms within, whatever the model's own is


class LatentCache:
    """What latent attention keeps of each token: [B, S, L + R] a layer, for all heads together."""

    def __init__(self, layers: int):
        self.kept: list[Tensor | None] = [None] * layers

    def __len__(self) -> int:
        """How many tokens it holds."""
        return 0 if self.kept[0] is None else self.kept[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, all layers together."""
        return sum(kept.nbytes for kept in self.kept if kept is not None)

    def append(self, layer: int, new: Tensor) -> Tensor:
        """Everything that is kept of the layer, the new tokens last. new: [B, T, L + R]."""
        old = self.kept[layer]
        self.kept[layer] = new if old is None else torch.cat((old, new), dim=1)
        return self.kept[layer]


class LatentAttention(nn.Module):
    """The parameters bear the names of DeepSeek's checkpoints, and lie as they do."""

    def __init__(self, config: DeepSeekConfig, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        c, heads = config.hidden_size, config.num_attention_heads
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(c, heads * config.qk_head_dim, bias=False)
        else:
            self.q_a_proj = nn.Linear(c, config.q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, EPS)
            self.q_b_proj = nn.Linear(config.q_lora_rank, heads * config.qk_head_dim, bias=False)
        latent = config.kv_lora_rank
        self.kv_a_proj_with_mqa = nn.Linear(c, latent + config.qk_rope_head_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(latent, EPS)
        key_value = config.qk_nope_head_dim + config.v_head_dim
        self.kv_b_proj = nn.Linear(latent, heads * key_value, bias=False)
        self.o_proj = nn.Linear(heads * config.v_head_dim, c, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        cache: LatentCache | None = None,
        absorb: bool = False,
    ) -> Tensor:
        """x: [B, T, C]. cos, sin: [T, R / 2], of the new tokens' positions. Returns [B, T, C]."""
        nope, rope = self.queries(x, cos, sin)
        kept = self.compress(x, cos, sin)
        if cache is not None:
            kept = cache.append(self.layer, kept)
        out = (self.absorbed if absorb else self.expanded)(nope, rope, kept)  # [B, H, T, V]
        return self.o_proj(out.transpose(1, 2).flatten(2))

    def queries(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Each head's query, without and with position: [B, H, T, N] and [B, H, T, R]."""
        if self.config.q_lora_rank is None:
            query = self.q_proj(x)
        else:
            query = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        query = query.unflatten(-1, (-1, self.config.qk_head_dim)).transpose(1, 2)  # [B, H, T, N+R]
        nope, rope = query.split((self.config.qk_nope_head_dim, self.config.qk_rope_head_dim), -1)
        return nope, rotate(halves_first(rope), cos, sin)  # checkpoints pair neighbours

    def compress(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """What is cached: the latent and, behind it, the key that knows the position, [B, T, L+R].

        That key does not come from the latent: RoPE between the two would be another matrix at each
        position, and nothing could be absorbed.
        """
        latent, rope = self.kv_a_proj_with_mqa(x).split(
            (self.config.kv_lora_rank, self.config.qk_rope_head_dim), -1
        )
        return torch.cat((self.kv_a_layernorm(latent), rotate(halves_first(rope), cos, sin)), -1)

    def expanded(self, nope: Tensor, rope: Tensor, kept: Tensor) -> Tensor:
        """Attention as the definition has it: a key and a value for each head and token."""
        latent, shared = kept.split((self.config.kv_lora_rank, self.config.qk_rope_head_dim), -1)
        each = self.config.qk_nope_head_dim + self.config.v_head_dim
        up = self.kv_b_proj(latent).unflatten(-1, (-1, each)).transpose(1, 2)  # [B, H, S, N + V]
        key, value = up.split((self.config.qk_nope_head_dim, self.config.v_head_dim), -1)
        shared = shared[:, None].expand(-1, key.shape[1], -1, -1)  # [B, H, S, R]: one for all heads
        query, key = torch.cat((nope, rope), -1), torch.cat((key, shared), -1)  # [B, H, ., N + R]
        mask = causal_mask(query.shape[2], key.shape[2], query.device)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def absorbed(self, nope: Tensor, rope: Tensor, kept: Tensor) -> Tensor:
        """The same without a key or a value: q (W c) = (q W) c, and sum w (W c) = W (sum w c).

        The latents are key and value of one kv head, which all H heads read: multi-query attention.
        """
        b, heads, t, _ = nope.shape
        latent = self.config.kv_lora_rank
        up = self.kv_b_proj.weight.unflatten(0, (heads, -1))  # [H, N + V, L]
        key_up, value_up = up.split((self.config.qk_nope_head_dim, self.config.v_head_dim), 1)
        query = torch.cat((torch.einsum("bhtn,hnl->bhtl", nope, key_up), rope), -1)
        rows = query.flatten(1, 2)  # [B, H T, L + R]: all heads against the same keys
        scores = rows @ kept.transpose(1, 2) / math.sqrt(self.config.qk_head_dim)  # [B, H T, S]
        mask = causal_mask(t, kept.shape[1], kept.device).repeat(heads, 1)
        weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
        mean = (weights @ kept[..., :latent]).unflatten(1, (heads, t))  # [B, H, T, L]
        return torch.einsum("bhtl,hvl->bhtv", mean, value_up)
