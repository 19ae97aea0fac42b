"""Products of int8 matrices whose sums are exact. Unit 4.5.

`torch._int_mm` is fast, and not exact on every processor. An x86 processor with AVX2 and without
VNNI adds two neighbouring products in 16 bits, and what does not fit is cut off there:
127 x 127 + 127 x 127 = 32,258 nearly fills them, and one of the two factors is moved up by 128
before. So each kind of device is asked once whether it adds up right.
"""

from __future__ import annotations

import contextlib
import functools

import torch
from torch import Tensor


@functools.cache
def adds_up(kind: str) -> bool:
    """Whether `torch._int_mm` keeps the largest sums on a device of this kind: "cpu", "cuda"."""
    K = 64
    large = torch.full((32, K), 127, dtype=torch.int8, device=kind)
    try:
        sums = torch._int_mm(large, large.t().contiguous())
    except RuntimeError:  # this device has no such product
        return False
    return bool((sums == 127 * 127 * K).all())


def integer_product(a: Tensor, b: Tensor) -> Tensor:
    """int8 [T, K] times int8 [K, N]: int32 [T, N], exact while it fits 32 bits (K to 131,071).

    Where the device's own product is not exact, or does not take this shape, the sums are taken in
    float64: these are exact up to 2^53, and slower.
    """
    if adds_up(a.device.type):
        with contextlib.suppress(RuntimeError):  # CUDA takes 17 rows or more, and multiples of 8
            return torch._int_mm(a, b)
    return (a.double() @ b.double()).to(torch.int32)
