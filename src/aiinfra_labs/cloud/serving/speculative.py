"""Speculative decoding: guess several tokens cheaply, and verify them in one step. Unit 4.4.

A step of one sequence reads all weights for one token. Reading them for five costs hardly more, if
the five are known beforehand. A proposer guesses them; the model gives its own probabilities at
each, and as many are kept as chance allows, so that what comes out is distributed exactly as
without it (Leviathan et al., arXiv:2211.17192; Chen et al., arXiv:2302.01318).
"""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .attention import Layout, PagedCache
from .errors import ServingError
from .model import CausalLM
from .model_runner import ModelRunner
from .sampling import Draw, draw, race, shares
from .scheduler import Scheduler
from .sequence import Sequence


class Proposer(Protocol):
    """Guesses what comes next. `most`: tokens at most, of one sequence."""

    most: int

    def propose(self, sequences: list[Sequence], counts: list[int]) -> None:
        """Set `draft` of each sequence to at most so many tokens, and `draft_shares` to what each
        was drawn from (None: it was no draw)."""

    def copy(self, pairs: list[tuple[int, int]]) -> None:
        """Blocks of the engine's cache are copied: a proposer with a cache copies its own."""


# --- the steps of an engine that speculates -------------------------------------------------------


def propose(proposer: Proposer, scheduler: Scheduler, cache: PagedCache, vocab_size: int) -> None:
    """Drafts for the sequences that decode, where there is room for them.

    A draft is a help and no duty: whatever a proposer gives that cannot be used is dropped.
    """
    sequences, counts = [], []
    # What is drafted must not take the place of another sequence's next token.
    room = scheduler.max_tokens - len(scheduler.running)
    for sequence in scheduler.running:
        request = sequence.request
        sequence.draft, sequence.draft_shares = [], None
        # The last step's budget may have cut the draft off: then none of it was verified.
        sequence.draft_computed = min(sequence.draft_computed, sequence.computed)
        most = min(proposer.most, request.max_new_tokens - sequence.length - 1, room)
        if most < 1 or sequence.missing != 1 or request.is_beam or sequence.grammar is not None:
            continue
        tokens = len(sequence.token_ids) + most
        # Room for tokens that may come, unless another sequence would have to give way.
        spare = len(scheduler.running)
        if scheduler.blocks.needed(sequence, tokens) + spare > len(scheduler.blocks.free_blocks):
            continue
        if copied := scheduler.blocks.grow(sequence, tokens):
            cache.copy([copied])
            proposer.copy([copied])
        sequences.append(sequence)
        counts.append(most)
        room -= most
    if not sequences:
        return
    try:
        proposer.propose(sequences, counts)
    except Exception as error:
        warnings.warn(f"no drafts in this step: the proposer failed: {error!r}", stacklevel=2)
        for sequence in sequences:
            sequence.draft, sequence.draft_shares, sequence.draft_computed = [], None, 0
    for sequence, most in zip(sequences, counts, strict=True):
        known = 0
        while known < min(most, len(sequence.draft)) and 0 <= sequence.draft[known] < vocab_size:
            known += 1
        sequence.draft = sequence.draft[:known]


def verify(sequence: Sequence, draft: list[int], rows: Tensor, by: Draw) -> list[int]:
    """What is right of a draft, and one token more: the new tokens of a sequence.

    rows: float [drafts + 1, V], the model's logits behind each place, all settings but those of the
    draw applied. by: how the engine draws.

    A request with a seed gets the tokens that it would get without a draft: each place's own chance
    chooses its token, and the draft is right as far as it is the same. So how much was drafted,
    which depends on what else is served, changes nothing. A looked-up draft is kept as often as by
    the rule of `accept`. One that was drawn is kept less often, with at least (1 - t) / (1 + t) in
    place of 1 - t, where t is half the sum of |p - q|; without a seed `accept` decides.
    """
    request, known = sequence.request, len(sequence.token_ids)
    if request.params.greedy:
        return accept_greedy(rows.argmax(dim=-1).tolist(), draft)
    p = shares(rows, [request.params] * len(rows))
    chance = sequence.chance
    assert chance is not None
    if sequence.draft_shares is not None and not chance.seeded:
        return accept(p, draft, sequence.draft_shares, chance.at(known, "verify"))
    chosen = by(p, [chance.at(known + place) for place in range(len(rows))])
    return accept_greedy(chosen.tolist(), draft)


