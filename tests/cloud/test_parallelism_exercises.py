"""Unit 4.6: what its exercises grade with is right, and its pictures show what was run."""

import re

import pytest
import torch

import planting
from aiinfra_labs.cloud.drawings import parallelism as drawings
from aiinfra_labs.cloud.exercises.parallelism import PartOfAdam
from aiinfra_labs.cloud.serving.parallel import schedules
from aiinfra_labs.course import registry

planted = planting.planted("cloud", "parallelism")


def test_the_checks_adam_is_torchs():
    torch.manual_seed(0)
    weights, ours = torch.randn(20), PartOfAdam()
    theirs = torch.nn.Parameter(weights.clone())
    adam = torch.optim.Adam([theirs], lr=PartOfAdam.RATE)
    for _ in range(5):
        theirs.grad = torch.randn(20)
        weights = ours(weights, theirs.grad)
        adam.step()
    assert torch.allclose(weights, theirs.detach(), atol=1e-6)


SHOWN = {
    "4.6.a": "1.50 with 4",
    "4.6.b": "q 8, 8, 8, 8; k 4, 4, 4, 4; v 4, 4, 4, 4",
    "4.6.c": "idle in 27.3% of them. Activations kept at once, by stage: 4, 3, 2, 1",
    "4.6.d": "pipeline [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]",
    "4.6.e": "2.00 on 4",
}


@pytest.mark.parametrize("id", SHOWN)
def test_what_is_shown_is_the_learners_own_run(id):
    exercise = registry.find(id)
    right = next(answer for name, answer in planted.RIGHT if name == id)
    assert SHOWN[id] in repr(exercise.shower(right))


def test_a_wrong_schedule_is_shown_as_it_is():
    picture = repr(registry.find("4.6.c").shower(planted.schedule_of_gpipe))
    assert "by stage: 8, 8, 8, 8" in picture


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_the_drawn_ring_ends_with_every_sum_everywhere(size):
    have = [[1] * size for _ in range(size)]
    for step in range(2 * (size - 1)):
        have = drawings._next(have, step, size)
        if step == size - 2:
            assert all(row.count(size) == 1 for row in have)
    assert have == [[size] * size for _ in range(size)]


def test_a_bar_for_each_task():
    line = schedules.play([schedules.one_forward_one_backward(s, 3, 5) for s in range(3)])
    figure = drawings.pipeline(line, "1F1B")
    assert len(figure.axes[0].patches) == 3 * 5 * 2
    assert "3 stages, 21 slots, idle in 28.6% of them" in figure.get_label()


def test_every_drawing_says_what_it_shows():
    line = schedules.play([schedules.forward_only(s, 2, 2) for s in range(2)])
    for figure in (
        drawings.ring(4),
        drawings.modes(),
        drawings.block(),
        drawings.bubbles((2,), (1, 2), {(2, 1): line.bubble}),
        drawings.sent({"a": 1.0, "b": 20.5}, "KiB", "a step"),
        drawings.held({"no ZeRO": (4, 4, 8)}, 4),
    ):
        assert len(re.findall(r"\w+", figure.get_label())) > 6
    assert "b 20.5" in drawings.sent({"a": 1.0, "b": 20.5}, "KiB", "a step").get_label()
