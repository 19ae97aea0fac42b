"""Codes as they are stored: two int4 in a byte, four int2, five ternary digits. Unit 4.5.

A byte holds its codes from the low end up. Five digits of base 3 fit, for 3^5 is 243.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .integers import QuantizationError

WIDTHS = (2, 4, 8)
TRITS = 5  # in a byte


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes 0 to 2^bits - 1, uint8 [..., K], in bytes: uint8 [..., K * bits / 8]."""
    each = _each(bits)
    if codes.shape[-1] % each:
        raise QuantizationError(
            f"{codes.shape[-1]} codes of {bits} bits in a row",
            f"a byte holds {each} of them, and no byte is shared by two rows",
            f"a multiple of {each}",
        )
    parts = codes.reshape(*codes.shape[:-1], -1, each)  # [..., bytes, each]
    packed = torch.zeros_like(parts[..., 0])
    for i in range(each):
        packed |= parts[..., i] << (bits * i)
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:
    """`pack` undone: uint8 [..., bytes] to codes, uint8 [..., bytes * 8 / bits]."""
    each = _each(bits)
    if each == 1:
        return packed
    mask = 2**bits - 1
    parts = [(packed >> (bits * i)) & mask for i in range(each)]
    return torch.stack(parts, -1).flatten(-2)


def pack_trits(codes: Tensor) -> Tensor:
    """Codes 0, 1, 2, uint8 [..., K], five to a byte: uint8 [..., ceil(K / 5)]."""
    missing = -codes.shape[-1] % TRITS
    padded = torch.nn.functional.pad(codes, (0, missing))
    parts = padded.reshape(*codes.shape[:-1], -1, TRITS)
    powers = torch.tensor([3**i for i in range(TRITS)], device=codes.device)
    return (parts * powers).sum(-1).to(torch.uint8)


def unpack_trits(packed: Tensor, count: int) -> Tensor:
    """`pack_trits` undone: uint8 [..., bytes] to `count` codes a row, uint8 [..., count]."""
    powers = torch.tensor([3**i for i in range(TRITS)], device=packed.device)
    digits = packed[..., None].int() // powers % 3  # [..., bytes, 5]
    return digits.flatten(-2)[..., :count].to(torch.uint8)


def _each(bits: int) -> int:
    if bits not in WIDTHS:
        raise QuantizationError(
            f"codes of {bits} bits",
            "they would lie across two bytes",
            f"{', '.join(map(str, WIDTHS))} bits to store; other widths can be rounded to, by "
            "integers.rounded",
        )
    return 8 // bits
