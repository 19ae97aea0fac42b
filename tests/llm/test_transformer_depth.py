"""What the page says of depth is so: with seeds of its own, and through torch's own blocks."""

import math

import pytest
import torch

from aiinfra_labs.llm import depth
from aiinfra_labs.llm.drawings import transformer as drawings

NEITHER, NORM, SUM, BOTH = depth.WIRINGS


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_only_with_sum_and_norm_the_gradient_arrives_as_it_left(seed):
    def ratio(wiring):
        norms = depth.gradient_norms(wiring, 24, seed)
        assert len(norms) == 25
        return norms[0] / norms[-1]

    assert ratio(NEITHER) == 0
    assert ratio(NORM) > 300
    assert math.isnan(ratio(SUM))
    assert 1 < ratio(BOTH) < 40


def test_a_stack_with_sum_and_norm_is_the_courses_decoder():
    stack = depth.Stack(BOTH, 3)
    ids = torch.randint(256, (2, 9))
    logits, seen = stack(ids)
    assert torch.allclose(logits, stack.llama(ids), atol=1e-5)
    assert len(seen) == 4


def test_the_wirings_have_the_same_weights():
    one, other = (depth.Stack(w, 2, seed=5) for w in (NEITHER, BOTH))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_deep_stacks_learn_more_with_the_sum():
    text = (depth.__doc__ * 40).encode()
    norm, both = (depth.learn(wiring, 24, text, steps=25)[-8:] for wiring in (NORM, BOTH))
    # Over three starts on three processors the mean of eight steps was lower by 0.26 to 0.43.
    assert sum(both) / 8 < sum(norm) / 8 - 0.1 and norm[-1] < math.log(256)


def test_the_drawings_say_what_they_show():
    looks = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert "2: twenty; 1: one" in drawings.digits_look(looks, ["twenty", "one"], "21").get_label()
    assert "every layer of the decoder" in drawings.stacks().get_label()
