"""One step on the device: a plan in, logits out. Unit 4.3."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .attention import Attention, Layout, PagedCache
from .model import CausalLM
from .scheduler import Plan, ScheduledSequence


class ModelRunner:
    """A model, its paged cache, and an attention that reads it."""

    def __init__(self, model: CausalLM, cache: PagedCache, attention: Attention):
        self.model, self.cache, self.attention = model, cache, attention

    @torch.inference_mode()
    def run(self, plan: Plan) -> list[Tensor | None]:
        """Logits of each work of the plan: [work.rows, vocabulary], or None where none are wanted.

        Behind the last known token and each draft, drafts + 1 rows; or behind every token.
        """
        self.cache.copy(plan.copies)
        layout = self.layout(plan.work)
        ids = [id for work in plan.work for id in _ids(work)]
        device = self.model.device
        hidden = self.forward(torch.tensor(ids, device=device), layout)  # [T, C]
        wanted = [w.rows for w in plan.work]
        ends = layout.starts + layout.queries
        rows = [r for end, n in zip(ends, wanted, strict=True) for r in range(end - n, end)]
        if not rows:
            return [None] * len(plan.work)
        logits = self.model.logits(hidden[torch.tensor(rows, device=device)])
        parts = iter(logits.split([n for n in wanted if n]))
        return [next(parts) if n else None for n in wanted]

    def forward(self, ids: Tensor, layout: Layout) -> Tensor:
        """ids int64 [T]; keys and values go to the cache. Returns hidden states [T, C]."""
        device = self.model.device
        slots = torch.from_numpy(layout.slots).to(device)

        def attend(
            layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None = None
        ) -> Tensor:
            # Written first, so that a query sees the keys of its own step.
            self.cache.write(layer, slots, key, value)
            return self.cache.attend(self.attention, layer, query, layout.seen_through(window))

        positions = torch.from_numpy(layout.positions).to(device)
        return self.model(ids, positions, attend)

    def layout(self, work: list[ScheduledSequence]) -> Layout:
        """Where everything lies, as arrays."""
        tables = [w.sequence.block_table for w in work]
        table = np.zeros((len(work), max(map(len, tables))), np.int32)
        for row, blocks in enumerate(tables):
            table[row, : len(blocks)] = blocks
        queries = np.array([w.tokens for w in work])
        contexts = np.array([w.start for w in work]) + queries
        return Layout(queries, contexts, table, self.cache.block_size)


def _ids(work: ScheduledSequence) -> list[int]:
    """The tokens to compute: known ones, then drafts."""
    known = work.sequence.token_ids[work.start : work.start + work.tokens - work.drafts]
    return known + work.sequence.draft[: work.drafts]
