"""Two digits side by side, and the sentence that says so. Unit 1.8.

A hundred scenes from ten digits. Twenty ordered pairs are held out: the captioner has seen both
digits, each on either side, and never these two together in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aiinfra_labs import bounds

from ..training import train_one_cycle
from .captioner import Captioner
from .digits import NUMBERS, Images, load

WORDS = ("<start>", "<end>", "a", "left", "of", *NUMBERS[:10])
IDS = {word: i for i, word in enumerate(WORDS)}
LENGTH = 7  # "a three left of a seven <end>"
FIRST, SECOND = 1, 5  # where the two numbers stand in a caption
MOST_SCENES = 2**18
PATCHES, COLUMNS = 32, 8  # of an image of 8 x 16 pixels, in patches of 2 x 2


def is_held_out(left: Tensor, right: Tensor) -> Tensor:
    """Two of the ten pairs that begin with a digit, and two of those that end with it."""
    return (3 * left + right) % 10 < 2


def captions(left: Tensor, right: Tensor) -> Tensor:
    """Ids of "a three left of a seven <end>": int64 [B] twice to [B, 7]."""
    fixed = torch.tensor([IDS[w] for w in ("a", "zero", "left", "of", "a", "zero", "<end>")])
    rows = fixed.repeat(len(left), 1)
    rows[:, FIRST], rows[:, SECOND] = IDS["zero"] + left, IDS["zero"] + right
    return rows


def said(ids: Tensor) -> str:
    """A caption's words, up to its end."""
    words = [WORDS[i] for i in ids.tolist()]
    return " ".join(words[: words.index("<end>")] if "<end>" in words else words)


@dataclass(frozen=True)
class Scenes:
    """pixels: float32 [B, 1, 8, 16]. left, right: int64 [B], the digits."""

    pixels: Tensor
    left: Tensor
    right: Tensor

    def __len__(self) -> int:
        return len(self.left)

    @property
    def captions(self) -> Tensor:
        """The sentence of each scene: int64 [B, 7]."""
        return captions(self.left, self.right)

    def where(self, chosen: Tensor) -> Scenes:
        """The scenes that are chosen: bool [B], or int64 numbers of scenes."""
        return Scenes(self.pixels[chosen], self.left[chosen], self.right[chosen])


def drawn(images: Images, count: int, generator: torch.Generator) -> Scenes:
    """Pairs of digits, each as likely as any, as drawn images of them. count: scenes."""
    bounds.whole("count", count, "scenes to draw", 1, MOST_SCENES)
    left, right = torch.randint(10, (2, count), generator=generator)
    sides = [images.pixels[images.draw(side, generator)] for side in (left, right)]
    return Scenes(torch.cat(sides, dim=-1), left, right)


def training(count: int, generator: torch.Generator) -> Scenes:
    """Scenes of the training images, none of a held-out pair; about `count` of them."""
    bounds.whole("count", count, "scenes, about so many", 1, MOST_SCENES)
    scenes = drawn(load()[0], count * 5 // 4, generator)
    return scenes.where(~is_held_out(scenes.left, scenes.right))


def test(held_out: bool, count: int = 500) -> Scenes:
    """`count` scenes of images that were never trained on, of pairs that were, or were not."""
    bounds.whole("count", count, "scenes", 1, MOST_SCENES // 10)
    generator = torch.Generator().manual_seed(5)
    scenes = drawn(load()[1], 10 * count, generator)
    return scenes.where((is_held_out(scenes.left, scenes.right) == held_out).nonzero()[:count, 0])


@dataclass(frozen=True)
class Lesson:
    """How the captioner is trained."""

    steps: int = 800
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        bounds.whole("steps", self.steps, "a schedule has a beginning and an end", 2)
        bounds.whole("batch", self.batch, "scenes of a step, about", 2, MOST_SCENES)
        bounds.real("learning_rate", self.learning_rate, "the highest of the run", above=0.0)
        bounds.whole("seed", self.seed, "weights and scenes are drawn from it", 0)


def train(
    lesson: Lesson, on_step: Callable[[int, float], None] = lambda step, loss: None
) -> Captioner:
    """A captioner trained on the spot."""
    torch.manual_seed(lesson.seed)
    model = Captioner(len(WORDS), PATCHES, LENGTH)
    generator = torch.Generator().manual_seed(lesson.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lesson.learning_rate, weight_decay=0.05)

    def loss() -> Tensor:
        scenes = training(lesson.batch, generator)
        return model.loss(scenes.pixels, scenes.captions)

    train_one_cycle(
        model, optimizer, loss, lesson.steps, lesson.learning_rate, clip=1.0, on_step=on_step
    )
    return model.eval()


def on_the_left(looks: Tensor) -> Tensor:
    """The share of a word's attention that lies on the left digit: [..., T, N] to [..., T]."""
    columns = torch.arange(looks.shape[-1]) % COLUMNS
    return looks[..., columns < COLUMNS // 2].sum(-1)
