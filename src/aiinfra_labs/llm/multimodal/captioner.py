"""A captioner: a decoder that writes words and looks at an image while it does. Unit 1.8.

The encoder-decoder of `encoder_decoder.py` with patches for source tokens: each word's query asks
all patches (cross-attention), as in Xu et al., "Show, Attend and Tell", arXiv:1502.03044, and the
gated layers of Flamingo, arXiv:2204.14198. B: batch, N: patches, T: words, C: width, H: heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from ..embedding import TokenEmbedding
from ..encoder_decoder import DecoderLayer, EncoderDecoderShape
from .vision import ImageEncoder

SHAPE = EncoderDecoderShape(
    width=64, heads=4, encoder_layers=2, decoder_layers=2, hidden=128, pre_norm=True
)
START = 0  # the id that a caption begins with


class Captioner(nn.Module):
    """Images [B, 1, H, W] and the words so far [B, T] to logits of the next word."""

    def __init__(self, vocabulary: int, patches: int, longest: int):
        super().__init__()
        bounds.whole("vocabulary", vocabulary, "words that it can write")
        bounds.whole("longest", longest, "words of a caption")
        self.image = ImageEncoder(SHAPE, 1, patches)
        self.embed = TokenEmbedding(vocabulary, SHAPE.width)
        self.positions = nn.Parameter(torch.randn(longest, SHAPE.width) * 0.1)
        self.layers = nn.ModuleList(DecoderLayer(SHAPE) for _ in range(SHAPE.decoder_layers))
        self.norm = nn.LayerNorm(SHAPE.width)
        self.head = nn.Linear(SHAPE.width, vocabulary)

    def decode(self, words: Tensor, memory: Tensor) -> Tensor:
        """words: int64 [B, T], START first. memory: [B, N, C]. Returns logits [B, T, V].

        Raises ValueError for more words than there are positions, or an id outside the vocabulary.
        """
        most = len(self.positions)
        bounds.whole("words so far", words.shape[1], "each has a learned position", 1, most)
        x = self.embed(words) + self.positions[: words.shape[1]]
        for layer in self.layers:
            x = layer(x, memory)  # sees the words before it, then all patches
        return self.head(self.norm(x))

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        """images: float32 [B, 1, H, W]. words: int64 [B, T]. Returns logits [B, T, V]."""
        return self.decode(words, self.image(images))

    def loss(self, images: Tensor, captions: Tensor) -> Tensor:
        """Cross-entropy of each word, given the image and the words before it. int64 [B, T]."""
        shown = F.pad(captions[:, :-1], (1, 0), value=START)
        return F.cross_entropy(self(images, shown).flatten(0, 1), captions.flatten())

    @torch.no_grad()
    def write(self, images: Tensor, words: int) -> Tensor:
        """The likeliest word each time: int64 [B, words]. The image is encoded once.

        Raises ValueError for more words than a caption has.
        """
        bounds.whole("words", words, "each has a learned position", 0, len(self.positions))
        memory = self.image(images)
        written = torch.full((len(images), 1), START, device=images.device)
        for _ in range(words):
            logits = self.decode(written, memory)
            written = torch.cat((written, logits[:, -1:].argmax(-1)), dim=1)
        return written[:, 1:]

    @torch.no_grad()
    def looks(self, images: Tensor, captions: Tensor) -> Tensor:
        """What each patch gets of a word's attention, while that word is being chosen.

        Returns [B, layers, H, T, N]: row t is of the query that writes caption word t.
        """
        self(images, F.pad(captions[:, :-1], (1, 0), value=START))
        return torch.stack([layer.cross_weights for layer in self.layers], dim=1)
