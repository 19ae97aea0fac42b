"""Handwritten digits: the only images that every machine of the course has. Unit 1.8.

scikit-learn's copy of the test set of UCI's "Optical Recognition of Handwritten Digits": 1,797
images of 8 x 8 pixels, 17 shades of grey. The last 360 are never trained on.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from aiinfra_labs import bounds

SIDE = 8  # pixels
HELD_OUT = 360
NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
]


@dataclass(frozen=True)
class Images:
    """Images and what they show. pixels: float32 [N, 1, 8, 8], 0 to 1. labels: int64 [N]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, digit: int) -> Tensor:
        """Where the images of one digit stand: int64."""
        return (self.labels == digit).nonzero().flatten()

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One image of each digit that is asked for, drawn: int64 [B], where they stand."""
        places = torch.empty_like(labels)
        for digit in labels.unique().tolist():
            asked = labels == digit
            there = self.of(digit)
            if not len(there):
                raise bounds.SettingError(
                    f"there is no image of {digit}",
                    f"these {len(self)} images show {sorted(set(self.labels.tolist()))}",
                    "one of these digits",
                )
            drawn = torch.randint(len(there), (int(asked.sum()),), generator=generator)
            places[asked] = there[drawn]
        return places


@functools.lru_cache(maxsize=1)
def load() -> tuple[Images, Images]:
    """(to train on, held out): 1,437 images and 360."""
    from sklearn.datasets import load_digits

    whole = load_digits()
    pixels = torch.tensor(whole.images, dtype=torch.float32)[:, None] / 16  # [N, 1, 8, 8]
    labels = torch.tensor(whole.target, dtype=torch.long)
    first = len(labels) - HELD_OUT
    return Images(pixels[:first], labels[:first]), Images(pixels[first:], labels[first:])
