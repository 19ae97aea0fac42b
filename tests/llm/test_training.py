"""The training loop: the schedule, one step, a kill at any step, and what it refuses."""

import copy
import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aiinfra_labs.llm import checkpoint, training
from aiinfra_labs.llm.checkpoint import CheckpointError
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.training import (
    Batches,
    Recipe,
    Step,
    TrainingError,
    take_step,
    train,
    train_one_cycle,
)

CONFIG = LlamaConfig(31, 16, 24, 2, 2, 1, 32)
RECIPE = Recipe(steps=12, batch=2, context=8, learning_rate=1e-2, warm_up=3)
TOKENS = torch.randint(31, (400,), generator=torch.Generator().manual_seed(0)).to(torch.int16)
CPU = torch.device("cpu")


def model_of(seed=0):
    torch.manual_seed(seed)
    return Llama(CONFIG)


def run(file=None, recipe=RECIPE, steps=None, every=4, tokens=TOKENS):
    """(model, the steps taken), at most `steps` of them: then the process is as good as dead."""
    model = model_of()
    took = train(model, Batches(tokens, recipe), recipe, file=file, every=every)
    return model, list(itertools.islice(took, steps))


def same(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- schedule ------------------------------------------------------------------------------------


@given(
    warm_up=st.integers(1, 20),
    rest=st.integers(1, 50),
    peak=st.floats(1e-5, 1),
    end=st.floats(0, 1),
)
@settings(deadline=None)
def test_the_rate_is_that_of_torchs_schedulers(warm_up, rest, peak, end):
    recipe = Recipe(
        steps=warm_up + rest, warm_up=warm_up, learning_rate=peak, final_learning_rate=end * peak
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    if warm_up > 1:
        up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm_up, 1.0, warm_up - 1)
        for step in range(warm_up):
            assert recipe.rate(step) == pytest.approx(optimizer.param_groups[0]["lr"])
            optimizer.step()
            up.step()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    down = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rest, end * peak)
    for step in range(rest + 1):
        rate = optimizer.param_groups[0]["lr"]
        assert recipe.rate(warm_up + step) == pytest.approx(rate, rel=1e-6, abs=1e-9)
        optimizer.step()
        down.step()


