"""Contiguous and paged memory under the same requests: what unit 4.2's page says of them."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_checkpoints import is_greedy, mixed_requests

from aiinfra_labs.cloud.drawings import paged_kv_cache as drawings
from aiinfra_labs.cloud.serving import contiguous
from aiinfra_labs.cloud.serving.attention import Layout
from aiinfra_labs.cloud.serving.block_manager import BlockManager
from aiinfra_labs.cloud.serving.contiguous import Buddies, ContiguousManager, FirstFit
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import ServingError
from aiinfra_labs.cloud.serving.kv_memory import Replay, kept_tokens, replay_memory, usage, waiting
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.workloads import Load, RequestShape, Text, chat
from aiinfra_labs.course import facts, figures
from aiinfra_labs.llm.scale import memory
from aiinfra_labs.llm.scale.parameters import multiplied
from aiinfra_labs.llm.scale.shapes import Shape

SLOTS = 15_728  # as in the paper: 12 GiB of OPT-13B's keys and values
LOAD = Load(seed=1, context=2048, text=Text(range(1_000_000)))
MEMORIES = {
    "max": partial(ContiguousManager, reserve=contiguous.longest(2048)),
    "pow2": partial(ContiguousManager, reserve=contiguous.power_of_two),
    "oracle": partial(ContiguousManager, reserve=contiguous.oracle),
    "first fit": partial(
        ContiguousManager, reserve=contiguous.oracle, allocator=contiguous.FirstFit
    ),
    "paged": BlockManager,
}


@pytest.fixture(scope="module")
def runs():
    requests = chat(120, LOAD)
    return {name: replay_memory(requests, make(SLOTS // 16, 16)) for name, make in MEMORIES.items()}


# --- the measurement ------------------------------------------------------------------------------


def test_the_waste_of_paged_memory_is_under_four_percent_and_the_others_is_the_papers(runs):
    assert runs["paged"].mean.waste < 0.04
    known = facts.load("cloud")
    for name in ("max", "pow2", "oracle", "paged"):
        mean, paper = runs[name].mean, known[f"vllm_paper.holds_{name}"].value
        assert 100 * mean.tokens / mean.total == pytest.approx(paper, abs=5), name
    assert runs["max"].at_once == pytest.approx(known["vllm_paper.at_once_max"].value)
    at_once = [run.at_once for run in runs.values()]
    assert at_once == sorted(at_once)


def test_all_requests_are_served_and_all_tokens_counted(runs):
    total = sum(len(r.prompt_tokens) + r.new_tokens - 1 for r in chat(120, LOAD))
    for name, run in runs.items():
        assert run.needed == total, name
        assert sum(run.tokens) >= total
        if name != "paged":
            assert sum(run.tokens) == total and run.preempted == 0
        assert run.mean.total == pytest.approx(SLOTS)
        assert run.most_blocks <= SLOTS // 16
    assert runs["oracle"].mean.internal < 16 * runs["oracle"].at_once  # up to the block's end
    assert runs["paged"].mean.internal < runs["paged"].at_once  # of those in their last block


def test_more_at_once_is_more_a_second_where_weights_are_what_is_read(runs):
    opt = Shape(40, 5120, 40, 40, 128, 20480, 50272, gated=False)
    seconds = {name: run.seconds(opt, 312e12, 1555e9) for name, run in runs.items()}
    assert list(seconds.values()) == sorted(seconds.values(), reverse=True)
    assert 2.5 < seconds["max"] / seconds["paged"] < 5
    endless = {name: run.seconds(opt, 312e12, 1e30) for name, run in runs.items()}
    assert endless["max"] < endless["paged"]  # by arithmetic alone, recomputing costs


def test_a_steps_attention_runs_after_its_products():
    shape = Shape(2, 8, 2, 2, 4, 16, 11)
    one = Replay(batch=[1], tokens=[3], context=[50], pairs=[90])
    weights, kv, pair = multiplied(shape), memory.kv_bytes(shape), 4 * 2 * 2 * 4
    for peak, bandwidth in ((1.0, 1.0), (1e9, 1.0), (1.0, 1e9), (2.0, 1.5)):
        products = max(2 * weights * 3 / peak, 2 * weights / bandwidth)
        attention = max(pair * 90 / peak, kv * 50 / bandwidth)
        assert one.seconds(shape, peak, bandwidth) == pytest.approx(products + attention)
    # Products by arithmetic, attention by bytes: neither hides behind the other.
    assert one.seconds(shape, 2.0, 1.0) > max(weights * 3, (2 * weights + kv * 50))


def test_usage_counts_shared_slots_once():
    pool = BlockManager(10, 4)
    one = waiting(RequestShape(0, list(range(6)), 5, 0))  # keeps 10 tokens in the end
    pool.grow(one, 6)
    one.computed = 6
    other = waiting(RequestShape(0, list(range(6)), 5, 0))
    pool.fork(one, other)
    found = usage(pool, [one, other])
    assert (found.tokens, found.reserved, found.internal, found.external) == (6, 2, 0, 32)
    assert found.saved == 8 and found.sharing == pytest.approx(0.5)
    assert found.total == 40 and found.waste == pytest.approx(1 - 6 / 40)
    assert kept_tokens(one) == 10


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_share_their_prompts(samples):
    run = replay_memory(chat(20, LOAD), BlockManager(300), samples=samples)
    assert (run.mean.sharing > 0.15) == (samples > 1)


@pytest.mark.parametrize("most", [3, 4, 7])
def test_samples_take_no_more_places_than_there_are(most):
    run = replay_memory(chat(6, LOAD), BlockManager(SLOTS // 16), max_sequences=most, samples=3)
    assert max(run.batch) == most // 3 * 3


def test_a_pool_in_which_nobody_waits_has_no_mean():
    run = replay_memory(chat(2, LOAD), BlockManager(SLOTS // 16))
    assert run.at_once == 0
    with pytest.raises(ServingError, match="nobody waited"):
        _ = run.mean


def test_one_request_that_fits_alone_is_served_in_the_smallest_pool():
    shape = RequestShape(0, list(range(30)), 20, 0)
    run = replay_memory([shape] * 3, BlockManager(4, 16, prefix_caching=False), every=1)
    assert run.needed == 3 * 49 and run.most_blocks <= 4


def test_a_request_larger_than_the_pool_is_refused():
    with pytest.raises(ServingError, match="a request of 49 tokens finds no room in 3 blocks"):
        replay_memory([RequestShape(0, list(range(30)), 20, 0)], BlockManager(3, 16))


# --- pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Buddies, FirstFit])
@given(size=st.integers(1, 70), steps=st.lists(st.integers(0, 40), max_size=60))
@settings(max_examples=150, deadline=None)
def test_pieces_never_overlap_and_all_come_back(make, size, steps):
    allocator, owner, pieces = make(size), np.zeros(size, int), {}
    for number, step in enumerate(steps, 1):
        if step > 25 and pieces:  # give one back
            start = sorted(pieces)[step % len(pieces)]
            allocator.give(start)
            owner[start : start + pieces.pop(start)] = 0
            continue
        length = 1 + step % 12
        start = allocator.take(length)
        if start is None:
            gaps = "".join("x" if o else "." for o in owner).split("x")
            longest = max(map(len, gaps))
            assert make is Buddies or longest < length  # first fit misses no gap
            continue
        assert start >= 0 and start + length <= size and not owner[start : start + length].any()
        owner[start : start + length] = number
        pieces[start] = length
    for start in list(pieces):
        allocator.give(start)
    assert allocator.take(allocator.largest) == 0  # all buddies were joined again


def test_buddies_lie_at_multiples_of_their_size():
    buddies = Buddies(983)
    starts = [buddies.take(128) for _ in range(7)]
    assert sorted(starts) == [0, 128, 256, 384, 512, 640, 768] and buddies.take(128) is None
    buddies.give(128)
    assert buddies.take(65) == 128  # rounded up to 128
    assert buddies.take(64) == 896


def test_what_is_reserved():
    sequence = waiting(RequestShape(0, [1] * 10, 25, 0))
    assert contiguous.longest(2048)(sequence) == 2048
    assert contiguous.power_of_two(sequence) == 10 + 32  # the paper's own example
    assert contiguous.oracle(sequence) == 34


@given(st.integers(1, 5000))
def test_the_guess_is_less_than_twice_too_large(answer):
    sequence = waiting(RequestShape(0, [1], answer, 0))
    assert answer <= contiguous.power_of_two(sequence) - 1 < 2 * answer


def test_what_can_never_fit_is_said():
    memory = ContiguousManager(100, 16, reserve=contiguous.longest(2048))
    with pytest.raises(ServingError, match="128 blocks in one piece, of 100 in all"):
        replay_memory([RequestShape(0, [1, 2], 3, 0)], memory)


# --- the engine with either memory ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["max", "first fit"])
def test_the_engine_serves_the_same_answers_from_contiguous_memory(llama, name):
    theirs, ours, _ = llama
    make = (
        partial(ContiguousManager, reserve=contiguous.longest(128))
        if name == "max"
        else MEMORIES[name]
    )
    config = EngineConfig(num_blocks=64, block_size=8, attention="torch", blocks=make)
    engine = Engine(ours, None, config)
    requests = mixed_requests(8, seed=3, longest=40)
    for number, (prompt, new) in enumerate(requests):
        engine.add_request(prompt, SamplingParams(max_tokens=new), str(number))
    answers = {}
    while engine.unfinished:
        live = engine.scheduler.running
        assert all(np.diff(s.block_table).tolist() == [1] * (len(s.block_table) - 1) for s in live)
        answers |= {int(o.request_id): o.outputs[0].token_ids for o in engine.step()}
        engine.blocks.check(s for r in engine.requests.values() for s in r.sequences)
    assert engine.blocks.used == 0
    assert all(is_greedy(theirs, p, answers[i]) for i, (p, _) in enumerate(requests))


def test_contiguous_memory_cannot_be_shared():
    memory = ContiguousManager(8, 4, reserve=contiguous.oracle)
    one = waiting(RequestShape(0, [1, 2], 3, 0))
    memory.grow(one, 2)
    with pytest.raises(ServingError, match="belongs to one sequence"):
        memory.fork(one, waiting(RequestShape(0, [1, 2], 3, 0)))


# --- drawings -------------------------------------------------------------------------------------


def test_the_bars_are_the_shares(runs):
    fig = drawings.usage(runs, {"max": 20.4})
    widths = [bar.get_width() for bar in fig.axes[0].patches]
    assert len(widths) == 4 * len(runs)
    assert sum(widths) == pytest.approx(100 * len(runs))
    assert widths[0] == pytest.approx(100 * runs["max"].mean.tokens / SLOTS)
    assert "(the paper: 20.4 % tokens)" in fig.get_label()
    assert figures.to_html(fig)


def written(fig):
    """The texts of a drawing."""
    return [text.get_text() for text in fig.axes[0].texts]


def test_the_marked_token_is_where_the_engine_puts_it():
    pool = BlockManager(8, 4)
    earlier, a, b = (waiting(RequestShape(0, list(range(n)), 8, 0)) for n in (8, 9, 5))
    for sequence, tokens in ((earlier, 8), (a, 6), (b, 3)):
        pool.grow(sequence, tokens)
    pool.free(earlier)
    pool.grow(a, 9)
    pool.grow(b, 5)
    words = {"A": [f"w{i}" for i in range(9)], "B": [f"v{i}" for i in range(5)]}
    fig = drawings.block_tables(words, {"A": a.block_table, "B": b.block_table}, 8, 4, ("A", 6))
    layout = Layout(np.array([9]), np.array([9]), np.array([a.block_table]), 4)
    slot = int(layout.slots[6])
    block, offset = divmod(slot, 4)
    assert f"which names block {block}, at offset {offset}: slot {slot}." in fig.get_label()
    texts = written(fig)
    assert f"Token 6 of A: entry 6 // 4 = 1, so block {block}," in texts
    assert f"offset 6 % 4 = {offset}: {block} x 4 + {offset} = slot {slot}" in texts
    assert {f"{i} w{i}" for i in range(9)} | {f"{i} v{i}" for i in range(5)} <= set(texts)
    assert figures.to_html(fig)


def test_a_block_of_two_sequences_is_drawn_once():
    shared = [("a b", 0, "3f2a", 2)]
    rows = {"A": [*shared, ("c d", 1, "9c01", 1)], "B": [*shared, ("e f", 4, "77aa", 1)]}
    fig = drawings.prefix_tree(rows)
    assert "A: 0, 1; B: 0, 4. Blocks 0 are named by more than one table" in fig.get_label()
    assert [text.startswith("a b") for text in written(fig)].count(True) == 1
    assert "c d\nblock 1: 1 table\nname 9c01" in written(fig)
    assert figures.to_html(fig)


def test_the_cliff_is_drawn():
    found = drawings.cliff({"in turns": {10: 0.0, 20: 0.9}, "at random": {10: 0.3, 20: 0.9}}, 16)
    assert "together have 16 blocks" in found.get_label()
    assert "in turns: 0% in 10 blocks, 90% in 20" in found.get_label()
    assert figures.to_html(found)
