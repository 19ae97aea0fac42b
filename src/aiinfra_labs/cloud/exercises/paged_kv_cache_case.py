"""What exercise 4.2.a is checked and drawn with: a pool that holds one sequence. Unit 4.2."""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.course.drawing import many


class Case:
    """A pool with one sequence's context in it, and nan wherever it is not."""

    def __init__(self, heads: int, kv_heads: int, size: int, context: int, times: float = 1.0):
        chance = np.random.default_rng((heads, kv_heads, size, context))
        self.size, self.context = size, context
        used = -(-context // size)
        blocks = 2 * used + 3
        order = chance.permutation(blocks)
        # Behind the sequence's own blocks the table holds what an engine leaves there.
        self.table = [*order[:used].tolist(), *order[used : used + 2].tolist()]
        shape = (blocks, size, kv_heads, 6)
        self.keys = np.full(shape, np.nan, np.float32)
        self.values = np.full(shape, np.nan, np.float32)
        for token in range(context):
            at = self.table[token // size], token % size
            self.keys[at] = chance.normal(size=shape[2:])
            self.values[at] = chance.normal(size=shape[2:])
        self.query = (times * chance.normal(size=(heads, 6))).astype(np.float32)

    def __str__(self) -> str:
        return (
            f"a context of {self.context} in blocks of {self.size}, block_table = {self.table}, "
            f"{many(len(self.query), 'query head')}, {many(self.keys.shape[2], 'kv head')}"
        )

    def expected(
        self, scale: bool = True, shares: str = "neighbours", table: list[int] | None = None
    ) -> np.ndarray:
        """float32 [H, D]; the arguments are mistakes that people make."""
        table = self.table if table is None else table
        heads, kv_heads = len(self.query), self.keys.shape[2]
        out = np.empty(self.query.shape)
        for head in range(heads):
            kv = head % kv_heads if shares == "in turns" else head // (heads // kv_heads)
            at = [(table[t // self.size], t % self.size) for t in range(self.context)]
            keys = np.array([self.keys[b, o, kv] for b, o in at], float)
            values = np.array([self.values[b, o, kv] for b, o in at], float)
            scores = keys @ self.query[head].astype(float)
            if scale:
                scores = scores / math.sqrt(keys.shape[1])
            weights = np.exp(scores - scores.max())
            out[head] = weights @ values / weights.sum()
        return out.astype(np.float32)
