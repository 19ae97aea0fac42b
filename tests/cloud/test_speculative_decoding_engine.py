"""Speculation in the engine: the same tokens and chances, and a draft's own cache right."""

import itertools
from collections import Counter

import pytest
import torch
from random_checkpoints import VOCABULARY, is_greedy, mixed_requests
from scipy import stats

from aiinfra_labs.cloud.serving import draft_model, loader
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.model import CausalLM, causal_attention
from aiinfra_labs.cloud.serving.sampling import shares
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.speculative import DraftModel, PromptLookup
from aiinfra_labs.llm import bpe, page_model


@pytest.fixture(scope="module")
def near(llama):
    """A draft that is often right: the model, its weights changed a little."""
    draft = loader.load(llama[2])
    chance = torch.Generator().manual_seed(3)
    for weight in draft.parameters():
        weight.add_(0.02 * torch.randn(weight.shape, generator=chance))
    return draft


def engine_for(model, proposer, **more):
    settings = {"num_blocks": 64, "block_size": 4, "max_step_tokens": 64, "attention": "torch"}
    return Engine(model, None, EngineConfig(**settings | more), proposer)


def proposers(near):
    return {"lookup": PromptLookup(3), "draft": DraftModel(near, 3)}


def run(engine, every_step=lambda: None):
    answers = {}
    while engine.unfinished:
        for output in engine.step():
            answers[output.request_id] = [o.token_ids for o in output.outputs]
        engine.blocks.check(s for r in engine.requests.values() for s in r.sequences)
        every_step()
    assert engine.blocks.used == 0
    return answers


# --- the same tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_greedy_is_the_models_own(llama, near, kind):
    theirs, ours, _ = llama
    engine = engine_for(ours, proposers(near)[kind])
    requests = mixed_requests(12, seed=4, longest=20)
    for i, (prompt, new) in enumerate(requests):
        engine.add_request(prompt, SamplingParams(max_tokens=new), str(i))
    answers = run(engine)
    assert all(is_greedy(theirs, p, answers[str(i)][0]) for i, (p, _) in enumerate(requests))
    assert 0 < engine.accepted < engine.drafted


def test_an_end_within_a_draft_ends_the_text(llama):
    """A draft may go on behind the end; none of that is given out, counted or noted."""
    theirs, ours, _ = llama
    prompt = [3, 14, 15]
    ids = torch.tensor([prompt])
    plain = theirs.generate(ids, attention_mask=ids * 0 + 1, max_new_tokens=9, do_sample=False)
    new = plain[0, 3:].tolist()
    end = new[4]
    engine = engine_for(ours, DraftModel(ours, 6))
    params = SamplingParams(max_tokens=9, stop_token_ids=(end,), logprobs=0)
    engine.add_request(prompt, params)
    (output,) = [o for _ in range(9) for o in engine.step()]
    (text,) = output.outputs
    assert text.token_ids == new[: new.index(end) + 1]
    assert text.finish_reason == "stop" and len(text.logprobs) == len(text.token_ids)
    assert engine.blocks.used == 0


def test_fewer_tokens_than_a_draft_are_no_reason_to_draft_more(llama):
    """The step that gives the last token drafts none behind it."""
    _, ours, _ = llama
    engine = engine_for(ours, DraftModel(ours, 8))
    engine.add_request([5, 6], SamplingParams(max_tokens=4))
    lengths = []
    engine.observers.append(lambda plan: lengths.extend(w.tokens for w in plan.work))
    run(engine)
    assert lengths == [2, 3]  # the prompt; one token and 2 drafts, whose last row is the 4th


# --- the same chances -----------------------------------------------------------------------------


def chances(model, prompt, length, params):
    """The probability of each text of `length` tokens, by the model alone."""
    found = {(): 1.0}
    for _ in range(length):
        longer = {}
        for text, share in found.items():
            ids = torch.tensor(prompt + list(text))
            with torch.inference_mode():
                logits = model.logits(model(ids, torch.arange(len(ids)), causal_attention)[-1:])
            row = shares(logits, [params])[0].double()
            for token in row.nonzero().flatten().tolist():
                longer[(*text, token)] = share * float(row[token])
        found = longer
    return found