def test_the_rate_stays_at_its_end():
    assert RECIPE.rate(12) == RECIPE.rate(100) == pytest.approx(RECIPE.final_learning_rate)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"clip": 0.0}, "clip is 0"),
        ({"precision": "float16"}, "gradients that vanish"),
    ],
)
def test_a_recipe_that_cannot_be(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(RECIPE, **change)


# --- batches -------------------------------------------------------------------------------------


def test_targets_are_one_token_further_on():
    ids, targets = Batches(TOKENS, RECIPE)(5)
    assert ids.shape == targets.shape == (2, 8) and ids.dtype == torch.int64
    assert torch.equal(ids[:, 1:], targets[:, :-1])
    rows = [TOKENS[i : i + 9].tolist() for i in range(len(TOKENS) - 8)]
    for a, b in zip(ids.tolist(), targets.tolist(), strict=True):
        assert [*a, b[-1]] in rows


def test_a_batch_depends_on_seed_step_and_part_alone():
    recipe = dataclasses.replace(RECIPE, accumulate=3)
    seen = [
        Batches(TOKENS, dataclasses.replace(recipe, seed=seed))(step, part)[0]
        for seed, step, part in itertools.product(range(2), range(4), range(3))
    ]
    torch.manual_seed(99)
    assert torch.equal(Batches(TOKENS, recipe)(0, 1)[0], seen[1])
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def test_every_window_can_be_drawn_and_none_is_past_the_end():
    tokens = torch.arange(10)
    batches = Batches(tokens, dataclasses.replace(RECIPE, batch=64))
    ids, targets = batches(0)
    assert set(ids[:, 0].tolist()) == {0, 1} and targets.max() == 9


@pytest.mark.parametrize("count", [0, 1, 8])
def test_too_little_text(count):
    with pytest.raises(TrainingError, match=f"{count} tokens, and a window is 9"):
        Batches(TOKENS[:count], RECIPE)
    with pytest.raises(TrainingError, match="tokens to evaluate on"):
        training.evaluate(model_of(), TOKENS[:count], 8)


def test_evaluation_is_the_mean_over_all_whole_windows():
    model = model_of()
    found = training.evaluate(model, TOKENS[:75], 8, batch=4)
    with torch.no_grad():
        each = [
            model.loss(TOKENS[None, i : i + 8].long(), TOKENS[None, i + 1 : i + 9].long()).item()
            for i in range(0, 72, 8)
        ]
    assert found == pytest.approx(sum(each) / 9, rel=1e-6)


# --- one step ------------------------------------------------------------------------------------


def whole_batch(parts):
    return lambda step, part=0: tuple(torch.cat(x) for x in zip(*parts, strict=True))


def in_parts(parts):
    return lambda step, part=0: parts[part]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(0, 8), min_size=2, max_size=2), min_size=2, max_size=5)
)
def test_accumulation_equals_one_large_batch(lengths):
    """Also where rows have targets of different number, or a part none at all."""
    if not sum(map(sum, lengths)):
        return
    parts = []
    for number, rows in enumerate(lengths):
        window = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(number))
        targets = window[:, 1:].clone()
        for row, length in enumerate(rows):
            targets[row, length:] = -1
        parts.append((window[:, :-1], targets))
    models = model_of(), model_of()
    one = dataclasses.replace(RECIPE, accumulate=len(parts), clip=1e9)
    steps = [
        take_step(model, training.optimizer_of(model, recipe), batches, recipe, 3, CPU)
        for model, recipe, batches in (
            (models[0], one, in_parts(parts)),
            (models[1], dataclasses.replace(one, accumulate=1), whole_batch(parts)),
        )
    ]
    assert steps[0].loss == pytest.approx(steps[1].loss, rel=1e-5)
    assert steps[0].norm == pytest.approx(steps[1].norm, rel=1e-4)
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, atol=1e-6, rtol=1e-4) for a, b in pairs)


@pytest.mark.parametrize("clip", [0.01, 1.0, 100.0])
def test_a_step_is_torchs_with_clipping(clip):
    recipe = dataclasses.replace(RECIPE, clip=clip)
    ours, theirs = model_of(), model_of()
    batches = Batches(TOKENS, recipe)
    step = take_step(ours, training.optimizer_of(ours, recipe), batches, recipe, 5, CPU)

    loss = theirs.loss(*batches(5))
    loss.backward()
    flat = torch.cat([p.grad.flatten() for p in theirs.parameters()]).double()
    norm = flat.norm().item()
    for parameter in theirs.parameters():
        parameter.grad *= min(1.0, clip / norm)
    decays = [
        {"params": [p for p in theirs.parameters() if (p.dim() > 1) == matrix], "weight_decay": d}
        for matrix, d in ((True, 0.1), (False, 0.0))
    ]
    torch.optim.AdamW(decays, lr=recipe.rate(5), betas=(0.9, 0.95)).step()
    assert step == Step(5, loss.item(), pytest.approx(norm, rel=1e-5), recipe.rate(5))
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_bfloat16_keeps_weights_in_float32_and_loses_little():
    recipe = dataclasses.replace(RECIPE, precision="bfloat16")
    model = model_of()
    step = take_step(
        model, training.optimizer_of(model, recipe), Batches(TOKENS, recipe), recipe, 0, CPU
    )
    _, (exact, *_) = run(steps=1)
    assert step.loss == pytest.approx(exact.loss, abs=0.02) and step.loss != exact.loss
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())


def test_it_learns():
    text = torch.arange(400) % 7  # each token tells the next
    _, steps = run(recipe=dataclasses.replace(RECIPE, steps=60), tokens=text)
    assert steps[0].loss > 3 and steps[-1].loss < 0.5


