"""Where the pronoun model looks, and whether what it sees there is used. Unit 1.3.

A weight says where a head looked. Whether the answer hangs on it shows when the look is taken away:
a head's output set to zero, or one word hidden from 它, in one layer or in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .coreference import NOUNS, Sentence, sentences, talk_sentence
from .pronoun_model import Batch, PronounModel, accuracy, batch_of, looked_at

TEST_SEED, TEST_COUNT = 10_000, 1000
STRONG = 0.95  # what the talk calls usual
TO_ADJECTIVE = 2  # words on from 它: in every sentence 它 很 X stand together


def held_out_batch(model: PronounModel, count: int = TEST_COUNT) -> Batch:
    """Sentences whose pair of nouns the model never met: the same ones for every model."""
    bounds.whole("count", count, "sentences", 1, 2**17)
    return batch_of(islice(sentences(TEST_SEED, test=True), count), model.ids)


@torch.no_grad()
def look(model: PronounModel, sentence: Sentence) -> tuple[str, Tensor]:
    """What the model says 它 means, and its attention: [layers, heads, T, T]."""
    batch = batch_of([sentence], model.ids)
    logits, attention = model(batch.ids, batch.it)
    return NOUNS[int(logits.argmax())], attention[0]


@contextmanager
def without_head(model: PronounModel, layer: int, head: int) -> Iterator[None]:
    """Within the block, one head adds nothing: its share of what goes to o_proj is zero.

    layer, head: from 0. Raises ValueError for one that the model has not.
    """
    bounds.whole("layer", layer, "layers are counted from 0", 0, model.config.layers - 1)
    bounds.whole("head", head, "heads are counted from 0", 0, model.config.heads - 1)
    attention = model.layers[layer].attention
    width = model.config.size // model.config.heads

    def silence(module: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        merged = inputs[0].clone()  # [B, T, C], the heads side by side
        merged[..., head * width : (head + 1) * width] = 0
        return (merged,)

    handle = attention.o_proj.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()


def hidden(model: PronounModel, batch: Batch, layers: Sequence[int]) -> list[Tensor]:
    """Masks with which 它, and it alone, does not see its noun in these layers."""
    t = batch.ids.shape[1]
    seen = model.seen(batch.ids).expand(len(batch), 1, t, t)
    blind = seen.clone()
    blind[torch.arange(len(batch)), 0, batch.it, batch.referent] = False
    return [blind if layer in layers else seen for layer in range(model.config.layers)]


def detour_closed(model: PronounModel, batch: Batch, layers: Sequence[int]) -> list[Tensor]:
    """Masks with which the adjective that is said of 它 sees no noun in these layers."""
    t = batch.ids.shape[1]
    seen = model.seen(batch.ids).expand(len(batch), 1, t, t)
    nouns = torch.isin(batch.ids, batch.ids.new_tensor([model.ids[noun] for noun in NOUNS]))
    closed, each = seen.clone(), torch.arange(len(batch))
    closed[each, 0, batch.it + TO_ADJECTIVE] &= ~nouns
    return [closed if layer in layers else seen for layer in range(model.config.layers)]


@torch.no_grad()
def names_absent(model: PronounModel, batch: Batch, masks: Sequence[Tensor] | None = None) -> float:
    """The share of sentences, 0 to 1, for which the model names a noun that is not in them."""
    logits, _ = model(batch.ids, batch.it, masks)
    nouns = batch.ids.new_tensor([model.ids[noun] for noun in NOUNS])
    named = nouns[logits.argmax(-1)]  # [B]
    return (batch.ids != named[:, None]).all(dim=1).float().mean().item()


@torch.no_grad()
def study(model: PronounModel) -> dict[str, Any]:
    """All that the page tells of one model, as plain data. Accuracies are of held-out sentences.

    talk: how much 它 looks at 苹果 in the talk's sentence, [layers][heads]. test: at the noun of
    held-out sentences, the mean. strong_test: in what share of them some head reaches STRONG.
    without_head: accuracy, [layers][heads]. hidden_in: accuracy with the noun hidden from
    它 in each layer alone. hidden: in all.
    """
    layers, heads = range(model.config.layers), range(model.config.heads)
    batch, talk = held_out_batch(model), talk_sentence()
    says, attention = look(model, talk)
    looks = looked_at(model(batch.ids, batch.it)[1], batch)  # [B, layers, heads]
    cut = []
    for layer in layers:
        cut.append([])
        for head in heads:
            with without_head(model, layer, head):
                cut[-1].append(accuracy(model, batch))
    return {
        "accuracy": accuracy(model, batch),
        "says": says,
        "talk": attention[:, :, talk.it, talk.referent].tolist(),
        "test": looks.mean(0).tolist(),
        "strong_test": (looks.flatten(1).amax(1) >= STRONG).float().mean().item(),
        "without_head": cut,
        "hidden_in": [accuracy(model, batch, hidden(model, batch, [layer])) for layer in layers],
        "hidden": accuracy(model, batch, hidden(model, batch, layers)),
    }
