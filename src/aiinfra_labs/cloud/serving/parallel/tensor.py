"""Tensor parallelism: each layer is divided among the ranks, as in Megatron-LM. Unit 4.6.

A block has two pairs of matrices, and each pair is cut so that nothing need be said between them:
the first by its output (a rank has some heads, some columns of the MLP), the second by its input.
What comes out of the second is a part of a sum. So a block needs one all-reduce behind attention
and one behind the MLP, forward; and two more backward (arXiv:1909.08053, section 3).

T: tokens, C: hidden size, V: vocabulary, N: ranks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model import Attend, Block, ModelConfig
from .collectives import Comm
from .errors import SplitError

PARTIAL = ("q_norm.weight", "k_norm.weight")  # whole on each rank, but their gradients are parts


# --- who holds what -------------------------------------------------------------------------------


def local_config(config: ModelConfig, size: int) -> ModelConfig:
    """The shape of a block's part on one of `size` ranks. Raises `SplitError`."""
    heads, kv_heads, mlp = (
        config.num_attention_heads,
        config.num_key_value_heads,
        config.intermediate_size,
    )
    for count, what in ((heads, "attention heads"), (mlp, "columns of the MLP")):
        if count % size:
            raise SplitError(
                f"{count:,} {what} cannot be divided among {size} ranks",
                "each rank has whole heads and as many as any other, or the others wait for it",
                f"a number of ranks that divides {count:,}",
            )
    if kv_heads % size and size % kv_heads:
        raise SplitError(
            f"{kv_heads} kv heads cannot be divided among {size} ranks, nor ranks among heads",
            "each rank needs the keys and values of its own query heads, and no others",
            f"a number of ranks that divides {kv_heads}, or that {kv_heads} divides",
        )
    if vocabulary_range(config.vocab_size, size - 1, size)[0] >= config.vocab_size:
        raise SplitError(
            f"{config.vocab_size} tokens of vocabulary leave the last of {size} ranks none",
            "each rank has a part of the embedding",
            "fewer ranks",
        )
    return replace(
        config,
        num_attention_heads=heads // size,
        num_key_value_heads=max(1, kv_heads // size),
        intermediate_size=mlp // size,
    )


def vocabulary_range(vocab_size: int, rank: int, size: int) -> tuple[int, int]:
    """The rows of the embedding that a rank has: all the same number, the last may have fewer."""
    rows = -(-vocab_size // size)
    return min(vocab_size, rank * rows), min(vocab_size, (rank + 1) * rows)


def shard(name: str, weight: Tensor, config: ModelConfig, rank: int, size: int) -> Tensor:
    """A rank's part of a parameter of `CausalLM`, by the parameter's name.

    weight: [rows, columns], or a bias [rows]. A view where that is possible.
    """
    d, heads, kv_heads = config.head_dim, config.num_attention_heads, config.num_key_value_heads
    if ".qkv_proj." in name:  # rows of q, of k, of v below each other: each is divided by heads
        q, k, v = weight.split((heads * d, kv_heads * d, kv_heads * d))
        if kv_heads >= size:
            k, v = k.chunk(size)[rank], v.chunk(size)[rank]
        else:  # several ranks keep the same kv head
            mine = rank * kv_heads // size
            k, v = k.split(d)[mine], v.split(d)[mine]
        return torch.cat((q.chunk(size)[rank], k, v))
    if ".gate_up_proj." in name:
        gate, up = weight.chunk(2)
        return torch.cat((gate.chunk(size)[rank], up.chunk(size)[rank]))
    if name.endswith(("o_proj.weight", "down_proj.weight")):  # by columns: their input is divided
        return weight.chunk(size, dim=1)[rank]
    if name in ("embed_tokens.weight", "lm_head.weight"):
        first, last = vocabulary_range(config.vocab_size, rank, size)
        return weight[first:last]
    return weight  # norms, and biases of what is cut by columns: whole on every rank


# --- what is said ---------------------------------------------------------------------------------


class _Copy(torch.autograd.Function):
    """Megatron's f: nothing forward; backward the ranks' gradients are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, comm: Comm) -> Tensor:
        ctx.comm = comm
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.comm.all_reduce(gradient.clone()), None


class _Reduce(torch.autograd.Function):
    """Megatron's g: forward the ranks' parts are summed; backward nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, comm: Comm) -> Tensor:
        return comm.all_reduce(x.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Once(torch.autograd.Function):
    """What all ranks have, in a sum of all ranks: one adds it. Backward each has its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, comm: Comm) -> Tensor:
        return x.clone() if comm.rank == 0 else torch.zeros_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def copy_to(x: Tensor, comm: Comm) -> Tensor:
    """What all ranks have, before each does its own part with it."""
    return x if comm.size == 1 else _Copy.apply(x, comm)


def reduce_from(x: Tensor, comm: Comm) -> Tensor:
    """The sum of the ranks' parts, on all of them."""
    return x if comm.size == 1 else _Reduce.apply(x, comm)


# --- layers ---------------------------------------------------------------------------------------


class RowParallelLinear(nn.Module):
    """The second matrix of a pair, with a bias. Its output is one part of a sum of all ranks."""

    def __init__(self, part: nn.Linear, comm: Comm):
        super().__init__()
        self.weight, self.bias, self.comm = part.weight, part.bias, comm

    def forward(self, x: Tensor) -> Tensor:
        """This rank's columns of the input, [T, K / N], to its part of the output, [T, C]."""
        return F.linear(x, self.weight, _Once.apply(self.bias, self.comm))


class ParallelBlock(Block):
    """A block whose matrices are parts, so that attention and MLP each end in an all-reduce."""

    def __init__(self, local: ModelConfig, layer: int, comm: Comm):
        super().__init__(local, layer)
        self.comm = comm
        if local.o_bias:
            self.self_attn.o_proj = RowParallelLinear(self.self_attn.o_proj, comm)
        if local.mlp_bias:
            self.mlp.down_proj = RowParallelLinear(self.mlp.down_proj, comm)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """The block's output for x, by this rank's share of the weights; sums are all ranks'."""
        h = copy_to(self.input_layernorm(x), self.comm)
        x = x + reduce_from(self.self_attn(h, cos, sin, attend), self.comm)
        h = copy_to(self.post_attention_layernorm(x), self.comm)
        return x + reduce_from(self.mlp(h), self.comm)


class VocabParallelEmbedding(nn.Module):
    """Each rank has some rows. It looks up its own tokens and gives 0 for the others'."""

    def __init__(self, config: ModelConfig, comm: Comm):
        super().__init__()
        self.comm = comm
        self.first, self.last = vocabulary_range(config.vocab_size, comm.rank, comm.size)
        self.weight = nn.Parameter(torch.zeros(self.last - self.first, config.hidden_size))

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [T] to [T, C]."""
        mine = (ids >= self.first) & (ids < self.last)
        rows = F.embedding(torch.where(mine, ids - self.first, 0), self.weight)  # [T, C]
        return reduce_from(rows * mine[:, None], self.comm)


class VocabParallelHead(nn.Module):
    """Each rank has the logits of its own rows of the vocabulary."""

    def __init__(self, config: ModelConfig, comm: Comm):
        super().__init__()
        self.comm, self.vocab_size = comm, config.vocab_size
        self.first, self.last = vocabulary_range(config.vocab_size, comm.rank, comm.size)
        self.weight = nn.Parameter(torch.zeros(self.last - self.first, config.hidden_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """[T, C] to this rank's [T, V / N]."""
        return F.linear(copy_to(hidden, self.comm), self.weight)

    def gather(self, local: Tensor) -> Tensor:
        """All ranks' logits, [T, V]: to draw a token from. Without a gradient."""
        if self.comm.size == 1:
            return local
        rows = -(-self.vocab_size // self.comm.size)
        padded = F.pad(local.detach(), (0, rows - local.shape[-1]))  # the last rank has fewer
        whole = self.comm.all_gather(padded.flatten())
        parts = whole.view(self.comm.size, *padded.shape)  # [N, T, V / N]
        return parts.movedim(0, -2).flatten(-2)[..., : self.vocab_size]

    def cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The sum of -log p(target) over all tokens, without the logits in one place.

        Three all-reduces of one number a token, where the logits would be V numbers a token.
        """
        local = self(hidden)
        local = local.to(torch.promote_types(local.dtype, torch.float32))  # float64 stays
        top = self.comm.all_reduce(local.detach().amax(-1), "max")  # [T]
        total = reduce_from((local - top[:, None]).exp().sum(-1), self.comm)  # [T]
        mine = (targets >= self.first) & (targets < self.last)
        at = torch.where(mine, targets - self.first, 0)
        picked = local.gather(-1, at[:, None])[:, 0] - top
        picked = reduce_from(torch.where(mine, picked, 0.0), self.comm)  # [T]
        return (total.log() - picked).sum()
