"""What attention costs, held to torch's own count and to tensors that are really made."""

import pytest
import torch
from torch.utils.flop_counter import sdpa_flop_count

from aiinfra_labs.llm.attention import attention, causal_mask
from aiinfra_labs.llm.attention_cost import (
    allocated,
    causal_flops,
    flops,
    fused_traffic,
    score_bytes,
    written_traffic,
)
from aiinfra_labs.llm.drawings import attention as drawings
from aiinfra_labs.llm.drawings import four_words as numbers
from aiinfra_labs.llm.four_words import IT, W_K, W_Q, W_V, X
from aiinfra_labs.llm.scale import flops as model_flops
from aiinfra_labs.llm.scale.shapes import shape

SIZES = [(1, 1, 1, 1), (4, 7, 9, 16), (32, 1, 4096, 128)]


@pytest.mark.parametrize(("heads", "t", "s", "d"), SIZES)
def test_operations_are_torch_s(heads, t, s, d):
    theirs = sdpa_flop_count((1, heads, t, d), (1, heads, s, d), (1, heads, s, d))
    assert flops(heads, t, s, d) == theirs


def test_a_model_s_are_those_of_its_layers():
    llama = shape("llama-3-8b")
    assert model_flops.attention(llama, 512, 512) == llama.layers * flops(
        llama.heads, 512, 512, llama.head_dim
    )


@pytest.mark.parametrize(("heads", "t", "s", "d"), SIZES)
def test_bytes_are_those_of_the_tensors(heads, t, s, d):
    query, out = torch.zeros(2, heads, t, d)
    key, value = torch.zeros(2, heads, s, d)
    scores = query @ key.mT
    assert score_bytes(heads, t, s, itemsize=4) == scores.nbytes
    least = sum(x.nbytes for x in (query, key, value, out))
    assert fused_traffic(heads, t, s, d, itemsize=4) == least
    assert written_traffic(heads, t, s, d, itemsize=4) == least + 4 * scores.nbytes


def test_allocations_are_counted_and_views_are_not():
    x = torch.zeros(8, 16)
    assert allocated(lambda: x.T.reshape(8, 16)) == x.nbytes  # a transposed copy
    assert allocated(lambda: x.view(4, 32)[1:].transpose(0, 1)) == 0
    assert allocated(lambda: x.expand(3, 8, 16)) == 0
    assert allocated(lambda: (x + 1, x * 2)) == 2 * x.nbytes
    assert allocated(lambda: [x + 1 for _ in range(5)][:0]) == 5 * x.nbytes  # dropped ones, too
    assert allocated(lambda: x.add_(1)) == 0
    assert allocated(lambda: None) == 0


def test_the_scores_are_among_what_attention_allocates():
    query, key, value = torch.randn(3, 2, 64, 8)
    assert allocated(lambda: attention(query, key, value)) >= 3 * score_bytes(2, 64, 64, 4)


# --- figures --------------------------------------------------------------------------------------


def test_masked_pairs_are_left_out():
    llama = shape("llama-3-8b")
    pairs = int(torch.ones(7, 7).tril().sum())
    one = flops(llama.heads, 1, 1, llama.head_dim)
    assert causal_flops(llama, 7) == llama.layers * pairs * one
    assert causal_flops(llama, 0) == 0
    with pytest.raises(ValueError, match="-1.*\nWhy.*\nTry"):
        causal_flops(llama, -1)


def test_the_figures_say_what_they_show():
    from aiinfra_labs.course.figures import to_html
    from aiinfra_labs.course.measured import measured

    looks = torch.softmax(torch.randn(2, 4, 9, 9), dim=-1)
    words = list("甲乙丙丁戊己庚辛壬")
    made = {
        "sharing": drawings.sharing(),
        "heads": drawings.it_looks(looks, words, list("abcdefghi"), it=5),
        "models": drawings.looking_and_right(measured("coreference")[0]["ways"]),
        "detour": drawings.detour(0.75, 0.5),
        "growth": drawings.growth(shape("llama-3-8b"), [512, 4096, 32768]),
        "one": numbers.one_query(),
        "matrices": numbers.projections(),
        "all": numbers.everyone(),
        "two": numbers.two_heads(),
        "split": numbers.split(),
    }
    said = {name: figure.get_label() for name, figure in made.items()}
    row = looks[1, 3, 5]
    assert f"head 1.3 gives {words[int(row.argmax())]} {row.max():.2f}." in said["heads"]
    assert "2 kv heads, each for 4 neighbours" in said["sharing"]
    assert "苹果 (apple) 0.75" in said["detour"]
    for figure in made.values():
        assert "<svg" in to_html(figure)
    drawn = made["heads"].axes[0].images[0].get_array()
    torch.testing.assert_close(torch.tensor(drawn), 0.7 * looks[:, :, 5].flatten(0, 1))


def test_the_four_words_numbers_are_attention_s():
    """What the figures say of 它 is what the course's own attention gives."""
    query, key, value = (torch.tensor(X @ w) for w in (W_Q, W_K, W_V))
    out, weights = attention(query, key, value)

    def said(figure):
        return " ".join(figure.get_label().split())

    def text(row):
        return " ".join(f"{x:.2f}" for x in row)

    one = said(numbers.one_query())
    assert text(out[IT]) in one
    assert all(f"share {share:.2f}" in one for share in weights[IT])
    _, causal = attention(query, key, value, causal_mask(4, 4))
    assert f"causal {text(causal[IT])}" in said(numbers.everyone())
    two = [x[None].unflatten(-1, (2, 2)).transpose(1, 2) for x in (query, key, value)]
    for head in attention(*two)[0][0, :, IT]:
        assert f"gets {text(head)}" in said(numbers.two_heads())
        assert " ".join(f"{x:.1f}" for x in head) in said(numbers.split()).split("gives", 1)[1]
