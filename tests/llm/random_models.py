"""Small models with random weights, and the same in `transformers`: for tests to compare."""

import torch
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM

from aiinfra_labs.llm.llama import Llama, LlamaConfig

SHAPES = {
    "grouped": LlamaConfig(97, 32, 48, 3, 4, 2, 64),
    "multi-query": LlamaConfig(50, 24, 40, 2, 3, 1, 64, tie_word_embeddings=False),
    "multi-head": LlamaConfig(61, 32, 64, 1, 4, 4, 64),
}


def random_model(config, seed=0, scale=8.0):
    """Weights large enough that a token depends on all before it."""
    torch.manual_seed(seed)
    model = Llama(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name and "embed" not in name:  # a large embedding would repeat itself
                weight.mul_(scale)
    return model


def as_theirs(model):
    theirs = LlamaForCausalLM(TheirConfig(**model.config.to_dict())).eval()
    theirs.load_state_dict(dict(model.named_parameters()), strict=False)
    if model.config.tie_word_embeddings:
        theirs.tie_weights()
    theirs.generation_config.eos_token_id = theirs.generation_config.bos_token_id = None
    return theirs


def prompts(config, rows=2, length=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, length), generator=generator)
