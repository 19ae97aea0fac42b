"""A small decoder that does arithmetic, warmed up on examples and then trained by GRPO. Unit 1.7.

The warm-up shows answers with much thinking, some, and none; what pays, GRPO finds out. P: tokens
of a question, T: tokens of the longest answer, Q: questions, G: answers to each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from aiinfra_labs import bounds

from .. import checkpoint, generation
from ..kv_cache import PreallocatedCache
from ..llama import Llama, LlamaConfig
from ..sampling import check_logits
from ..training import TrainingError, train_one_cycle
from . import chains, grpo
from .chains import Chain

NONE = 99  # a stride longer than any question: no result is written down
LONGEST = 10  # tokens of an answer
CONFIG = LlamaConfig(
    vocab_size=len(chains.VOCABULARY),
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=64,
    rope_theta=100.0,  # texts are short: even the slowest pair of dimensions turns visibly
)


SEEDS = 2**63 - 1  # the largest that a generator takes
# A question is its first digit, its operations and "="; an answer as many results, at most.
MOST_OPERATIONS = (CONFIG.max_position_embeddings - 3) // 2


@dataclass(frozen=True)
class WarmUp:
    """Supervised training. strides: those that solutions are written with, by turns."""

    steps: int = 1000
    batch: int = 64
    lengths: tuple[int, ...] = (6,)
    strides: tuple[int, ...] = (1, 2, 3, NONE)
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        bounds.whole("steps", self.steps, "a schedule has a beginning and an end", 2)
        bounds.whole("batch", self.batch, "examples of a step")
        _check_lengths(self.lengths)
        _check_each("strides", self.strides, "operations that are done at once")
        bounds.real("learning_rate", self.learning_rate, "the highest of the run", above=0.0)
        bounds.whole("seed", self.seed, "questions are drawn from it", 0)


@dataclass(frozen=True)
class Reinforcement:
    """GRPO. A step draws `answers` to each of `questions`, and updates `updates` times on them.

    lengths: operations of a question. All questions of a step are as long as each other, and the
    lengths take turns.
    """

    steps: int = 80
    questions: int = 16
    answers: int = 16
    updates: int = 2
    lengths: tuple[int, ...] = (6,)
    longest: int = LONGEST  # tokens of an answer
    learning_rate: float = 1.5e-4
    clip: float = 0.2
    beta: float = 0.01
    token_cost: float = 0.0  # taken off the reward for each token
    seed: int = 0

    def __post_init__(self) -> None:
        for name, what in (
            ("steps", "updates come in steps"),
            ("questions", "of a step"),
            ("answers", "to each question; they are each other's baseline"),
            ("updates", "on the answers of a step"),
            ("longest", "tokens of an answer"),
        ):
            bounds.whole(name, getattr(self, name), what)
        _check_lengths(self.lengths)
        bounds.real("learning_rate", self.learning_rate, "an update goes so far", above=0.0)
        bounds.real("clip", self.clip, "so far a ratio may go from 1 and still gain", above=0.0)
        bounds.real("beta", self.beta, "the weight of the KL term", 0.0)
        bounds.real("token_cost", self.token_cost, "taken off the reward for each token")
        bounds.whole("seed", self.seed, "questions and answers are drawn from it", 0)


@dataclass(frozen=True)
class Rollout:
    """Answers that were drawn: ids int64 [Q, G, P + T], mask [Q, G, T], reward [Q, G]."""

    ids: Tensor
    mask: Tensor
    reward: Tensor
    texts: list[list[str]]

    @property
    def length(self) -> float:
        """Mean tokens of an answer."""
        return float(self.mask.sum(-1).float().mean())

    @property
    def steps(self) -> float:
        """Mean partial chains of an answer."""
        counts = [chains.steps(text) for group in self.texts for text in group]
        return sum(counts) / len(counts)


def _check_each(name: str, values: tuple[int, ...], why: str) -> None:
    """Some whole numbers, each 1 or more."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise bounds.SettingError(
            f"{name} is {values!r:.60}", f"{why}: at least one number of them", "a tuple: (6,)"
        )
    for value in values:
        bounds.whole(name, value, why)


def _check_lengths(lengths: tuple[int, ...]) -> None:
    _check_each("lengths", lengths, "operations of a question")
    if max(lengths) > MOST_OPERATIONS:
        raise bounds.SettingError(
            f"lengths is {lengths}",
            f"a question of {max(lengths)} operations and its answer are longer than the model's "
            f"context of {CONFIG.max_position_embeddings}",
            f"at most {MOST_OPERATIONS} operations",
        )


def new_model(seed: int = 0, config: LlamaConfig = CONFIG) -> Llama:
    """Random weights whose products keep the size of what goes in: std 1 / sqrt(inputs).

    0.02, which large models begin with, is far too little for matrices as small as these.
    """
    bounds.whole("seed", seed, "weights are drawn from it", 0, SEEDS)
    torch.manual_seed(seed)
    model = Llama(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight.shape[1] ** -0.5)
    return model


