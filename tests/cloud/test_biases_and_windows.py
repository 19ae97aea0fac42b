"""Biases, and layers that look back over a window, as checkpoints of `transformers` have them."""

import json

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from random_checkpoints import SHAPE, is_greedy, mixed_requests
from safetensors.torch import load_file
from test_paged_attention import case, lengths

from aiinfra_labs.cloud.serving import loader
from aiinfra_labs.cloud.serving.attention import ATTENTIONS
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.model import causal_attention
from aiinfra_labs.cloud.serving.quantization import perplexity
from aiinfra_labs.cloud.serving.quantization.kv_int8 import Int8PagedCache, rounded_attention
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.llm.llama import KVCache, Llama, LlamaConfig

IDS = torch.randint(97, (60,), generator=torch.Generator().manual_seed(1))
THREE = SHAPE | {"num_hidden_layers": 3}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS = {
    "llama, biases": transformers.LlamaConfig(**THREE, attention_bias=True, mlp_bias=True),
    "llama, one bias": transformers.LlamaConfig(**THREE, mlp_bias=True),
    "mistral": transformers.MistralConfig(**THREE, sliding_window=7),
    "mistral, no window": transformers.MistralConfig(**THREE, sliding_window=None),
    "mistral, wide heads": transformers.MistralConfig(**THREE, head_dim=16, sliding_window=20),
    "ministral": transformers.MinistralConfig(
        **THREE, head_dim=8, sliding_window=9, layer_types=MIXED
    ),
    "qwen2": transformers.Qwen2Config(
        **THREE, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
    "qwen2, not used": transformers.Qwen2Config(**THREE, sliding_window=5, max_window_layers=0),
    "qwen3": transformers.Qwen3Config(
        **THREE,
        head_dim=16,
        attention_bias=True,
        use_sliding_window=True,
        sliding_window=17,
        layer_types=MIXED,
    ),
}
WINDOWS = {
    "mistral": (7, 7, 7),
    "ministral": (9, None, 9),
    "qwen2": (None, 5, 5),
    "qwen3": (17, None, 17),
}


@pytest.fixture(scope="module", params=CONFIGS)
def checkpoint(request, tmp_path_factory):
    """(name, transformers' model, the folder that it was saved in)."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.uniform_(0.5, 1.5) if "norm" in name else weight.normal_(std=0.3)
    model.save_pretrained(folder)
    return request.param, model.eval(), folder


def their_logits(model, ids=IDS):
    with torch.no_grad():
        return model(ids[None]).logits[0]


def test_logits_equal_transformers(checkpoint):
    name, theirs, folder = checkpoint
    ours = loader.load(folder)
    assert ours.config.windows == WINDOWS.get(name, ours.config.windows)
    assert bool(ours.config.windows) == ("window" not in name and "llama" not in name) or (
        name == "qwen2, not used" and not ours.config.windows
    )
    expected = their_logits(theirs)
    assert expected.std() > 0.3
    with torch.no_grad():
        found = ours.logits(ours(IDS, torch.arange(60), causal_attention))
        together = perplexity.logits(ours, torch.stack([IDS, IDS.flip(0)]))
    assert (found - expected).abs().max() < 1e-4
    assert (together[0] - expected).abs().max() < 1e-4
    assert (together[1] - their_logits(theirs, IDS.flip(0))).abs().max() < 1e-4


@pytest.mark.parametrize("attention", ["numpy", "torch", "compiled"])
def test_the_engine_chooses_what_transformers_would(checkpoint, attention):
    """Chunks of prompts, prefixes found in the cache, preemption: each token is the likeliest."""
    _, theirs, folder = checkpoint
    config = EngineConfig(num_blocks=40, block_size=4, max_step_tokens=24, attention=attention)
    engine = Engine(loader.load(folder), None, config)
    asked = mixed_requests(12)
    for number, (prompt, new) in enumerate(asked):
        engine.add_request(prompt, SamplingParams(max_tokens=new), str(number))
    found = {}
    while engine.unfinished:
        found |= {int(o.request_id): list(o.outputs[0].token_ids) for o in engine.step()}
    for number, (prompt, new) in enumerate(asked):
        assert len(found[number]) == new
        assert is_greedy(theirs, prompt, found[number])


@pytest.mark.parametrize("checkpoint", ["ministral"], indirect=True)
def test_the_kernel_of_unit_3_6_in_the_engine(checkpoint):
    _, theirs, folder = checkpoint
    engine = Engine(loader.load(folder), None, EngineConfig(16, 4, attention="kernel"))
    engine.add_request(IDS[:13].tolist(), SamplingParams(max_tokens=3))
    while engine.unfinished:
        for output in engine.step():
            assert is_greedy(theirs, IDS[:13].tolist(), list(output.outputs[0].token_ids))


@pytest.mark.parametrize("checkpoint", ["ministral"], indirect=True)
def test_a_cache_in_int8(checkpoint):
    """Layers of both kinds: what a step reads is not mixed up between them."""
    model = loader.load(checkpoint[2])
    engine = Engine(model, None, EngineConfig(16, 4, max_step_tokens=8, cache=Int8PagedCache))
    engine.add_request(IDS[:30].tolist(), SamplingParams(max_tokens=8))
    while engine.unfinished:
        for output in engine.step():
            found = list(output.outputs[0].token_ids)
    ids = torch.tensor(IDS[:30].tolist() + found)
    attend = rounded_attention(causal_attention)
    with torch.no_grad():
        logits = model.logits(model(ids, torch.arange(len(ids)), attend))
    assert logits[29:-1].argmax(-1).tolist() == found


@pytest.mark.parametrize("name", ["numpy", "torch", "compiled", "kernel"])
@given(
    sequences=st.lists(lengths(40), min_size=1, max_size=6),
    size=st.sampled_from([1, 3, 8, 16]),
    window=st.integers(1, 45),
)
@settings(max_examples=30, deadline=None)
def test_attention_over_blocks_sees_the_window(name, sequences, size, window):
    if name == "kernel":  # on the emulator, each token takes its time
        sequences = [(min(n, 2), context) for n, context in sequences[:2]]
    query, keys, values, layout = case(sequences, size, seed=len(sequences), d=8)
    got = ATTENTIONS[name](query, keys, values, layout.seen_through(window))
    for token, (row, position) in enumerate(zip(layout.rows, layout.positions, strict=True)):
        k, v = (x[layout.block_table[row]].flatten(0, 1)[: position + 1] for x in (keys, values))
        k, v = (x[-window:].repeat_interleave(2, 1).double() for x in (k, v))  # [seen, H, D]
        q = query[token].double()
        weights = torch.einsum("hd,shd->hs", q / 8**0.5, k).softmax(-1)
        expected = torch.einsum("hs,shd->hd", weights, v)
        assert torch.allclose(got[token].double(), expected, atol=1e-5)


def test_a_window_that_nobody_comes_up_to_is_none():
    *_, layout = case([(3, 9), (1, 12)], 4)
    assert layout.seen_through(12) is layout and layout.seen_through(None) is layout
    assert layout.seen_through(11) is layout.seen_through(11)  # made once a step
    assert layout.seen_through(11).firsts.tolist() == [0, 0, 0, 1]
    assert layout.seen_through(5).firsts.tolist() == [2, 3, 4, 7]


def test_torch_gathers_the_blocks_of_the_window_alone():
    from aiinfra_labs.cloud.serving.attention.gathered import Gathers

    *_, layout = case([(1, 400), (2, 300)], 4)
    made = Gathers.of(layout.seen_through(8), torch.device("cpu"), torch.float32)
    assert len(made.groups[0].blocks) <= 3 and len(made.chunks[0].blocks) <= 4


# --- the course's own Llama -----------------------------------------------------------------------


def own(folder):
    """`llm.Llama` of a folder, and its weights as the file has them."""
    config = json.loads((folder / "config.json").read_text())
    model = Llama(LlamaConfig.from_dict(config)).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


@pytest.mark.parametrize(
    "checkpoint",
    ["llama, biases", "llama, one bias", "mistral", "mistral, no window"],
    indirect=True,
)
def test_chapter_1_has_the_same_logits_with_and_without_a_cache(checkpoint):
    _, theirs, folder = checkpoint
    model, expected = own(folder), their_logits(checkpoint[1])
    with torch.no_grad():
        assert (model(IDS[None])[0] - expected).abs().max() < 1e-4
        cache = KVCache(3)
        cuts = (0, 20, 21, 22, 50, 60)
        parts = [model(IDS[None, a:b], cache)[0] for a, b in zip(cuts, cuts[1:], strict=False)]
    assert (torch.cat(parts) - expected).abs().max() < 1e-4
    again = LlamaConfig.from_dict(model.config.to_dict() | {"model_type": model.config.family})
    assert again == model.config


def test_a_new_models_biases_are_zeros():
    model = Llama(LlamaConfig(61, 32, 48, 2, 4, 2, attention_bias=True, mlp_bias=True))
    biases = [weight for name, weight in model.named_parameters() if name.endswith("bias")]
    assert len(biases) == 14 and not torch.cat(biases).any()
