"""The drawings of unit 3.6 say what the formulas say, fit their frame, and read on a phone."""

import re
from collections import Counter

import numpy as np
import pytest

from aiinfra_labs.course import figures
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.drawings import reductions_attention as drawings
from aiinfra_labs.gpu.kernels import reduction
from aiinfra_labs.gpu.kernels.flash_attention import KEYS, QUERIES, flash_attention
from pictures import texts_stand_apart

DRAWINGS = {
    "trees": lambda: drawings.trees(),
    "few values": lambda: drawings.trees((7, 12)),
    "one query": lambda: drawings.one_query(),
    "falling scores": lambda: drawings.one_query((10, 9, 8, 7, -6, -5, -4, -3), (-1.5,) * 8),
    "memories": lambda: drawings.memories(),
    "larger memories": lambda: drawings.memories(4096, 128, 32, 64),
    "table": lambda: drawings.block_table(),
    "small table": lambda: drawings.block_table(((0,), (1,)), (1, 4), 4, 2),
}
RNG = np.random.default_rng(0)
every_drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


def texts(fig):
    return [text for text in fig.axes[0].texts if text.get_text()]


@every_drawing
def test_no_text_leaves_the_frame_or_covers_another(draw):
    fig = draw()
    texts_stand_apart(fig, texts(fig))


@every_drawing
def test_it_reads_on_a_page_and_on_a_phone_in_the_pages_colours(draw):
    fig = draw()
    assert min(text.get_fontsize() for text in texts(fig)) >= 11  # 9 pixels on a phone
    assert fig.get_size_inches()[0] < 6
    html = figures.to_html(fig)
    colours = set(re.findall(r"#[0-9a-f]{6}\b", html))
    assert colours and colours <= set(figures.PALETTE.values())
    assert html == figures.to_html(draw()) and len(html) < 180_000
    assert len(fig.get_label().split()) > 15


# --- each tells the truth -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interleaved", "kernel"),
    [(True, reduction.block_sums_interleaved), (False, reduction.block_sums_tree)],
)
def test_a_tree_is_the_kernels(interleaved, kernel):
    """Who stores at each step in the emulator's trace of a block is who adds in the drawing."""
    with cuda.trace() as trace:
        kernel[1, reduction.THREADS](np.ones(256, np.float32), np.zeros(1, np.float32))
    first, *steps = trace.of("partial", "store")
    assert (first.addresses >= 0).all()
    drawn = drawings.additions(interleaved, reduction.THREADS)
    stored = [np.flatnonzero(a.addresses.reshape(-1) >= 0).tolist() for a in steps]
    assert stored == [[thread for thread, _ in step] for step in drawn]


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_tree_adds_each_value_once(interleaved):
    powers = [1 << k for k in range(8)]
    values, *sums = drawings.partial_sums(interleaved, powers)
    assert list(values.values()) == powers and [len(held) for held in sums] == [4, 2, 1]
    assert sums[-1] == {0: 255}
    names = Counter(t.get_text() for t in texts(drawings.trees(tuple(powers))))
    assert names["255"] == 2 and names["3"] == 1 and names["17"] == 1


@pytest.mark.parametrize("tile", [1, 2, 4, 8])
def test_what_is_kept_over_tiles_is_attention(tile):
    scores, values = RNG.normal(0, 3, 8), RNG.normal(size=8)
    for k, known in enumerate(drawings.over_tiles(scores, values, tile), 1):
        seen, weights = scores[: k * tile], np.exp(scores[: k * tile] - scores[: k * tile].max())
        assert known.largest == seen.max() and 0 <= known.factor <= 1
        assert known.total == pytest.approx(weights.sum())
        assert known.output == pytest.approx(weights @ values[: k * tile])


def test_the_numbers_drawn_are_attentions():
    scores, values = (1, 3, 2, 0, 2, 5, 4, 1), tuple(range(10, 90, 10))
    names = [t.get_text() for t in texts(drawings.one_query(scores, values))]
    weights = np.exp(np.array(scores) - 5.0)
    assert f"sum {weights.sum():.2f}" in names and f"output {weights @ values:.1f}" in names
    assert f"= {weights @ values / weights.sum():.1f}" in names
    first = np.exp(np.array(scores[:4]) - 3.0)
    for name, old, new in (
        ("sum", f"{first.sum():.2f}", f"{weights[4:].sum():.2f}"),
        ("output", f"{first @ values[:4]:.1f}", f"{weights[4:] @ values[4:]:.1f}"),
    ):
        assert f"{name}: {old} × exp(3 − 5) + {new}" in names


def test_the_memories_are_the_kernels():
    """Tiles and queries as the kernel has them; the bytes as the emulator counts them."""
    n, d = 128, 32
    names = [t.get_text() for t in texts(drawings.memories(n, d, QUERIES, KEYS))]
    arrays = [cuda.to_device(a) for a in RNG.normal(size=(3, 1, n, d)).astype(np.float32)]
    with cuda.profile() as p:
        flash_attention(*arrays)
    blocks, tiles = n // QUERIES, n // KEYS
    assert f"in {tiles} tiles" in names and f"{KEYS} keys" in names
    loaded = p.report.global_load_bytes - arrays[0].nbytes  # less the queries, once
    assert loaded == blocks * tiles * 2 * KEYS * d * 4
    assert f"of a block: {(QUERIES + 2 * KEYS) * d * 4 >> 10} KB" in names
    assert f"each {n} × {d}, {arrays[0].nbytes >> 10} KB" in names


def test_a_table_draws_each_token_twice():
    """Once in its sequence's order, and once where the table says that it lies."""
    fig = drawings.block_table()
    tokens = Counter(int(t.get_text()) for t in texts(fig) if t.get_text().isdigit())
    assert tokens == Counter({t: 4 if t < 7 else 2 for t in range(10)})
    cells = Counter()
    for patch in fig.axes[0].patches:
        if patch.get_gid():
            cells[patch.get_gid()] += len(patch.get_path().vertices) // 5
    # 17 tokens twice, 3 reserved places twice, 3 free blocks of 4, and the legend's four
    assert cells == {"element": 36, "idle": 7, "missing": 13}


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (lambda: drawings.trees((1, 2, 3)), "3 values"),
        (lambda: drawings.memories(100), "100 tokens in blocks of 16"),
        (lambda: drawings.one_query((1, 2)), "2 scores and 8 values"),
        (lambda: drawings.block_table(((0,), (0,)), (1, 1)), r"tables \[\[0\], \[0\]\]"),
        (lambda: drawings.block_table(((0,), (1,)), (9, 1)), "contexts of"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_three_parts(draw, what):
    with pytest.raises(ValueError, match=what) as error:
        draw()
    assert re.search(r"\nWhy: .+\nTry: .+", str(error.value))
