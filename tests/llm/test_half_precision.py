"""Models in bfloat16 keep in float32 what 8 bits would spoil, and run at all."""

import copy

import pytest
import torch

from aiinfra_labs.llm.deepseek.balance import move_bias
from aiinfra_labs.llm.deepseek.balance_study import CONFIG
from aiinfra_labs.llm.deepseek.model import DeepSeek
from aiinfra_labs.llm.depth import WIRINGS, Stack
from aiinfra_labs.llm.encoder_decoder import EncoderDecoderShape, Seq2Seq
from aiinfra_labs.llm.extrapolation import WAYS, PositionModel
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.multimodal.questions import CONFIG as STREAM
from aiinfra_labs.llm.multimodal.questions import SIZES
from aiinfra_labs.llm.multimodal.stream import OneStream, Segment

LLAMA = LlamaConfig(64, 32, 48, 1, 4, 2, 4096, tie_word_embeddings=False)
MODELS = {
    "llama": lambda: Llama(LLAMA),
    "deepseek": lambda: DeepSeek(CONFIG),
    "stack": lambda: Stack(WIRINGS[3], 1),
    "stream": lambda: OneStream(STREAM, SIZES),
}


@pytest.mark.parametrize("change", [lambda m: m.to(torch.bfloat16), lambda m: m.half()])
@pytest.mark.parametrize("name", MODELS)
def test_frequencies_stay_as_they_are(name, change):
    model = MODELS[name]()
    half = change(copy.deepcopy(model))
    tables = [(n, b) for n, b in half.named_buffers() if "frequencies" in n or "bias" in n]
    assert tables
    for key, table in tables:
        assert table.dtype == torch.float32
        assert torch.equal(table, model.get_buffer(key))
    assert {p.dtype for p in half.parameters()} <= {torch.bfloat16, torch.float16}


def test_late_positions_turn_as_early_ones_do():
    torch.manual_seed(0)
    model = Llama(LLAMA).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6)
    half = copy.deepcopy(model).to(torch.bfloat16)
    ids = torch.randint(64, (1, 2048))
    with torch.no_grad():
        wrong = (half(ids).float() - model(ids)).abs()[0].mean(-1)
    # bfloat16 rounds the weights alike for all positions; rounded angles were wrong the later
    assert wrong[-256:].mean() < 1.5 * wrong[64:320].mean()


def test_a_balancing_bias_moves_by_its_small_step_in_a_model_of_bfloat16():
    gate = DeepSeek(CONFIG).to(torch.bfloat16).mixtures()[0].gate
    load = torch.arange(64)
    gate.e_score_correction_bias.fill_(1.0)
    for _ in range(10):
        gate.e_score_correction_bias.copy_(move_bias(gate.e_score_correction_bias, load, 0.001))
    assert gate.e_score_correction_bias[0].item() == pytest.approx(1.01)
    assert gate.e_score_correction_bias[-1].item() == pytest.approx(0.99)


def test_a_model_moves_to_a_device_and_to_one_without_numbers():
    model = Llama(LLAMA).to("meta")
    assert model.model.frequencies.is_meta
    assert model.to(torch.bfloat16).lm_head.weight.dtype == torch.bfloat16
    assert Llama(LLAMA).to("cpu").model.frequencies.dtype == torch.float32


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_positions_runs_in_bfloat16(way):
    torch.manual_seed(0)
    model = PositionModel(way).eval()
    ids = torch.randint(256, (2, 20))
    with torch.no_grad():
        whole = model(ids)
        half = model.to(torch.bfloat16)(ids)
    assert half.dtype == torch.bfloat16
    assert (half.float() - whole).abs().max() < 0.1


def test_an_encoder_and_decoder_run_in_bfloat16():
    torch.manual_seed(0)
    model = Seq2Seq(20, EncoderDecoderShape(32, 2, 1, 1, 64)).eval()
    source, target = torch.randint(20, (2, 5)), torch.randint(20, (2, 4))
    with torch.no_grad():
        whole = model(source, target)
        half = model.to(torch.bfloat16)(source, target)
    assert half.dtype == torch.bfloat16 and (half.float() - whole).abs().max() < 0.1


def test_one_stream_runs_in_bfloat16():
    model = OneStream(STREAM, SIZES).to(torch.bfloat16)
    segments = [Segment("text", torch.zeros(2, 3, dtype=torch.int64))]
    segments.append(Segment("image", torch.rand(2, 4, SIZES["image"])))
    with torch.no_grad():
        assert model(segments).dtype == torch.bfloat16
