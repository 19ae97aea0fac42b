"""Texts, shapes and ids that do not fit are told, in chapter 1 and in GPU sharing."""

import pickle

import pytest
import torch

from aiinfra_labs import bounds
from aiinfra_labs.gpu import cuda
from aiinfra_labs.gpu.sharing.containers import Container
from aiinfra_labs.gpu.sharing.memory_limit import limited
from aiinfra_labs.gpu.sharing.mig import Board, MigError, board_of, gpus
from aiinfra_labs.gpu.sharing.planning import place_all, place_most
from aiinfra_labs.gpu.sharing.scenarios import CHAT, TRIO
from aiinfra_labs.gpu.sharing.schemes import Exclusive, Mig
from aiinfra_labs.gpu.sharing.shared_region import OutOfMemory, SharedRegion
from aiinfra_labs.gpu.sharing.simulation import simulate
from aiinfra_labs.gpu.sharing.tenants import Tenant
from aiinfra_labs.llm import bpe, embedding, generation
from aiinfra_labs.llm.deepseek import grpo, reasoner
from aiinfra_labs.llm.deepseek.balance_study import CONFIG
from aiinfra_labs.llm.deepseek.model import DeepSeek
from aiinfra_labs.llm.emergence import metrics
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.multimodal.captioner import Captioner
from aiinfra_labs.llm.multimodal.contrastive import Clip, byte_ids, ensemble
from aiinfra_labs.llm.stop_strings import StopStrings

THREE_PARTS = r"(?s)^.+\nWhy: .+\nTry: .+$"
MODEL = Llama(LlamaConfig(256, 8, 8, 1, 1, 1, 16)).eval()


# --- lists of texts, ids --------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["###", b"#", 3, [3], [""], None])
def test_stop_strings_are_a_list_of_texts(stop):
    with pytest.raises(ValueError, match=THREE_PARTS):
        StopStrings(stop)
    with pytest.raises(ValueError, match=THREE_PARTS):
        generation.stream_generate(MODEL, bpe.Tokenizer([]), "a", 2, stop=stop)


@pytest.mark.parametrize("texts", ["red", ["\0"], [""], [], [3], ["\ud800"], ["x" * 49]])
def test_an_encoder_of_texts_takes_a_list_of_them(texts):
    with pytest.raises(ValueError, match=THREE_PARTS):
        byte_ids(texts)


def test_classes_may_have_several_numbers_of_prompts():
    torch.manual_seed(0)
    model = Clip().eval()
    prompts = [["red", "crimson", "scarlet"], ["blue"]]
    with torch.no_grad():
        each = torch.cat([ensemble(model.of_texts(texts)[None]) for texts in prompts])
    torch.testing.assert_close(model.classes(prompts), each, atol=1e-5, rtol=0)
    for wrong in ([["red"], []], [], ["red", "blue"]):
        with pytest.raises(ValueError, match=THREE_PARTS):
            model.classes(wrong)


@pytest.mark.parametrize("wrong", [torch.tensor([[256]]), torch.tensor([[-1]]), torch.ones(1, 1)])
def test_every_model_names_an_id_that_it_has_not(wrong):
    captioner = Captioner(256, 16, 4)
    big = wrong * 5 if not wrong.is_floating_point() else wrong  # beyond a larger vocabulary, too
    for call in (
        lambda: MODEL(wrong),
        lambda: DeepSeek(CONFIG)(big),
        lambda: captioner.decode(wrong, torch.zeros(1, 16, 64)),
        lambda: embedding.embed(wrong, torch.zeros(256, 4)),
        lambda: embedding.one_hot_product(wrong, torch.zeros(256, 4)),
        lambda: generation.generate(MODEL, wrong, 1),
    ):
        with pytest.raises(ValueError, match=THREE_PARTS):
            call()


def test_small_integers_are_ids_and_no_mask():
    table = torch.rand(5, 3)
    ids = torch.tensor([0, 1, 4], dtype=torch.uint8)
    assert torch.equal(embedding.embed(ids, table), table[[0, 1, 4]])
    assert embedding.gradient_rows(ids, 5).tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("prompt", [[[1, 2], [3]], "abc", None, [[1], "a"], {}])
def test_a_prompt_that_makes_no_tensor(prompt):
    with pytest.raises(generation.PromptError, match=THREE_PARTS):
        generation.generate(MODEL, prompt, 1)


# --- GRPO, grading --------------------------------------------------------------------------------


@pytest.mark.parametrize("reward", [1.0, 0.7, 0.9, 10.1, 1000.1, 1, True])
@pytest.mark.parametrize("answers", [1, 7, 30])
def test_equal_rewards_give_no_advantage(reward, answers):
    assert not grpo.advantages(torch.full((2, answers), reward)).any()