def stored_file(name: str) -> Path:
    """Where the package keeps a model that `benchmarks/reasoner.py` trained."""
    return Path(str(files("aiinfra_labs.llm").joinpath("data", f"reasoner_{name}.safetensors")))


def save_stored(model: Llama, path: Path) -> None:
    """Write weights, as float16, and config."""
    checkpoint.save(path, checkpoint.as_float16(model), model.config.to_dict())


def load_stored(name: str) -> Llama:
    """ "before" or "after": warmed up on examples, and then trained by GRPO; float32.

    Raises `CheckpointError` for another name, or a file that is broken.
    """
    path = stored_file(name)
    tensors, config = checkpoint.load(path)
    model = Llama(LlamaConfig.from_dict(config))
    checkpoint.fill(model, tensors, path.name)
    return model.eval()


# --- the warm-up ----------------------------------------------------------------------------------


def examples(chosen: Sequence[Chain], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(ids, targets), int64 [B, longest] each; only the answer's tokens are targets.

    strides: one for each of `chosen`. Raises ValueError for none, or another number of them.
    """
    if not chosen or len(chosen) != len(strides):
        raise bounds.SettingError(
            f"{len(chosen)} questions and {len(strides)} strides",
            "each question is solved with a stride of its own",
            "as many of both, at least one",
        )
    rows = [
        (chains.encode(c.question), chains.encode(c.solution(stride)))
        for c, stride in zip(chosen, strides, strict=True)
    ]
    width = max(len(question) + len(answer) for question, answer in rows)
    ids = torch.full((len(rows), width), chains.IDS[chains.PAD])
    targets = torch.full((len(rows), width), -1)
    for row, (question, answer) in enumerate(rows):
        whole = torch.tensor(question + answer)
        ids[row, : len(whole)] = whole
        start = len(question) - 1  # the token that the answer's first follows
        targets[row, start : len(whole) - 1] = whole[start + 1 :]
    return ids, targets


def warm_up(
    model: Llama, recipe: WarmUp, progress: Callable[[int, float], None] = lambda step, loss: None
) -> Llama:
    """Train on written-out solutions whose strides are drawn evenly."""
    source = chains.questions(recipe.seed, recipe.lengths)
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, betas=(0.9, 0.98))

    def loss() -> Tensor:
        chosen = list(islice(source, recipe.batch))
        drawn = torch.randint(len(recipe.strides), (len(chosen),), generator=generator)
        return model.loss(*examples(chosen, [recipe.strides[i] for i in drawn]))

    train_one_cycle(model, optimizer, loss, recipe.steps, recipe.learning_rate, on_step=progress)
    return model.eval()


# --- answers --------------------------------------------------------------------------------------


@torch.no_grad()
def answer(
    model: Llama, asked: Tensor, longest: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Answers to questions of equal length: ids int64 [B, T], and a mask of their own tokens.

    asked: int64 [B, P]. Without a generator the likeliest token is taken each time. Raises
    `PromptError` where an answer of `longest` tokens does not fit in the model's context, and
    `SamplingError` where its logits are nan.
    """
    bounds.whole("longest", longest, "tokens of an answer")
    asked = generation.checked_prompt(model, asked, longest)
    b, p = asked.shape
    cache = PreallocatedCache(model.config, b, p + longest)
    logits = generation.prefill(model, asked, cache)  # [B, V]
    ends, running = torch.tensor(chains.ENDS), torch.ones(b, dtype=torch.bool)
    ids, mask = [], []
    for _ in range(longest):
        check_logits(logits)
        if generator is None:
            token = logits.argmax(-1)
        else:
            token = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        token = torch.where(running, token, chains.IDS[chains.PAD])
        ids.append(token)
        mask.append(running)
        running = running & ~torch.isin(token, ends)
        if not running.any():
            break
        logits = generation.decode(model, token, cache)
    return torch.stack(ids, 1), torch.stack(mask, 1)


def rollout(
    model: Llama,
    chosen: Sequence[Chain],
    answers: int,
    longest: int,
    generator: torch.Generator | None,
    token_cost: float = 0.0,
) -> Rollout:
    """`answers` to each question, drawn at temperature 1, and their rewards.

    chosen: questions of equal length. token_cost: taken off a reward for each token. Raises
    ValueError for none, or for questions of several lengths, which make no tensor.
    """
    bounds.whole("answers", answers, "to each question", 1, 2**16)
    token_cost = bounds.real("token_cost", token_cost, "taken off a reward for each token")
    lengths = {len(one.rest) for one in chosen}
    if len(lengths) != 1:
        raise bounds.SettingError(
            f"{len(chosen)} questions, of {sorted(lengths)} operations",
            "the questions of a batch are the rows of one tensor",
            "questions of one length at a time",
        )
    asked = torch.tensor([chains.encode(s.question) for s in chosen])  # [Q, P]
    ids, mask = answer(model, asked.repeat_interleave(answers, 0), longest, generator)
    shape = (len(chosen), answers)
    texts = [chains.decode(row) for row in ids.tolist()]
    groups = [texts[i : i + answers] for i in range(0, len(texts), answers)]
    right = [[s.reward(text) for text in group] for s, group in zip(chosen, groups, strict=True)]
    whole = torch.cat((asked.repeat_interleave(answers, 0), ids), 1)
    mask = mask.unflatten(0, shape)
    reward = torch.tensor(right) - token_cost * mask.sum(-1)
    return Rollout(whole.unflatten(0, shape), mask, reward, groups)


def log_probabilities(model: Llama, ids: Tensor, answered: int) -> Tensor:
    """Of the last `answered` tokens of each row, each given what stands before it: [..., T], nats.

    ids: int64 [..., P + T]. Raises ValueError unless something stands before the first of them.
    """
    bounds.whole("answered", answered, "tokens at the end of a row", 1, ids.shape[-1] - 1)
    rows = ids.flatten(0, -2)
    logits = model(rows[:, :-1])[:, -answered:]  # [B, T, V]
    wanted = rows[:, -answered:, None]
    return F.log_softmax(logits, -1).gather(-1, wanted)[..., 0].view(*ids.shape[:-1], answered)


# --- GRPO -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GrpoStep:
    """What a step of GRPO was like: means over all of its answers, before the update."""

    number: int
    right: float  # share of answers
    length: float  # tokens
    steps: float  # partial chains written down
    kl: float
    clipped: float
    silent: float  # share of groups whose answers were all as good


def reinforce(
    model: Llama, recipe: Reinforcement, progress: Callable[[GrpoStep], None] = lambda step: None
) -> Llama:
    """Train by GRPO. The model before it stays the reference that the KL term holds on to.

    Raises `TrainingError` where the loss is no number, before it is written into the weights.
    """
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    sources = [chains.questions(1_000 + recipe.seed, (length,)) for length in recipe.lengths]
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    for number in range(recipe.steps):
        chosen = list(islice(sources[number % len(sources)], recipe.questions))
        drawn = rollout(model, chosen, recipe.answers, recipe.longest, generator, recipe.token_cost)
        advantage = grpo.advantages(drawn.reward)  # [Q, G]
        answered = drawn.mask.shape[-1]
        with torch.no_grad():
            old = log_probabilities(model, drawn.ids, answered)  # [Q, G, T]
            held = log_probabilities(reference, drawn.ids, answered)
        for _ in range(recipe.updates):
            new = log_probabilities(model, drawn.ids, answered)
            terms = grpo.objective(new, old, held, advantage, drawn.mask, recipe.clip, recipe.beta)
            _check_loss(terms.loss, number)
            optimizer.zero_grad()
            terms.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        right = [s.reward(t) for s, group in zip(chosen, drawn.texts, strict=True) for t in group]
        silent = float((drawn.reward.amax(-1) == drawn.reward.amin(-1)).float().mean())
        progress(
            GrpoStep(
                number,
                sum(right) / len(right),
                drawn.length,
                drawn.steps,
                terms.kl,
                terms.clipped,
                silent,
            )
        )
    return model.eval()


def _check_loss(loss: Tensor, step: int) -> None:
    if not loss.isfinite():
        raise TrainingError(
            f"step {step}: the loss is {loss.item()}",
            "a ratio of probabilities has overflowed, and every weight would become nan",
            "a lower learning_rate, or fewer updates on the same answers",
        )


@dataclass(frozen=True)
class Score:
    """How a model does on questions it was never trained on."""

    right: float  # share of the likeliest answers
    sampled: float  # share of drawn answers
    length: float  # mean tokens of a drawn answer
    steps: float  # mean partial chains of a drawn answer


def evaluate(model: Llama, length: int, count: int = 400, seed: int = 7) -> Score:
    """Held-out questions of `length` operations, answered by the likeliest tokens, and drawn.

    count: questions. Raises ValueError for none of them, or of its operations.
    """
    bounds.whole("count", count, "questions that are asked", 1, 2**20)
    bounds.whole("seed", seed, "questions and answers are drawn from it", 0, SEEDS)
    _check_lengths((length,))
    chosen = list(islice(chains.questions(seed, (length,), held_out=True), count))
    greedy = rollout(model, chosen, 1, LONGEST, None)
    drawn = rollout(model, chosen, 1, LONGEST, torch.Generator().manual_seed(seed))
    return Score(float(greedy.reward.mean()), float(drawn.reward.mean()), drawn.length, drawn.steps)
