"""A training loop, whole: schedule, clipping, accumulation, mixed precision, resume. Unit 1.4.

Which tokens a step sees depends on the seed and the step's number alone. So a run that was killed
and goes on from its checkpoint sees the same batches as one that was not, and ends at the same
loss, to the bit on the same machine.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aiinfra_labs import bounds

from . import checkpoint

SEEDS = 2**32  # that a recipe may have: with a step's number they stay within a generator's 64 bits
MOST_STEPS = 2**31 - 1  # of a run without checkpoints
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How to train. Learning rates are AdamW's; batch x context tokens go into a micro-batch."""

    steps: int
    batch: int = 16
    context: int = 256
    accumulate: int = 1  # micro-batches of a step
    learning_rate: float = 3e-3
    final_learning_rate: float = 3e-4
    warm_up: int = 100  # steps
    weight_decay: float = 0.1
    clip: float = 1.0  # norm of all gradients
    betas: tuple[float, float] = (0.9, 0.95)
    seed: int = 0
    precision: str = "float32"  # or "bfloat16": products in it, weights and sums in float32

    def __post_init__(self) -> None:
        for name, least, what in (
            ("steps", 1, "a run has at least one update"),
            ("batch", 1, "windows of a micro-batch"),
            ("context", 1, "tokens of a window"),
            ("accumulate", 1, "micro-batches of a step"),
            ("warm_up", 0, "steps in which the learning rate rises"),
            ("seed", 0, "every batch is drawn from it and from the step's number"),
        ):
            most = SEEDS - 1 if name == "seed" else None
            bounds.whole(name, getattr(self, name), what, least, most)
        for name, what in (
            ("learning_rate", "an update goes down the gradient, so far"),
            ("final_learning_rate", "an update goes down the gradient, so far"),
            ("weight_decay", "weights shrink by this share of the learning rate"),
        ):
            bounds.real(name, getattr(self, name), what, 0.0)
        _check_clip(self.clip)
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise bounds.SettingError(
                f"betas is {self.betas!r}",
                "AdamW keeps two running means, of gradients and of their squares",
                "two numbers from 0 up to 1, such as (0.9, 0.95)",
            )
        for beta in self.betas:
            bounds.real("betas", beta, "1 would never forget", 0.0, math.nextafter(1.0, 0.0))
        if self.precision not in PRECISIONS:
            raise bounds.SettingError(
                f"precision {self.precision!r}",
                "float16 has gradients that vanish unless the loss is scaled, which this loop "
                "does not do",
                " or ".join(PRECISIONS),
            )

    @property
    def tokens_per_step(self) -> int:
        """Tokens that an update is made from, all micro-batches together."""
        return self.batch * self.context * self.accumulate

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0: up in a line, then down a half cosine."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        wave = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * wave


def _check_clip(clip: float) -> None:
    if clip != math.inf:  # which clips nothing
        bounds.real("clip", clip, "longer gradients are cut to this norm", above=0.0)


@dataclass(frozen=True)
class Step:
    """What a step was like. loss: nats a token, before the step. norm: before it was clipped."""

    number: int
    loss: float
    norm: float
    rate: float


class TrainingError(bounds.ThreeParts, RuntimeError):
    """Training that cannot go on, in three parts. The last checkpoint is as it was."""


class Batches:
    """Windows of a stream of tokens, drawn anew for each step from the seed and its number."""

    def __init__(self, tokens: Tensor, recipe: Recipe):
        _check_tokens(tokens)
        if len(tokens) <= recipe.context:
            raise TrainingError(
                f"{len(tokens):,} tokens, and a window is {recipe.context + 1}",
                "each window has its tokens and the one that follows",
                "more text, or a shorter context",
            )
        self.tokens, self.recipe = tokens, recipe

    def __call__(self, step: int, part: int = 0) -> tuple[Tensor, Tensor]:
        """(ids, targets), int64 [batch, context] each: the targets are one token further on."""
        recipe = self.recipe
        number = (recipe.seed * 1_000_003 + step) * recipe.accumulate + part
        generator = torch.Generator().manual_seed(number)
        starts = torch.randint(
            len(self.tokens) - recipe.context, (recipe.batch, 1), generator=generator
        )
        window = self.tokens[starts + torch.arange(recipe.context + 1)].long()  # [B, T + 1]
        return window[:, :-1], window[:, 1:]


def _check_tokens(tokens: Tensor) -> None:
    """Ids in a row. What they may be, only the model knows."""
    whole = isinstance(tokens, Tensor) and not (
        tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool
    )
    if not whole or tokens.dim() != 1:
        raise TrainingError(
            f"the tokens are {list(tokens.shape)}, {tokens.dtype}"
            if isinstance(tokens, Tensor)
            else f"the tokens are {type(tokens).__name__}",
            "windows are cut from one row of ids, whole numbers",
            "torch.tensor(ids), of the ids of all texts one after another",
        )


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that shrinks matrices and leaves norms and biases alone."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [w for w in weights if w.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)


