"""The same skill, learnt by models of several sizes from the same number of examples. Unit 1.8.

Each is `llama.Llama` with two layers; only its width grows. Grades are teacher-forced: each
token of the answer is asked for behind the right ones before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from aiinfra_labs import bounds

from ..llama import Llama, LlamaConfig
from ..training import train_one_cycle
from . import metrics
from .skills import VOCABULARY, Skill, shifted

LAYERS = 2
WIDTHS = (4, 8, 12, 16, 24, 32)
HEAD = 16  # columns of a head, where the width has as many


@dataclass(frozen=True)
class Lesson:
    """How each model is taught: alike, but for a learning rate that falls with the width."""

    steps: int = 1000
    batch: int = 256

    def __post_init__(self) -> None:
        bounds.whole("steps", self.steps, "a schedule has a beginning and an end", 2)
        bounds.whole("batch", self.batch, "examples of a step")

    def rate(self, width: int) -> float:
        """The highest learning rate for a model of this width."""
        bounds.whole("width", width, "of the residual stream")
        return min(1e-2, 0.3 / width)


@dataclass(frozen=True)
class Grades:
    """One trained model and what every ruler says of it."""

    width: int
    parameters: int
    seed: int
    nats: float
    token_accuracy: float
    exact_match: float
    drawn_match: float
    edits: float

    def to_dict(self) -> dict[str, float]:
        """As plain data, by name."""
        return asdict(self)


def config_of(width: int) -> LlamaConfig:
    """The shape of the model of a width: heads of `HEAD` columns, where there are as many.

    Raises ValueError for a width that its heads do not divide.
    """
    bounds.whole("width", width, "of the residual stream", 2)
    heads = max(1, width // HEAD)
    mlp = -(-width * 8 // 3 // 8) * 8  # 8/3 of the width, as Llama's, in whole eights
    return LlamaConfig(VOCABULARY, width, mlp, LAYERS, heads, heads, 64)


def taught(
    skill: Skill,
    width: int,
    seed: int,
    lesson: Lesson,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Llama:
    """A model of this width that has seen lesson.steps x lesson.batch examples.

    seed: of weights and examples. on_step: told each step's number and loss, nats. Raises
    ValueError for a width that makes no model.
    """
    bounds.whole("seed", seed, "weights and examples are drawn from it", 0)
    torch.manual_seed(seed)
    model = Llama(config_of(width))
    generator = torch.Generator().manual_seed(seed + 1)
    rate = lesson.rate(width)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.95), weight_decay=0.0)

    def loss() -> Tensor:
        return model.loss(*shifted(skill.draw(lesson.batch, generator), skill.answer))

    train_one_cycle(model, optimizer, loss, lesson.steps, rate, clip=1.0, on_step=on_step)
    return model.eval()


@torch.no_grad()
def graded(model: Llama, skill: Skill, width: int, seed: int) -> Grades:
    """Every ruler on the skill's test. width, seed: of the model, for the record."""
    ids, targets = shifted(skill.test(), skill.answer)
    logits, targets = model(ids)[:, -skill.answer :], targets[:, -skill.answer :]  # [B, n, V]
    return Grades(
        width,
        model.parameter_count(),
        seed,
        metrics.nats_a_token(logits, targets),
        metrics.token_accuracy(logits, targets),
        metrics.exact_match(logits, targets),
        metrics.drawn_match(logits, targets),
        metrics.mean_edit_distance(logits, targets),
    )