# --- which tokens may stay ------------------------------------------------------------------------


def accept(
    model: Tensor, draft: list[int], drawn_from: Tensor | None, chance: torch.Generator
) -> list[int]:
    """The tokens of a verified draft: as many of it as are accepted, and one more.

    model: float [k + 1, V], the probabilities p that the model gives at each place, of which the
    last is behind the whole draft. drawn_from: float [k, V], the probabilities q that each token
    of the draft was drawn from; None if it was no draw, which is a q of 1.

    Token x is accepted with probability min(1, p(x) / q(x)). At the first that is not, one is drawn
    from max(0, p - q), scaled to sum to 1; if all are, one from the last row of p.
    """
    for place, token in enumerate(draft):
        p = model[place].double()
        q = torch.zeros_like(p) if drawn_from is None else drawn_from[place].double()
        if drawn_from is None:
            q[token] = 1.0
        if torch.rand((), generator=chance, dtype=torch.float64) * q[token] < p[token]:
            continue
        left = (p - q).clamp(min=0)
        if left.sum() <= 0:  # p = q up to rounding: a rejection has no probability
            left = p
        return [*draft[:place], int(draw(left[None], [chance]))]
    return [*draft, int(draw(model[-1:], [chance]))]


def accept_greedy(chosen: list[int], draft: list[int]) -> list[int]:
    """As far as the draft is what was chosen at each place anyway, [k + 1]: at temperature 0 the
    model's likeliest token."""
    right = 0
    while right < len(draft) and draft[right] == chosen[right]:
        right += 1
    return chosen[: right + 1]


class PromptLookup(Proposer):
    """Guesses that a text repeats itself: what followed the last tokens when they stood before.

    Costs no model. Good for code, quotations and edits (Saxena, "Prompt Lookup Decoding", 2023).
    """

    def __init__(self, most: int = 4, longest: int = 3, shortest: int = 1):
        if most < 1 or not 1 <= shortest <= longest:
            raise ServingError(
                f"a lookup of {shortest} to {longest} tokens for {most} new ones",
                "it compares at least one token, and proposes at least one",
                "most 1 or more, and shortest up to longest",
            )
        self.most, self.longest, self.shortest = most, longest, shortest

    def propose(self, sequences: list[Sequence], counts: list[int]) -> None:
        for sequence, count in zip(sequences, counts, strict=True):
            sequence.draft = self.lookup(sequence.token_ids, min(count, self.most))
            sequence.draft_shares = None

    def lookup(self, ids: list[int], count: int) -> list[int]:
        """What followed the latest earlier occurrence of the end, of the longest end there is."""
        row = np.asarray(ids)
        for size in range(min(self.longest, len(ids) - 1), self.shortest - 1, -1):
            windows = np.lib.stride_tricks.sliding_window_view(row[:-1], size)
            found = np.flatnonzero((windows == row[-size:]).all(axis=1))
            if len(found):
                start = int(found[-1]) + size
                return ids[start : start + count]
        return []

    def copy(self, pairs: list[tuple[int, int]]) -> None:
        """There is no cache."""


