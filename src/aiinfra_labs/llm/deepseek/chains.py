"""Chains of arithmetic, answers with and without thinking, and a rule that grades. Unit 1.7.

    3+4*3+2=#3          an answer at once
    3+4*3+2=>2>1#3      what stands between first: thinking

From left to right, as on a pocket calculator, and of each result only the remainder modulo 5.
No number is multiplied by 0, so that every operation can be undone and no answer is likelier than
another. A token is a sign with its digit: `+4`, `>2`. Who writes every result does one operation
at a time; who writes none does all of them at once, in as many layers as the model has.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiinfra_labs import bounds

MODULUS = 5
PAD, STEP, ANSWER = " ", ">", "#"
_DIGITS = [str(digit) for digit in range(MODULUS)]
OPERATIONS = tuple((s, d) for s in "+*" for d in range(MODULUS) if (s, d) != ("*", 0))
VOCABULARY = (
    PAD,
    "=",
    *_DIGITS,
    *(f"{sign}{digit}" for sign, digit in OPERATIONS),
    *(STEP + digit for digit in _DIGITS),
    *(ANSWER + digit for digit in _DIGITS),
)
IDS = {token: number for number, token in enumerate(VOCABULARY)}
ENDS = tuple(IDS[ANSWER + digit] for digit in _DIGITS)  # an answer ends what is written
HELD_OUT = 10  # one question in so many is never trained on


@dataclass(frozen=True)
class Chain:
    """A question: a digit, then operations, each with the digit that it takes: ("+", 4)."""

    first: int
    rest: tuple[tuple[str, int], ...]

    @property
    def question(self) -> str:
        """As it is asked: "3+4*3+2="."""
        return f"{self.first}{''.join(f'{sign}{digit}' for sign, digit in self.rest)}="

    @property
    def results(self) -> list[int]:
        """The remainder after each operation; the last of them is the answer."""
        found, value = [], self.first
        for sign, digit in self.rest:
            value = (value + digit if sign == "+" else value * digit) % MODULUS
            found.append(value)
        return found

    @property
    def held_out(self) -> bool:
        """Decided by a hash, so that it is the same in every run."""
        return hashlib.sha256(self.question.encode()).digest()[0] % HELD_OUT == 0

    def solution(self, stride: int) -> str:
        """An answer that writes down every `stride`-th result; from as many as there are on, none.

        stride: operations that are done at once, 1 or more. Raises ValueError for less.
        """
        bounds.whole("stride", stride, "operations that are done at once")
        between = self.results[stride - 1 : -1 : stride]
        return f"{''.join(f'{STEP}{r}' for r in between)}{ANSWER}{self.results[-1]}"

    def reward(self, text: str) -> float:
        """1 where the digit behind the last # is right and nothing follows it, else 0.

        What was thought before it is not looked at.
        """
        _, mark, rest = text.rpartition(ANSWER)
        return float(mark == ANSWER and rest == str(self.results[-1]))


def questions(seed: int, lengths: tuple[int, ...], held_out: bool = False) -> Iterator[Chain]:
    """Endless questions of these numbers of operations, from one of the two parts.

    Raises ValueError, when the first is asked for, for no number of operations or one below 1.
    """
    if isinstance(lengths, str) or not lengths:
        raise bounds.SettingError(
            f"lengths is {lengths!r}", "a question has some number of operations", "a tuple: (6,)"
        )
    for length in lengths:
        bounds.whole("lengths", length, "operations of a question")
    bounds.whole("seed", seed, "questions are drawn from it", 0)
    rng = random.Random(seed)
    while True:
        rest = tuple(rng.choice(OPERATIONS) for _ in range(rng.choice(lengths)))
        drawn = Chain(rng.randrange(MODULUS), rest)
        if drawn.held_out == held_out:
            yield drawn


def encode(text: str) -> list[int]:
    """The ids of a text: a sign with its digit is one token. Raises ValueError for other signs."""
    if not re.fullmatch(r"(?:[+*>#]?[0-4]|=)*", text) or "*0" in text:
        raise bounds.SettingError(
            f"{text!r:.60} is no chain",
            "a token is =, a digit from 0 to 4, or one of + * > # with its digit, and *0 is none",
            "a question such as 3+4*3+2=, and an answer such as >2>1#3",
        )
    return [IDS[token] for token in re.findall(r"[+*>#]?\d|=", text)]


def decode(ids: Iterable[int]) -> str:
    """The text of ids, up to the first answer; an answer that never came is not invented.

    Raises ValueError for an id that is no token.
    """
    text = ""
    for id in ids:
        bounds.whole("an id", id, "the number of a token", 0, len(VOCABULARY) - 1)
        text += VOCABULARY[id]
        if id in ENDS:
            break
    return text


def steps(text: str) -> int:
    """How many results an answer wrote down before its last."""
    return text.count(STEP)
