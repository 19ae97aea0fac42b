"""A vocabulary as a tree of bytes, so that tokens with a common beginning are tried at once.

Unit 4.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiinfra_labs.llm.bpe import Tokenizer

from ..errors import ServingError
from .frames import Reach

# With these alone any text that was begun can be ended: no token leads where none goes on.
NEEDED = (*range(0x20, 0x7F), *range(0x80, 0xC0))


class Node:
    """Where the bytes from the root lead: the tokens that end here, and what may follow."""

    __slots__ = ("children", "ids")

    def __init__(self) -> None:
        self.children: dict[int, Node] = {}
        self.ids: list[int] = []


class Vocabulary:
    """The bytes of each token id; None for a special token, which is no text.

    Raises `ServingError` where a single byte that a text may need is no token: every byte-level
    vocabulary has all 256.
    """

    def __init__(self, tokens: Sequence[bytes | None]):
        self.tokens = [token or None for token in tokens]
        self.root = Node()
        for id, token in enumerate(self.tokens):
            if token is None:
                continue
            node = self.root
            for byte in token:
                node = node.children.setdefault(byte, Node())
            node.ids.append(id)
        for byte in NEEDED:
            if byte not in self.root.children or not self.root.children[byte].ids:
                raise ServingError(
                    f"the vocabulary has no token for the byte 0x{byte:02X} alone",
                    "a text that needs it could be begun, and then no token would be allowed",
                    "the bytes of a byte-level vocabulary: token_bytes(tokenizer) of the course's",
                )
        self.reach = Reach(
            white=self._longest(rb"[ \t\r\n]+"),
            opening=max(len(re.findall(rb"[\[{]", t)) for t in self.tokens if t),
            closing=max(len(re.findall(rb"[\]}]", t)) for t in self.tokens if t),
            number=self._longest(rb"[-+.eE0-9]+"),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def _longest(self, pattern: bytes) -> int:
        """The length of the longest match in any token."""
        found = re.compile(pattern)
        return max(len(m) for t in self.tokens if t for m in (found.findall(t) or [b""]))


def token_bytes(tokenizer: Tokenizer) -> list[bytes | None]:
    """The bytes of each id of the course's tokenizer, None for its special tokens."""
    special = set(tokenizer.special.values())
    return [None if id in special else tokenizer.token_bytes(id) for id in range(len(tokenizer))]