@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_samples_are_distributed_as_the_model(llama, near, kind):
    """Of 1,500 texts of 3 tokens; the draft has them before the model has."""
    _, ours, _ = llama
    # A prompt in which a likely text stands already: one in nine lookups is right.
    chance = torch.Generator().manual_seed(159)
    prompt = torch.randint(VOCABULARY, (100,), generator=chance).tolist()
    params = [SamplingParams(1.5, top_k=8, max_tokens=3, seed=i) for i in range(1500)]
    expected = chances(ours, prompt, 3, params[0])
    engine = engine_for(ours, proposers(near)[kind], num_blocks=4000, max_step_tokens=4000)
    for setting in params:
        engine.add_request(prompt, setting)
    counts = Counter(tuple(ids) for (ids,) in run(engine).values())
    assert set(counts) <= set(expected)
    assert 0 < engine.accepted < engine.drafted
    observed, wanted = zip(
        *((counts[text], 1500 * share) for text, share in expected.items()), strict=True
    )
    rare = [i for i, x in enumerate(wanted) if x < 5]  # chi-squared wants 5 of each: these together
    common = [i for i in range(len(wanted)) if i not in rare]
    rows = [[row[i] for i in common] + [sum(row[i] for i in rare)] for row in (observed, wanted)]
    if not rare:
        rows = [row[:-1] for row in rows]
    total = sum(rows[0])
    fitted = [x * total / sum(rows[1]) for x in rows[1]]
    assert len(fitted) > 5 and stats.chisquare(rows[0], fitted).pvalue > 1e-3


# --- the draft's own cache ------------------------------------------------------------------------


def keys_of(model, ids):
    """The keys of the last layer for a whole text, no cache: [T, K, D]."""
    kept = {}

    def attend(layer, query, key, value, window):
        kept[layer] = key
        return causal_attention(layer, query, key, value, window)

    with torch.inference_mode():
        model(torch.tensor(ids), torch.arange(len(ids)), attend)
    return kept[model.config.num_hidden_layers - 1]


def watch(engine):
    """After each step: all that the draft claims to have computed is what it would compute now."""
    seen = Counter()

    def check():
        cache = engine.proposer.runner.cache
        for sequence in engine.scheduler.running:
            # What lies behind `computed` was cut off, and is dropped before the next draft.
            count = min(sequence.draft_computed, sequence.computed)
            if not count:
                continue
            keys = cache.keys[-1, sequence.block_table].flatten(0, 1)[:count]
            wanted = keys_of(engine.proposer.model, sequence.token_ids[:count])
            torch.testing.assert_close(keys, wanted, atol=1e-4, rtol=1e-4)
            seen[sequence.request.id] += 1

    return check, seen


@pytest.mark.parametrize("blocks", [64, 12])
def test_the_drafts_cache_after_rejection_preemption_and_prefix_hits(llama, near, blocks):
    theirs, ours, _ = llama
    engine = engine_for(ours, DraftModel(near, 3), num_blocks=blocks, max_step_tokens=24)
    preempted = []
    engine.observers.append(lambda plan: preempted.extend(plan.preempted))
    shared = list(range(12))
    requests = [([*shared, i, i + 1], 14) for i in range(6)]
    for i, (prompt, new) in enumerate(requests):
        engine.add_request(prompt, SamplingParams(max_tokens=new), str(i))
    check, seen = watch(engine)
    answers = run(engine, check)
    assert all(is_greedy(theirs, p, answers[str(i)][0]) for i, (p, _) in enumerate(requests))
    assert len(seen) > 2 and 0 < engine.accepted < engine.drafted
    assert bool(preempted) == (blocks == 12)


def test_copies_on_write_are_made_in_the_drafts_cache_too(llama, near):
    """Three samples share their prompt's last block until each writes into it."""
    _, ours, _ = llama
    engine = engine_for(ours, DraftModel(near, 3))
    copied = []
    own = engine.proposer.copy
    engine.proposer.copy = lambda pairs: (copied.extend(pairs), own(pairs))
    engine.add_request(list(range(10)), SamplingParams(1.0, n=3, max_tokens=12, seed=1))
    check, seen = watch(engine)
    (texts,) = run(engine, check).values()
    assert copied and seen and len({tuple(t) for t in texts}) > 1
    cache = engine.proposer.runner.cache
    cache.keys[:, 3].normal_()
    own([(3, 5)])
    assert torch.equal(cache.keys[:, 5], cache.keys[:, 3])


