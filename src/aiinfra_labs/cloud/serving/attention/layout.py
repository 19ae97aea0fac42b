"""Whose the tokens of a step are, and where their keys and values lie. Unit 4.2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

FEW = 4  # new tokens of a sequence up to which each goes by itself through the compiled loop


@dataclass(frozen=True)
class Layout:
    """Whose the tokens of a step are. The first `queries[0]` of the row are sequence 0's, ...

    A sequence's queries are the last tokens of its context, which the cache holds, theirs included.
    """

    queries: np.ndarray  # int64 [S]: tokens of each sequence in this step
    contexts: np.ndarray  # int64 [S]: tokens of each sequence in the cache, these included
    block_table: np.ndarray  # int32 [S, max_blocks]; behind a sequence's own blocks: 0
    block_size: int
    window: int | None = None  # tokens that a query looks back over, its own included; None: all

    def seen_through(self, window: int | None) -> Layout:
        """The same tokens for a layer that looks back over `window` of them: made once a step."""
        if window is None or window >= int(self.contexts.max(initial=0)):
            return self  # nobody has a token so far behind
        known: dict[int, Layout] = self.__dict__.setdefault("_windowed", {})
        if window not in known:
            known[window] = replace(self, window=window)
        return known[window]

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each sequence's tokens begin in the row: int64 [S]."""
        return np.cumsum(self.queries) - self.queries

    @cached_property
    def rows(self) -> np.ndarray:
        """Each token's sequence: int64 [T]."""
        return np.repeat(np.arange(len(self.queries)), self.queries)

    @cached_property
    def positions(self) -> np.ndarray:
        """Each token's place in its own sequence: int64 [T]."""
        within = np.arange(len(self.rows)) - self.starts[self.rows]
        return (self.contexts - self.queries)[self.rows] + within

    @cached_property
    def firsts(self) -> np.ndarray:
        """The first position that each token sees, 0 without a window: int64 [T]."""
        if self.window is None:
            return np.zeros(len(self.positions), np.int64)
        return np.maximum(0, self.positions + 1 - self.window).astype(np.int64)

    @cached_property
    def few(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of sequences with up to FEW: (token, its sequence, the first position that it
        sees, the one behind the last), int64 [N] each.

        Those that decode, and drafts that are verified. What has more is a part of a prompt.
        """
        tokens = np.flatnonzero(self.queries[self.rows] <= FEW)
        ends = (self.positions[tokens] + 1).astype(np.int64)
        return tokens, self.rows[tokens].astype(np.int64), self.firsts[tokens], ends

    @cached_property
    def slots(self) -> np.ndarray:
        """Where each token's key and value go: block x block_size + offset, int64 [T]."""
        blocks = self.block_table[self.rows, self.positions // self.block_size].astype(np.int64)
        return blocks * self.block_size + self.positions % self.block_size
