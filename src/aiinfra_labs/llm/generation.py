"""Text from a decoder: a prefill of the prompt, then a step of decoding for each token. Unit 1.5.

    ids = generate(model, prompt, 20)                                  # greedy
    ids = generate(model, prompt, 20, Sampling(temperature=0.8, top_p=0.9, seed=1))
    for text in stream_generate(model, tokenizer, "def read(", 40): print(text, end="")

B: batch, T: tokens of the prompt, V: vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from aiinfra_labs import bounds

from .bpe import Tokenizer
from .embedding import WHOLE
from .kv_cache import PreallocatedCache
from .llama import KVCache, Llama
from .sampling import Sampling
from .stop_strings import StopStrings
from .streaming import StreamDecoder

GREEDY = Sampling()


class PromptError(bounds.SettingError):
    """A prompt that cannot be continued, in three parts."""


def prefill(model: Llama, prompt: Tensor, cache: KVCache | PreallocatedCache) -> Tensor:
    """The whole prompt at once: fills the cache, and gives the logits of the next token [B, V].

    prompt: int64 [B, T]. Only the last position goes through the last matrix: nobody asks what the
    others predict, for their next tokens are known.
    """
    hidden = model.model(prompt, cache)  # [B, T, C]
    return model.lm_head(hidden[:, -1])


def decode(model: Llama, token: Tensor, cache: KVCache | PreallocatedCache) -> Tensor:
    """One token a row, at the position behind the cache: logits of the one after it, [B, V].

    token: int64 [B]. The cache grows by one.
    """
    return model.lm_head(model.model(token[:, None], cache)[:, 0])


def checked_prompt(model: Llama, prompt: Tensor, new_tokens: int) -> Tensor:
    """The prompt as int64 [B, T], on the model's device. prompt: a tensor or lists of ids.

    Raises PromptError where it is empty, holds no ids of the model, has rows of several lengths, or
    does not fit with what is to come.
    """
    why = "each is chosen from the logits behind the one before"
    new_tokens = bounds.whole("new_tokens", new_tokens, why, 0, error=PromptError)
    prompt = as_rows(prompt)
    config = model.config
    if prompt.dim() != 2 or not prompt.numel():
        raise PromptError(
            f"the prompt is empty: it has the shape {list(prompt.shape)}",
            "the first logits are those behind the prompt's last token, and there is none",
            "at least one token, such as the one that begins a document: <|end|>",
        )
    if prompt.dtype not in WHOLE or prompt.min() < 0 or prompt.max() >= config.vocab_size:
        raise PromptError(
            f"the prompt holds {prompt.min():g} to {prompt.max():g}, {prompt.dtype}",
            f"ids are whole numbers from 0 to {config.vocab_size - 1}, each a row of the embedding",
            "tokenizer.encode(text), with the tokenizer that the model was trained with",
        )
    room = config.max_position_embeddings
    if prompt.shape[1] > room:
        raise PromptError(
            f"the prompt has {prompt.shape[1]:,} tokens, and the model's context is {room:,}",
            "it was trained on positions up to there, and knows none behind",
            f"its last {room:,} tokens at most, less those that are to come",
        )
    if prompt.shape[1] + new_tokens > room:
        raise PromptError(
            f"{prompt.shape[1]:,} tokens of prompt and {new_tokens:,} new ones, and the model's "
            f"context is {room:,}",
            "both share the positions that the model was trained on",
            f"0 to {room - prompt.shape[1]:,} new tokens, or a shorter prompt",
        )
    return prompt.to(model.lm_head.weight.device, torch.int64)


def as_rows(prompt: Tensor | Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
    """A prompt, or several of one length, as a tensor [B, T]. Raises PromptError for no such."""
    try:
        return torch.atleast_2d(torch.as_tensor(prompt))
    except (TypeError, ValueError, RuntimeError) as error:
        ragged = isinstance(prompt, Sequence) and not isinstance(prompt, str)
        raise PromptError(
            f"the prompt makes no tensor: {str(error).splitlines()[0]}",
            "the rows of a batch are those of one tensor, so they are equally long"
            if ragged
            else f"{type(prompt).__name__} holds no ids",
            "a list of ids, from tokenizer.encode(text); prompts of several lengths one by one",
        ) from None


@torch.inference_mode()
def tokens(
    model: Llama,
    prompt: Tensor,
    new_tokens: int,
    sampling: Sampling = GREEDY,
    end: Collection[int] = (),
) -> Iterator[Tensor]:
    """The new tokens one after another, int64 [B] each, as soon as each is known.

    prompt: int64 [B, T] or [T]. A row that has come to an id of `end` repeats it; when all rows
    have, no more tokens come. Raises PromptError before any work is done.
    """
    prompt = checked_prompt(model, prompt, new_tokens)
    return _tokens(model, prompt, new_tokens, sampling, torch.tensor(_end_ids(model, end)))


def _end_ids(model: Llama, end: Collection[int]) -> list[int]:
    """The ids that end a text; one int, or text, is no collection of them."""
    if isinstance(end, (str, bytes)) or not isinstance(end, Collection):
        raise PromptError(
            f"end is {end!r:.40}",
            "it is a collection of ids, each of which ends a text",
            "end=(tokenizer.special['<|end|>'],)",
        )
    most = model.config.vocab_size - 1
    return [bounds.whole("end", id, "an id of the vocabulary", 0, most, PromptError) for id in end]


@torch.inference_mode()
def _tokens(
    model: Llama, ids: Tensor, new_tokens: int, sampling: Sampling, end: Tensor
) -> Iterator[Tensor]:
    b, t = ids.shape
    weight = model.lm_head.weight
    # The last token that is chosen is never read again: the cache needs no room for it.
    cache = PreallocatedCache(model.config, b, t + new_tokens, weight.dtype, weight.device)
    chance = sampling.generators(ids)
    so_far = torch.cat((ids, ids.new_zeros(b, new_tokens)), dim=1)
    ended = torch.zeros(b, dtype=torch.bool, device=ids.device)
    end = end.to(ids)
    token = ids[:, -1]
    for i in range(new_tokens):
        logits = decode(model, token, cache) if i else prefill(model, ids, cache)
        chosen = sampling.choose(logits, so_far[:, : t + i], chance)
        token = torch.where(ended, token, chosen)  # what has ended says its end again
        so_far[:, t + i] = token
        yield token
        ended = ended | torch.isin(token, end)
        if ended.all():
            return


def generate(
    model: Llama,
    prompt: Tensor,
    new_tokens: int,
    sampling: Sampling = GREEDY,
    end: Collection[int] = (),
) -> Tensor:
    """Prompt and new tokens, int64 [B, T + new]. See `tokens`."""
    prompt = as_rows(prompt)
    found = list(tokens(model, prompt, new_tokens, sampling, end))
    return torch.cat((prompt.to(torch.int64), *(token[:, None].cpu() for token in found)), dim=1)


@torch.inference_mode()
def generate_without_cache(
    model: Llama, prompt: Tensor, new_tokens: int, sampling: Sampling = GREEDY
) -> Tensor:
    """The same tokens, each from the whole text anew: what a cache saves. int64 [B, T + new]."""
    ids = checked_prompt(model, prompt, new_tokens)
    chance = sampling.generators(ids)
    for _ in range(new_tokens):
        logits = model.lm_head(model.model(ids)[:, -1])  # [B, V]
        ids = torch.cat((ids, sampling.choose(logits, ids, chance)[:, None]), dim=1)
    return ids


def stream_generate(
    model: Llama,
    tokenizer: Tokenizer,
    prompt: str,
    new_tokens: int,
    sampling: Sampling = GREEDY,
    stop: Collection[str] = (),
    end: Collection[int] = (),
) -> Iterator[str]:
    """Pieces of text as they become certain: whole characters, and no part of a stop string.

    stop: a list of texts. The text ends before the first of them, before an id of `end`, or after
    `new_tokens`. Raises ValueError, before any work, for a stop that is one str or is empty, and
    what `tokens` raises.
    """
    ids = torch.tensor(tokenizer.encode(prompt), dtype=torch.int64)
    steps = tokens(model, ids, new_tokens, sampling, end)
    return _stream(tokenizer, steps, StopStrings(stop), frozenset(end))


def _stream(
    tokenizer: Tokenizer, steps: Iterator[Tensor], stop: StopStrings, end: frozenset[int]
) -> Iterator[str]:
    characters = StreamDecoder(tokenizer)
    for step in steps:
        id = int(step[0])
        if id in end:
            break
        if text := stop.feed(characters.feed(id)):
            yield text
        if stop.found:
            return
    if text := stop.feed(characters.finish()) + stop.finish():
        yield text