@pytest.mark.parametrize("budget", [3, 7, 10, 64])
def test_a_budget_smaller_than_all_drafts(llama, near, budget):
    """Drafts do not take another sequence's place, and one that was cut off leaves nothing."""
    theirs, ours, _ = llama
    engine = engine_for(ours, DraftModel(near, 3), max_step_tokens=budget)
    requests = [([i, i + 1], 20) for i in range(6)]
    for i, (prompt, new) in enumerate(requests):
        engine.add_request(prompt, SamplingParams(max_tokens=new), str(i))
    plans = []
    engine.observers.append(plans.append)
    check, _ = watch(engine)
    answers = run(engine, check)
    assert all(is_greedy(theirs, p, answers[str(i)][0]) for i, (p, _) in enumerate(requests))
    assert all(plan.tokens <= budget for plan in plans)


def test_a_draft_that_a_prompt_pushed_out(llama, near):
    """A prompt that comes first takes the whole budget when drafts are made already."""
    theirs, ours, _ = llama
    engine = engine_for(ours, DraftModel(near, 3), max_step_tokens=4)
    engine.add_request([1, 2], SamplingParams(max_tokens=16), "slow", priority=1)
    answers = {}
    check, _ = watch(engine)
    for step in itertools.count():
        if step == 3:
            engine.add_request(list(range(30)), SamplingParams(max_tokens=2), "first", priority=0)
        for output in engine.step():
            answers[output.request_id] = output.outputs[0].token_ids
        check()
        if not engine.unfinished:
            break
    assert is_greedy(theirs, [1, 2], answers["slow"])
    assert is_greedy(theirs, list(range(30)), answers["first"])


# --- what cannot be -------------------------------------------------------------------------------


def variant(model, **changes):
    from dataclasses import replace

    return CausalLM(replace(model.config, **changes)).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"vocab_size": VOCABULARY + 1}, "the draft model has 98 tokens, and the model 97"),
        ({"max_position_embeddings": 64}, "a context of 64 tokens, and the model 128"),
    ],
)
def test_a_draft_of_another_kind_is_refused(llama, changes, what):
    _, ours, _ = llama
    with pytest.raises(ServingError, match=what):
        engine_for(ours, DraftModel(variant(ours, **changes)))


def test_a_draft_of_none_is_refused(llama):
    with pytest.raises(ServingError, match="0 drafted tokens"):
        DraftModel(llama[1], 0)


def test_a_draft_that_means_other_words_costs_steps_and_changes_nothing(llama):
    """The same ids for other words: of one size, so that nobody notices but by the figures."""
    theirs, ours, _ = llama
    other = loader.load(llama[2])
    order = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(0))
    other.embed_tokens.weight.copy_(other.embed_tokens.weight[order])
    engine = engine_for(ours, DraftModel(other, 3))
    engine.add_request([5, 6, 7], SamplingParams(max_tokens=30), "0")
    assert is_greedy(theirs, [5, 6, 7], run(engine)["0"][0])
    assert engine.accepted < 0.2 * engine.drafted


# --- the course's own draft -----------------------------------------------------------------------


def test_the_courses_draft_fits_the_courses_model():
    own = bpe.Tokenizer.load(draft_model.FOLDER / "tokenizer.json")
    model = bpe.Tokenizer.load(page_model.folder() / "tokenizer.json")
    assert own.merges == model.merges and list(own.special) == list(model.special)
    draft = draft_model.load()
    assert sum(p.numel() for p in draft.parameters()) == draft_model.card()["parameters"]
    assert (draft_model.FOLDER / "model.safetensors").stat().st_size < 1.5e6


def test_distillation_brings_a_draft_nearer_to_its_model():
    from aiinfra_labs.llm.llama import Llama, LlamaConfig
    from aiinfra_labs.llm.training import Batches, Recipe, train

    torch.manual_seed(0)
    model = Llama(LlamaConfig(60, 16, 32, 1, 2, 2, 64)).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(6) if weight.dim() > 1 else None
    draft = draft_model.begin(model, LlamaConfig(60, 8, 16, 1, 1, 1, 64))
    tokens = torch.randint(60, (4000,), generator=torch.Generator().manual_seed(0)).short()
    before = draft_model.in_common(draft, model, tokens, 32)
    recipe = Recipe(steps=60, batch=8, context=32, learning_rate=1e-2, warm_up=5)
    list(train(draft_model.Distillation(draft, model), Batches(tokens, recipe), recipe))
    after = draft_model.in_common(draft, model, tokens, 32)
    assert after["overlap"] > before["overlap"] + 0.02
    assert after["overlap"] <= 1 and before["overlap"] >= 0
