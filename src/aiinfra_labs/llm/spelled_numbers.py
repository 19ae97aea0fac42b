"""Numbers from words to digits: a small task that needs an encoder and a decoder. Unit 1.4.

"four thousand thirty seven" becomes 4037. Four digits come of one to six words, in no fixed
places: two zeros here have no word at all, and "seventeen" is two digits. Where the decoder looks
for each digit can be read from its cross-attention.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .encoder_decoder import EncoderDecoderShape, Seq2Seq
from .training import train_one_cycle

PAD = 0  # behind the last word; the decoder's START, too
# fmt: off
ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# fmt: on
WORDS = ["", *ONES, *TENS, "hundred", "thousand"]
DIGITS = 4
FIRST_DIGIT = len(WORDS)  # the ids of digits follow those of words
VOCABULARY = FIRST_DIGIT + 10
LONGEST = 6  # words
HELD_OUT = 10  # one number in so many is never trained on


def spelled(number: int) -> list[str]:
    """The words of 1 to 9,999: 4037 is four, thousand, thirty, seven. Raises ValueError."""
    number = bounds.whole("number", number, "the model has four digits", 1, 10**DIGITS - 1)
    words: list[str] = []
    for unit, name in ((1000, "thousand"), (100, "hundred")):
        if number >= unit:
            words += [ONES[number // unit - 1], name]
            number %= unit
    if number >= 20:
        words.append(TENS[number // 10 - 2])
        number %= 10
    return words + ([ONES[number - 1]] if number else [])


def examples(numbers: list[int]) -> tuple[Tensor, Tensor]:
    """(words, digits): int64 [B, 6], padded with 0, and int64 [B, 4], with leading zeros.

    Raises ValueError for a number outside 1 to 9,999, or none.
    """
    bounds.whole("the number of numbers", len(numbers), "each is a row")
    words = torch.full((len(numbers), LONGEST), PAD)
    digits = torch.empty((len(numbers), DIGITS), dtype=torch.int64)
    for row, number in enumerate(numbers):
        ids = [WORDS.index(word) for word in spelled(number)]
        words[row, : len(ids)] = torch.tensor(ids)
        digits[row] = torch.tensor([FIRST_DIGIT + int(d) for d in f"{number:0{DIGITS}}"])
    return words, digits


def split() -> tuple[list[int], list[int]]:
    """(numbers to train on, numbers held out), 1 to 9,999 in an order of no meaning."""
    order = torch.randperm(10**DIGITS - 1, generator=torch.Generator().manual_seed(0)) + 1
    cut = len(order) // HELD_OUT
    return order[cut:].tolist(), order[:cut].tolist()


def train(steps: int, batch: int = 64, seed: int = 0) -> tuple[Seq2Seq, list[float]]:
    """(a small model, the loss of each step in nats a digit). Raises ValueError for few steps."""
    bounds.whole("steps", steps, "a schedule has a beginning and an end", 2, 2**20)
    bounds.whole("batch", batch, "numbers of a step", 1, 2**20)
    bounds.whole("seed", seed, "weights and batches are drawn from it", 0, 2**63 - 1)
    torch.manual_seed(seed)
    model = Seq2Seq(VOCABULARY, EncoderDecoderShape(64, 1, 1, 1, 256, pre_norm=True))
    words, digits = examples(split()[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses: list[float] = []

    def loss() -> Tensor:
        rows = torch.randint(len(words), (batch,))
        return model.loss(words[rows], digits[rows], words[rows] != PAD)

    def note(step: int, value: float) -> None:
        losses.append(value)

    train_one_cycle(model, optimizer, loss, steps, 5e-3, rise=0.3, on_step=note)
    return model, losses


def read(model: Seq2Seq, numbers: list[int]) -> list[int]:
    """What the model makes of each number's words."""
    words, _ = examples(numbers)
    written = model.write(words, DIGITS, words != PAD) - FIRST_DIGIT  # [B, 4]
    return (written * 10 ** torch.arange(DIGITS - 1, -1, -1)).sum(1).tolist()


def looks(model: Seq2Seq, number: int) -> Tensor:
    """Where the decoder looks for each digit of a number: float32 [4, words], rows sum to 1."""
    words, digits = examples([number])
    with torch.no_grad():
        model.loss(words, digits, words != PAD)
    weights = model.stacks.decoder[-1].cross_weights  # [1, H, 4, 6]
    return weights[0].mean(0)[:, : len(spelled(number))]
