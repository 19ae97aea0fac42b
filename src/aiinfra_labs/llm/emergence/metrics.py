"""Grading an answer of several tokens: all or nothing, or by degrees. Unit 1.8.

Wei et al., "Emergent Abilities of Large Language Models", arXiv:2206.07682, grade by the first.
Schaeffer et al., "Are Emergent Abilities of Large Language Models a Mirage?", arXiv:2304.15004,
hold the others against it. B: answers, T: tokens, V: vocabulary. Targets of -1 are not graded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aiinfra_labs import bounds

NOT_GRADED = -1  # as `Llama.loss` has it


def check_graded(logits: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless there is something to grade: finite logits, and a target in each
    answer. logits: float [B, T, V]. targets: int64 [B, T]."""
    if logits.dim() != 3 or logits.shape[:2] != targets.shape or not len(targets):
        raise bounds.SettingError(
            f"logits {list(logits.shape)} and targets {list(targets.shape)}",
            "each token of each answer has a logit for every word, and one right word",
            "logits [answers, tokens, vocabulary] and targets [answers, tokens]",
        )
    if logits.isnan().any():
        raise bounds.SettingError(
            f"{int(logits.isnan().sum())} of {logits.numel():,} logits are nan",
            "no token is the likeliest of them: the model's training has diverged",
            "an older checkpoint, or a lower learning rate",
        )
    wrong = (targets < NOT_GRADED) | (targets >= logits.shape[-1])
    if wrong.any():
        raise bounds.SettingError(
            f"a target of {int(targets[wrong][0])}",
            f"ids are 0 to {logits.shape[-1] - 1}, and {NOT_GRADED} is not graded",
            "targets of the same vocabulary",
        )
    if not (targets != NOT_GRADED).any(-1).all():
        raise bounds.SettingError(
            f"{int((targets == NOT_GRADED).all(-1).sum())} of {len(targets)} answers have nothing "
            "that is graded",
            "a share of nothing is no number, and an empty answer is not right",
            "at least one target in each answer that is not -1",
        )


def token_log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """log p of each right token, in nats; 0 where none is graded.

    logits: float [B, T, V]. targets: int64 [B, T]. Returns float32 [B, T]. Raises ValueError where
    there is nothing to grade: see `check_graded`.
    """
    check_graded(logits, targets)
    graded = targets != NOT_GRADED
    all_of_them = logits.float().log_softmax(-1)  # [B, T, V]
    right = all_of_them.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)  # [B, T]
    return right.masked_fill(~graded, 0.0)


def exact_match(logits: Tensor, targets: Tensor) -> float:
    """The share of answers whose every graded token is the likeliest one, 0 to 1.

    logits: float [B, T, V]. targets: int64 [B, T]. Raises ValueError: see `check_graded`.
    """
    check_graded(logits, targets)
    right = (logits.argmax(-1) == targets) | (targets == NOT_GRADED)  # [B, T]
    return right.all(-1).float().mean().item()


def token_accuracy(logits: Tensor, targets: Tensor) -> float:
    """The share of graded tokens that are the likeliest ones, 0 to 1.

    logits: float [B, T, V]. targets: int64 [B, T]. Raises ValueError: see `check_graded`.
    """
    check_graded(logits, targets)
    graded = targets != NOT_GRADED
    return (logits.argmax(-1) == targets)[graded].float().mean().item()


def nats_a_token(logits: Tensor, targets: Tensor) -> float:
    """Mean -log p of the right token, nats: the loss that the model was trained on.

    logits: float [B, T, V]. targets: int64 [B, T]. Raises ValueError: see `check_graded`.
    """
    graded = (targets != NOT_GRADED).sum()
    return (-token_log_probabilities(logits, targets).sum() / graded).item()


def drawn_match(logits: Tensor, targets: Tensor) -> float:
    """How often the whole answer is right where each token is drawn at temperature 1.

    The mean over answers of the product of their tokens' probabilities. It is never 0, and needs
    no drawing: where exact match says 0 of 512, this still says how far from 0. logits: float
    [B, T, V]. targets: int64 [B, T]. Raises ValueError: see `check_graded`.
    """
    return token_log_probabilities(logits, targets).sum(-1).exp().mean().item()


def if_independent(p: float, tokens: int) -> float:
    """Exact match if each token were right with probability p, whatever the others are: p^n.

    tokens: of an answer. Raises ValueError for a p outside 0 to 1, or no token.
    """
    bounds.share("p", p, "a probability")
    bounds.whole("tokens", tokens, "of an answer")
    return p**tokens


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """The fewest tokens to insert, delete or replace to make one of the other (Levenshtein)."""
    row = list(range(len(other) + 1))  # from the empty beginning of `one`
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def mean_edit_distance(logits: Tensor, targets: Tensor) -> float:
    """Edits from the likeliest tokens to the right ones, a mean over answers.

    logits: float [B, T, V]. targets: int64 [B, T]. Raises ValueError: see `check_graded`.
    """
    check_graded(logits, targets)
    pairs = zip(logits.argmax(-1), targets, strict=True)
    edits = [
        edit_distance(got[want != NOT_GRADED].tolist(), want[want != NOT_GRADED].tolist())
        for got, want in pairs
    ]
    return torch.tensor(edits).float().mean().item()
