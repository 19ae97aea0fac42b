"""How well a model predicts text that it was not trained on. Unit 4.5.

Perplexity is e to the mean loss of a token in nats: a model of perplexity 12 is as undecided as
among 12 equally likely tokens. It falls with every token of context, so that models are compared on
the same windows of the same text.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from aiinfra_labs.llm import bpe, corpus, course_model

from ..model import Attend, CausalLM, window_mask
from ..tokenizer import Tokenizer


def beginnings(
    tokenizer: Tokenizer, count: int, length: int = 512, held_out: bool = True
) -> Tensor:
    """int64 [count, length + 1]: the beginnings of so many documents of the course's corpus.

    They are the first that are long enough, of those held out or of those trained on.
    """
    found: list[Tensor] = []
    for document in corpus.documents():
        if document.held_out == held_out and len(document.text) > 2 * length:
            ids = tokenizer.encode(document.text[: 8 * length])[: length + 1]
            if len(ids) > length:
                found.append(torch.tensor(ids))
        if len(found) == count:
            return torch.stack(found)
    raise corpus.CorpusError(
        f"{len(found)} windows of {length + 1} tokens, and {count} were asked for\n"
        "Why: each is the beginning of another document, and so many are long enough\n"
        "Try: fewer, or shorter ones"
    )


def spaced(tokens: Tensor, count: int, length: int = 512) -> Tensor:
    """int64 [count, length + 1]: windows of a stream of tokens [n], evenly spaced."""
    starts = torch.linspace(0, len(tokens) - length - 1, count).long()
    return tokens[starts[:, None] + torch.arange(length + 1)].long()


def corpus_tokens(tokenizer: bpe.Tokenizer, held_out: bool = False) -> Tensor:
    """All documents to train on, or those held out, as one row of ids: int16 [n]."""
    training, validation = course_model.split(corpus.documents())
    return course_model.token_stream(tokenizer, validation if held_out else training)


def windows_attention(count: int) -> Attend:
    """An `Attend` for `count` sequences of one length, one behind the other, and no cache."""

    def attend(
        layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None = None
    ) -> Tensor:
        q, k, v = (x.unflatten(0, (count, -1)).transpose(1, 2) for x in (query, key, value))
        mask = window_mask(q.shape[2], window, q.device)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return out.transpose(1, 2).flatten(0, 1)  # [B, H, T, D] to [B * T, H, D]

    return attend


def logits(model: CausalLM, ids: Tensor, attend: Attend | None = None) -> Tensor:
    """ids: int64 [B, T]. Returns [B, T, vocabulary]. attend: for all of them, in one row."""
    positions = torch.arange(ids.shape[1], device=ids.device).repeat(len(ids))
    hidden = model(ids.flatten(), positions, attend or windows_attention(len(ids)))
    return model.logits(hidden).unflatten(0, ids.shape)


def loss(model: CausalLM, ids: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, nats. ids, targets: int64 [B, T]."""
    return F.cross_entropy(logits(model, ids).flatten(0, 1).float(), targets.flatten())


@torch.no_grad()
def measured(model: CausalLM, text: Tensor, attend: Attend | None = None) -> tuple[float, Tensor]:
    """(perplexity, the likeliest token at each place, int64 [B, T]) on text int64 [B, T + 1].

    Every token but the first of each row is predicted. attend: an `Attend` for one sequence;
    without, the model's own attention.
    """
    total, choices = 0.0, []
    for row in text:  # one by one: an attention of one's own knows one sequence
        found = logits(model, row[None, :-1], attend)[0]
        total += F.cross_entropy(found.float(), row[1:]).item()
        choices.append(found.argmax(-1))
    return math.exp(total / len(text)), torch.stack(choices)


def perplexity(model: CausalLM, text: Tensor, attend: Attend | None = None) -> float:
    """The first of what `measured` gives."""
    return measured(model, text, attend)[0]
