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

from aiinfra_labs import bounds

from ..embedding import TokenEmbedding
from ..encoder_decoder import EncoderDecoderShape, EncoderLayer
from .vision import ImageEncoder

LONGEST = 48  # bytes of a text
PAD = 0
SHAPE = EncoderDecoderShape(width=48, heads=4, encoder_layers=2, hidden=96, pre_norm=True)
SPACE = 32  # dimensions of the common space


def similarities(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """scale x cosine of every image and every text: [I, D] and [T, D] to [I, T].

    Raises ValueError where the two have vectors of other lengths.
    """
    if images.dim() != 2 or texts.dim() != 2 or images.shape[1] != texts.shape[1]:
        raise bounds.SettingError(
            f"images {list(images.shape)} and texts {list(texts.shape)}",
            "both lie in one space: rows of as many numbers",
            "Clip.of_images and Clip.of_texts of the same model",
        )
    return scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """The mean of two cross-entropies: which text belongs to an image, and which image to a text.

    images, texts: [B, D], row i of one belongs to row i of the other. scale: 1 / temperature.
    Returns nats. Raises ValueError for another number of texts than of images, or none.
    """
    if len(images) != len(texts) or not len(images):
        raise bounds.SettingError(
            f"{len(images)} images and {len(texts)} texts",
            "they are pairs",
            "as many of both, at least one",
        )
    logits = similarities(images, texts, scale)  # [B, B]: a row an image
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def ensemble(prompts: Tensor) -> Tensor:
    """Several prompts a class to one vector a class: [K, P, D] to [K, D], of length 1.

    The mean of unit vectors, made a unit vector again (section 3.1.4). Raises ValueError for a
    class without a prompt.
    """
    if prompts.dim() != 3 or not prompts.shape[1]:
        raise bounds.SettingError(
            f"prompts {list(prompts.shape)}",
            "each class is described by at least one",
            "a tensor [classes, prompts, dimensions]",
        )
    return F.normalize(F.normalize(prompts, dim=-1).mean(1), dim=-1)


def byte_ids(texts: Sequence[str]) -> Tensor:
    """UTF-8, padded with 0 to the longest: int64 [B, T]. No word is unknown: all have bytes.

    texts: a list of them, each of 1 to `LONGEST` bytes. Raises ValueError for one str in place of a
    list, for U+0000, whose byte is the padding, and for half of a surrogate pair.
    """
    rows = [list(_utf8(text)) for text in bounds.texts("texts", texts)]
    longest = max(map(len, rows), default=0)
    if not rows or not all(rows) or longest > LONGEST:
        raise bounds.SettingError(
            f"{len(rows)} texts, the longest of {longest} bytes",
            f"a text has 1 to {LONGEST} bytes, for which the encoder has positions",
            "shorter texts, none of them empty",
        )
    if any(PAD in row for row in rows):
        raise bounds.SettingError(
            "a text holds U+0000",
            f"its byte is {PAD}, which stands for the padding behind a text",
            "the text without it: no keyboard writes it",
        )
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise bounds.SettingError(
            f"a text holds U+{ord(text[error.start]):04X}, half of a surrogate pair",
            "it is no character, and UTF-8 has no bytes for it",
            'text.encode("utf-16", "surrogatepass").decode("utf-16") joins whole pairs',
        ) from None


class TextEncoder(nn.Module):
    """Bytes [B, T] to one vector a text [B, C]."""

    def __init__(self, shape: EncoderDecoderShape):
        super().__init__()
        self.embed = TokenEmbedding(256, shape.width)
        self.positions = nn.Parameter(torch.randn(LONGEST, shape.width) * 0.1)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 [B, T], bytes, padded with `PAD`. Returns [B, C].

        Raises ValueError for an id that is no byte, a text of padding alone, or too long a one.
        """
        if ids.dim() != 2 or ids.shape[1] > LONGEST or not (ids != PAD).any(1).all():
            raise bounds.SettingError(
                f"ids {list(ids.shape)}, {int((ids == PAD).all(-1).sum())} rows of padding alone",
                f"a text has 1 to {LONGEST} bytes, and its vector is the mean over them",
                "byte_ids(texts)",
            )
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
        """B texts, a list, to [B, D]. Raises ValueError for what is no list of texts."""
        return self.text_projection(self.text(byte_ids(texts)))

    def loss(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """`clip_loss` of pairs, nats: images [B, colours, H, W], and a text of each."""
        return clip_loss(self.of_images(images), self.of_texts(texts), self.scale)

    @torch.no_grad()
    def classes(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """A vector for each class that is described, by one prompt or several: [K, D].

        prompts: for each class a list of texts, which may be of several lengths. Raises ValueError
        for a class without a prompt, or one that is described by a str in place of a list.
        """
        each = [bounds.texts(f"class {i}", texts) for i, texts in enumerate(prompts)]
        if not each or not all(each):
            raise bounds.SettingError(
                f"{len(each)} classes, of {[len(texts) for texts in each]} prompts",
                "each class is described by at least one",
                '[["a red seven", "a seven in red"], ["a blue two"]]',
            )
        vectors = self.of_texts([text for texts in each for text in texts])
        parts = vectors.split([len(texts) for texts in each])  # [P, D] of each class
        return torch.cat([ensemble(part[None]) for part in parts])

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
        if not class_of or min(class_of.values()) < 0:
            raise bounds.SettingError(
                f"{len(class_of)} sentences, of classes {sorted(set(class_of.values()))[:5]}",
                "each sentence is about a class, and classes are numbered from 0",
                '{"a red seven": 0, "a blue two": 1}',
            )
        self.class_of = class_of  # which class a sentence is about
        self.rows = nn.Embedding(max(class_of.values()) + 1, SHAPE.width)

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """B sentences, a list, to [B, C]. Raises ValueError for one that has no number."""
        for sentence in (sentences := bounds.texts("sentences", sentences)):
            if sentence not in self.class_of:
                raise bounds.SettingError(
                    f"{sentence!r} has no number",
                    "this control cannot read: it knows its sentences, each by heart",
                    "a sentence that it was built with, or `Clip`, which reads",
                )
        return self.rows(torch.tensor([self.class_of[sentence] for sentence in sentences]))
