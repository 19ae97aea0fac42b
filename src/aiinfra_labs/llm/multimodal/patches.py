"""An image as a sequence: cut into squares, each square a row of numbers. Unit 1.8.

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, section 3.1. B: batch,
C: colours, H x W: pixels, P: side of a patch, N: patches.
"""

from __future__ import annotations

from torch import Tensor

from aiinfra_labs import bounds


def patchify(images: Tensor, side: int) -> Tensor:
    """[B, C, H, W] to [B, N, C P P]: patches row by row, in each first the colour, then rows.

    side: pixels. Raises ValueError where the patches do not fill the image, or there is none.
    """
    bounds.whole("side", side, "pixels of a patch")
    if images.dim() != 4:
        raise bounds.SettingError(
            f"images {list(images.shape)}",
            "a batch of images has four axes, and each is cut by itself",
            "[batch, colours, height, width]; one image is image[None]",
        )
    b, c, h, w = images.shape
    if h % side or w % side:
        raise bounds.SettingError(
            f"an image of {h} x {w} pixels, and patches of {side} x {side}",
            "the patches that were left over would be smaller than the others",
            f"a side that divides {h} and {w}, or images that are padded",
        )
    cut = images.reshape(b, c, h // side, side, w // side, side)  # [B, C, rows, P, columns, P]
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * side * side)


def unpatchify(patches: Tensor, side: int, columns: int) -> Tensor:
    """The inverse: [B, N, C P P] to [B, C, H, W] of an image that is `columns` patches wide.

    side: pixels. Raises ValueError where the patches make no such image.
    """
    bounds.whole("side", side, "pixels of a patch")
    bounds.whole("columns", columns, "patches of a row")
    if patches.dim() != 3 or patches.shape[1] % columns or patches.shape[2] % side**2:
        raise bounds.SettingError(
            f"patches {list(patches.shape)}, {columns} a row, of {side} x {side} pixels",
            "rows are full, and a patch has so many pixels of each colour",
            "what `patchify` made, with its side",
        )
    b, n, size = patches.shape
    c, rows = size // side**2, n // columns
    cut = patches.reshape(b, rows, columns, c, side, side)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(b, c, rows * side, columns * side)
