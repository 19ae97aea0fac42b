"""A sequence that changes engines goes on as if it had not."""

import pytest
import torch
from random_checkpoints import mixed_requests

from aiinfra_labs.cloud.serving.disaggregation import Pair, export, fits, prefilled, take
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import RequestError, ServingError
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams

REQUESTS = mixed_requests(40)


def engine(model, blocks=128, **more):
    usual = {"num_blocks": blocks, "block_size": 8, "max_step_tokens": 48, "attention": "torch"}
    return Engine(model, None, EngineConfig(**(usual | more)))


def served(one, requests, **params):
    """Answers by number; all come at once."""
    names = [
        one.add_request(prompt, SamplingParams(max_tokens=new, **params), str(i))
        for i, (prompt, new) in enumerate(requests)
    ]
    done = {}
    while one.unfinished:
        done |= {o.request_id: o.outputs[0] for o in one.step() if o.finished}
        for each in [one.prefill, one.decode] if isinstance(one, Pair) else [one]:
            each.blocks.check(s for r in each.requests.values() for s in r.sequences)
    return [done[name] for name in names]


@pytest.mark.parametrize("blocks", [128, 16], ids=["room", "decoding preempts"])
@pytest.mark.parametrize("params", [{}, {"temperature": 1.0}], ids=["greedy", "drawn"])
def test_two_engines_give_what_one_gives(llama, blocks, params):
    _, model, _ = llama
    expected = served(engine(model), REQUESTS, **params, logprobs=0)
    pair = Pair(engine(model), engine(model, blocks))
    preempted = []
    pair.decode.observers.append(lambda plan: preempted.extend(plan.preempted))
    got = served(pair, REQUESTS, **params, logprobs=0)
    assert [x.token_ids for x in got] == [x.token_ids for x in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.cumulative_logprob == pytest.approx(theirs.cumulative_logprob, abs=1e-3)
        assert mine.finish_reason == theirs.finish_reason
    assert bool(preempted) == (blocks == 16)
    assert pair.prefill.blocks.used == pair.decode.blocks.used == 0


def test_each_engine_does_its_own_phase(llama):
    _, model, _ = llama
    pair = Pair(engine(model), engine(model))
    kinds = {"prefill": [], "decode": []}
    pair.prefill.observers.append(lambda p: kinds["prefill"].extend(w.start for w in p.work))
    pair.decode.observers.append(lambda p: kinds["decode"].extend(w.tokens for w in p.work))
    requests = [(list(range(1, 60)), 5), ([1, 2, 3], 9), ([4] * 8, 1)]
    served(pair, requests)
    assert max(kinds["prefill"]) < 59  # nothing behind a prompt is computed there
    assert set(kinds["decode"]) == {1} and len(kinds["decode"]) == 4 + 8 + 0
    # blocks of 8 tokens, keys and values, 4 bytes: whole blocks travel, and no more
    shape = model.config
    token = 2 * 4 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    assert pair.carried == token * 8 * (8 + 1)


def test_what_is_handed_over_is_what_was_computed(llama):
    _, model, _ = llama
    one, other = engine(model), engine(model)
    other.add_request([9, 9, 9], SamplingParams(max_tokens=30), "there before")
    other.step()  # so that block numbers differ
    name = one.add_request(list(range(1, 20)), SamplingParams(max_tokens=6))
    with pytest.raises(ServingError, match="is waiting, with 19 tokens"):
        export(one, name)
    one.step()
    assert prefilled(one) == [name]
    table = list(one.requests[name].sequences[0].block_table)
    keys = one.runner.cache.keys[:, table].clone()
    handover = export(one, name)
    assert one.blocks.used == 0 and not one.unfinished and torch.equal(handover.keys, keys)
    assert handover.computed == 19 and len(handover.new_token_ids) == 1
    take(other, handover)
    moved = other.requests[name].sequences[0].block_table
    assert moved != table and torch.equal(other.runner.cache.keys[:, moved], keys)


def test_who_finds_no_room_waits(llama):
    _, model, _ = llama
    pair = Pair(engine(model), engine(model, blocks=4))
    requests = [([i + 1] * 15, 10) for i in range(5)]
    waiting = []
    pair.decode.observers.append(lambda plan: waiting.append(len(pair.between)))
    answers = served(pair, requests)
    assert max(waiting) >= 3  # two of them fill the four blocks
    expected = served(engine(model), requests)
    assert [a.token_ids for a in answers] == [a.token_ids for a in expected]


def test_an_abort_finds_the_request_everywhere(llama):
    _, model, _ = llama
    pair = Pair(engine(model), engine(model, blocks=4))
    for i in range(4):
        pair.add_request([i + 1] * 15, SamplingParams(max_tokens=10), str(i))
    pair.step()
    between = pair.between[0].request_id
    with pytest.raises(RequestError, match="already"):
        pair.add_request([1], request_id=between)
    assert pair.abort(between) is None and pair.abort("0").finished
    while pair.unfinished:
        pair.step()
    assert pair.prefill.blocks.used == pair.decode.blocks.used == 0


def test_what_cannot_change_hands_is_refused(llama):
    _, model, _ = llama
    pair = Pair(engine(model), engine(model, blocks=4))
    for params in (SamplingParams(n=2, temperature=1.0), SamplingParams(beam_width=2)):
        with pytest.raises(RequestError, match="two engines"):
            pair.add_request([1, 2], params)
    with pytest.raises(RequestError, match="the whole cache has 4"):
        pair.add_request([1] * 30, SamplingParams(max_tokens=10))
    assert not pair.unfinished
    one, other = engine(model), engine(model, block_size=4)
    name = one.add_request([1, 2, 3], SamplingParams(max_tokens=3))
    one.step()
    handover = export(one, name)
    full = engine(model, max_sequences=1)
    assert fits(full, handover)
    full.add_request([1, 2, 3], SamplingParams(max_tokens=3))
    full.step()
    assert not fits(full, handover)
    with pytest.raises(ServingError, match="one block size"):
        take(other, handover)
    assert not other.unfinished and other.blocks.used == 0