# --- killed, and gone on -------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    kills=st.lists(st.integers(0, 11), max_size=3),
    every=st.integers(1, 13),
    accumulate=st.integers(1, 2),
)
def test_killed_at_any_steps_it_ends_at_the_same_weights(
    kills, every, accumulate, tmp_path_factory
):
    recipe = dataclasses.replace(RECIPE, accumulate=accumulate)
    whole, steps = run(recipe=recipe)
    file = tmp_path_factory.mktemp("run") / "run.safetensors"
    for kill in kills:
        run(file, recipe, kill, every)
        torch.manual_seed(kill)  # no random number of the process may matter
    torch.randn(3)
    model, last = run(file, recipe, every=every)
    assert last == steps[len(steps) - len(last) :]
    assert same(model, whole)
    assert checkpoint.load(file)[1]["losses"] == [step.loss for step in steps]
    assert run(file, recipe)[1] == []  # it is done, and says so by doing nothing


PROGRAM = """
import sys, time, torch
from pathlib import Path
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.training import Batches, Recipe, train
recipe = Recipe(steps=12, batch=2, context=8, learning_rate=1e-2, warm_up=3)
tokens = torch.randint(31, (400,), generator=torch.Generator().manual_seed(0))
torch.manual_seed(0)
model = Llama(LlamaConfig(31, 16, 24, 2, 2, 1, 32))
for step in train(model, Batches(tokens, recipe), recipe, file=Path(sys.argv[1]), every=3):
    print(repr(step.loss), flush=True)
    if step.number == 7:
        print("waits", flush=True)
        time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_process_that_is_killed_is_gone_on_with(tmp_path):
    file = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", PROGRAM, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = list(iter(lambda: process.stdout.readline().strip(), "waits"))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.load(file)[1]["step"] == 6  # steps 6 and 7 are lost, and taken again
    whole, steps = run()
    assert [float(line) for line in lines] == [step.loss for step in steps[:8]]
    model, rest = run(file)
    assert rest == steps[6:] and same(model, whole)


def trained(tmp_path):
    file = tmp_path / "run.safetensors"
    run(file, steps=4, every=4)
    return file, file.read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.02}, "learning_rate was 0.01 and is 0.02"),
        ({"steps": 13}, "steps was 12 and is 13"),
        ({"seed": 5, "batch": 3}, "batch was 2 and is 3; seed was 0 and is 5"),
    ],
)
def test_a_checkpoint_of_another_recipe(tmp_path, change, said):
    file, before = trained(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        run(file, dataclasses.replace(RECIPE, **change))
    assert file.read_bytes() == before


def test_a_checkpoint_of_another_model(tmp_path):
    file, before = trained(tmp_path)
    model = Llama(dataclasses.replace(CONFIG, intermediate_size=25))
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"\[24, 16\] in run.safetensors, and \[25, 16\] here"
    ):
        list(train(model, Batches(TOKENS, RECIPE), RECIPE, file=file))
    assert file.read_bytes() == before
    assert all(torch.equal(model.state_dict()[name], value) for name, value in start.items())


def test_a_model_that_is_no_run(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "run.safetensors"
    save_file(dict(model_of().named_parameters()), file)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="its header holds no recipe"):
        run(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, s: t.pop("optimizer.3.exp_avg_sq"), "has no exp_avg_sq for weight 3"),
        (lambda t, s: t.update({"optimizer.0.exp_avg": torch.zeros(2)}), "the exp_avg of weight 0"),
        (lambda t, s: s.pop("losses"), "does not say how far"),
        (lambda t, s: s.update(step=3), "step 3 and 4 losses"),
    ],
)
def test_half_a_run_is_refused_and_nothing_changes(tmp_path, change, said):
    file, _ = trained(tmp_path)
    tensors, state = checkpoint.load(file)
    change(tensors, state)
    checkpoint.save(file, tensors, state)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=said):
        run(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("cut", [0, 100, 1_000, -1])
def test_a_cut_checkpoint_is_refused_and_left(tmp_path, cut):
    file, before = trained(tmp_path)
    file.write_bytes(before[:cut])
    with pytest.raises(CheckpointError, match="is no whole checkpoint"):
        run(file)
    assert file.read_bytes() == before[:cut]


# --- nan -----------------------------------------------------------------------------------------


class Explodes(nn.Module):
    """Its loss is no number from the given call on; or its weight's next value is none."""

    def __init__(self, at, value):
        super().__init__()
        self.weight, self.calls, self.at, self.value = nn.Parameter(torch.ones(2, 2)), 0, at, value

    def loss(self, ids, targets):
        self.calls += 1
        return self.weight.sum() * (self.value if self.calls > self.at else 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, value):
    file, model = tmp_path / "run.safetensors", Explodes(6, value)
    steps = []
    with pytest.raises(TrainingError, match="step 6: the loss is") as found:
        for step in train(model, Batches(TOKENS, RECIPE), RECIPE, file=file, every=4):
            steps.append(step.number)
    assert steps == list(range(6)) and len(str(found.value).splitlines()) == 3
    assert model.weight.isfinite().all()  # not updated
    assert checkpoint.load(file)[1]["step"] == 4


