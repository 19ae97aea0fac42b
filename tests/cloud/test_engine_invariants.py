"""The engine's books, after each of 10,000 random steps.

The model is a stand-in that keeps, for each slot of the cache, the token whose keys and values
would lie there. So it sees at once if a block was written by two, freed too early, copied too late,
or found under the name of another content.
"""

import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiinfra_labs.cloud.serving.block_manager import block_hash
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import RequestError
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.scheduler import StaticScheduler

VOCABULARY = 12
MODEL = CausalLM(ModelConfig(VOCABULARY, 2, 2, 1, 1, 1, 2, 64))


class Broken(Exception):
    """The device gave out in the middle of a step."""


class SlotKeeper:
    """Takes the place of `ModelRunner`: logits depend on all tokens of the context."""

    def __init__(self, engine):
        self.engine, self.inner = engine, engine.runner
        self.cache = self  # `copy` is all that the engine asks of it
        self.slots = np.full((engine.config.num_blocks, engine.config.block_size), -1)
        self.break_next = False
        self.tokens = []

    def copy(self, pairs):
        for old, new in pairs:
            self.slots[new] = self.slots[old]

    def run(self, plan):
        if self.break_next:
            self.break_next = False
            raise Broken
        self.copy(plan.copies)
        self.tokens.append(plan.tokens)
        size = self.slots.shape[1]
        written = []
        texts = [w.sequence.token_ids + w.sequence.draft[: w.drafts] for w in plan.work]
        for work, text in zip(plan.work, texts, strict=True):
            for position in range(work.start, work.start + work.tokens):
                block = work.sequence.block_table[position // size]
                written.append((block, position % size))
                assert self.engine.blocks.references[block] == 1 or (
                    self.engine.blocks.hashes[block] is not None
                ), "a shared block is written"
                self.slots[block, position % size] = text[position]
        assert len(written) == len(set(written)), "a slot is written by two"
        return [self.logits(w, t) for w, t in zip(plan.work, texts, strict=True)]

    def logits(self, work, text):
        end, size = work.start + work.tokens, self.slots.shape[1]
        table = work.sequence.block_table
        context = [int(self.slots[table[p // size], p % size]) for p in range(end)]
        assert context == text[:end], "the context is not what the sequence says"
        if not work.gives_logits:
            return None
        ends = range(end - work.drafts, end + 1)
        return torch.stack([row_of(context[:e]) for e in ends])


def row_of(context):
    seed = zlib.crc32(bytes(context))
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed))


class Guesser:
    """Drafts that are right for a while."""

    most = 3

    def propose(self, sequences, counts):
        for sequence, count in zip(sequences, counts, strict=True):
            text = list(sequence.token_ids)
            for place in range(count):
                text.append((int(row_of(text).argmax()) + (place == 2)) % VOCABULARY)
            sequence.draft, sequence.draft_shares = text[len(sequence.token_ids) :], None

    def copy(self, pairs):
        pass


prompts = st.one_of(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20),
    st.integers(1, 30).map(lambda n: [i * i % VOCABULARY for i in range(n)]),  # alike at first
)
parameters = st.one_of(
    st.builds(SamplingParams, max_tokens=st.integers(1, 12), stop_token_ids=st.just((3,))),
    st.builds(
        SamplingParams,
        max_tokens=st.integers(1, 12),
        temperature=st.just(1.0),
        n=st.integers(1, 3),
        top_k=st.sampled_from([None, 4]),
    ),
    st.builds(SamplingParams, max_tokens=st.integers(1, 8), beam_width=st.integers(1, 3)),
)


def hashes_name_contents(engine):
    """Each full block is registered under the name of what its sequence says it holds, or not."""
    size = engine.config.block_size
    for sequence in engine.scheduler.running:
        parent = b""
        for place, block in enumerate(sequence.block_table):
            content = sequence.token_ids[place * size : (place + 1) * size]
            if len(content) < size:
                break
            parent = block_hash(parent, content)
            assert engine.blocks.hashes[block] in (None, parent)


class EngineMachine(RuleBasedStateMachine):
    @initialize(
        blocks=st.integers(9, 40),
        size=st.sampled_from([1, 4, 5]),
        budget=st.sampled_from([3, 7, 64]),
        most=st.sampled_from([3, 8]),
        prefix=st.booleans(),
        static=st.integers(0, 5),
        guess=st.booleans(),
    )
    def start(self, blocks, size, budget, most, prefix, static, guess):
        config = EngineConfig(
            num_blocks=blocks,
            block_size=size,
            max_step_tokens=budget,
            max_sequences=most,
            prefix_caching=prefix,
            attention="torch",
            scheduler=StaticScheduler if static == 0 else EngineConfig.scheduler,
        )
        self.engine = Engine(MODEL, None, config, Guesser() if guess else None)
        self.runner = self.engine.runner = SlotKeeper(self.engine)
        self.answers, self.asked = {}, {}

    @rule(prompt=prompts, params=parameters, priority=st.integers(0, 1), twin=st.booleans())
    def add(self, prompt, params, priority, twin):
        for _ in range(1 + twin):
            try:
                name = self.engine.add_request(prompt, params, priority=priority)
            except RequestError as error:
                assert "the whole cache has" in str(error) or "sequences at once" in str(error)
            else:
                self.asked[name] = (prompt, params)

    @rule(steps=st.integers(1, 4))
    def step(self, steps):
        for _ in range(steps):
            for output in self.engine.step():
                self.answers[output.request_id] = output

    @precondition(lambda self: self.engine.requests)
    @rule(data=st.data())
    def abort(self, data):
        name = data.draw(st.sampled_from(sorted(self.engine.requests)))
        output = self.engine.abort(name)
        assert output.finished
        assert self.engine.abort(name) is None
        self.asked.pop(name)

    @precondition(lambda self: self.engine.requests)
    @rule()
    def a_step_that_breaks_off(self):
        self.runner.break_next = True
        try:
            self.engine.step()
        except Broken:
            assert not self.engine.scheduler.running  # nothing is lost, everything waits
        self.runner.break_next = False

    @invariant()
    def books_are_right(self):
        if not hasattr(self, "engine"):
            return
        engine = self.engine
        live = [
            s for r in engine.requests.values() for s in r.sequences if s.status.value != "finished"
        ]
        engine.blocks.check(live)  # free + used = pool, references = tables
        queued = engine.scheduler.running + engine.scheduler.waiting
        assert sorted(map(id, queued)) == sorted(map(id, live))  # nobody is lost or twice there
        assert all(not s.block_table for s in engine.scheduler.waiting)
        assert all(n <= engine.config.max_step_tokens for n in self.runner.tokens)
        self.runner.tokens.clear()
        hashes_name_contents(engine)

    def teardown(self):
        if not hasattr(self, "engine"):
            return
        for _ in range(3_000):  # nobody starves
            if not self.engine.unfinished:
                break
            self.step(1)
            self.books_are_right()
        assert not self.engine.unfinished
        assert self.engine.blocks.used == 0
        assert self.answers.keys() == self.asked.keys()
        for name, (prompt, params) in self.asked.items():
            if params.greedy and not params.beam_width:
                text = list(prompt)
                for token in self.answers[name].outputs[0].token_ids:
                    assert token == int(row_of(text).argmax())
                    text.append(token)


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda e: setattr(e.blocks, "_shared_tail", lambda s: None),  # no copy on write
        lambda e: setattr(e.blocks, "register", register_too_much(e.blocks)),
        lambda e: setattr(e.blocks, "_release", release_at_once(e.blocks)),
    ],
    ids=["no copy on write", "drafts registered", "freed while shared"],
)
def test_a_broken_book_is_noticed(break_it):
    """The checks above see what they are to see."""
    with pytest.raises((AssertionError, KeyError)):
        for seed in range(30):
            config = EngineConfig(num_blocks=30, block_size=4, attention="torch")
            engine = Engine(MODEL, None, config, Guesser())
            engine.runner = SlotKeeper(engine)
            break_it(engine)
            for i in range(4):
                params = SamplingParams(max_tokens=9, temperature=1.0, n=3, seed=seed + i)
                engine.add_request([1, 2, 3, 4, 5, 6][: 3 + i], params)
            while engine.unfinished:
                engine.step()
                engine.blocks.check(s for r in engine.requests.values() for s in r.sequences)
                hashes_name_contents(engine)


def register_too_much(blocks):
    real = blocks.register

    def register(sequence, tokens):
        text = sequence.token_ids
        sequence.token_ids = text + sequence.draft
        real(sequence, min(tokens + len(sequence.draft), len(sequence.token_ids)))
        sequence.token_ids = text

    return register


def release_at_once(blocks):
    def release(block):
        blocks.references[block] -= 1
        blocks.free_blocks[block] = None

    return release
