"""A small transformer that is trained to say which noun 它 means. Unit 1.3.

An encoder: every word sees every word, since what tells mostly stands behind 它. It is asked at the
place of 它 alone, so whatever it knows there of the nouns has come by attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aiinfra_labs import bounds

from . import checkpoint
from .attention import MultiHeadAttention, causal_mask
from .coreference import IT, NOUNS, PAD, Sentence, sentences, vocabulary
from .embedding import TokenEmbedding, check_ids
from .training import train_one_cycle

LONGEST = 24  # words of a sentence


@dataclass(frozen=True)
class PronounConfig:
    """The shape of the model, and how it is trained."""

    size: int = 32
    layers: int = 2
    heads: int = 4
    steps: int = 600
    batch: int = 64
    learning_rate: float = 5e-3
    causal: bool = False  # as in a decoder: no word sees those behind it
    blind: bool = False  # 它 sees no noun, in no layer
    # Taken off the loss: `pay` times the share of its attention that 它 gives its noun, the mean
    # over layers and heads.
    pay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "layers", "heads", "batch"):
            bounds.whole(name, getattr(self, name), "a model has at least one of each")
        bounds.whole("steps", self.steps, "a schedule has a beginning and an end", 2)
        bounds.whole("seed", self.seed, "weights and sentences are drawn from it", 0)
        bounds.real("learning_rate", self.learning_rate, "the highest of the run", above=0.0)
        bounds.real("pay", self.pay, "what attention to the noun is worth in the loss")


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.attention = MultiHeadAttention(size, heads)
        self.before_attention, self.before_mlp = nn.LayerNorm(size), nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x: float [B, T, C]. mask: bool, broadcast to [B, H, T, T]: what a word may see.

        Returns x [B, T, C] and the weights [B, H, T, T].
        """
        out, weights = self.attention(self.before_attention(x), mask=mask)
        x = x + out
        return x + self.mlp(self.before_mlp(x)), weights


class PronounModel(nn.Module):
    """Words to one logit for each noun, read off at 它. B: batch, T: words, C: size."""

    def __init__(self, config: PronounConfig):
        super().__init__()
        self.config = config
        self.words = vocabulary()
        self.ids = {word: number for number, word in enumerate(self.words)}
        self.embed = TokenEmbedding(len(self.words), config.size)
        self.position = nn.Embedding(LONGEST, config.size)
        self.layers = nn.ModuleList(Layer(config.size, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.size)
        self.head = nn.Linear(config.size, len(NOUNS))

    def forward(
        self, ids: Tensor, it: Tensor, masks: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """ids: int64 [B, T]. it: int64 [B], where 它 stands. masks: for each layer, bool that
        broadcasts to [B, heads, T, T], what a word may see; by default what `seen` says.

        Returns logits [B, nouns] and the attention [B, layers, heads, T, T].
        """
        bounds.whole("words of a sentence", ids.shape[1], "each has a position", 1, LONGEST)
        check_ids(it, ids.shape[1], "place of 它")
        if masks is None:
            masks = [self.seen(ids)] * len(self.layers)
        x = self.embed(ids) + self.position.weight[: ids.shape[1]]  # [B, T, C]
        looks = []
        for layer, mask in zip(self.layers, masks, strict=True):
            x, weights = layer(x, mask)
            looks.append(weights)
        at_it = x[torch.arange(len(ids)), it]  # [B, C]
        return self.head(self.norm(at_it)), torch.stack(looks, dim=1)

    def seen(self, ids: Tensor) -> Tensor:
        """What a word may see: every word that is no padding; in a causal model, none behind it; in
        a blind one, it is no noun that 它 sees. bool [B, 1, 1, T], or [B, 1, T, T]."""
        seen = (ids != self.ids[PAD])[:, None, None, :]
        if self.config.causal:
            seen = seen & causal_mask(ids.shape[1], ids.shape[1], ids.device)
        if self.config.blind:
            noun = torch.isin(ids, ids.new_tensor([self.ids[word] for word in NOUNS]))
            it = ids == self.ids[IT]
            seen = seen & ~(it[:, None, :, None] & noun[:, None, None, :])
        return seen


@dataclass(frozen=True)
class Batch:
    """Sentences as tensors: ids int64 [B, T], the rest int64 [B]."""

    ids: Tensor
    it: Tensor
    referent: Tensor  # where its noun stands
    answer: Tensor  # which of NOUNS it is

    def __len__(self) -> int:
        return len(self.ids)


def batch_of(chosen: Iterable[Sentence], ids: dict[str, int]) -> Batch:
    """Padded to the longest. ids: the number of each word.

    Raises ValueError for no sentence, or for a word that the model does not know.
    """
    chosen = list(chosen)
    bounds.whole("the number of sentences", len(chosen), "a batch has at least one")
    for word in {word for sentence in chosen for word in sentence.words}:
        if word not in ids:
            raise bounds.SettingError(
                f"the word {word} is not among the model's {len(ids)}",
                "it knows the words of its training sentences, and no others",
                "one of coreference.vocabulary()",
            )
    width = max(len(sentence.words) for sentence in chosen)
    rows = [[ids[word] for word in s.words] + [ids[PAD]] * (width - len(s.words)) for s in chosen]
    return Batch(
        torch.tensor(rows),
        torch.tensor([s.it for s in chosen]),
        torch.tensor([s.referent for s in chosen]),
        torch.tensor([NOUNS.index(s.noun) for s in chosen]),
    )


def looked_at(attention: Tensor, batch: Batch) -> Tensor:
    """How much of its attention 它 gives its noun: [B, layers, heads], 0 to 1."""
    return attention[torch.arange(len(batch)), :, :, batch.it, batch.referent]


def train_pronouns(
    config: PronounConfig, progress: Callable[[int, float], None] = lambda step, loss: None
) -> PronounModel:
    """A model trained on the spot: seconds. `progress` is told each step's loss."""
    torch.manual_seed(config.seed)
    model = PronounModel(config)
    source = sentences(config.seed)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, betas=(0.9, 0.98))
    told = count()

    def loss() -> Tensor:
        batch = batch_of(islice(source, config.batch), model.ids)
        logits, attention = model(batch.ids, batch.it)
        wrong = F.cross_entropy(logits, batch.answer)
        progress(next(told), wrong.item())
        return wrong - config.pay * looked_at(attention, batch).mean() if config.pay else wrong

    train_one_cycle(model, optimizer, loss, config.steps, config.learning_rate)
    return model.eval()


def stored_file(name: str) -> Path:
    """Where the package keeps a model that `benchmarks/coreference.py` trained."""
    return Path(str(files(__package__).joinpath("data", f"pronoun_{name}.safetensors")))


def save_stored(model: PronounModel, path: Path) -> None:
    """Write weights and config."""
    checkpoint.save(path, dict(model.named_parameters()), asdict(model.config))


def load_stored(name: str) -> PronounModel:
    """ "free", which sees every word, or "blind", where 它 sees no noun: both of seed 0."""
    path = stored_file(name)
    tensors, config = checkpoint.load(path)
    model = PronounModel(PronounConfig(**config))
    checkpoint.fill(model, tensors, path.name)
    return model.eval()


@torch.no_grad()
def accuracy(model: PronounModel, batch: Batch, masks: Sequence[Tensor] | None = None) -> float:
    """The share of sentences whose noun is named. Among two nouns, half is chance."""
    logits, _ = model(batch.ids, batch.it, masks)
    return (logits.argmax(-1) == batch.answer).float().mean().item()
