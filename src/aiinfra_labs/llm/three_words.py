"""Three words, with numbers small enough to follow by hand: what a position does. Unit 1.2.

Nobody trained these numbers. A trained model has thousands of tokens, and hundreds of numbers where
these have four.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiinfra_labs import bounds

Array = NDArray[np.float64]

WORDS = {"狗": "dog", "咬": "bites", "人": "man"}  # the id of a word is its place here
TABLE = np.array(
    [
        [2.0, 0, 0, 1],
        [0, 2, 1, 0],
        [1, 0, 2, 0],
    ]
)  # [V, C]: a row for each word
SPEEDS = np.array([1, 0.01])  # radians a position: two waves, of two columns each

# One hand of a clock, which moves by an hour from one position to the next.
HOUR = np.array([np.pi / 6])
QUERY = np.array([2.0, 0])
KEY = np.array([2.0, 1])


def rows(words: str) -> Array:
    """The row of each word: [T, C]."""
    ids = [list(WORDS).index(word) for word in words]
    return TABLE[ids]


def added(count: int, start: int = 0, speeds: Array = SPEEDS) -> Array:
    """The sinusoids of positions start, start + 1, ...: [count, 2 x speeds].

    Raises SettingError for numbers of no position.
    """
    count = bounds.whole("count", count, "so many positions get a vector", most=1_000_000)
    start = bounds.whole("start", start, "the first position", least=0)
    angles = (start + np.arange(count))[:, None] * speeds
    return np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(count, -1)


def turned(x: Array, position: float, speeds: Array) -> Array:
    """Each pair of neighbours turned by position x speed. x: [D]. speeds: [D / 2]. Returns [D].

    By complex numbers: a turn by an angle is a product with e^(i angle).
    Raises SettingError for a position that is no finite number.
    """
    position = bounds.real("position", position, "the pairs are turned by position x speed")
    hands = (x[0::2] + 1j * x[1::2]) * np.exp(1j * position * speeds)
    return np.stack((hands.real, hands.imag), axis=-1).ravel()
