"""What attention costs, held to torch's own count and to tensors that are really made."""

import pytest
import torch
from torch.utils.flop_counter import sdpa_flop_count

from aiinfra_labs.llm.attention import attention
from aiinfra_labs.llm.attention_cost import (
    allocated,
    flops,
    fused_traffic,
    score_bytes,
    written_traffic,
)
from aiinfra_labs.llm.drawings import attention as drawings
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


def test_the_figures_say_what_they_show():
    from aiinfra_labs.course.figures import to_html
    from aiinfra_labs.course.measured import measured

    real = torch.tensor([False, True, True, True])
    looks = torch.softmax(torch.randn(2, 4, 9, 9), dim=-1)
    words = list("甲乙丙丁戊己庚辛壬")
    made = {
        "flow": drawings.flow(),
        "sharing": drawings.sharing(),
        "masks": drawings.masks(real),
        "saturation": drawings.saturation(),
        "heads": drawings.heads_on(looks, words, it=5, referent=3),
        "seeds": drawings.seeds(measured("coreference")[0]["ways"]),
        "growth": drawings.growth(shape("llama-3-8b"), [512, 4096, 32768]),
    }
    said = {name: figure.get_label() for name, figure in made.items()}
    assert "0 are padding" in said["masks"]
    assert f"{looks[1, 3, 5, 3]:.2f}." in said["heads"]
    assert "2 kv heads, each for 4 neighbours" in said["sharing"]
    for figure in made.values():
        assert "<svg" in to_html(figure)
    colours = made["masks"].axes[2].images[0].get_array()
    expected = torch.ones(4, 4).tril() * real * 0.75
    torch.testing.assert_close(torch.tensor(colours), expected)


def test_a_divided_softmax_keeps_its_slope():
    figure = drawings.saturation(sizes=(16, 1024))
    weight, slope = figure.axes
    divided, undivided = (line.get_ydata() for line in weight.lines)
    assert abs(divided[1] - divided[0]) < 0.03 and undivided[1] > 0.9
    divided, undivided = (line.get_ydata() for line in slope.lines)
    assert divided[1] > 0.9 and undivided[1] < 0.1 < undivided[0]
