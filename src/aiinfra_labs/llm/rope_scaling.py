"""RoPE past the trained length: other frequencies for the same weights. Unit 1.2.

Each rule takes frequencies, in radians a token, and gives others, so that a text `factor` times as
long as the trained one turns the slow pairs no further than training did. They differ in what they
do to the fast pairs, which tell neighbours apart. D: head_dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .positions import rope_frequencies


def linear(frequencies: Tensor, factor: float) -> Tensor:
    """All frequencies divided by `factor`: position 8 of 2 stands where position 4 stood.

    frequencies: float32 [D / 2]. Position interpolation: Chen et al., arXiv:2306.15595. Raises
    ValueError for a factor below 1, nan or infinite.
    """
    return frequencies / _at_least_one(factor)


def ntk(head_dim: int, base: float, factor: float) -> Tensor:
    """A larger base: the fastest pair keeps its frequency, the slowest is divided by `factor`.

    float32 [D / 2]. "NTK-aware" scaling, of a post by bloc97; stated in Peng et al.,
    arXiv:2309.00071, section 3.1. Raises ValueError for a factor below 1, or a head of one pair.
    """
    bounds.whole("head_dim", head_dim, "with one pair, none is the slowest and not the fastest", 4)
    base = bounds.real("base", base, "frequencies are powers of it", above=0.0)
    base *= _at_least_one(factor) ** (head_dim / (head_dim - 2))
    return rope_frequencies(head_dim, base)


def dynamic_ntk(head_dim: int, base: float, factor: float, length: int, trained: int) -> Tensor:
    """NTK with a factor that grows with the text: none up to `trained` tokens. float32 [D / 2].

    As `transformers` has it: factor x length / trained - (factor - 1). length, trained: tokens.
    Raises ValueError as `ntk` does, and for lengths below 1.
    """
    _at_least_one(factor)
    bounds.whole("length", length, "tokens of the text")
    bounds.whole("trained", trained, "tokens that the model was trained on")
    return ntk(head_dim, base, factor * max(length, trained) / trained - (factor - 1))


def llama3(
    frequencies: Tensor, factor: float, trained: int, low: float = 1.0, high: float = 4.0
) -> Tensor:
    """By the turns that a pair makes in `trained` tokens: under `low`, divided; over `high`, kept.

    Between the two, a weighted mean of both. frequencies: float32 [D / 2]. The rule of Llama 3.1:
    https://github.com/meta-llama/llama-models/blob/main/models/llama3/model.py
    Raises ValueError for a factor below 1, or where `low` is not below `high`.
    """
    bounds.whole("trained", trained, "tokens that the model was trained on")
    bounds.real("low", low, "pairs with fewer turns are divided", 0.0)
    bounds.real("high", high, "pairs with more turns are kept; between lies a ramp", above=low)
    made = rotations(frequencies, trained)
    kept = ((made - low) / (high - low)).clamp(0, 1)  # 0: divided, 1: as it was
    return frequencies * (kept + (1 - kept) / _at_least_one(factor))


def yarn(
    head_dim: int,
    base: float,
    factor: float,
    trained: int,
    slow: float = 1.0,
    fast: float = 32.0,
    whole_pairs: bool = True,
) -> tuple[Tensor, float]:
    """(frequencies float32 [D / 2], what to multiply cos and sin by).

    Pairs that turn more than `fast` times in `trained` tokens are kept, those under `slow` turns
    divided, with a ramp between, in the number of the pair. Queries and keys grow with ln(factor),
    which sharpens the softmax over more keys. Peng et al., arXiv:2309.00071, sections 3.2 to 3.4;
    the ramp's ends are whole pairs, as in the authors' code, or with `whole_pairs=False` (the key
    `truncate` of a config.json) where the formula puts them. Raises
    ValueError for a factor below 1, a base that is not above 1, or turns that are not above 0.
    """
    bounds.whole("trained", trained, "tokens that the model was trained on")
    bounds.real("base", base, "pairs are counted by its logarithm", above=1.0)
    bounds.real("slow", slow, "pairs with fewer turns are divided", above=0.0)
    bounds.real("fast", fast, "pairs with more turns are kept", above=0.0)
    _at_least_one(factor)
    frequencies = rope_frequencies(head_dim, base)

    def pair_that_turns(times: float) -> float:
        return head_dim * math.log(trained / (times * 2 * math.pi)) / (2 * math.log(base))

    first, last = pair_that_turns(fast), pair_that_turns(slow)
    if whole_pairs:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    number = torch.arange(head_dim // 2, dtype=torch.float32)
    divided = ((number - first) / ((last - first) or 0.001)).clamp(0, 1)  # 0: kept, 1: divided
    scaled = frequencies * (1 - divided) + frequencies / _at_least_one(factor) * divided
    return scaled, yarn_stretch(factor)


def yarn_stretch(
    factor: float,
    attention_factor: float | None = None,
    mscale: float | None = None,
    mscale_all_dim: float | None = None,
) -> float:
    """What YaRN multiplies cos and sin by: 0.1 ln(factor) + 1, unless a config says another.

    attention_factor: the number itself. mscale and mscale_all_dim: DeepSeek's, 0.1 m ln(factor) + 1
    of the one over that of the other; both or none.
    """
    if attention_factor is not None:
        return attention_factor
    grown = math.log(_at_least_one(factor))
    if mscale and mscale_all_dim:
        return (0.1 * mscale * grown + 1) / (0.1 * mscale_all_dim * grown + 1)
    return 0.1 * grown + 1.0


def rotations(frequencies: Tensor, tokens: int) -> Tensor:
    """Turns by 360 degrees that each pair makes in so many tokens: float32 [D / 2].

    frequencies: float32 [D / 2], radians a token. Raises ValueError for a count below 0.
    """
    bounds.whole("tokens", tokens, "each turns every pair a little", 0)
    return tokens * frequencies / (2 * math.pi)


def _at_least_one(factor: float) -> float:
    return bounds.real(
        "factor", factor, "it says how many times as long as in training a text may be", 1.0
    )
