"""Numbers rounded to a grid of a few integers. Unit 4.5.

    code = clamp(round(w / scale) + zero)        w is about (code - zero) * scale

Affine, as in Jacob et al. (arXiv:1712.05877): the grid reaches from the least weight to the
largest, and `zero` is the code of 0, so that 0 stays 0. Symmetric: zero is 0, and the grid reaches
as far to either side. Ternary: -1, 0 and 1 times the mean size of the weights (Ma et al.,
arXiv:2402.17764). A weight matrix is [N, K], N outputs by K inputs; a scale is shared by all of it,
by a row (an output channel), or by a group of inputs of a row. Scales are float16, as checkpoints
hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import ServingError

SMALLEST = 2.0**-24  # float16's smallest number: what a row of zeros has for its scale


class QuantizationError(ServingError):
    """A grid that cannot be, or does not fit a weight. Nothing was changed."""


@dataclass(frozen=True)
class Scheme:
    """How weights are rounded. per: "tensor", "channel", or the number of inputs in a group."""

    bits: int = 8
    per: Literal["tensor", "channel"] | int = "channel"
    symmetric: bool = True
    ternary: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise QuantizationError(
                f"{self.bits} bits a weight",
                "a code is kept in one byte at most, and one bit has no 0",
                "2 to 8 bits",
            )
        if self.per not in ("tensor", "channel") and not (
            isinstance(self.per, int) and self.per > 0
        ):
            raise QuantizationError(
                f"a scale per {self.per!r}",
                "a scale is shared by the tensor, by an output channel, or by a group of inputs",
                'per="tensor", per="channel", or a number of inputs such as per=32',
            )
        if self.ternary and not (self.bits == 2 and self.symmetric):
            raise QuantizationError(
                f"ternary weights of {self.bits} bits",
                "three values, -1, 0 and 1, are symmetric, and two bits hold them",
                "ternary(per=...)",
            )

    @property
    def lowest(self) -> int:
        """The least code. Symmetric grids leave the one out that has no opposite: -128."""
        return -self.highest if self.symmetric else 0

    @property
    def highest(self) -> int:
        """The greatest code: 127 of 8 symmetric bits, 255 of 8 others."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1

    def groups(self, columns: int) -> int:
        """How many scales a row of so many inputs has."""
        if self.per in ("tensor", "channel"):
            return 1
        if columns % self.per:
            raise QuantizationError(
                f"{columns} inputs in groups of {self.per}",
                f"the last group would have {columns % self.per}, and its scale no place",
                "a group size that divides the inputs of every layer",
            )
        return columns // self.per

    def __str__(self) -> str:
        name = "ternary" if self.ternary else f"int{self.bits}"
        by = f"groups of {self.per}" if isinstance(self.per, int) else f"per {self.per}"
        return f"{name}, {by}" + ("" if self.symmetric else ", affine")


def ternary(per: Literal["tensor", "channel"] | int = "channel") -> Scheme:
    """Three values a weight: -1, 0 and 1 times a scale."""
    return Scheme(2, per, ternary=True)


@dataclass(frozen=True)
class Quantized:
    """A rounded weight. codes: int8 or, if affine, uint8 [N, K]. scale: float16, zero: uint8 or
    None, both [1, 1], [N, 1] or [N, groups]."""

    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    scheme: Scheme


def grid(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor | None]:
    """(scale, zero) of a weight [N, K]: float16 and uint8, [1, 1], [N, 1] or [N, groups]."""
    if weight.dim() != 2 or not weight.isfinite().all():
        raise QuantizationError(
            f"a weight of shape {list(weight.shape)}"
            if weight.dim() != 2
            else "the weight holds nan or infinity",
            "the grid reaches to the largest weight of each row",
            "a matrix of finite numbers, outputs by inputs",
        )
    n, k = weight.shape
    groups = scheme.groups(k)
    shared = weight.float().reshape((1, 1, -1) if scheme.per == "tensor" else (n, groups, -1))
    if scheme.ternary:
        return _half(shared.abs().mean(-1)), None
    if scheme.symmetric:
        return _half(shared.abs().amax(-1) / scheme.highest), None
    low = shared.amin(-1).clamp(max=0)  # 0 is on the grid, whatever the weights are
    high = shared.amax(-1).clamp(min=0)
    scale = _half((high - low) / scheme.highest)
    zero = (-low / scale.float()).round().clamp(0, scheme.highest)
    return scale, zero.to(torch.uint8)


def _half(scale: Tensor) -> Tensor:
    return scale.clamp(SMALLEST, torch.finfo(torch.float16).max).half()


def encode(weight: Tensor, scale: Tensor, zero: Tensor | None, scheme: Scheme) -> Tensor:
    """The nearest codes on a given grid: int8 or, if affine, uint8, of weight's shape [N, K]."""
    steps = weight.float() / spread(scale, weight.shape[1])
    if zero is not None:
        steps = steps + spread(zero, weight.shape[1])
    codes = steps.round().clamp(scheme.lowest, scheme.highest)
    return codes.to(torch.int8 if scheme.symmetric else torch.uint8)


def quantize(weight: Tensor, scheme: Scheme) -> Quantized:
    """Round a weight [N, K] to the nearest points of its grid. Raises `QuantizationError`."""
    scale, zero = grid(weight, scheme)
    return Quantized(encode(weight, scale, zero, scheme), scale, zero, scheme)


def dequantize(q: Quantized) -> Tensor:
    """What the codes stand for: float32 [N, K]."""
    steps = q.codes.float()
    if q.zero is not None:
        steps = steps - spread(q.zero, steps.shape[1])
    return steps * spread(q.scale, steps.shape[1])


def rounded(weight: Tensor, scheme: Scheme) -> Tensor:
    """`dequantize(quantize(weight))`: the weight that a quantized layer multiplies by."""
    return dequantize(quantize(weight, scheme))


def spread(shared: Tensor, columns: int) -> Tensor:
    """A value for each input from one for each group: [N, groups] to float32 [N, columns]."""
    groups = shared.shape[1]
    if groups == 1:
        return shared.float()  # broadcasts along the row
    return shared.float().repeat_interleave(columns // groups, dim=1)
