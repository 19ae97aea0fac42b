"""A resumed run goes on as one that was never killed: with its buffers, its chance, its moments."""

import dataclasses

import pytest
import torch
from torch import nn

from aiinfra_labs.llm import checkpoint, training
from aiinfra_labs.llm.checkpoint import CheckpointError
from aiinfra_labs.llm.deepseek.balance import move_bias
from aiinfra_labs.llm.deepseek.balance_study import CONFIG, Balanced
from aiinfra_labs.llm.deepseek.model import DeepSeek
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.training import Batches, Recipe, TrainingError, train

SMALL = LlamaConfig(32, 16, 24, 1, 2, 1, 32)
MIXTURE = dataclasses.replace(
    CONFIG,
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    moe_intermediate_size=8,
    n_routed_experts=8,
    num_experts_per_tok=2,
    num_hidden_layers=2,
    max_position_embeddings=32,
)
TOKENS = torch.randint(32, (500,), generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(steps=5, batch=2, context=8, warm_up=1)


class WithUnused(Llama):
    """One parameter learns, and none of the first steps uses it."""

    def __init__(self, config):
        super().__init__(config)
        self.later = nn.Parameter(torch.zeros(3))


class WithDropout(Llama):
    def loss(self, ids, targets):
        logits = nn.functional.dropout(self(ids), 0.3, self.training)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def losses(model, file=None, stop=None, on_step=lambda step: None):
    run = train(model, Batches(TOKENS, RECIPE), RECIPE, on_step=on_step, file=file, every=1)
    found = []
    for step in run:
        found.append(step.loss)
        if step.number == stop:
            run.close()
            break
    return found


def balanced(file=None, stop=None):
    torch.manual_seed(0)
    model = Balanced(MIXTURE, 0.0)

    def move(step):
        for mixture in model.mixtures():
            bias = mixture.gate.e_score_correction_bias
            bias.copy_(move_bias(bias, mixture.routing.load, 0.05))

    return losses(model, file, stop, move), model


def test_a_balancing_bias_is_in_the_checkpoint(tmp_path):
    file = tmp_path / "run.safetensors"
    whole, model = balanced()
    balanced(file, stop=2)
    resumed, again = balanced(file)
    assert resumed == whole[3:]
    for one, other in zip(model.mixtures(), again.mixtures(), strict=True):
        assert one.gate.e_score_correction_bias.any()
        assert torch.equal(one.gate.e_score_correction_bias, other.gate.e_score_correction_bias)


def test_what_a_model_draws_goes_on_where_it_was(tmp_path):
    def run(file=None, stop=None):
        torch.manual_seed(0)
        return losses(WithDropout(SMALL), file, stop)

    whole = run()
    run(tmp_path / "run.safetensors", stop=1)
    assert run(tmp_path / "run.safetensors") == whole[2:]


def test_a_weight_without_a_gradient_has_no_moments_yet(tmp_path):
    file = str(tmp_path / "run.safetensors")  # a str names a file, too
    torch.manual_seed(0)
    losses(WithUnused(SMALL), file, stop=0)
    assert len(losses(WithUnused(SMALL), file)) == 4


def test_a_moment_that_was_there_and_is_lost_is_noticed(tmp_path):
    file = tmp_path / "run.safetensors"
    losses(WithUnused(SMALL), file, stop=0)
    tensors, state = checkpoint.load(file)
    tensors = {n: t for n, t in tensors.items() if n != "optimizer.1.exp_avg"}
    checkpoint.save(file, tensors, state)
    with pytest.raises(CheckpointError, match="no exp_avg for weight 1"):
        losses(WithUnused(SMALL), file)


def test_buffers_are_loaded_or_missed_by_name(tmp_path):
    file, model = tmp_path / "model.safetensors", DeepSeek(MIXTURE)
    bias = model.mixtures()[0].gate.e_score_correction_bias
    bias.copy_(torch.arange(8.0))
    checkpoint.save(file, checkpoint.once(model), {})
    other = DeepSeek(MIXTURE)
    checkpoint.fill(other, checkpoint.load(file)[0], file.name)
    assert torch.equal(other.mixtures()[0].gate.e_score_correction_bias, bias)
    learned = dict(model.named_parameters())
    with pytest.raises(CheckpointError, match="no tensor .*e_score_correction_bias"):
        checkpoint.fill(other, learned, "learned")


def test_a_state_dict_with_its_tied_weight_twice_is_saved_and_loaded(tmp_path):
    file, model = tmp_path / "model.safetensors", Llama(SMALL)
    checkpoint.save(file, model.state_dict(), {})
    tensors, _ = checkpoint.load(file)
    assert torch.equal(tensors["lm_head.weight"], tensors["model.embed_tokens.weight"])
    other = Llama(SMALL)
    checkpoint.fill(other, tensors, file.name)
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)
    del tensors["model.embed_tokens.weight"]  # one of its names is enough, and either will do
    checkpoint.fill(Llama(SMALL), tensors, file.name)
    tensors["model.embed_tokens.weight"] = tensors["lm_head.weight"] + 1
    with pytest.raises(CheckpointError, match="differ in .*and are one tensor here"):
        checkpoint.fill(other, tensors, file.name)


@pytest.mark.parametrize(
    ("tensors", "state"), [({"a": 1.0}, {}), ({3: torch.ones(1)}, {}), ({}, {"a": torch.ones(1)})]
)
def test_what_no_checkpoint_can_hold_is_told(tmp_path, tensors, state):
    with pytest.raises(CheckpointError, match="Why: .*\nTry: "):
        checkpoint.save(tmp_path / "a.safetensors", tensors, state)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [1e5, 65_520.0, float("inf"), float("nan")])
def test_float16_refuses_what_it_would_make_infinite(number):
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = number
    with pytest.raises(CheckpointError, match="float16 ends at 65,504"):
        checkpoint.as_float16(model)


def test_float16_is_as_exact_as_it_says():
    model = nn.Linear(50, 20, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.logspace(-9, 4.8, 1000).view(20, 50))
    back = checkpoint.as_float16(model)["weight"].double()
    wrong = (back - model.weight.double()).abs()
    assert (wrong <= (model.weight.double().abs() / 2048).clamp(min=3e-8)).all()
    assert (wrong > model.weight.double().abs() / 2048).any()  # the second bound is needed


def test_a_step_with_nothing_to_predict_is_told():
    nothing = (torch.zeros(2, 8, dtype=torch.int64), torch.full((2, 8), -1))
    with pytest.raises(TrainingError, match="all targets are -1"):
        list(train(Llama(SMALL), lambda step, part: nothing, RECIPE))


def test_held_out_loss_of_a_model_that_diverged_is_told():
    model = Llama(SMALL)
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="the mean loss of 62 windows is nan"):
        training.evaluate(model, TOKENS, 8)


@pytest.mark.parametrize("tokens", [TOKENS.float(), TOKENS.view(2, -1), [1, 2, 3], TOKENS > 3])
def test_tokens_are_one_row_of_whole_numbers(tokens):
    with pytest.raises(TrainingError, match="Why: windows are cut from one row of ids"):
        Batches(tokens, RECIPE)
    with pytest.raises(TrainingError, match="Why: windows are cut from one row of ids"):
        training.evaluate(Llama(SMALL), tokens, 8)
