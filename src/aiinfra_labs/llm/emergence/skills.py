"""Two skills that are asked in digits, and graded on every digit of the answer. Unit 1.8.

Recall: each key has a value of random digits, which can only be known by heart. Addition: the sum
of two numbers, which can be computed. Both are sequences of the same ten digits and two signs, so
that the same model learns either. B: questions, T: tokens of question and answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .metrics import NOT_GRADED

DIGITS = 10  # ids 0 to 9 are the digits themselves
PLUS, EQUALS = 10, 11
VOCABULARY = 12
KEY = 3  # digits of a key
MOST_DIGITS = 18  # that any number in int64 has


class Skill(Protocol):
    """What `growth` trains on and grades."""

    name: str
    answer: int  # tokens of an answer

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` sequences to train on, question and answer: int64 [count, T]."""

    def test(self) -> Tensor:
        """The sequences that are graded: int64 [B, T], the same each time."""


def spelled(numbers: Tensor, width: int) -> Tensor:
    """The last `width` decimal digits, the highest first: int64 [B] to [B, width].

    Raises ValueError for a width that int64 does not hold, or a number below 0.
    """
    bounds.whole("width", width, "digits of a number", 1, MOST_DIGITS)
    if numbers.is_floating_point() or (numbers < 0).any():
        raise bounds.SettingError(
            f"numbers of {numbers.dtype}, the least {numbers.min().item()}",
            "they are spelled in decimal digits, without a sign",
            "whole numbers, 0 or more",
        )
    powers = 10 ** torch.arange(width - 1, -1, -1)
    return numbers[:, None] // powers % 10


def shifted(sequences: Tensor, answer: int) -> tuple[Tensor, Tensor]:
    """(ids, targets) of whole sequences [B, T + 1]: only the last `answer` tokens are graded.

    Returns int64 [B, T] each. Raises ValueError for an answer longer than what follows a token.
    """
    bounds.whole("answer", answer, "tokens that are graded", 1, sequences.shape[1] - 1)
    ids, targets = sequences[:, :-1], sequences[:, 1:].clone()  # [B, T] each
    targets[:, : targets.shape[1] - answer] = NOT_GRADED
    return ids, targets


@dataclass(frozen=True)
class Recall:
    """key = value: `facts` keys of three digits, each with a value of `answer` random digits.

    What is asked is what was learnt, for nothing tells the value of another key.
    """

    facts: int = 512
    answer: int = 8
    seed: int = 7
    name: str = "recall"

    def __post_init__(self) -> None:
        bounds.whole("facts", self.facts, "each has a key of three digits", 1, DIGITS**KEY)
        bounds.whole("answer", self.answer, "digits of a value")
        bounds.whole("seed", self.seed, "the values are drawn from it", 0)

    def test(self) -> Tensor:
        """All facts: int64 [facts, 3 + 1 + answer]."""
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.randint(DIGITS, (self.facts, self.answer), generator=generator)
        keys = spelled(torch.arange(self.facts), KEY)
        return torch.cat((keys, torch.full((self.facts, 1), EQUALS), values), dim=1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` facts, each as likely as any: int64 [count, 3 + 1 + answer]."""
        bounds.whole("count", count, "facts to draw", 0)
        return self.test()[torch.randint(self.facts, (count,), generator=generator)]


@dataclass(frozen=True)
class Addition:
    """a + b = sum, each number of `digits` digits, the sum of one more. The highest digit first.

    One problem in eight, by a + 3 b modulo 8, is kept for the test and never trained on.
    """

    digits: int = 3
    tested: int = 4000
    name: str = "addition"

    def __post_init__(self) -> None:
        # With no digit the only problem is 0 + 0, which is the test's, so that training has none.
        bounds.whole("digits", self.digits, "of each number", 1, MOST_DIGITS - 1)
        bounds.whole("tested", self.tested, "problems of the test")

    @property
    def answer(self) -> int:
        """Tokens of an answer: a digit more than each number has."""
        return self.digits + 1

    def kept(self, a: Tensor, b: Tensor) -> Tensor:
        """Whether a problem is the test's: bool [B]."""
        return (a + 3 * b) % 8 == 0

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` problems that are not the test's: int64 [count, 3 digits + 3]."""
        bounds.whole("count", count, "problems to draw", 0)
        return self._problems(count, generator, kept=False)

    def test(self) -> Tensor:
        """`tested` problems that were never trained on: int64 [tested, 3 digits + 3]."""
        return self._problems(self.tested, torch.Generator().manual_seed(99), kept=True)

    def _problems(self, count: int, generator: torch.Generator, kept: bool) -> Tensor:
        a = torch.empty(0, dtype=torch.long)
        b = torch.empty(0, dtype=torch.long)
        while len(a) < count:
            more = torch.randint(10**self.digits, (2, 2 * count), generator=generator)
            chosen = self.kept(*more) == kept
            a, b = torch.cat((a, more[0][chosen])), torch.cat((b, more[1][chosen]))
        a, b = a[:count], b[:count]
        plus, equals = (torch.full((count, 1), sign) for sign in (PLUS, EQUALS))
        parts = (spelled(a, self.digits), plus, spelled(b, self.digits), equals)
        return torch.cat((*parts, spelled(a + b, self.answer)), dim=1)
