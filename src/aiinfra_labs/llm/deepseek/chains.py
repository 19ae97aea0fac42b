"""Chains of arithmetic, answers with and without thinking, and a rule that grades. Unit 1.7.

    7+4*3+8=#1.          an answer at once
    7+4*3+8=>1>3#1.      what stands between first: thinking

From left to right, as on a pocket calculator, and of each result only the last digit. Each
character is a token. Who writes every result does one operation at a time; who writes none does
all of them at once, in as many layers as the model has.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

PAD, STEP, ANSWER, END = " ", ">", "#", "."
OPERATIONS = "+*"
VOCABULARY = PAD + "0123456789" + OPERATIONS + "=" + STEP + ANSWER + END
IDS = {character: number for number, character in enumerate(VOCABULARY)}
HELD_OUT = 10  # one question in so many is never trained on


@dataclass(frozen=True)
class Chain:
    """A question: a digit, then operations, each with the digit that it takes: ("+", 4)."""

    first: int
    rest: tuple[tuple[str, int], ...]

    @property
    def question(self) -> str:
        return f"{self.first}{''.join(f'{sign}{digit}' for sign, digit in self.rest)}="

    @property
    def results(self) -> list[int]:
        """The last digit after each operation; the last of them is the answer."""
        found, value = [], self.first
        for sign, digit in self.rest:
            value = (value + digit if sign == "+" else value * digit) % 10
            found.append(value)
        return found

    @property
    def held_out(self) -> bool:
        """Decided by a hash, so that it is the same in every run."""
        return hashlib.sha256(self.question.encode()).digest()[0] % HELD_OUT == 0

    def solution(self, stride: int) -> str:
        """An answer that writes down every `stride`-th result; from as many as there are on, none.

        stride: operations that are done at once, 1 or more.
        """
        between = self.results[stride - 1 : -1 : stride]
        return f"{''.join(f'{STEP}{r}' for r in between)}{ANSWER}{self.results[-1]}{END}"

    def reward(self, text: str) -> float:
        """1 where the digit behind the last # is right and ends the answer, else 0.

        What was thought before it is not looked at.
        """
        _, mark, rest = text.rpartition(ANSWER)
        return float(mark == ANSWER and rest == f"{self.results[-1]}{END}")


def questions(seed: int, lengths: tuple[int, ...], held_out: bool = False) -> Iterator[Chain]:
    """Endless questions of these numbers of operations, from one of the two parts."""
    rng = random.Random(seed)
    while True:
        rest = []
        for _ in range(rng.choice(lengths)):
            sign = rng.choice(OPERATIONS)
            rest.append((sign, rng.randrange(10) if sign == "+" else rng.randrange(2, 10)))
        drawn = Chain(rng.randrange(10), tuple(rest))
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
    """How many results an answer wrote down before its last."""
    return text.count(STEP)
