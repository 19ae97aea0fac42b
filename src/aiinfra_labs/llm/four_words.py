"""Four words, with numbers small enough to follow by hand. Unit 1.3.

Nobody trained these numbers: they are chosen so that 它 (it) looks at 苹果 (apple) and a little at
甜 (sweet). A trained model finds its own, and has hundreds of them where these have four.
"""

from __future__ import annotations

import numpy as np

WORDS = ("苹果", "它", "很", "甜")
ENGLISH = ("apple", "it", "very", "sweet")
IT = 1  # the row of 它

# What enters the layer: a row for each word. float64 [4, 4].
X = np.array(
    [
        [1.0, 0, 0, 1],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
    ]
)
# The three matrices that training would find. X @ W_Q are the queries, a row for each word.
W_Q = np.array(
    [
        [0.0, -1, -1, 3],
        [3, 2, 0, 2],
        [0, 0, 1, 2],
        [1, 1, 1, -2],
    ]
)
W_K = np.array(
    [
        [2.0, -1, 1, -2],
        [0, 1, 0, 0],
        [0, -1, 1, 0],
        [0, 1, 0, 2],
    ]
)
W_V = np.array(
    [
        [8.0, 0, 2, -8],
        [0, 2, 0, 0],
        [0, 0, 2, 0],
        [0, 0, -2, 8],
    ]
)
