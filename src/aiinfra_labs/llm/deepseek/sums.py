"""Sums to reason about: questions, written-out partial sums, and a rule that grades. Unit 1.7.

    7+4+9+2=#22.            an answer at once
    7+4+9+2=>11>20#22.      the partial sums first: thinking

Each character is a token. Who writes every partial sum adds one digit at a time; who writes none
adds all of them at once, in as many layers as the model has.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

PAD, STEP, ANSWER, END = " ", ">", "#", "."
VOCABULARY = PAD + "0123456789+=" + STEP + ANSWER + END
IDS = {character: number for number, character in enumerate(VOCABULARY)}
HELD_OUT = 10  # one question in so many is never trained on


@dataclass(frozen=True)
class Sum:
    """A question: digits to add."""

    digits: tuple[int, ...]

    @property
    def question(self) -> str:
        return "+".join(map(str, self.digits)) + "="

    @property
    def held_out(self) -> bool:
        """Decided by a hash, so that it is the same in every run."""
        return hashlib.sha256(self.question.encode()).digest()[0] % HELD_OUT == 0

    def solution(self, stride: int) -> str:
        """An answer that writes down every `stride`-th partial sum; as many as digits: none."""
        n = len(self.digits)
        at = [i for i in range(stride, n, stride) if i > 1]  # the first digit is no sum yet
        steps = "".join(f"{STEP}{sum(self.digits[:i])}" for i in at)
        return f"{steps}{ANSWER}{sum(self.digits)}{END}"

    def reward(self, text: str) -> float:
        """1 where what stands behind the last # is the sum, and the answer ends; else 0.

        What was thought before it is not looked at.
        """
        thought, mark, rest = text.rpartition(ANSWER)
        return float(mark == ANSWER and rest == f"{sum(self.digits)}{END}")


def questions(seed: int, lengths: tuple[int, ...], held_out: bool = False) -> Iterator[Sum]:
    """Endless questions of these numbers of digits, from one of the two parts."""
    rng = random.Random(seed)
    while True:
        drawn = Sum(tuple(rng.randrange(10) for _ in range(rng.choice(lengths))))
        if drawn.held_out == held_out:
            yield drawn


def encode(text: str) -> list[int]:
    return [IDS[character] for character in text]


def decode(ids: list[int]) -> str:
    """The text of ids, up to the first end; an end that never came is not invented."""
    text = "".join(VOCABULARY[id] for id in ids)
    before, end, _ = text.partition(END)
    return before + end


def steps(text: str) -> int:
    """How many partial sums an answer wrote down."""
    return text.count(STEP)
