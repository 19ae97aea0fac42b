"""An image as a sequence: cut into squares, each square a row of numbers. Unit 1.8.

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, section 3.1. B: batch,
C: colours, H x W: pixels, P: side of a patch, N: patches.
"""

from __future__ import annotations

from torch import Tensor


def patchify(images: Tensor, side: int) -> Tensor:
    """[B, C, H, W] to [B, N, C P P]: patches row by row, in each first the colour, then rows.

    Raises ValueError where the patches do not fill the image.
    """
    b, c, h, w = images.shape
    if h % side or w % side:
        raise ValueError(
            f"an image of {h} x {w} pixels, and patches of {side} x {side}\n"
            "Why: the patches that were left over would be smaller than the others\n"
            f"Try: a side that divides {h} and {w}, or images that are padded"
        )
    cut = images.reshape(b, c, h // side, side, w // side, side)  # [B, C, rows, P, columns, P]
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * side * side)


def unpatchify(patches: Tensor, side: int, columns: int) -> Tensor:
    """The inverse: [B, N, C P P] to [B, C, H, W] of an image that is `columns` patches wide."""
    b, n, size = patches.shape
    c, rows = size // side**2, n // columns
    cut = patches.reshape(b, rows, columns, c, side, side)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(b, c, rows * side, columns * side)
