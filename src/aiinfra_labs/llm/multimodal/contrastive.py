"""Images and texts in one space: a pair lies closer together than its strangers. Unit 1.8.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (CLIP),
arXiv:2103.00020, figure 3. Unlike theirs, the text encoder here reads bytes, looks both ways, and
takes the mean over its tokens. B: pairs, D: dimensions of the common space, T: bytes of a text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoder_decoder import EncoderLayer, Shape
from .vision import ImageEncoder

LONGEST = 48  # bytes of a text
PAD = 0
SHAPE = Shape(width=48, heads=4, encoder_layers=2, hidden=96, pre_norm=True)
SPACE = 32  # dimensions of the common space


def similarities(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """scale x cosine of every image and every text: [I, D] and [T, D] to [I, T]."""
    return scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """The mean of two cross-entropies: which text belongs to an image, and which image to a text.

    images, texts: [B, D], row i of one belongs to row i of the other. scale: 1 / temperature.
    """
    logits = similarities(images, texts, scale)  # [B, B]: a row an image
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def ensemble(prompts: Tensor) -> Tensor:
    """Several prompts a class to one vector a class: [K, P, D] to [K, D], of length 1.

    The mean of unit vectors, made a unit vector again (section 3.1.4).
    """
    return F.normalize(F.normalize(prompts, dim=-1).mean(1), dim=-1)


def byte_ids(texts: Sequence[str]) -> Tensor:
    """UTF-8, padded with 0 to the longest: int64 [B, T]. Any text can be asked, none is unknown."""
    rows = [list(text.encode()) for text in texts]
    longest = max(map(len, rows), default=0)
    if not rows or not all(rows) or longest > LONGEST:
        raise ValueError(
            f"{len(rows)} texts, the longest of {longest} bytes\n"
            f"Why: a text has 1 to {LONGEST} bytes, for which the encoder has positions\n"
            "Try: shorter texts, none of them empty"
        )
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


class TextEncoder(nn.Module):
    """Bytes [B, T] to one vector a text [B, C]."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.embed = nn.Embedding(256, shape.width)
        self.positions = nn.Parameter(torch.randn(LONGEST, shape.width) * 0.1)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, ids: Tensor) -> Tensor:
        there = ids != PAD  # [B, T]
        x = self.embed(ids) + self.positions[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, there)
        weights = there[..., None] / there.sum(1)[:, None, None]  # a mean over what is there
        return (self.norm(x) * weights).sum(1)


class Clip(nn.Module):
    """Two encoders, a matrix behind each, and one learned scale."""

    def __init__(self, colours: int = 3, patches: int = 16):
        super().__init__()
        self.image, self.text = ImageEncoder(SHAPE, colours, patches), TextEncoder(SHAPE)
        self.image_projection = nn.Linear(SHAPE.width, SPACE, bias=False)
        self.text_projection = nn.Linear(SHAPE.width, SPACE, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # section 2.4

    @property
    def scale(self) -> Tensor:
        """At most 100, as in the paper: a larger one makes training unstable."""
        return self.log_scale.exp().clamp(max=100)

    def of_images(self, images: Tensor) -> Tensor:
        """[B, colours, H, W] to [B, D]."""
        return self.image_projection(self.image(images).mean(1))

    def of_texts(self, texts: Sequence[str]) -> Tensor:
        """B texts to [B, D]."""
        return self.text_projection(self.text(byte_ids(texts)))

    def loss(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return clip_loss(self.of_images(images), self.of_texts(texts), self.scale)

    @torch.no_grad()
    def classes(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """A vector for each class that is described, by one prompt or several: [K, D]."""
        flat = [text for one in prompts for text in one]
        return ensemble(self.of_texts(flat).unflatten(0, (len(prompts), -1)))

    @torch.no_grad()
    def classify(self, images: Tensor, classes: Tensor) -> Tensor:
        """The class whose vector is nearest in angle: int64 [B]. classes: [K, D]."""
        return similarities(self.of_images(images), classes, 1.0).argmax(-1)


class NumberedTexts(nn.Module):
    """In place of a text encoder: a row of a table for each class, whatever the sentence says.

    What an ordinary classifier has. It cannot read: a class that was never shown has the row that
    chance gave it. The control of unit 1.8.
    """

    def __init__(self, class_of: Mapping[str, int]):
        super().__init__()
        self.class_of = class_of  # which class a sentence is about
        self.rows = nn.Embedding(max(class_of.values()) + 1, SHAPE.width)

    def forward(self, sentences: Sequence[str]) -> Tensor:
        return self.rows(torch.tensor([self.class_of[sentence] for sentence in sentences]))
