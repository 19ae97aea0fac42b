"""An image encoder: patches, a matrix, positions, and a Transformer's encoder layers. Unit 1.8.

A vision transformer (arXiv:2010.11929) without its class token. B: batch, N: patches, C: width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiinfra_labs import bounds

from ..encoder_decoder import EncoderDecoderShape, EncoderLayer
from .patches import patchify

PATCH = 2  # pixels: 16 patches of an image of 8 x 8


class ImageEncoder(nn.Module):
    """Images [B, colours, H, W] to a vector a patch: [B, N, C]."""

    def __init__(self, shape: EncoderDecoderShape, colours: int, patches: int):
        super().__init__()
        bounds.whole("colours", colours, "of a pixel")
        bounds.whole("patches", patches, "of an image")
        self.project = nn.Linear(colours * PATCH * PATCH, shape.width)
        # Learned, one a patch: the patches do not say where in the image they were.
        self.positions = nn.Parameter(torch.randn(patches, shape.width) * 0.1)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, images: Tensor) -> Tensor:
        """float32 [B, colours, H, W] to [B, N, C]. Raises ValueError for images of another size."""
        cut = patchify(images, PATCH)  # [B, N, colours P P]
        if cut.shape[1:] != (len(self.positions), self.project.in_features):
            raise bounds.SettingError(
                f"images {list(images.shape)}, of {cut.shape[1]} patches of {cut.shape[2]} numbers",
                f"the encoder has {len(self.positions)} positions, and a matrix for "
                f"{self.project.in_features} numbers a patch",
                "images of the size and colours that the model was built for",
            )
        x = self.project(cut) + self.positions  # [B, N, C]
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
