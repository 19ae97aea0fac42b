"""Blocks sized from free memory: a share of it, and no more than requests can fill."""

import pytest
import torch
from test_tokenizer_kinds import byte_level, saved
from transformers import LlamaConfig, LlamaForCausalLM

from aiinfra_labs.cloud.serving import LLM, EngineConfig, SamplingParams, ServingError, free_memory
from aiinfra_labs.cloud.serving.free_memory import blocks_that_fit, free_bytes
from aiinfra_labs.cloud.serving.model import ModelConfig

CPU = torch.device("cpu")
SHAPE = ModelConfig(100, 64, 64, 2, 4, 2, 16, 4096)  # 512 bytes a token, 8 KiB a block of 16
BLOCK = 16 * 2 * 2 * 2 * 16 * 4


@pytest.fixture
def free(monkeypatch):
    def set(free):
        monkeypatch.setattr(free_memory, "free_bytes", lambda device: free)

    return set


def blocks(share=None, sequences=256, itemsize=4, device=CPU):
    return blocks_that_fit(SHAPE, 16, sequences, itemsize, device, share)


def test_a_share_of_what_is_free(free):
    free(1000 * BLOCK)
    assert blocks() == 100 and blocks(0.5) == 500 and blocks(1) == 1000
    assert blocks(0.5, itemsize=2) == 1000
    assert blocks(device=torch.device("cuda")) == 900  # nobody else uses a GPU


def test_no_more_than_can_be_filled(free):
    free(1 << 40)
    assert blocks(sequences=3) == 3 * 4096 // 16


def test_little_memory_and_none(free):
    free(15 * BLOCK)
    assert blocks() == 1
    free(9 * BLOCK)
    with pytest.raises(ServingError, match="no room for a block"):
        blocks()
    free(None)
    assert blocks() == 512 and blocks(sequences=1) == 256


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan"), "0.5", True])
def test_a_share_that_is_none(share):
    with pytest.raises(ServingError, match="memory_share is"):
        blocks(share)


def test_this_machine_says_what_is_free():
    assert free_bytes(CPU) > 1 << 20
    assert free_bytes(torch.device("meta")) is None


def test_the_limit_of_a_container_counts(monkeypatch):
    monkeypatch.setattr(free_memory, "_of_the_container", lambda: 12345)
    assert free_bytes(CPU) == 12345


def test_an_llm_sizes_its_own(tmp_path, free):
    ours = saved(tmp_path, byte_level())
    config = LlamaConfig(
        vocab_size=len(ours),
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    free(1000 * BLOCK)
    llm = LLM(tmp_path)
    assert llm.engine.config.num_blocks == llm.engine.admission.num_blocks == 100
    assert llm.generate("the cache", SamplingParams(max_tokens=2))[0].finished
    assert LLM(tmp_path, gpu_memory_utilization=0.5).engine.config.num_blocks == 500
    assert LLM(tmp_path, num_gpu_blocks_override=7).engine.config.num_blocks == 7
    assert LLM(tmp_path, EngineConfig()).engine.config.num_blocks == 512
