"""The part of a decoder that one rank holds: some of its layers, and of each a part. Unit 4.6.

`ShardedLM` is called as `CausalLM` is, where all layers are in one stage; with several stages each
runs its own, and passes the hidden states on. A group of one needs no other code: its collectives
say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..model import Attend, CausalLM, ModelConfig, RMSNorm, rotary_table, whole_sequences
from .grid import Comms
from .schedules import stage_layers
from .tensor import (
    ParallelBlock,
    VocabParallelEmbedding,
    VocabParallelHead,
    local_config,
    shard,
)


class ShardedLM(nn.Module):
    """A rank's part of a `CausalLM` of this shape; its weights are zeros until `take`.

    config: the part's own shape: its heads, its kv heads (what a KV cache is made for), its layers.
    """

    def __init__(self, whole: ModelConfig, comms: Comms):
        super().__init__()
        self.whole, self.comms = whole, comms
        local = local_config(whole, comms.tensor.size)
        self.layer_numbers = stage_layers(whole.num_hidden_layers, comms.pipeline.size)[
            comms.pipeline.rank
        ]
        local = replace(
            local,
            num_hidden_layers=len(self.layer_numbers),
            windows=tuple(whole.window(number) for number in self.layer_numbers),
        )
        self.config = local
        if comms.is_first:
            self.embed_tokens = VocabParallelEmbedding(whole, comms.tensor)
        self.layers = nn.ModuleList(
            ParallelBlock(local, i, comms.tensor) for i in range(len(self.layer_numbers))
        )
        if comms.is_last:
            self.norm = RMSNorm(whole.hidden_size, whole.rms_norm_eps)
            self.lm_head = VocabParallelHead(whole, comms.tensor)
            if whole.tie_word_embeddings and comms.is_first:
                self.lm_head.weight = self.embed_tokens.weight
        cos, sin = rotary_table(whole)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def named_parts(self) -> Iterator[tuple[str, nn.Parameter]]:
        """This rank's parameters by the name that the whole model has for them."""
        for name, parameter in self.named_parameters():
            if name.startswith("layers."):
                _, number, rest = name.split(".", 2)
                name = f"layers.{self.layer_numbers[int(number)]}.{rest}"
            elif name == "lm_head.weight" and self.whole.tie_word_embeddings:
                name = "embed_tokens.weight"  # the last stage has the same rows once more
            yield name, parameter

    @torch.no_grad()
    def take(self, model: CausalLM) -> ShardedLM:
        """Copy this rank's part out of a whole model, and return self."""
        weights = dict(model.named_parameters())
        place, size = self.comms.tensor.rank, self.comms.tensor.size
        for name, parameter in self.named_parts():
            parameter.copy_(shard(name, weights[name], self.whole, place, size))
        return self

    def forward(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """int64 [T] each to the hidden states behind the last norm, [T, C]: all in one stage."""
        return self.norm(self.through(self.embed_tokens(ids), positions, attend))

    def through(self, x: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Hidden states [T, C] through this stage's layers."""
        cos, sin = self.cos[positions], self.sin[positions]  # [T, 1, D / 2]
        for layer in self.layers:
            x = layer(x, cos, sin, attend)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """[T, C] to [T, V], on every rank of the last stage."""
        return self.lm_head.gather(self.lm_head(hidden))

    @property
    def device(self) -> torch.device:
        """Where this rank's weights are."""
        return self.cos.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of all that is computed."""
        return self.layers[0].input_layernorm.weight.dtype

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters that this rank holds, each once."""
        return sum(p.nbytes for p in self.parameters())


def equal_sequences(count: int) -> Attend:
    """An `Attend` for `count` whole sequences of the same length, one behind the other."""

    def attend(
        layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None = None
    ) -> Tensor:
        return whole_sequences(count, query, key, value, window)

    return attend


def positions_of(count: int, length: int) -> Tensor:
    """0 to length - 1 for each of `count` sequences: int64 [count x length]."""
    return torch.arange(length).repeat(count)
