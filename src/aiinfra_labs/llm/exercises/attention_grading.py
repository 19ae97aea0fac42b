"""What the checks of unit 1.3 share: inputs, comparisons, and who changes whom. Unit 1.3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs.llm.attention import attention

from . import tensors

CLOSE = 1e-5


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def normal(seed: int, *shapes: Sequence[int]) -> list[Tensor]:
    """Normal float32 tensors, the same for a seed, and no two alike."""
    return [tensors.random(*shape, seed=10 * seed + i) for i, shape in enumerate(shapes)]


def same(r: Any, got: Any, expected: Tensor, why: str, try_: str) -> None:
    """`got` must be the expected tensor, to 1e-5 of its size."""
    tensors.equal(r, got, expected, "the result", CLOSE, why, try_)


def is_mask(r: Any, got: Any, shape: tuple[int, ...]) -> None:
    """`got` must be a bool tensor of this shape."""
    is_tensor = isinstance(got, Tensor)
    has = f"{tuple(got.shape)}, {got.dtype}" if is_tensor else type(got).__name__
    r.that(
        is_tensor and tuple(got.shape) == shape and got.dtype == torch.bool,
        what=f"the mask is {has}, expected a tensor of shape {shape}, torch.bool",
        why="its axes are sentence, head, query and key; one mask serves all heads of a sentence",
        try_="print the shape and the dtype of what you return",
        slip=not is_tensor,
    )


def heads_apart(
    x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor, heads: int
) -> Tensor:
    """Multi-head attention one head after another, by slices: what 1.3.c is compared with."""
    query, key, value = (x @ w.T for w in (w_q, w_k, w_v))  # [B, T, C]
    width = x.shape[-1] // heads
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    outs = [attention(query[..., p], key[..., p], value[..., p])[0] for p in parts]
    return torch.cat(outs, dim=-1) @ w_o.T


@dataclass(frozen=True)
class Change:
    """Whether the output of a token changed when another was changed."""

    sentence: int
    query: int  # its place in the sentence, as is the key's
    key: int
    seen: bool
    real: bool  # the key is no padding

    @property
    def later(self) -> bool:
        return self.key > self.query


def seen_by_change(mask: Tensor, real: Tensor) -> Iterator[Change]:
    """Run attention with the mask, change one token at a time, and see whose output moves.

    mask: bool [B, 1, queries, S]. real: bool [B, S]. What padding itself sees is nobody's concern.
    """
    b, s = real.shape
    queries = mask.shape[2]
    query, key, value = normal(8, (b, 1, queries, 4), (b, 1, s, 4), (b, 1, s, 4))
    before, _ = attention(query, key, value, mask)
    for place in range(s):
        other = value.clone()
        other[:, :, place] += 100
        after, _ = attention(query, key, other, mask)
        moved = (after != before).any(-1)[:, 0]  # [B, queries]
        for sentence in range(b):
            for row in range(queries):
                at = s - queries + row
                if real[sentence, at]:
                    seen = bool(moved[sentence, row])
                    yield Change(sentence, at, place, seen, bool(real[sentence, place]))
