"""Attention over a KV cache in blocks: NumPy, PyTorch, compiled, and chapter 3's kernel.

Unit 4.2. All take the tokens of a step in one row, [T], and a `Layout` that says whose they are and
where their keys and values lie; all give the same. NumPy is the one to read. PyTorch gathers the
blocks into one tensor, and runs on a CPU or a GPU. `compiled` reads the blocks where they are, in a
loop that Numba compiles for the CPU. `kernel` is unit 3.6's paged attention, on a GPU or on the
emulator.

T: tokens of the step, S: sequences, H: heads, K: kv heads, D: head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import ServingError

FEW = 4  # new tokens of a sequence up to which each goes by itself through the compiled loop


@dataclass(frozen=True)
class Layout:
    """Whose the tokens of a step are. The first `queries[0]` of the row are sequence 0's, ...

    A sequence's queries are the last tokens of its context, which the cache holds, theirs included.
    """

    queries: np.ndarray  # int64 [S]: tokens of each sequence in this step
    contexts: np.ndarray  # int64 [S]: tokens of each sequence in the cache, these included
    block_table: np.ndarray  # int32 [S, max_blocks]; behind a sequence's own blocks: 0
    block_size: int

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each sequence's tokens begin in the row: int64 [S]."""
        return np.cumsum(self.queries) - self.queries

    @cached_property
    def rows(self) -> np.ndarray:
        """Each token's sequence: int64 [T]."""
        return np.repeat(np.arange(len(self.queries)), self.queries)

    @cached_property
    def positions(self) -> np.ndarray:
        """Each token's place in its own sequence: int64 [T]."""
        within = np.arange(len(self.rows)) - self.starts[self.rows]
        return (self.contexts - self.queries)[self.rows] + within

    @cached_property
    def few(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of sequences with up to FEW: (token, its sequence, what it sees), int64 [N] each.

        Those that decode, and drafts that are verified. What has more is a part of a prompt.
        """
        tokens = np.flatnonzero(self.queries[self.rows] <= FEW)
        contexts = self.positions[tokens] + 1
        return tokens, self.rows[tokens].astype(np.int64), contexts.astype(np.int64)

    def gathers(self, device: torch.device, dtype: torch.dtype) -> Gathers:
        """What PyTorch's attention takes from where: made once a step, for all layers."""
        known = self.__dict__.setdefault("_gathers", {})
        if (device, dtype) not in known:
            known[device, dtype] = Gathers.of(self, device, dtype)
        return known[device, dtype]

    @cached_property
    def slots(self) -> np.ndarray:
        """Where each token's key and value go: block x block_size + offset, int64 [T]."""
        blocks = self.block_table[self.rows, self.positions // self.block_size].astype(np.int64)
        return blocks * self.block_size + self.positions % self.block_size


class PagedCache:
    """Keys and values of all layers: [layers, num_blocks, block_size, K, D] each."""

    def __init__(
        self,
        layers: int,
        num_blocks: int,
        block_size: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        shape = (layers, num_blocks, block_size, kv_heads, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.block_size = block_size

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Put key and value [T, K, D] of a step into their slots, int64 [T]."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, key)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, value)

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """(keys, values) of one layer: [num_blocks, block_size, K, D] each."""
        return self.keys[layer], self.values[layer]

    def attend(self, attention: Attention, layer: int, query: Tensor, layout: Layout) -> Tensor:
        """What each query [T, H, D] of a step sees of its own sequence: [T, H, D]."""
        return attention(query, *self.layer(layer), layout)

    def copy(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Copy whole blocks, in all layers: (from, to), the first pair first."""
        for old, new in pairs:
            self.keys[:, new] = self.keys[:, old]
            self.values[:, new] = self.values[:, old]

    def read(self, blocks: list[int]) -> tuple[Tensor, Tensor]:
        """Copies of blocks, to hand them over: [layers, blocks, block_size, K, D] each."""
        return self.keys[:, blocks], self.values[:, blocks]

    def put(self, blocks: list[int], keys: Tensor, values: Tensor) -> None:
        """The other end of `read`."""
        self.keys[:, blocks] = keys.to(self.keys)
        self.values[:, blocks] = values.to(self.values)


Attention = Callable[[Tensor, Tensor, Tensor, Layout], Tensor]


def numpy_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """Token by token, in float64: the one to read, and to compare with.

    query: float [T, H, D]. key_cache, value_cache: float [num_blocks, block_size, K, D].
    Returns [T, H, D].
    """
    q, keys, values = (x.cpu().double().numpy() for x in (query, key_cache, value_cache))
    out = np.empty_like(q)
    group = q.shape[1] // keys.shape[2]
    for token, (row, position) in enumerate(zip(layout.rows, layout.positions, strict=True)):
        seen = np.arange(position + 1)  # itself, and all before it
        blocks, offsets = np.divmod(seen, layout.block_size)
        blocks = layout.block_table[row, blocks]
        for head in range(q.shape[1]):
            own_keys = keys[blocks, offsets, head // group]  # [seen, D]
            scores = own_keys @ q[token, head] / math.sqrt(q.shape[2])
            weights = np.exp(scores - scores.max())
            own_values = values[blocks, offsets, head // group]
            out[token, head] = weights @ own_values / weights.sum()
    return torch.from_numpy(out).to(query)


@dataclass(frozen=True)
class Chunk:
    """New tokens of one sequence: `start` to `stop` in the row of the step."""

    start: int
    stop: int
    context: int
    blocks: Tensor  # int64 [blocks]
    mask: Tensor | None  # [new tokens, context], 0 or -inf; None: all of it is new

    @classmethod
    def of(cls, layout: Layout, row: int, device: torch.device, dtype: torch.dtype) -> Chunk:
        start, count = int(layout.starts[row]), int(layout.queries[row])
        context = int(layout.contexts[row])
        blocks = layout.block_table[row, : -(-context // layout.block_size)]
        mask = None
        if count < context:  # causal, and it ends at the last token
            mask = torch.full((count, context), -math.inf, device=device, dtype=dtype)
            mask = mask.triu(context - count + 1)
        return cls(start, start + count, context, _indices(blocks, device), mask)


@dataclass(frozen=True)
class Group:
    """Sequences of like length that decode together, each padded to the longest of them."""

    tokens: Tensor  # int64 [S]: their places in the row of the step
    blocks: Tensor  # int64 [S x blocks]
    longest: int  # tokens
    mask: Tensor | None  # [S, 1, 1, longest], 0 or -inf; None: all are as long

    @classmethod
    def of(
        cls, layout: Layout, rows: np.ndarray, device: torch.device, dtype: torch.dtype
    ) -> Group:
        contexts = layout.contexts[rows]
        longest = int(contexts.max())
        blocks = layout.block_table[rows, : -(-longest // layout.block_size)]
        mask = None
        if contexts.min() < longest:
            unseen = np.arange(longest) >= contexts[:, None]
            mask = torch.zeros(unseen.shape, device=device, dtype=dtype)
            mask.masked_fill_(torch.from_numpy(unseen).to(device), -math.inf)
            mask = mask[:, None, None]
        tokens = _indices(layout.starts[rows], device)
        return cls(tokens, _indices(blocks.ravel(), device), longest, mask)


def _indices(found: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(found.astype(np.int64)).to(device)


@dataclass(frozen=True)
class Gathers:
    """A step's tokens, as PyTorch's attention takes them: indices and masks, on the device."""

    chunks: tuple[Chunk, ...]
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, layout: Layout, device: torch.device, dtype: torch.dtype) -> Gathers:
        chunks = [Chunk.of(layout, r, device, dtype) for r in np.flatnonzero(layout.queries != 1)]
        rows = np.flatnonzero(layout.queries == 1)
        rows = rows[np.argsort(layout.contexts[rows], kind="stable")]
        groups, first = [], 0
        while first < len(rows):
            longest = 1.25 * layout.contexts[rows[first]] + 4 * layout.block_size
            last = first + np.searchsorted(layout.contexts[rows[first:]], longest, side="right")
            groups.append(Group.of(layout, rows[first:last], device, dtype))
            first = last
        return cls(tuple(chunks), tuple(groups))


def torch_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """Blocks gathered into one tensor, then PyTorch's own attention.

    A prompt's chunk is a product of its own. Sequences that decode go together, those of like
    length, since each is padded to the longest of its company.
    """
    gathers = layout.gathers(query.device, query.dtype)
    out = torch.empty_like(query)
    for chunk in gathers.chunks:
        _prefill(out, query, key_cache, value_cache, chunk)
    for group in gathers.groups:
        _decode(out, query, key_cache, value_cache, group)
    return out


def _gather(cache: Tensor, blocks: Tensor) -> Tensor:
    """[num_blocks, block_size, K, D] to [blocks x block_size, K, D]: whole blocks are copied."""
    return cache.index_select(0, blocks).flatten(0, 1)


def _prefill(out: Tensor, query: Tensor, keys: Tensor, values: Tensor, chunk: Chunk) -> None:
    """The new tokens of one sequence, over its whole context."""
    q = query[chunk.start : chunk.stop].transpose(0, 1)  # [H, queries, D]
    k, v = (_gather(x, chunk.blocks)[: chunk.context].transpose(0, 1) for x in (keys, values))
    done = F.scaled_dot_product_attention(
        q[None],
        k[None],  # [1, K, context, D]
        v[None],
        attn_mask=chunk.mask,
        is_causal=chunk.mask is None,
        enable_gqa=len(q) > len(k),
    )
    out[chunk.start : chunk.stop] = done[0].transpose(0, 1)


def _decode(out: Tensor, query: Tensor, keys: Tensor, values: Tensor, group: Group) -> None:
    """One query each of several sequences. A kv head's query heads share one read of its keys."""
    q = query.index_select(0, group.tokens).unflatten(1, (keys.shape[2], -1))  # [S, K, H / K, D]
    k, v = (
        _gather(x, group.blocks).unflatten(0, (len(q), -1))[:, : group.longest].transpose(1, 2)
        for x in (keys, values)
    )  # [S, K, longest, D]
    done = F.scaled_dot_product_attention(q, k, v, attn_mask=group.mask)
    out.index_copy_(0, group.tokens, done.flatten(1, 2))


def compiled_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """Decoding by a compiled loop over the blocks, prompts by PyTorch. On a CPU, in float32."""
    from .decode_loop import decode_attention

    out = torch.empty_like(query)
    for chunk in layout.gathers(query.device, query.dtype).chunks:
        if chunk.stop - chunk.start > FEW:
            _prefill(out, query, key_cache, value_cache, chunk)
    tokens, rows, contexts = layout.few
    if len(tokens):
        arrays = (x.numpy() for x in (query, key_cache, value_cache))
        decode_attention(*arrays, tokens, rows, contexts, layout.block_table, out.numpy())
    return out


def kernel_attention(
    query: Tensor, key_cache: Tensor, value_cache: Tensor, layout: Layout
) -> Tensor:
    """Chapter 3's kernel: each token is a query of its own, over what lies up to its position."""
    from aiinfra_labs.gpu.kernels.paged_attention import paged_attention

    arrays = (x.float().cpu().numpy() for x in (query, key_cache, value_cache))
    table = np.ascontiguousarray(layout.block_table[layout.rows], dtype=np.int32)
    contexts = (layout.positions + 1).astype(np.int32)
    return torch.from_numpy(
        paged_attention(*map(np.ascontiguousarray, arrays), table, contexts)
    ).to(query)


ATTENTIONS: dict[str, Attention] = {
    "numpy": numpy_attention,
    "torch": torch_attention,
    "compiled": compiled_attention,
    "kernel": kernel_attention,
}


def attention_named(name: str, device: torch.device, dtype: torch.dtype) -> Attention:
    """One of the four; "auto" is the fastest on the device. Raises ServingError."""
    if name == "auto":
        name = "compiled" if device.type == "cpu" and dtype == torch.float32 else "torch"
    if name not in ATTENTIONS:
        raise ServingError(
            f"attention {name!r}",
            "there are four that do the same",
            f"one of {', '.join(ATTENTIONS)}, or auto",
        )
    if name == "compiled" and (device.type != "cpu" or dtype != torch.float32):
        raise ServingError(
            f"attention 'compiled' for {str(dtype).removeprefix('torch.')} on {device.type}",
            "its loop is compiled for the processor, and for float32",
            "torch, or auto: it takes the fastest that the device has",
        )
    return ATTENTIONS[name]