def test_a_weight_that_is_no_number_is_not_written_down(tmp_path):
    file, model = tmp_path / "run.safetensors", Explodes(0, -1.0)
    with torch.no_grad():
        model.weight.fill_(3.39e38)  # its gradient says up, and float32 ends at 3.4e38
    model.loss = lambda ids, targets: 1 - (model.weight - model.weight.detach()).sum()
    recipe = dataclasses.replace(RECIPE, learning_rate=3e36, warm_up=0, weight_decay=0.0)
    with pytest.raises(TrainingError, match="after step 0, model.weight holds a number"):
        list(train(model, Batches(TOKENS, recipe), recipe, file=file, every=1))
    assert not file.exists()


def test_on_step_sees_a_step_before_it_is_kept(tmp_path):
    """A record is never behind the checkpoint: what was kept was noted."""
    file, seen = tmp_path / "run.safetensors", []

    def note(step):
        seen.append((step.number, file.exists()))

    list(train(model_of(), Batches(TOKENS, RECIPE), RECIPE, on_step=note, file=file, every=2))
    assert seen[:4] == [(0, False), (1, False), (2, True), (3, True)]


# --- without checkpoints -------------------------------------------------------------------------


def drawn_losses(model, seed=1):
    """What `train_one_cycle` calls: a loss on tokens that are drawn anew each time."""
    generator = torch.Generator().manual_seed(seed)

    def loss():
        window = torch.randint(31, (2, 9), generator=generator)
        return model.loss(window[:, :-1], window[:, 1:])

    return loss


@pytest.mark.parametrize("clip", [0.05, math.inf])
@pytest.mark.parametrize("rise", [0.1, 0.5])
def test_one_cycle_is_torchs_schedule_with_clipping(clip, rise):
    mine, by_hand = model_of(), model_of()
    optimizer, told = torch.optim.AdamW(mine.parameters()), []
    train_one_cycle(
        mine,
        optimizer,
        drawn_losses(mine),
        9,
        1e-2,
        rise=rise,
        clip=clip,
        on_step=lambda step, loss: told.append((step, loss)),
    )
    other, loss, expected = torch.optim.AdamW(by_hand.parameters()), drawn_losses(by_hand), []
    schedule = torch.optim.lr_scheduler.OneCycleLR(other, 1e-2, 9, pct_start=rise)
    for step in range(9):
        found = loss()
        other.zero_grad()
        found.backward()
        if clip < math.inf:
            nn.utils.clip_grad_norm_(by_hand.parameters(), clip)
        other.step()
        schedule.step()
        expected.append((step, found.item()))
    assert same(mine, by_hand) and told == expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_cycle_ends_before_it_writes_down_what_is_no_number(value):
    model, seen = model_of(), []
    before = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters())
    loss = drawn_losses(model)
    with pytest.raises(TrainingError, match="step 0: the loss is (nan|inf)"):
        train_one_cycle(
            model, optimizer, lambda: loss() * value, 4, 1e-2, on_step=lambda *a: seen.append(a)
        )
    assert same(model, before) and not seen


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 1}, "steps is 1"),
        ({"highest_rate": math.nan}, "highest_rate is nan"),
        ({"rise": 1.5}, "rise is 1.5"),
        ({"clip": 0.0}, "clip is 0"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_one_cycle_that_cannot_be(change, said):
    model = model_of()
    settings = {"steps": 4, "highest_rate": 1e-2} | change
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match=said):
        train_one_cycle(model, optimizer, drawn_losses(model), **settings)
