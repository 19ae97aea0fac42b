"""A decoder of DeepSeek-V3's shape: latent attention, and experts in place of the MLP. Unit 1.7.

Equal to transformers' `DeepseekV3ForCausalLM` with the same weights, whose names they bear. Not
here: the extra layer that predicts one more token (multi-token prediction), FP8, and YaRN.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..embedding import TokenEmbedding
from ..llama import MLP, LanguageModel, RMSNorm
from ..positions import KeepsFloat32, rope_angles, rope_frequencies
from .config import DeepSeekConfig
from .mla import LatentAttention, LatentCache
from .moe import MoE, Routing


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: DeepSeekConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LatentAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config) if layer < config.first_k_dense_replace else MoE(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: LatentCache | None, absorb: bool
    ) -> Tensor:
        """x: float [B, T, C]. cos, sin: [T, R / 2], of these tokens. Returns [B, T, C]."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, absorb)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(KeepsFloat32):
    """Embedding, blocks, and a norm: token ids [B, T] to hidden states [B, T, C].

    `frequencies`, RoPE's, stay float32 in a model of another precision.
    """

    float32 = ("frequencies",)

    def __init__(self, config: DeepSeekConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        frequencies = rope_frequencies(config.qk_rope_head_dim, config.rope_theta)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, ids: Tensor, cache: LatentCache | None, absorb: bool) -> Tensor:
        """ids: int64 [B, T], with a cache those that are not in it yet. Returns [B, T, C].

        absorb: see `LatentAttention`. Raises ValueError for an id outside the vocabulary, or more
        tokens than the context.
        """
        start = 0 if cache is None else len(cache)
        end = start + ids.shape[1]
        if end > self.config.max_position_embeddings:
            raise ValueError(
                f"{end} tokens, and the context is {self.config.max_position_embeddings}\n"
                "Why: the model was trained on positions up to there\n"
                "Try: a shorter prompt, or fewer new tokens"
            )
        cos, sin = rope_angles(torch.arange(start, end, device=ids.device), self.frequencies)
        x = self.embed_tokens(ids)  # [B, T, C]
        for block in self.layers:
            x = block(x, cos, sin, cache, absorb)
        return self.norm(x)


class DeepSeek(LanguageModel):
    """The whole model: token ids [B, T] to logits [B, T, vocabulary]."""

    def __init__(self, config: DeepSeekConfig):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.initialise(
            ("o_proj.weight", "down_proj.weight", "experts.down_proj"), config.num_hidden_layers
        )
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self, ids: Tensor, cache: LatentCache | None = None, absorb: bool = False
    ) -> Tensor:
        """ids: int64 [B, T], with a cache those that are not in it yet. Returns [B, T, vocabulary].

        absorb: attention in the latent's space, which gives the same. Raises ValueError for an id
        outside the vocabulary, or more tokens than the context.
        """
        return self.lm_head(self.model(ids, cache, absorb))

    def mixtures(self) -> list[MoE]:
        """The layers that have experts, from the first on."""
        return [block.mlp for block in self.model.layers if isinstance(block.mlp, MoE)]

    def routings(self) -> list[Routing]:
        """Where the tokens of the last call went, one for each layer with experts."""
        return [mixture.routing for mixture in self.mixtures() if mixture.routing is not None]
