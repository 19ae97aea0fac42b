"""One block of a transformer in NumPy, with numbers small enough to follow by hand. Unit 1.4.

The words and their rows are those of `four_words`, in an order in which 它 (it) stands last and so
sees all of them. Nobody trained these weights: they are chosen so that the four columns of a row
have a meaning, which those of a trained model have not. T: words. C: columns of a row, 4. H: hidden
numbers of the feed-forward network, 6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import four_words

Array = NDArray[np.float64]

ORDER = [0, 2, 3, 1]
WORDS = tuple(four_words.WORDS[i] for i in ORDER)  # 苹果 很 甜 它
ENGLISH = tuple(four_words.ENGLISH[i] for i in ORDER)
COLUMNS = ("thing", "pronoun", "how", "food")  # what the columns stand for
X = four_words.X[ORDER]  # float64 [T, C]: a row for each word

W_Q, W_K = four_words.W_Q / 2, four_words.W_K
W_V = W_O = np.eye(4)  # each word offers its own row, and what is taken is added as it is
# Each column is one hidden number. float64 [C, H].
W_GATE = np.array(
    [
        [0.0, 2, 0, 0, 0, 0],
        [2, 0, -3, 0, 0, 0],
        [0, 0, 0, 1, 0, 3],
        [0, 0, 0, -1, -2, 0],
    ]
)
W_UP = np.array(
    [
        [0.0, 0, 1, 0, 1, 0],
        [0, 0, 0, 1, 0, -1],
        [0, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 0],
    ]
)
# Each row is what one hidden number adds to the word's row. float64 [H, C].
W_DOWN = np.array(
    [
        [0, 0, 0.5, 0],
        [0, 0, 0, 0.5],
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0.5, 0, 0, 0],
        [0, 0.5, 0, 0],
    ]
)


def norm(x: Array) -> Array:
    """Divide each row by its rms, the root of its mean square. [T, C] to [T, C]."""
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)


def attention(x: Array) -> Array:
    """Each row takes shares of itself and of those before it. [T, C] to [T, C]."""
    scores = (x @ W_Q) @ (x @ W_K).T / np.sqrt(x.shape[1])  # [T, T]
    scores[np.triu_indices(len(x), 1)] = -np.inf  # causal
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return shares @ (x @ W_V) @ W_O


def feed_forward(x: Array) -> Array:
    """Each row by itself. [T, C] to [T, C], by way of [T, H]."""
    gate, up = x @ W_GATE, x @ W_UP  # [T, H] each
    opened = gate / (1 + np.exp(-gate))  # silu
    return (opened * up) @ W_DOWN


def block(x: Array) -> Array:
    """What a block makes of all rows. [T, C] to [T, C]."""
    x = x + attention(norm(x))
    return x + feed_forward(norm(x))