class DraftModel(Proposer):
    """A smaller model with the same vocabulary guesses.

    Its cache has the engine's blocks: what lies in block 7 of one lies in block 7 of the other, so
    that sharing and copying need no second table.
    """

    def __init__(self, model: CausalLM, most: int = 4):
        if most < 1:
            raise ServingError(f"{most} drafted tokens", "a draft has at least one", "1 or more")
        self.model, self.most = model, most
        self.runner: ModelRunner | None = None
        self.forwards = 0  # runs of the draft model so far

    def attach(self, runner: ModelRunner) -> None:
        """Take a cache of as many blocks as the engine's.

        Raises `ServingError` for another vocabulary, or a shorter context.
        """
        if self.model.config.vocab_size != runner.model.config.vocab_size:
            raise ServingError(
                f"the draft model has {self.model.config.vocab_size:,} tokens, and the model "
                f"{runner.model.config.vocab_size:,}",
                "a drafted id must mean the same word to both",
                "two models with one tokenizer",
            )
        mine, context = (m.config.max_position_embeddings for m in (self.model, runner.model))
        if mine < context:
            raise ServingError(
                f"the draft model has a context of {mine:,} tokens, and the model {context:,}",
                "it reads the same text, and knows no position behind its own last",
                f"a draft model with {context:,} positions or more",
            )
        config, keys = self.model.config, runner.cache.keys
        cache = PagedCache(
            config.num_hidden_layers,
            keys.shape[1],
            runner.cache.block_size,
            config.num_key_value_heads,
            config.head_dim,
            self.model.dtype,
            self.model.device,
        )
        self.runner = ModelRunner(self.model, cache, runner.attention)

    def copy(self, pairs: list[tuple[int, int]]) -> None:
        if self.runner:
            self.runner.cache.copy(pairs)

    @torch.inference_mode()
    def propose(self, sequences: list[Sequence], counts: list[int]) -> None:
        """As many runs as the longest draft has tokens; the first takes in what is new."""
        assert self.runner is not None, "attach comes first"
        for sequence in sequences:
            sequence.draft, sequence.draft_shares = [], None
        rows: dict[int, list[Tensor]] = {id(s): [] for s in sequences}
        for done in range(max(counts, default=0)):
            live = [s for s, n in zip(sequences, counts, strict=True) if n > done]
            logits = self._run(live)  # [S, V]
            if not torch.isfinite(logits.amax(dim=-1)).all():
                raise ServingError(
                    "the draft model gives logits that are no numbers",
                    "its weights are damaged",
                    "another draft model; the engine goes on without",
                )
            params = [s.request.params for s in live]
            if all(p.greedy for p in params):
                chosen = logits.argmax(dim=-1)
            else:
                found = shares(logits, params)
                chosen = race(found, [self._chance(s) for s in live])
                for sequence, row in zip(live, found, strict=True):
                    rows[id(sequence)].append(row)
            for sequence, token in zip(live, chosen.tolist(), strict=True):
                sequence.draft.append(token)
        for sequence in sequences:
            if rows[id(sequence)] and not sequence.request.params.greedy:
                sequence.draft_shares = torch.stack(rows[id(sequence)])

    def _chance(self, sequence: Sequence) -> torch.Generator:
        """With a seed, the very chance that the model will choose by: alike models then agree."""
        chance, place = sequence.chance, len(sequence.token_ids) + len(sequence.draft)
        assert chance is not None
        return chance.at(place, "token" if chance.seeded else "draft")

    def _run(self, sequences: list[Sequence]) -> Tensor:
        """One run over what the draft's cache lacks: logits behind the last token, [S, V]."""
        self.forwards += 1
        runner = self.runner
        assert runner is not None
        texts = [s.token_ids + s.draft for s in sequences]
        starts = [s.draft_computed for s in sequences]
        queries = np.array([len(t) - c for t, c in zip(texts, starts, strict=True)])
        table = np.zeros((len(sequences), max(len(s.block_table) for s in sequences)), np.int32)
        for row, sequence in enumerate(sequences):
            table[row, : len(sequence.block_table)] = sequence.block_table
        layout = Layout(queries, np.array([len(t) for t in texts]), table, runner.cache.block_size)
        ids = [id for t, c in zip(texts, starts, strict=True) for id in t[c:]]
        hidden = runner.forward(torch.tensor(ids, device=self.model.device), layout)
        for sequence, text in zip(sequences, texts, strict=True):
            sequence.draft_computed = len(text)
        ends = torch.from_numpy(layout.starts + layout.queries - 1).to(hidden.device)
        return self.model.logits(hidden[ends])
