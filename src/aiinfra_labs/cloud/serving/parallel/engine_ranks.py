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

import cloudpickle
import torch
from torch import Tensor

from .. import loader
from ..attention import attention_named
from ..engine import Engine, EngineConfig
from ..errors import ServingError
from ..generation_config import sampling_defaults
from ..model import ModelConfig
from ..model_runner import ModelRunner
from ..scheduler import Plan, ScheduledSequence
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

    It is used as any other, with every setting of its config: `attention` and `cache` are each
    rank's, and the others this process's. Raises `LoadError`, `ServingError` for a setting that the
    ranks cannot have and, for what cannot be divided, `GroupError`.
    """
    folder, config = Path(folder), config or EngineConfig()
    attention_named(config.attention, torch.device("cpu"), torch.float32)  # refused here, or never
    _check_sendable(config.cache)
    if not config.end_ids:
        config = replace(config, end_ids=loader.end_ids(folder))
    shape = loader.load_config(folder)
    config = config.sized(shape, torch.float32, torch.device("cpu"))  # all ranks share a memory
    file = folder / "tokenizer.json"
    tokenizer = FileTokenizer(file) if file.exists() else None  # then prompts are ids
    if tokenizer is not None and len(tokenizer) > shape.vocab_size:
        raise loader.LoadError(
            f"the tokenizer has {len(tokenizer):,} tokens, and the model {shape.vocab_size:,}",
            "each id needs a row of the model's embedding, and means what it meant in training",
            "the tokenizer.json that was saved with this model",
        )
    ranks = EngineConfig(  # what a rank reads: a scheduler, say, need not get there
        num_blocks=config.num_blocks,
        block_size=config.block_size,
        attention=config.attention,
        cache=config.cache,
    )
    group.run(_begin, folder, ranks)
    remote: Any = RemoteModel(shape, torch.float32, torch.device("cpu"))
    engine = Engine(remote, tokenizer, replace(config, cache=_no_cache))
    engine.runner = RankRunner(group)  # type: ignore[assignment]
    engine.admission.usual = sampling_defaults(folder)
    return engine


def _check_sendable(cache: Any) -> None:
    """Every rank makes its own cache, so that what makes it must get there."""
    try:
        cloudpickle.dumps(cache)
    except Exception as error:
        raise ServingError(
            f"cache {cache!r} of EngineConfig cannot be sent to the ranks: {error}",
            "each rank is a process of its own, and makes its own cache",
            "a class, or a function that holds no lock, file or connection",
        ) from None


def _no_cache(*shape: Any) -> Any:
    """The engine's own process keeps no keys and values."""
    return None


def _numbers(plan: Plan) -> Plan:
    """A plan with what a runner reads of it: no texts, no requests, nothing of the past."""
    work = [
        ScheduledSequence(
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
            w.all_logits,
        )
        for w in plan.work
    ]
    return Plan(work, plan.copies)


# --- in the workers -------------------------------------------------------------------------------


def _begin(worker: Worker, folder: Path, config: EngineConfig) -> int:
    """Load this rank's part and make its cache; returns the bytes of that."""
    tasks.load(worker, Grid(tensor=worker.size), folder)
    model = worker.kept["model"]
    cache = config.cache_for(model)
    chosen: Callable = attention_named(config.attention, model.device, model.dtype)
    worker.kept["runner"] = ModelRunner(model, cache, chosen)
    return cache.nbytes


def _run(worker: Worker, plan: Plan) -> list[Tensor | None] | None:
    """A step; all ranks have the logits, and one of them says them."""
    logits = worker.kept["runner"].run(plan)
    if worker.rank:
        return None
    return [None if x is None else x.cpu() for x in logits]
