"""A vocabulary as a tree of bytes, so that tokens with a common beginning are tried at once.

Unit 4.3. The walk over the tree goes next to one over the automaton's states, and what it finds for
a frame is kept: "inside a string" is the same in every text and every schema.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from aiinfra_labs.llm.bpe import Tokenizer

from ..errors import ServingError
from .frames import STRING, Frame, Reach, Stack, String
from .kept import Kept

# With these alone any text that was begun can be ended: no token leads where none goes on.
NEEDED = (*range(0x20, 0x7F), *range(0x80, 0xC0))


MASK_BYTES = 16 << 20  # of all masks of a vocabulary, whatever the schemas
FRAME_BYTES = 32 << 20  # of the tokens that single frames can read
SPOTS_KEPT = 5_000
ENTRY = 500  # bytes that a key and its place take, about


class Node:
    """Where the bytes from the root lead: the tokens that end here, and what may follow."""

    __slots__ = ("children", "ids")

    def __init__(self) -> None:
        self.children: dict[int, Node] = {}
        self.ids: list[int] = []


class _Spot:
    """A stack above some frame, and where each byte leads from it, as far as it was asked."""

    __slots__ = ("moves", "stack")

    def __init__(self, stack: Stack):
        self.stack = stack
        self.moves: dict[int, tuple[_Spot, ...]] = {}


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
            characters=max(len(t) for t in self.tokens if t),
        )
        self._spots: dict[Stack, _Spot] = {}
        self.masks: Kept[Tensor] = Kept(MASK_BYTES, lambda mask: mask.nbytes + ENTRY)
        self._frames: Kept[tuple[Tensor, list[Node]]] = Kept(
            FRAME_BYTES, lambda found: found[0].nbytes + 8 * len(found[1]) + ENTRY
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def _longest(self, pattern: bytes) -> int:
        """The length of the longest match in any token."""
        found = re.compile(pattern)
        return max(len(m) for t in self.tokens if t for m in (found.findall(t) or [b""]))

    def prepare(self) -> None:
        """Find what may follow within a string: nearly all tokens, once for all schemas.

        It takes longer than any other walk, and is not left to the step that needs it first.
        """
        for state in STRING:
            self.readable(String(state), self.root)

    # --- the walk ---------------------------------------------------------------------------------

    def readable(self, frame: Frame, node: Node) -> tuple[Tensor, list[Node]]:
        """The tokens below `node` that a frame can read, int64 [n], and where it is over.

        What lies below the frame does not matter as long as it is not over: behind those nodes,
        the frame below goes on.
        """
        if node is not self.root:
            return self._walk(frame, node)
        return self._frames.get(frame, lambda: self._walk(frame, node))

    def _walk(self, frame: Frame, node: Node) -> tuple[Tensor, list[Node]]:
        ids: list[int] = []
        exits: list[Node] = []
        todo = [(node, self._spot((frame,)))]
        while todo:
            here, spot = todo.pop()
            moves = spot.moves
            for byte, child in here.children.items():
                after = moves.get(byte)
                if after is None:
                    after = moves[byte] = self._moves(spot, byte)
                for next_spot in after:
                    ids += child.ids
                    if not next_spot.stack:
                        exits.append(child)
                    elif child.children:
                        todo.append((child, next_spot))
        return torch.tensor(ids, dtype=torch.int64), exits

    def _moves(self, spot: _Spot, byte: int) -> tuple[_Spot, ...]:
        below = spot.stack[:-1]
        return tuple(self._spot(below + inner) for inner in spot.stack[-1].step(byte))

    def _spot(self, stack: Stack) -> _Spot:
        found = self._spots.get(stack)
        if found is None:
            if len(self._spots) >= SPOTS_KEPT:
                self._spots.clear()  # those in use go on: they know each other
            found = self._spots[stack] = _Spot(stack)
        return found


def token_bytes(tokenizer: Tokenizer) -> list[bytes | None]:
    """The bytes of each id of the course's tokenizer, None for its special tokens."""
    special = set(tokenizer.special.values())
    return [None if id in special else tokenizer.token_bytes(id) for id in range(len(tokenizer))]
