"""The exercises of unit 1.3: no requirement is idle, each failure is explained, shows draw."""

import pytest
import torch

import planting
from aiinfra_labs.course.checking import check, show
from aiinfra_labs.llm.attention import attention
from aiinfra_labs.llm.exercises.attention_grading import heads_apart, normal, seen_by_change
from aiinfra_labs.llm.exercises.attention_views import Picture
from planting import name_of

EXERCISES = ("1.3.a", "1.3.b", "1.3.c", "1.3.d")


planted = planting.planted("llm", "attention")


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=name_of)
def test_show_draws_a_right_answer(exercise, answer):
    picture = show(exercise, answer)
    assert isinstance(picture, Picture)
    assert "<svg" in picture._repr_html_()


SAID = {
    planted.by_softmax: "The rows sum to 1 at least and 1 at most",
    planted.over_the_queries: "The rows sum to 0",
    planted.undivided: "gives 苹果 1.00, where the model's own attention gives 0.99",
    planted.first_query_first_key: "0 leaks (a cross), 7 pairs missing",
    planted.as_floats: "the mask is (2, 1, 6, 6), torch.float32, and (2, 1, 6, 6), torch.bool",
    planted.by_tril: "0 leaks (a cross), 0 pairs missing",
    planted.causal_alone: "12 leaks (a cross), 0 pairs missing",
    planted.padding_alone: "22 leaks (a cross), 0 pairs missing",
    planted.not_itself: "0 leaks (a cross), 12 pairs missing",
    planted.by_view: "0 of 128 elements differ",
    planted.merged_as_they_lie: "elements differ",
    planted.group_as_rows: "K, V repeated 8,388,608",
}


@pytest.mark.parametrize(("answer", "said"), SAID.items(), ids=name_of)
def test_show_says_what_it_draws(answer, said):
    pairs = [*planted.RIGHT, *((id, each) for id, each, _ in planted.WRONG)]
    exercise = next(id for id, each in pairs if each is answer)
    assert said in str(show(exercise, answer))


def _nothing(query, key, value, mask):
    return None


def _numbers(query, key, value, mask):
    return attention(query, key, value, mask)[0].numpy()


def _both(query, key, value, mask):
    return attention(query, key, value, mask)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(_numbers, "ndarray"), (_both, "tuple"), (lambda q, k, v, m: None, "nothing")],
)
def test_what_is_no_tensor_gets_a_clear_answer(answer, expected):
    result = check("1.3.a", answer)
    assert result.score == 0
    assert f"the result is {'' if expected == 'nothing' else 'a '}{expected}" in str(result) or (
        result.status == "not attempted" and expected == "nothing"
    )
    assert "Traceback" not in str(result)


def test_who_changes_whom_is_the_mask():
    """The measurement that 1.3.b stands on, held to a mask taken at random."""
    real = torch.tensor([[True, True, True, False], [True] * 4])
    mask = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.6
    changes = list(seen_by_change(mask, real))
    assert len(changes) == 4 * (2 + 3)  # padding itself does not ask
    for change in changes:
        assert change.seen == bool(mask[change.sentence, 0, change.query - 1, change.key])


def test_the_reference_of_the_heads_is_torch_s():
    x, *weights = normal(0, (2, 5, 12), *[(12, 12)] * 4)
    module = torch.nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat(weights[:3]))
        module.out_proj.weight.copy_(weights[3])
        expected, _ = module(x, x, x)
    got = heads_apart(x, *weights, 3)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)