def train(
    model: nn.Module,
    batches: Callable[[int, int], tuple[Tensor, Tensor]],
    recipe: Recipe,
    *,
    on_step: Callable[[Step], Any] = lambda step: None,
    file: Path | str | None = None,
    every: int = 200,
) -> Iterable[Step]:
    """Train a model that has `loss(ids, targets)`; yields each step as it is done.

    file: where a checkpoint is written every `every` steps and at the end; if it is there, the run
    goes on from it. on_step: called before the checkpoint is written, so that what it changes in
    the model's buffers is in it; what is changed after a step was yielded is not. Raises
    `TrainingError` where the loss is no number, before it is written down, and `CheckpointError`
    where the file is broken or of another recipe or model.
    """
    bounds.whole("every", every, "a checkpoint is written each time so many steps are done")
    if file is not None:
        file = bounds.path("file", file)
    optimizer = optimizer_of(model, recipe)
    losses: list[float] = []
    if file is not None and file.exists():
        losses = resume(file, model, optimizer, recipe)
    device = next(model.parameters()).device
    for number in range(len(losses), recipe.steps):
        step = take_step(model, optimizer, batches, recipe, number, device)
        losses.append(step.loss)
        on_step(step)
        if file is not None and ((number + 1) % every == 0 or number + 1 == recipe.steps):
            keep(file, model, optimizer, recipe, losses)
        yield step


def take_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int, int], tuple[Tensor, Tensor]],
    recipe: Recipe,
    number: int,
    device: torch.device,
) -> Step:
    """One step: the gradients of all micro-batches, their norm clipped, one update.

    number: from 0; it decides the learning rate and the batches. Raises `TrainingError` where
    nothing is to be predicted, or where the loss or the gradients are not finite.
    """
    model.train()
    rate = recipe.rate(number)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    parts = [batches(number, part) for part in range(recipe.accumulate)]
    counts = [int((targets != -1).sum()) for _, targets in parts]
    if not sum(counts):
        raise TrainingError(
            f"step {number}: all targets are -1",
            "that marks tokens which are not to be predicted, so there is nothing to learn",
            "batches with at least one target",
        )
    total = 0.0
    for (ids, targets), count in zip(parts, counts, strict=True):
        if not count:  # nothing to predict: its mean loss would be 0 / 0
            continue
        with autocast(recipe.precision, device):
            # Each token counts alike. The mean of the parts' means would be another loss, where
            # some parts have fewer targets than others.
            loss = model.loss(ids.to(device), targets.to(device)) * (count / sum(counts))
        loss.backward()  # adds to the gradients, and frees what this part kept for them
        total += loss.item()
    norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip).item()
    _check_finite(number, total, norm, "longer warm_up; the last checkpoint is as it was")
    optimizer.step()
    return Step(number, total, norm, rate)


def train_one_cycle(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor],
    steps: int,
    highest_rate: float,
    *,
    rise: float = 0.1,
    clip: float = math.inf,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train a small model on what `loss` draws, without checkpoints; the model is left training.

    loss: called once a step, draws a batch and returns its mean loss, a scalar. The learning rate
    rises to `highest_rate` within the share `rise` of the steps, and falls to next to nothing by
    the last (Smith and Topin, "Super-Convergence", arXiv:1708.07120). clip: norm of all gradients,
    which `math.inf` leaves alone. on_step: told each step's number and loss, after the update.
    Raises `TrainingError` where loss or gradients are not finite, before that is written into the
    weights, and ValueError for settings that make no run.
    """
    bounds.whole("steps", steps, "a schedule has a beginning and an end", 2, MOST_STEPS)
    bounds.real("highest_rate", highest_rate, "an update goes down the gradient, so far", above=0.0)
    bounds.real("rise", rise, "the share of the steps in which the rate rises", 0.0, 1.0)
    _check_clip(clip)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest_rate, steps, pct_start=rise)
    model.train()
    for number in range(steps):
        optimizer.zero_grad(set_to_none=True)
        drawn = loss()
        drawn.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip).item()
        _check_finite(number, drawn.item(), norm, "longer rise; the weights are as they were")
        optimizer.step()
        schedule.step()
        on_step(number, drawn.item())


def _check_finite(number: int, loss: float, norm: float, more: str) -> None:
    """more: what else to try where a step's loss or its gradients are no number."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise TrainingError(
            f"step {number}: the loss is {loss} and the gradients' norm {norm}",
            "a number has overflowed, and every weight would become nan with this update",
            f"a lower learning_rate or a {more}",
        )


def autocast(precision: str, device: torch.device) -> Any:
    """Matrix products in `precision` within the block. Raises ValueError for another than
    `PRECISIONS`."""
    bounds.one_of("precision", precision, PRECISIONS, "this loop scales no loss, as float16 needs")
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