def test_padding_has_no_part_in_the_loss_whatever_it_holds():
    mask, advantage = torch.tensor([[[1, 1, 0]]]), torch.tensor([[1.0]])
    clean = torch.tensor([[[-1.0, -2.0, 0.0]]])
    expected = grpo.objective(clean, clean, clean, advantage, mask)
    for padding in (-120.0, -1e4, -torch.inf, torch.nan):
        new = torch.tensor([[[-1.0, -2.0, padding]]], requires_grad=True)
        reference = torch.tensor([[[-1.0, -2.0, -1.0]]])
        terms = grpo.objective(new, new.detach(), reference, advantage, mask)
        terms.loss.backward()
        assert terms.loss == expected.loss and terms.kl == 0
        assert new.grad[0, 0, 2] == 0 and new.grad.isfinite().all()
    assert grpo.mean_over_answers(torch.tensor([[1.0, torch.nan]]), torch.tensor([[1, 0]])) == 1


@pytest.mark.parametrize("lengths", [(6,), (4, 6)])
def test_reinforcement_takes_questions_of_several_lengths(lengths):
    recipe = reasoner.Reinforcement(steps=2, questions=2, answers=2, lengths=lengths)
    seen = []
    reasoner.reinforce(reasoner.new_model(), recipe, seen.append)
    assert [step.number for step in seen] == [0, 1]


def test_grades_of_nothing_are_none():
    logits, targets = torch.zeros(1, 2, 5), torch.zeros(1, 2, dtype=torch.int64)
    for grade in (metrics.exact_match, metrics.token_accuracy, metrics.nats_a_token):
        for wrong in ((logits * torch.nan, targets), (logits, targets - 1), (logits, targets + 5)):
            with pytest.raises(ValueError, match=THREE_PARTS):
                grade(*wrong)


# --- GPU sharing ----------------------------------------------------------------------------------


def test_every_profile_of_every_board_has_multiprocessors_and_can_be_shared():
    for id, board in gpus().items():
        for profile in board.profiles:
            assert 0 < profile.sms <= board.sms
            tenant = Tenant("a", 5, 10, profile=profile.name)
            assert simulate([tenant], Mig(), 0.5, gpu=id)["a"].p99 > 0
    board = Board("h200-141gb")
    board.create("3g.71gb")
    assert board.sms_used == 60


def test_a_copied_board_keeps_the_numbers_of_its_instances():
    board = Board("h100-80gb")
    first, second, _ = (board.create("1g.10gb") for _ in range(3))
    board.destroy(first)
    copy = board.copy()
    assert copy.instances == board.instances and copy.create("1g.10gb") == board.create("1g.10gb")
    assert copy.destroy(second) == board.instances[second]


def test_names_of_profiles_and_boards():
    h100 = board_of("h100-80gb")
    for call in (
        lambda: place_all(h100, "1g.10gb"),
        lambda: place_most(h100, ["1g.10gb"] * 40),
        lambda: board_of("h1000"),
        lambda: Board(None),
    ):
        with pytest.raises(MigError, match=THREE_PARTS):
            call()


def test_tenants_have_each_a_name_of_their_own():
    for wrong in ([], [CHAT, CHAT], [*TRIO, TRIO[1]]):
        with pytest.raises(ValueError, match=THREE_PARTS):
            simulate(wrong, Exclusive(), 1)


@pytest.fixture
def region(tmp_path):
    return SharedRegion.create(str(tmp_path / "region"), 10_000)


def test_a_size_below_nothing_is_counted_nowhere(region):
    with limited(region):
        for shape in (-5, -2_000, (-3, 4), (-3, -4)):
            with pytest.raises(Exception, match="-"):
                cuda.device_array(shape)
            assert region.used == 0
        for call in (region.reserve, region.release):
            with pytest.raises(ValueError, match=THREE_PARTS):
                call(-5)
        kept = cuda.device_array(10)
        assert region.used == 80 and len(kept) == 10


def test_a_wrong_order_costs_a_container_nothing(region):
    with Container(region) as tenant:
        number = tenant.allocate(1000)
        for wrong in (lambda: tenant.free(999), lambda: tenant.allocate(-5)):
            with pytest.raises(ValueError, match=THREE_PARTS):
                wrong()
        with pytest.raises(OutOfMemory):
            tenant.allocate(20_000)
        assert tenant.memory_info() == (9000, 10_000)
        tenant.free(number)
        assert tenant.memory_info() == (10_000, 10_000)


def test_errors_go_from_one_process_to_another():
    for error in (
        bounds.SettingError("a", "b", "c"),
        generation.PromptError("a", "b", "c"),
        MigError("a", "b", "c"),
        OutOfMemory("a", "b", "c"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error) and again.try_ == "c"
