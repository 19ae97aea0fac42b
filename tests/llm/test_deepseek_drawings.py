"""The drawings of unit 1.7 show what was stored and computed, in light and dark."""

import re

import pytest
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.llm.deepseek import cache_sizes, grpo
from aiinfra_labs.llm.deepseek.moe import choose
from aiinfra_labs.llm.drawings import deepseek as drawings
from aiinfra_labs.llm.drawings import deepseek_by_hand as by_hand


def way(first, last):
    """A way of `benchmarks/experts.py` with 4 experts: one busy, three of the rest."""
    loads = [[[first, 1, 1, 1]], [[first, 1, 1, 1]]] + [[[last, 1, 1, 1]]] * 8
    return {"runs": [{"load": loads, "violation": [first / 10] * 30 + [last / 10] * 30}]}


WAYS = {"a": way(9, 5), "b": way(9, 1), "c": way(2, 2), "d": way(1, 1)}
RUNS = {
    "one": [{"right": [0.2] * 10 + [0.9] * 10, "length": [5.0] * 10 + [12.0] * 10}] * 2,
    "other": [{"right": [0.1] * 20, "length": [3.0] * 20}],
}
DRAWN = {
    "caches": lambda: drawings.caches(["gpt3", "llama-3-8b", "deepseek-v2"]),
    "loads": lambda: drawings.loads(WAYS, every=20),
    "surrogate": drawings.surrogate,
    "by_thinking": lambda: drawings.by_thinking({"0": (50, 0.2), "3": (30, 0.9), "4": (2, 1)}, 0.3),
    "reinforced": lambda: drawings.reinforced(RUNS),
    "two ways": by_hand.two_ways,
    "cached": lambda: by_hand.cached(cache_sizes.shape("deepseek-v2")),
    "router": by_hand.router,
    "group": by_hand.group,
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_reads_in_light_and_dark(name):
    figure = DRAWN[name]()
    html = figures.to_html(figure)
    assert html.count("<svg") == 1 and len(str(figure.get_label()).split()) > 12
    texts = re.findall(r"<g[^>]*scale\([^>]*>", html)
    assert texts and all("currentColor" in group for group in texts)
    if name != "loads":  # a map has all the tints of one colour, which its alt text says in words
        assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())


def test_the_bars_are_the_bytes():
    widths = [bar.get_width() for bar in DRAWN["caches"]().axes[0].patches]
    shapes = [cache_sizes.shape(key) for key in ("gpt3", "llama-3-8b", "deepseek-v2")]
    shapes += [cache_sizes.with_kv_heads(shapes[-1], n) for n in (128, 8, 1)]
    assert widths == [cache_sizes.token_bytes(s) / 1024 for s in shapes]


def test_the_maps_are_the_loads():
    said = DRAWN["loads"]().get_label()
    assert "a: at the end the busiest has 2.5 times the mean" in said  # 5 of 8, times 4
    assert "d: at the end the busiest has 1.0 times the mean" in said
    image = DRAWN["loads"]().axes[0].images[0].get_array()
    assert image.shape == (4, 10) and image[0, -1] == 2.5


def test_the_lines_are_the_runs():
    said = DRAWN["reinforced"]().get_label()
    assert "one: right 20% to 90%, tokens 5.0 to 12.0" in said
    assert "other: right 10% to 10%" in said
    assert len(DRAWN["reinforced"]().axes[0].lines) == 3


def test_rare_lengths_are_left_out():
    said = DRAWN["by_thinking"]().get_label()
    assert "0 written, 20 % right; 3 written, 90 % right" in said and "4 written" not in said


def test_what_is_cached_is_what_the_model_caches():
    shape = cache_sizes.shape("deepseek-v2")
    said = DRAWN["cached"]().get_label()
    kept = cache_sizes.numbers(shape)
    assert f"these {kept} are cached" in said and f"has {shape.head_dim + 64} numbers" in said
    with pytest.raises(ValueError, match="no latent attention"):
        by_hand.cached(cache_sizes.shape("llama-3-8b"))


def test_the_numbers_by_hand_are_the_library_s():
    """Both ways have the same scores; the choice is the router's; the advantages are GRPO's."""
    keys = by_hand.LATENTS @ by_hand.KEY_UP.T
    scores = (keys @ by_hand.QUERY).tolist()
    assert scores == (by_hand.LATENTS @ (by_hand.QUERY @ by_hand.KEY_UP)).tolist()
    assert all(f"score {score:.0f}" in DRAWN["two ways"]().get_label() for score in scores)
    given = torch.tensor(by_hand.SCORES)[None], torch.tensor(by_hand.BIAS)
    chosen = sorted(choose(*given, by_hand.CHOSEN)[0].tolist())
    alone = sorted(choose(given[0], torch.zeros(8), by_hand.CHOSEN)[0].tolist())
    said = DRAWN["router"]().get_label()
    assert chosen != alone
    assert f"Chosen: expert {chosen[0]} " in said and f"expert {chosen[1]} with" in said
    assert f"would have been {alone[0]} and {alone[1]}." in said
    said = DRAWN["group"]().get_label()
    rewards = torch.tensor([by_hand.CHAIN.reward(text) for text in by_hand.ANSWERS])
    for text, a in zip(by_hand.ANSWERS, grpo.advantages(rewards).tolist(), strict=True):
        assert re.search(f"{text} reward ., advantage {re.escape(f'{a:+.2f}')}", said)
