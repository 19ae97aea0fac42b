"""From a token's id to its vector: a row of a table. Unit 1.2.

B: batch, T: tokens, V: vocabulary, C: width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def embed(ids: Tensor, table: Tensor) -> Tensor:
    """Row ids[t] of the table for each token.

    ids: int64 [..., T], each 0 to V - 1. table: float [V, C]. Returns [..., T, C].
    Raises ValueError for an id that has no row.
    """
    rows = table.shape[0]
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        wrong = int(ids.max()) if int(ids.max()) >= rows else int(ids.min())
        raise ValueError(
            f"id {wrong}, and the table has rows 0 to {rows - 1}\n"
            "Why: each id of the vocabulary has a row, and no other number has\n"
            "Try: the tokenizer that the model was trained with"
        )
    return table[ids]


def one_hot_product(ids: Tensor, table: Tensor) -> Tensor:
    """The same by a matrix product: a one in the token's own column picks its row.

    It says why a lookup can be trained like any other layer. It reads all V rows for each token.
    """
    one_hot = F.one_hot(ids, table.shape[0]).to(table.dtype)  # [..., T, V]
    return one_hot @ table


def bytes_read(tokens: int, vocabulary: int, width: int, bytes_each: int = 2) -> tuple[int, int]:
    """Bytes of the table that (a lookup, a one-hot product) must read for `tokens` tokens.

    A product that keeps nothing from one token to the next reads the table once for each.
    """
    row = width * bytes_each
    return tokens * row, tokens * vocabulary * row


def gradient_rows(ids: Tensor, vocabulary: int) -> Tensor:
    """bool [V]: the rows of the table that a step on these tokens changes at all."""
    seen = torch.zeros(vocabulary, dtype=torch.bool)
    seen[ids.flatten()] = True
    return seen