@torch.no_grad()
def evaluate(model: nn.Module, tokens: Tensor, context: int, batch: int = 16) -> float:
    """Mean loss over all whole windows of held-out tokens, nats a token.

    tokens: int [n]. batch: windows at a time, which does not change the result. The model is left
    in evaluation. Raises `TrainingError` where there is no whole window, or no number comes of it.
    """
    bounds.whole("context", context, "tokens of a window")
    bounds.whole("batch", batch, "windows that go through the model at a time")
    _check_tokens(tokens)
    model.eval()
    count = (len(tokens) - 1) // context
    if count < 1:
        raise TrainingError(
            f"{len(tokens)} tokens to evaluate on, and a window is {context + 1}",
            "there is no whole window",
            "more text, or a shorter context",
        )
    ids = tokens[: count * context].long().view(count, context)
    targets = tokens[1 : count * context + 1].long().view(count, context)
    device = next(model.parameters()).device
    total = 0.0
    for i in range(0, count, batch):
        part = ids[i : i + batch].to(device)
        total += model.loss(part, targets[i : i + batch].to(device)).item() * len(part)
    if not math.isfinite(total):
        raise TrainingError(
            f"the mean loss of {count} windows is {total / count}",
            "the model's weights or its logits are not finite: its training has diverged",
            "an older checkpoint, or a lower learning_rate",
        )
    return total / count


# --- to be killed, and to go on -----------------------------------------------------------------


def keep(
    file: Path | str,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    recipe: Recipe,
    losses: Sequence[float],
) -> None:
    """Write down all that the next step depends on, and the losses of the steps so far.

    That is: parameters and buffers, AdamW's two moments and its count of steps, torch's random
    state on the CPU (a model may draw from it, as for dropout), the number of the next step, and
    the recipe, whose schedule and batches follow from that number. Raises `TrainingError` where
    the model holds a number that is not finite; then the file is as it was.
    """
    tensors = {f"model.{name}": value for name, value in checkpoint.once(model).items()}
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise TrainingError(
            f"after step {len(losses) - 1}, {broken[0]} holds a number that is not finite",
            "an update has overflowed, and no later step can mend it",
            "a lower learning_rate or a longer warm_up; the last checkpoint is as it was",
        )
    moments = optimizer.state_dict()["state"]
    for index, state in moments.items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    tensors["random"] = torch.get_rng_state()
    state = {
        "step": len(losses),
        "recipe": _plain(recipe),
        "losses": list(losses),
        "moments": sorted(moments),  # a weight that has had no gradient yet has none
    }
    checkpoint.save(file, tensors, state)


def resume(
    file: Path | str, model: nn.Module, optimizer: torch.optim.AdamW, recipe: Recipe
) -> list[float]:
    """Load what `keep` wrote; returns the losses of the steps that were taken.

    Torch's random state on the CPU becomes that of the run, where the file holds it. Raises
    `CheckpointError` for another recipe, another model, or an optimizer that is not whole; then
    neither model nor optimizer has changed.
    """
    file = bounds.path("file", file)
    tensors, state = checkpoint.load(file)
    if state.get("recipe") != _plain(recipe):
        raise checkpoint.CheckpointError(
            f"{file.name} was made with another recipe",
            _difference(state.get("recipe") or {}, _plain(recipe)),
            "the same recipe to go on with it, or another file to begin anew",
        )
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    checkpoint.fits(model, weights, file.name)
    saved = optimizer.state_dict()
    saved["state"] = _moments(tensors, optimizer, state.get("moments"), file.name)
    losses = state.get("losses")
    if not isinstance(losses, list) or len(losses) != state.get("step"):
        raise checkpoint.CheckpointError(
            f"{file.name} does not say how far its run had come",
            f"it has step {state.get('step')} and {len(losses or [])} losses",
            "remove it, and go on from an older one or train again",
        )
    checkpoint.fill(model, weights, file.name)
    optimizer.load_state_dict(saved)
    if "random" in tensors:
        torch.set_rng_state(tensors["random"])
    return losses


def _moments(
    tensors: dict[str, Tensor],
    optimizer: torch.optim.AdamW,
    written: list[int] | None,
    name: str,
) -> dict[int, dict[str, Tensor]]:
    """AdamW's state by the number of the weight, as its `state_dict` has it.

    written: the weights that had moments when the file was written; None where it does not say,
    and then all must have them that learn.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for index, weight in enumerate(weights):
        # What does not learn, or has had no gradient yet, has no means.
        if not weight.requires_grad if written is None else index not in written:
            continue
        for key, shape in (("step", ()), ("exp_avg", weight.shape), ("exp_avg_sq", weight.shape)):
            found = tensors.get(f"optimizer.{index}.{key}")
            if found is None or found.shape != shape:
                raise checkpoint.CheckpointError(
                    f"{name} has no {key} for weight {index}"
                    if found is None
                    else f"the {key} of weight {index} is {list(found.shape)} in {name}",
                    "AdamW goes on from the means of past gradients and of their squares; without "
                    "them the next steps are others",
                    "a checkpoint of this loop, whole; weights alone can begin a new run",
                )
            state.setdefault(index, {})[key] = found
    return state


def _plain(recipe: Recipe) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()}


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    changed = [f"{k} was {old.get(k)} and is {v}" for k, v in new.items() if old.get(k) != v]
    return "; ".join(changed) if old else "its header holds no recipe"
