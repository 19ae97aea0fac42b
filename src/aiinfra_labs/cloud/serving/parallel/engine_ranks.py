"""The engine on several ranks: one plan, and every rank its own heads and its own KV cache.

Unit 4.6. Scheduler, blocks and sampling stay in the engine's process. Each step its plan, a few
numbers a sequence, goes to all ranks; each runs the engine's own model runner on its part of the
model. A block has the same number in every rank's cache, and holds there the keys and values of
that rank's kv heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import loader
from ..attention import PagedCache, attention_named
from ..engine import Engine, EngineConfig
from ..model import ModelConfig
from ..model_runner import ModelRunner
from ..scheduler import Plan, Work
from ..sequence import Sequence
from ..tokenizer import FileTokenizer
from . import tasks
from .grid import Grid
from .processes import Group, Worker


@dataclass(frozen=True)
class RemoteModel:
    """What an engine asks of a model that lies elsewhere."""

    config: ModelConfig
    dtype: torch.dtype
    device: torch.device


class RankRunner:
    """In an engine, in the place of its `ModelRunner`: the same `run`, on all ranks of a group."""

    def __init__(self, group: Group):
        self.group = group

    def run(self, plan: Plan) -> list[Tensor | None]:
        """As `ModelRunner.run`. Raises `GroupError` where a rank has failed."""
        return self.group.run(_run, _numbers(plan))[0]


def engine_of(group: Group, folder: Path | str, config: EngineConfig | None = None) -> Engine:
    """An engine for a checkpoint whose tensors are divided among all processes of a group.

    It is used as any other. Raises `LoadError` and, for what cannot be divided, `GroupError`.
    """
    folder, config = Path(folder), config or EngineConfig()
    if not config.end_ids:
        config = replace(config, end_ids=loader.end_ids(folder))
    shape = loader.load_config(folder)
    file = folder / "tokenizer.json"
    tokenizer = FileTokenizer(file) if file.exists() else None  # then prompts are ids
    group.run(_begin, folder, config.num_blocks, config.block_size, config.attention)
    remote: Any = RemoteModel(shape, torch.float32, torch.device("cpu"))
    engine = Engine(remote, tokenizer, replace(config, cache=_no_cache))
    engine.runner = RankRunner(group)  # type: ignore[assignment]
    return engine


def _no_cache(*shape: Any) -> Any:
    """The engine's own process keeps no keys and values."""
    return None


def _numbers(plan: Plan) -> Plan:
    """A plan with what a runner reads of it: no texts, no requests, nothing of the past."""
    work = [
        Work(
            Sequence(
                None,  # type: ignore[arg-type]
                w.sequence.index,
                w.sequence.token_ids,
                block_table=w.sequence.block_table,
                draft=w.sequence.draft,
            ),
            w.start,
            w.tokens,
            w.drafts,
        )
        for w in plan.work
    ]
    return Plan(work, plan.copies)


# --- in the workers -------------------------------------------------------------------------------


def _begin(worker: Worker, folder: Path, num_blocks: int, block_size: int, attention: str) -> int:
    """Load this rank's part and make its cache; returns the bytes of that."""
    tasks.load(worker, Grid(tensor=worker.size), folder)
    model = worker.kept["model"]
    shape = model.config  # of this part: its own kv heads
    cache = PagedCache(
        shape.num_hidden_layers,
        num_blocks,
        block_size,
        shape.num_key_value_heads,
        shape.head_dim,
        model.dtype,
        model.device,
    )
    chosen: Callable = attention_named(attention, model.device, model.dtype)
    worker.kept["runner"] = ModelRunner(model, cache, chosen)
    return cache.nbytes


def _run(worker: Worker, plan: Plan) -> list[Tensor | None] | None:
    """A step; all ranks have the logits, and one of them says them."""
    logits = worker.kept["runner"].run(plan)
    if worker.rank:
        return None
    return [None if x is None else x.cpu() for x in logits]
