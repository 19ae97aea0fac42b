"""Where a token stands: sinusoidal, learned, rotary (RoPE) and ALiBi positions. Unit 1.2.

Sinusoidal and learned positions are vectors, added to the tokens before the first layer. RoPE
turns queries and keys, and ALiBi lowers scores, both in every layer. T: tokens, S: keys, H: heads,
D: head_dim, C: width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from aiinfra_labs import bounds

from .embedding import check_ids

# --- added to the tokens --------------------------------------------------------------------------


def sinusoidal(positions: Tensor, width: int, base: float = 10_000.0) -> Tensor:
    """sin(p w_i) in column 2i and cos(p w_i) in column 2i + 1, where w_i = base^(-2i / width).

    positions: int or float [..., T]. Returns float32 [..., T, width]. Vaswani et al.,
    arXiv:1706.03762, section 3.5. Raises ValueError for an odd width, or a base that is not above
    0.
    """
    cos, sin = rope_angles(positions, rope_frequencies(width, base).to(positions.device))
    return torch.stack((sin, cos), dim=-1).flatten(-2)  # [..., T, C]


class LearnedPositions(nn.Module):
    """A row for each position, trained like the rows of tokens (GPT-2, BERT).

    There is no row past the last one: what a position means is learned for each by itself.
    """

    def __init__(self, rows: int, width: int):
        super().__init__()
        bounds.whole("rows", rows, "each position has one")
        bounds.whole("width", width, "numbers of a row")
        self.table = nn.Embedding(rows, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, positions: Tensor) -> Tensor:
        """positions: int64 [..., T]. Returns [..., T, width]. Raises ValueError past the table."""
        rows = self.table.num_embeddings
        if positions.numel() and int(positions.min()) < 0:
            check_ids(positions, rows, "position")
        if positions.numel() and int(positions.max()) >= rows:
            raise ValueError(
                f"position {int(positions.max())}, and the table has rows 0 to {rows - 1}\n"
                "Why: a learned position is a row that training has filled, and there is none\n"
                f"Try: at most {rows} tokens, or positions that are computed: RoPE, ALiBi"
            )
        return self.table(positions)


class KeepsFloat32(nn.Module):
    """A module some of whose buffers stay float32, whatever it is turned into.

    `float32` names them. `.to(torch.bfloat16)` and `.half()` leave their numbers as they are, and
    `.to(device)` moves them. RoPE's frequencies need that: with 8 bits of precision, an angle at
    position 2,000 would be wrong by a third of a radian. So do small steps that are added up.
    """

    float32: tuple[str, ...] = ()

    def _apply(self, fn: Any, recurse: bool = True) -> KeepsFloat32:
        kept = {name: self._buffers[name] for name in self.float32}
        super()._apply(fn, recurse)
        for name, table in kept.items():
            changed = self._buffers[name]
            if changed.dtype != table.dtype and not table.is_meta:
                self._buffers[name] = table.to(changed.device)
        return self


# --- RoPE: queries and keys are turned ------------------------------------------------------------


def rope_frequencies(head_dim: int, base: float = 10_000.0) -> Tensor:
    """Radians that each pair of dimensions turns a position: base^(-2i / head_dim).

    float32 [head_dim / 2]. Su et al., "RoFormer", arXiv:2104.09864, equation 15. Raises ValueError
    for an odd head_dim, or a base that is not above 0.
    """
    bounds.whole("head_dim", head_dim, "dimensions are turned in pairs", 2, 2**31)
    base = bounds.real("base", base, "frequencies are powers of it", above=0.0)
    if head_dim % 2:
        raise bounds.SettingError(
            f"head_dim is {head_dim}",
            "RoPE turns the dimensions in pairs, and the last would have no partner",
            f"an even number, such as {head_dim + 1}",
        )
    return base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def rope_angles(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin) of position x frequency: float32 [..., T, head_dim / 2] each.

    positions: int or float [..., T]. frequencies: float32 [head_dim / 2].
    """
    angles = positions[..., None].float() * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) by its angle: the pairing of Hugging Face's checkpoints.

    The paper, and Meta's own code for Llama, pair neighbours, (x[2i], x[2i + 1]). Scores are the
    same once the rows of the weights that make queries and keys are reordered: `halves_first`.

    x: [..., T, D]. cos, sin: [T, D / 2], or any shape that broadcasts to [..., T, D / 2]. Returns
    [..., T, D], in the type of x. Raises ValueError where D is not twice the angles.
    """
    if x.shape[-1] != 2 * cos.shape[-1]:
        raise bounds.SettingError(
            f"x has {x.shape[-1]} dimensions, and there are angles for {cos.shape[-1]} pairs",
            "each pair of dimensions is turned by an angle of its own",
            f"rope_frequencies({x.shape[-1]}), of an even number of dimensions",
        )
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def halves_first(x: Tensor) -> Tensor:
    """Reorder the last axis: 0, 2, 4, ..., 1, 3, 5, ...: pairs of neighbours become i and i + D/2.

    Applied to what makes queries and keys, it turns Meta's checkpoints into Hugging Face's. x:
    [..., D], D even. Returns [..., D].
    """
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)


# --- ALiBi: distant keys score lower --------------------------------------------------------------


def alibi_slopes(heads: int) -> Tensor:
    """How much each head lowers a score for each token of distance: float32 [H].

    For a power of two, 2^(-8/H), 2^(-16/H), ... down to 2^-8. For other numbers, the slopes of the
    power of two below, then every second one of the power above (Press et al., arXiv:2108.12409,
    and the code that BLOOM was trained with). Raises ValueError for no head.
    """
    bounds.whole("heads", heads, "attention has at least one", 1, 2**16)
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    between = [2 ** (-4 * (i + 1) / below) for i in range(0, 2 * below, 2)]
    return torch.tensor((slopes + between)[:heads])


def alibi_bias(slopes: Tensor, queries: int, keys: int) -> Tensor:
    """-slope x distance, to add to the scores: float32 [H, T, S].

    The last query stands at the last key, as in `causal_mask`. What lies behind a query has a
    positive bias, and is left to the mask. slopes: float [H]. Raises ValueError for more queries
    than keys, or none.
    """
    bounds.whole("keys", keys, "a query looks at one at least")
    bounds.whole("queries", queries, "each stands at a key of its own", 1, keys)
    query = torch.arange(keys - queries, keys, device=slopes.device)  # positions, [T]
    key = torch.arange(keys, device=slopes.device)  # [S]
    return -slopes[:, None, None] * (query[:, None] - key)
