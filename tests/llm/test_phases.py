"""The formulas of both phases, held to PyTorch's own count of operations and to real tensors."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aiinfra_labs.llm import generation, phases
from aiinfra_labs.llm.kv_cache import PreallocatedCache
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.scale.shapes import from_config, shape

CONFIG = LlamaConfig(97, 32, 48, 3, 4, 2, 64)
SHAPE = from_config(CONFIG.to_dict())


def counted(run):
    # Only the plain way to attention is counted on a CPU: as the matrix products that it is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 9), (3, 20)])
def test_prefill_does_what_torch_counts(batch, tokens):
    model, ids = Llama(CONFIG), torch.zeros(batch, tokens, dtype=torch.int64)
    cache = PreallocatedCache(CONFIG, batch, tokens)
    work = phases.prefill(SHAPE, tokens, batch, 4)
    assert counted(lambda: generation.prefill(model, ids, cache)) == work.flops
    assert work.kv_bytes == cache.nbytes


@pytest.mark.parametrize(("batch", "context"), [(1, 1), (1, 30), (5, 12)])
def test_decode_does_what_torch_counts(batch, context):
    model, cache = Llama(CONFIG), PreallocatedCache(CONFIG, batch, context)
    if context > 1:
        generation.prefill(model, torch.zeros(batch, context - 1, dtype=torch.int64), cache)
    token = torch.zeros(batch, dtype=torch.int64)
    work = phases.decode(SHAPE, context, batch, 4)
    assert counted(lambda: generation.decode(model, token, cache)) == work.flops
    assert work.kv_bytes == cache.nbytes
    matrices = sum(w.numel() for w in model.parameters() if w.dim() > 1)  # the table is tied
    assert work.weight_bytes == 4 * matrices


def test_a_token_of_decoding_does_about_one_operation_a_byte():
    assert phases.decode(shape("llama-3-8b"), 1).intensity == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("context", [100, 1000])
def test_the_turning_batch_is_where_the_intensity_is_the_ridge(context):
    known, ridge = shape("llama-3-8b"), 50.0
    batch = phases.turning_batch(known, context, ridge)
    one = phases.decode(known, context)
    intensity = batch * one.flops / (one.weight_bytes + batch * one.kv_bytes)
    assert intensity == pytest.approx(ridge)
    assert phases.turning_batch(known, 100_000, 300.0) == float("inf")


def test_each_kernel_takes_the_slower_of_both_and_they_add_up():
    work = phases.PhaseCost(flops=1000, weight_bytes=60, kv_bytes=40, attention_flops=100)
    assert work.intensity == 10
    assert work.seconds(100, 1e9) == 10 and work.seconds(1e9, 10) == 10
    # products: 900 / 10 over 60 / 1; attention: 40 / 1 over 100 / 10; one does not hide the other
    assert work.seconds(10, 1) == 90 + 40


@pytest.mark.parametrize(("batch", "context"), [(1, 7), (3, 40)])
def test_attention_is_what_grows_with_the_context(batch, context):
    one, more = (phases.decode(SHAPE, n, batch) for n in (context, context + 1))
    assert more.flops - one.flops == more.attention_flops - one.attention_flops
    assert context * (more.attention_flops - one.attention_flops) == one.attention_flops > 0
    prompt = phases.prefill(SHAPE, context, batch)
    assert prompt.attention_flops == context * one.attention_flops
