"""Unit 1.6: what forward keeps, by formula and as autograd keeps it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from aiinfra_labs.llm import llama
from aiinfra_labs.llm.attention import attention, causal_mask, repeat_kv
from aiinfra_labs.llm.llama import Block, Llama, LlamaConfig
from aiinfra_labs.llm.positions import rope_angles
from aiinfra_labs.llm.scale.activations import RECOMPUTE, of_llama, published, saved_bytes

GROUPED = LlamaConfig(50, 24, 40, 2, 6, 2)
EQUAL = LlamaConfig(50, 16, 24, 2, 2, 2)


def kept_by_a_block(config, s, b, dtype=torch.float32):
    model = Llama(config).to(dtype)
    block = Block(config, 0).to(dtype)
    cos, sin = rope_angles(torch.arange(s), model.model.frequencies.float())
    cos, sin = cos.to(dtype), sin.to(dtype)
    x = torch.randn(b, s, config.hidden_size, dtype=dtype, requires_grad=True)
    return saved_bytes(lambda: block(x, cos, sin), but=(*block.parameters(), cos, sin))


@pytest.mark.parametrize("config", [GROUPED, EQUAL])
@pytest.mark.parametrize(("s", "b"), [(5, 1), (16, 2), (33, 3)])
def test_a_block_of_ours_keeps_what_the_formula_lists(config, s, b):
    assert kept_by_a_block(config, s, b) == sum(of_llama(config, s, b).values())


MANY = [
    LlamaConfig(50, 48, 40, 1, heads, kv_heads, 64)
    for heads, kv_heads in ((4, 2), (4, 1), (4, 4), (1, 1), (2, 1), (6, 3), (6, 2))
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", MANY, ids=lambda c: f"{c.num_attention_heads} heads")
def test_any_number_of_kv_heads_and_16_bits_too(config, dtype):
    model = Llama(config).to(dtype)
    cos, sin = rope_angles(torch.arange(16), model.model.frequencies)
    for b in (1, 3):
        x = torch.randn(b, 16, 48, dtype=dtype, requires_grad=True)
        there = (*model.parameters(), cos, sin)
        measured = saved_bytes(lambda x=x: model.model.layers[0](x, cos, sin), there)
        assert measured == sum(of_llama(config, 16, b, dtype.itemsize).values())


def by_matrix(query, key, value, window):
    """As unit 1.3 writes it, with the matrix of weights; these models have no window."""
    assert window is None
    mask, group = causal_mask(query.shape[2], key.shape[2]), query.shape[1] // key.shape[1]
    return attention(query, repeat_kv(key, group), repeat_kv(value, group), mask)[0]


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("config", [GROUPED, EQUAL, *MANY])
def test_without_the_fused_call_it_keeps_the_matrix(config, b, monkeypatch):
    monkeypatch.setattr(llama, "causal", by_matrix)
    found = of_llama(config, 16, b, fused=False)
    assert kept_by_a_block(config, 16, b) == sum(found.values())


def test_a_whole_model_keeps_its_blocks_and_little_else():
    model, s, b = Llama(GROUPED), 32, 2
    ids = torch.randint(50, (b, s))
    there = tuple(model.parameters())
    whole = saved_bytes(lambda: model(ids), but=there)
    blocks = GROUPED.num_hidden_layers * sum(of_llama(GROUPED, s, b).values())
    assert blocks < whole < 1.1 * blocks


def dropout(x):
    """As on a GPU, with a mask of a byte an element; F.dropout on a CPU keeps two in 16 bits."""
    return torch.native_dropout(x, 0.1, True)[0]


class GPTBlock(nn.Module):
    """The block that the paper counts: dropout, GELU, plain multi-head attention."""

    def __init__(self, h, a):
        super().__init__()
        self.a = a
        self.ln1, self.ln2 = nn.LayerNorm(h), nn.LayerNorm(h)
        self.qkv, self.out = nn.Linear(h, 3 * h), nn.Linear(h, h)
        self.up, self.down = nn.Linear(h, 4 * h), nn.Linear(4 * h, h)

    def forward(self, x, mask):
        b, s, h = x.shape
        q, k, v = (
            part.view(b, s, self.a, -1).transpose(1, 2).contiguous()
            for part in self.qkv(self.ln1(x)).chunk(3, -1)
        )
        scores = (q @ k.transpose(-2, -1)) + mask
        weights = dropout(torch.softmax(scores, -1))
        y = (weights @ v).transpose(1, 2).reshape(b, s, h)
        x = x + dropout(self.out(y))
        return x + dropout(self.down(F.gelu(self.up(self.ln2(x)))))


def kept_by_gpt(s, b, h, a, reentrant=False):
    block = GPTBlock(h, a).bfloat16()
    x = torch.randn(b, s, h, dtype=torch.bfloat16, requires_grad=True)
    mask = torch.zeros(s, s, dtype=torch.bfloat16).masked_fill(~causal_mask(s, s), -1e9)

    def forward():
        return checkpoint(block, x, mask, use_reentrant=True) if reentrant else block(x, mask)

    return saved_bytes(forward, but=(*block.parameters(), mask))


@pytest.mark.parametrize(("s", "b", "h", "a"), [(16, 1, 32, 2), (64, 2, 64, 4), (128, 1, 64, 8)])
def test_the_published_formula_is_what_autograd_keeps(s, b, h, a):
    """To the byte, but for the two norms' means and deviations, which the paper leaves out."""
    deviations = 2 * 2 * 2 * s * b
    assert kept_by_gpt(s, b, h, a) == published(s, b, h, a, layers=1) + deviations
    assert kept_by_gpt(s, b, h, a, reentrant=True) == published(s, b, h, a, 1, "full")


def test_recomputation_saves_in_the_papers_order():
    found = [published(2048, 1, 12288, 96, 96, how) for how in RECOMPUTE]
    assert found == sorted(found, reverse=True)
    assert published(2048, 1, 12288, 96, 96) == 96 * 2048 * 12288 * (34 + 80)  # 5 a s / h is 80
    with pytest.raises(ValueError, match="recompute is 'half'"):
        published(1, 1, 1, 1, 1, "half")


def test_a_tensor_that_is_kept_twice_counts_once():
    x = torch.randn(4, 4, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 64
    assert saved_bytes(lambda: x * x, but=(x,)) == 0
