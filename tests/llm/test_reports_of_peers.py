"""Situations out of public bug reports about peers of chapter 1 and of GPU sharing, on the course.

Each test names its report. What is checked is what the course does in that situation.
"""

import math

import pytest
import torch

from aiinfra_labs.bounds import SettingError
from aiinfra_labs.gpu.sharing.mig import Board
from aiinfra_labs.gpu.sharing.schemes import Memory
from aiinfra_labs.llm import checkpoint, sampling
from aiinfra_labs.llm.checkpoint import CheckpointError
from aiinfra_labs.llm.deepseek import grpo
from aiinfra_labs.llm.generation import generate
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.training import Batches, Recipe, optimizer_of, resume, train

CONFIG = LlamaConfig(32, 16, 24, 1, 2, 1, 32)
TOKENS = torch.randint(32, (300,), generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(steps=4, batch=2, context=8, warm_up=2)


def test_a_penalty_lowers_negative_logits_too():
    """huggingface/transformers#2302."""
    logits = torch.tensor([[-2.0, 3.0, 1.0]])
    lower = sampling.repetition_penalty(logits, torch.tensor([[0, 1]]), 1.5)
    assert lower[0, 0] < logits[0, 0] and lower[0, 1] < logits[0, 1] and lower[0, 2] == 1.0


def test_a_penalty_counts_a_token_once():
    """huggingface/transformers.js#1062."""
    logits = torch.tensor([[2.0, 1.0]])
    once = sampling.repetition_penalty(logits, torch.tensor([[0]]), 2.0)
    assert torch.equal(sampling.repetition_penalty(logits, torch.tensor([[0, 0, 0]]), 2.0), once)


def test_what_is_not_yet_written_is_not_penalised():
    """huggingface/text-generation-inference#1765: padding is no token that has come."""
    torch.manual_seed(0)
    model = Llama(CONFIG).eval()
    how = sampling.Sampling(temperature=1.0, repetition_penalty=5.0, seed=3)
    prompts = torch.tensor([[1, 2, 3], [4, 5, 6]])
    together = generate(model, prompts, 6, how)
    for row in range(2):  # neither the other row nor the room behind the prompt counts
        assert torch.equal(generate(model, prompts[row], 6, how)[0], together[row])


def resumed(tmp_path, stop):
    file = tmp_path / "run.safetensors"
    torch.manual_seed(0)
    run = train(Llama(CONFIG), Batches(TOKENS, RECIPE), RECIPE, file=file, every=1)
    first = [next(run) for _ in range(stop)]
    run.close()
    torch.manual_seed(1)  # another process draws other weights first
    rest = train(Llama(CONFIG), Batches(TOKENS, RECIPE), RECIPE, file=file, every=1)
    return [*first, *rest]


def test_loss_and_learning_rate_go_on_where_they_were(tmp_path):
    """huggingface/transformers#33336, PolymathicAI/the_well#63: neither starts anew."""
    torch.manual_seed(0)
    whole = list(train(Llama(CONFIG), Batches(TOKENS, RECIPE), RECIPE))
    for stop in (1, 2, 3):
        (tmp_path / str(stop)).mkdir()
        found = resumed(tmp_path / str(stop), stop)
        assert [step.loss for step in found] == [step.loss for step in whole]
        assert [step.rate for step in found] == [RECIPE.rate(i) for i in range(4)]


def test_an_optimizer_has_its_moments_after_it_was_made_anew(tmp_path):
    """OpenNMT/OpenNMT-py#617: a new optimizer erased the loaded state."""
    file, model = tmp_path / "run.safetensors", Llama(CONFIG)
    list(train(model, Batches(TOKENS, RECIPE), RECIPE, file=file))
    optimizer = optimizer_of(model, RECIPE)
    resume(file, model, optimizer, RECIPE)
    moments = [state["exp_avg_sq"] for state in optimizer.state.values()]
    assert len(moments) == len(list(model.parameters()))
    assert all(moment.any() and moment.dtype == torch.float32 for moment in moments)


def test_weights_without_an_optimizer_begin_no_run(tmp_path):
    """karpathy/llama2.c#148: a published model is no checkpoint of a run."""
    file, model = tmp_path / "run.safetensors", Llama(CONFIG)
    checkpoint.save(file, checkpoint.once(model), {})
    with pytest.raises(CheckpointError, match="Why: its header holds no recipe"):
        resume(file, model, optimizer_of(model, RECIPE), RECIPE)


def test_a_reward_that_is_no_number_is_told():
    """huggingface/trl#5775: a nan reward went through the advantages into every weight."""
    with pytest.raises(SettingError, match="of which 1 are finite"):
        grpo.advantages(torch.tensor([[1.0, math.nan]]))


def test_a_group_without_a_signal_has_the_kl_term_alone():
    """huggingface/trl#5598: equal rewards leave the KL term, and nothing of the surrogate."""
    new = torch.tensor([[[-1.0, -2.0], [-1.5, -0.5]]], requires_grad=True)
    equal = grpo.advantages(torch.tensor([[0.1, 0.1]]))
    ones = torch.ones(1, 2, 2)
    for beta, moves in ((0.0, False), (0.1, True)):
        new.grad = None
        terms = grpo.objective(new, new.detach(), new.detach() - 0.3, equal, ones, beta=beta)
        terms.loss.backward()
        assert terms.surrogate == 0 and bool(new.grad.any()) == moves


def test_memory_that_is_asked_for_exactly_fits():
    """Project-HAMi/HAMi#1074: a request equal to an instance's memory was refused."""
    memory = Memory(10.0)
    assert memory.allocate(9.9) and memory.allocate(0.1) and not memory.allocate(0.1)


def test_instances_that_are_gone_leave_their_places_free():
    """Project-HAMi/HAMi#1422: places were shown as taken after the instances had gone."""
    board = Board("h200-141gb")
    held = [board.create(profile) for profile in ("3g.71gb", "2g.35gb", "1g.18gb")]
    copy = board.copy()
    for number in held:
        copy.destroy(number)
    assert copy.taken == set() and len(copy.free) == 8 and copy.sms_used == 0
    assert board.sms_used == 60 + 32 + 16
