"""Coloured digits and sentences about them, of which some pairs are never shown. Unit 1.8.

Ten digits in six colours are sixty concepts. Of each digit one colour is held out: no picture of
a red seven and no sentence about one is in the training, though red things and sevens are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aiinfra_labs import bounds

from ..training import train_one_cycle
from .contrastive import Clip, NumberedTexts
from .digits import NUMBERS, Images, load

COLOURS = {
    "red": (1, 0.1, 0.1),
    "green": (0.1, 1, 0.1),
    "blue": (0.1, 0.1, 1),
    "yellow": (1, 1, 0.1),
    "pink": (1, 0.1, 1),
    "white": (1, 1, 1),
}
DIGITS = NUMBERS[:10]
TRAINED = (
    "a photo of the digit {d} in {c}",
    "{c} {d}",
    "the number {d}, written in {c} ink",
    "{d}, {c}",
    "someone drew a {c} {d}",
    "here is {d} and its colour is {c}",
    "a {c} drawing of {d}",
    "look, {d} in {c}",
    "what you see is {c}: the digit {d}",
    "{d} was painted {c}",
)
UNSEEN = ("a picture of a {c} {d}", "this {d} is {c}", "{c} is the colour of this {d}")


@dataclass(frozen=True)
class Concept:
    """A digit, 0 to 9, in a colour, 0 to 5."""

    digit: int
    colour: int

    def said(self, template: str) -> str:
        """The sentence that a template makes of it, with its {d} and {c}."""
        return template.format(d=DIGITS[self.digit], c=list(COLOURS)[self.colour])


ALL = tuple(Concept(digit, colour) for digit in range(10) for colour in range(len(COLOURS)))


def is_held_out(concept: Concept) -> bool:
    """One colour of each digit, and one or two digits of each colour."""
    return (concept.digit * 5 + 1) % len(COLOURS) == concept.colour


HELD_OUT = tuple(filter(is_held_out, ALL))


def digit_of(concepts: Tensor) -> Tensor:
    """Which digit each of these numbers of `ALL` is about: int64 [B]."""
    return concepts // len(COLOURS)


def painted(pixels: Tensor, colours: Tensor) -> Tensor:
    """Grey images [B, 1, 8, 8] in the colour asked for, int64 [B]: [B, 3, 8, 8]."""
    return pixels * torch.tensor(list(COLOURS.values()))[colours][:, :, None, None]


@dataclass(frozen=True)
class Lesson:
    """How the model is trained, and what it never sees."""

    steps: int = 600
    learning_rate: float = 2e-3
    seed: int = 0
    reads: bool = True  # False: `NumberedTexts` in place of the text encoder
    without: int | None = None  # a digit that is left out altogether

    def __post_init__(self) -> None:
        bounds.whole("steps", self.steps, "a schedule has a beginning and an end", 2)
        bounds.real("learning_rate", self.learning_rate, "the highest of the run", above=0.0)
        bounds.whole("seed", self.seed, "weights and pictures are drawn from it", 0)
        if self.without is not None:
            bounds.whole("without", self.without, "a digit that is left out", 0, 9)

    def shown(self) -> tuple[Concept, ...]:
        """The concepts that it is trained on."""
        return tuple(c for c in ALL if not is_held_out(c) and c.digit != self.without)


def batch(
    images: Images, shown: Sequence[Concept], generator: torch.Generator, templates: Sequence[str]
) -> tuple[Tensor, list[str]]:
    """One picture and one sentence of each concept, so that no two rows mean the same.

    With two red sevens in a batch the loss would punish a right answer. templates: a list of
    texts. Returns float32 [B, 3, 8, 8] and B texts. Raises ValueError for none of either.
    """
    templates = bounds.texts("templates", templates)
    bounds.whole("the number of templates", len(templates), "each picture has a sentence")
    bounds.whole("the number of concepts", len(shown), "each has a picture")
    digits, colours = torch.tensor([(c.digit, c.colour) for c in shown]).T
    pixels = images.pixels[images.draw(digits, generator)]  # [B, 1, 8, 8]
    light = 0.6 + 0.4 * torch.rand(len(shown), 1, 1, 1, generator=generator)
    which = torch.randint(len(templates), (len(shown),), generator=generator).tolist()
    texts = [c.said(templates[i]) for c, i in zip(shown, which, strict=True)]
    return painted(pixels * light, colours), texts


def model_of(lesson: Lesson) -> Clip:
    """A model with the weights of chance, as a lesson begins with."""
    torch.manual_seed(lesson.seed)
    model = Clip()
    if not lesson.reads:
        sentences = {c.said(t): i for i, c in enumerate(ALL) for t in (*TRAINED, *UNSEEN)}
        model.text = NumberedTexts(sentences)
        model.of_texts = lambda texts: model.text_projection(model.text(texts))
    return model


def train(lesson: Lesson, on_step: Callable[[int, float], None] = lambda step, loss: None) -> Clip:
    """A model trained on the spot."""
    model, images = model_of(lesson), load()[0]
    generator = torch.Generator().manual_seed(lesson.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lesson.learning_rate, weight_decay=0.05)

    def loss() -> Tensor:
        return model.loss(*batch(images, lesson.shown(), generator, TRAINED))

    train_one_cycle(
        model, optimizer, loss, lesson.steps, lesson.learning_rate, clip=1.0, on_step=on_step
    )
    return model.eval()


def pictures(held_out: bool) -> tuple[Tensor, Tensor]:
    """Every held-out image in the colour(s) that its digit was, or was not, trained in.

    Returns [B, 3, 8, 8] and which of `ALL` each is, int64 [B].
    """
    images = load()[1]
    chosen = [
        (i, k)
        for i, digit in enumerate(images.labels.tolist())
        for k, concept in enumerate(ALL)
        if concept.digit == digit and is_held_out(concept) == held_out
    ]
    which, concepts = torch.tensor(chosen).T
    colours = torch.tensor([c.colour for c in ALL])[concepts]
    return painted(images.pixels[which], colours), concepts


def answers(model: Clip, images: Tensor, templates: Sequence[str] = UNSEEN) -> Tensor:
    """Which of all sixty concepts each picture is nearest to: int64 [B].

    images: float32 [B, 3, 8, 8]. templates: a list of texts with {d} and {c}.
    """
    templates = bounds.texts("templates", templates)
    return model.classify(images, model.classes([[c.said(t) for t in templates] for c in ALL]))
