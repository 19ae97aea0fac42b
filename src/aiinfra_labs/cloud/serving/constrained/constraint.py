"""Which tokens may come next, so that the answer is JSON and fits a schema. Unit 4.3.

A model gives each token of its vocabulary a probability; a mask takes those away that would break
the grammar, and sampling goes on with the rest. The grammar is one of bytes and a token may hold
several, even half a character, so that each token is tried byte by byte: all at once, by walking
the vocabulary as a tree next to the automaton.

Two things make that fast. What a token can reach of the stack is bounded - three closing brackets
in a token close three levels - so that masks are kept by the few frames that matter, and met again
at other depths. And the walk within one frame, such as "inside a string", which allows nearly the
whole vocabulary, is done once for all schemas: below it go only the tokens that leave it.

Willard and Louf, arXiv:2307.09702; XGrammar, arXiv:2411.15100, splits masks in the same two parts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import RequestError, ServingError
from .frames import ANYTHING, NESTING, WHITE_LEFT, End, Stack, Value
from .schema import choices_of
from .vocabulary import Node, Vocabulary

State = frozenset[Stack]  # every way in which the text so far can be read


class JsonConstraint:
    """Masks for one vocabulary and one schema; None is any JSON.

    vocabulary: the bytes of each token id, None for special tokens (`token_bytes(tokenizer)`), or
    a `Vocabulary`, which several constraints can share. end: the id that ends a text, if the mask
    shall hold it; it is allowed where the text is complete. nesting: levels of arrays and objects.
    Raises `RequestError` for a schema that it cannot hold to, `ServingError` for a vocabulary.
    """

    def __init__(
        self,
        vocabulary: Vocabulary | Sequence[bytes | None],
        schema: dict[str, Any] | None = None,
        *,
        end: int | None = None,
        nesting: int = NESTING,
    ):
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(vocabulary)
        if end is not None and not 0 <= end < len(vocabulary):
            raise RequestError(
                f"the end token is {end}",
                f"the vocabulary has ids 0 to {len(vocabulary) - 1}",
                "the tokenizer's own end token",
            )
        self.vocabulary, self.end = vocabulary, end
        machines = 0
        choices, deepest = ANYTHING, 1
        if schema is not None:
            choices, deepest, machines = choices_of(schema, nesting)
        # Room for a level is told apart as far as a token, and what it begins, may need it.
        opening = vocabulary.reach.opening + deepest - 1
        self._reach = replace(vocabulary.reach, opening=opening)
        vocabulary.prepare()
        self.start: State = frozenset({(End(WHITE_LEFT), Value(choices, nesting, WHITE_LEFT))})
        self._visible = vocabulary.reach.closing + 2  # frames that one token can look at
        self.hits = self.made = 0
        # The texts of a schema stand in its frames once more; an object has some hundred bytes.
        self.nbytes = 2000 + 20 * len(json.dumps(schema, default=str)) + machines

    # --- one token at a time ----------------------------------------------------------------------

    def complete(self, state: State) -> bool:
        """Whether the text so far is whole, so that the end token may come."""
        return not state or any(isinstance(stack[-1], End) for stack in state)

    def advance(self, state: State, token_id: int) -> State:
        """The state behind a token. Raises `ServingError` for one that the mask leaves out."""
        if token_id == self.end is not None and self.complete(state):
            return frozenset()
        after = state
        token = self.vocabulary.tokens[token_id] if 0 <= token_id < len(self.vocabulary) else None
        for byte in token or ():
            after = frozenset(
                stack[:-1] + inner for stack in after for inner in stack[-1].step(byte)
            )
        if token is None or not after:
            raise ServingError(
                f"token {token_id} ({token!r}) was drawn where the constraint does not allow it",
                "behind the text so far it begins nothing that fits the schema",
                "draw from the logits where mask(state) is True",
            )
        return after

    def mask(self, state: State) -> Tensor:
        """bool [V]: the tokens that may come. It is kept and given out again: do not write to it.

        Never all False, but where the text is complete and nothing may follow.
        """
        reach, visible = self._reach, self._visible
        # What a token cannot reach is cut off, and what it cannot tell apart made alike.
        seen = frozenset(tuple(f.within(reach) for f in stack[-visible:]) for stack in state)
        key, masks = (self.end, seen), self.vocabulary.masks
        if key in masks:
            self.hits += 1
        else:
            self.made += 1
        return masks.get(key, lambda: self._make_mask(seen))

    def cached_masks(self) -> tuple[int, int]:
        """(masks that were met again, masks that were made)."""
        return self.hits, self.made

    # --- the walk ---------------------------------------------------------------------------------

    def _make_mask(self, state: State) -> Tensor:
        mask = torch.zeros(len(self.vocabulary), dtype=torch.bool)
        for stack in state:
            self._allow(mask, stack, self.vocabulary.root)
        if self.end is not None:
            mask[self.end] = self.complete(state)
        return mask

    def _allow(self, mask: Tensor, stack: Stack, node: Node) -> None:
        """Allow the tokens below `node` that a stack can read."""
        ids, exits = self.vocabulary.readable(stack[-1], node)
        mask[ids] = True
        for behind in exits:
            if behind.children and len(stack) > 1:
                self._allow(mask, stack[:-1], behind)
