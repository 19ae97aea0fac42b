"""Small random models of the three families, saved by `transformers`, and its own copy of each."""

import random

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 97
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "eos_token_id": None,
    "bos_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=16)),
}
SCALED = {
    name: (LlamaForCausalLM, LlamaConfig(**SHAPE, rope_parameters=rule))
    for name, rule in (("llama3", LLAMA3), ("yarn", YARN), ("linear", LINEAR))
}


def saved(name, folder):
    """The family's model, its weights large enough that a token depends on all before it."""
    kind, config = (FAMILIES | SCALED)[name]
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            weight.uniform_(0.5, 1.5) if "norm" in key else weight.normal_(std=0.3)
    model.save_pretrained(folder)
    return model


def mixed_requests(count, seed=0, longest=40, most=16):
    """[(prompt, new tokens)]: of all lengths, and two in three begin like others."""
    rng = random.Random(seed)
    shared = [rng.randrange(VOCABULARY) for _ in range(48)]
    found = []
    for _ in range(count):
        start = shared[: rng.choice([0, 0, 8, 16, 33, 48])]
        own = [rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, longest))]
        found.append((start + own, rng.randrange(1, most)))
    return found


def is_greedy(model, prompt, new):
    """Whether `new` is what greedy decoding gives: each token the likeliest after all before it."""
    ids = torch.tensor([prompt + new])
    with torch.no_grad():
        chosen = model(ids).logits[0, len(prompt) - 1 : -1].argmax(-1)
    return chosen.tolist() == new
