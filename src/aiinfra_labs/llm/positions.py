"""Where a token stands: sinusoidal, learned, rotary (RoPE) and ALiBi positions. Unit 1.2."""

from __future__ import annotations

import torch
from torch import Tensor


def rope_frequencies(head_dim: int, base: float = 10_000.0) -> Tensor:
    """Radians that each pair of dimensions turns a position: base^(-2i / head_dim).

    float32 [head_dim / 2]. Su et al., "RoFormer", arXiv:2104.09864, equation 15.
    """
    if head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}, and RoPE turns pairs of dimensions: it is even")
    return base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def rope_angles(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin) of position x frequency: float32 [..., T, head_dim / 2] each.

    positions: int or float [..., T]. frequencies: float32 [head_dim / 2].
    """
    angles = positions[..., None].float() * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) by its angle. Llama's pairing, as in its checkpoints.

    x: [..., T, D]. cos, sin: [T, D / 2], or any shape that broadcasts to [..., T, D / 2].
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
