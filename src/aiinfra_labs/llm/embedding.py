"""From a token's id to its vector: a row of a table. Unit 1.2.

B: batch, T: tokens, V: vocabulary, C: width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds


def check_ids(ids: Tensor, rows: int, name: str = "id") -> None:
    """Raise ValueError unless ids are whole numbers from 0 to rows - 1, in a tensor."""
    if not isinstance(ids, Tensor) or ids.dtype not in WHOLE:
        raise bounds.SettingError(
            f"{name}s are {ids.dtype if isinstance(ids, Tensor) else type(ids).__name__}",
            "each is the number of a row, so they are whole",
            "torch.tensor(ids), an int64 tensor",
        )
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        wrong = int(ids.max()) if int(ids.max()) >= rows else int(ids.min())
        raise bounds.SettingError(
            f"{name} {wrong}, and the table has rows 0 to {rows - 1}",
            f"each {name} that the model knows has a row, and no other number has",
            "the tokenizer that the model was trained with" if name == "id" else f"0 to {rows - 1}",
        )


WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class TokenEmbedding(nn.Embedding):
    """`nn.Embedding` that says what is wrong with an id which has no row.

    float [rows, width]. The check is made where the lookup fails, so that it costs nothing.
    """

    def __init__(self, rows: int, width: int, name: str = "id"):
        super().__init__(rows, width)
        self._name = name

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int [...]. Returns [..., width]. Raises ValueError for an id outside the table."""
        try:
            return super().forward(ids.long() if ids.dtype in WHOLE else ids)
        except (IndexError, RuntimeError, AttributeError, TypeError):
            check_ids(ids, self.num_embeddings, self._name)
            raise


def embed(ids: Tensor, table: Tensor) -> Tensor:
    """Row ids[t] of the table for each token.

    ids: int64 [..., T], each 0 to V - 1. table: float [V, C]. Returns [..., T, C].
    Raises ValueError for an id that has no row.
    """
    check_ids(ids, table.shape[0])
    return table[ids.long()]  # uint8 would be taken for a mask


def one_hot_product(ids: Tensor, table: Tensor) -> Tensor:
    """The same by a matrix product: a one in the token's own column picks its row.

    It says why a lookup can be trained like any other layer. It reads all V rows for each token.
    ids: int64 [..., T]. table: float [V, C]. Returns [..., T, C]. Raises ValueError for an id that
    has no row.
    """
    check_ids(ids, table.shape[0])
    one_hot = F.one_hot(ids.long(), table.shape[0]).to(table.dtype)  # [..., T, V]
    return one_hot @ table


def bytes_read(tokens: int, vocabulary: int, width: int, bytes_each: int = 2) -> tuple[int, int]:
    """Bytes of the table that (a lookup, a one-hot product) must read for `tokens` tokens.

    A product that keeps nothing from one token to the next reads the table once for each. width:
    numbers of a row, of `bytes_each` bytes. Raises ValueError for a count below 0 or no width.
    """
    bounds.whole("tokens", tokens, "each reads a row", 0)
    bounds.whole("vocabulary", vocabulary, "rows of the table")
    bounds.whole("width", width, "numbers of a row")
    bounds.whole("bytes_each", bytes_each, "of a number")
    row = width * bytes_each
    return tokens * row, tokens * vocabulary * row


def gradient_rows(ids: Tensor, vocabulary: int) -> Tensor:
    """bool [V]: the rows of the table that a step on these tokens changes at all.

    ids: int64, of any shape. Raises ValueError for an id that has no row.
    """
    bounds.whole("vocabulary", vocabulary, "rows of the table", 1, 2**31 - 1)
    check_ids(ids, vocabulary)
    seen = torch.zeros(vocabulary, dtype=torch.bool)
    seen[ids.flatten().long()] = True
    return seen
