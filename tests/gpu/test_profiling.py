"""The kernels of unit 3.8: one result, and figures that fall step by step as the page says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.beside import emulated
from aiinfra_labs.gpu.kernels import profiling_steps
from aiinfra_labs.gpu.kernels.profiling import GROUP
from aiinfra_labs.gpu.kernels.profiling_steps import STEPS, WRONG_TURNS, product, quantised, run
from aiinfra_labs.gpu.kernels.profiling_words import TILE

EVERY = (*STEPS, *WRONG_TURNS)
every_step = pytest.mark.parametrize("step", EVERY, ids=lambda step: step.name)
ROWS, COLUMNS = 96, 512  # of the figures: 24 blocks of 4 rows


@pytest.fixture(scope="module")
def reports():
    given = product(ROWS, COLUMNS)
    return {step.name: run(step, given)[1] for step in EVERY}


# --- results -------------------------------------------------------------------------------------


@every_step
@pytest.mark.parametrize(
    "shape", [(1, GROUP), (5, 3 * GROUP), (130, 2 * GROUP), (3, TILE + GROUP)], ids=str
)
def test_a_product_is_numpys(step, shape):
    """One row and rows that fill no block, one group, and more columns than a tile has."""
    given = product(*shape, seed=sum(shape))
    with emulator.check():  # no race, nothing outside, nothing read before it is written
        arguments = [emulator.to_device(a) for a in given.arguments(step.words)]
        grid = step.grid(given.rows)
        emulated(step.kernel)[grid, profiling_steps.THREADS](*arguments)
    weights = profiling_steps.dequantised(given.packed, given.scales)
    sizes = np.abs(weights) @ np.abs(given.x.astype(np.float64))  # what roundings are relative to
    error = np.abs(arguments[-1].copy_to_host() - weights @ given.x.astype(np.float64))
    assert (error <= 1e-6 * sizes).all(), (error / sizes).max()


@given(groups=st.integers(1, 3), rows=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_weight_is_off_by_half_a_step_at_most(groups, rows, seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, rng.uniform(1e-3, 10), (rows, groups * GROUP)).astype(np.float32)
    packed, scales = quantised(weights)
    assert packed.shape == (rows, groups * GROUP // 2) and packed.dtype == np.uint8
    assert scales.shape == (rows, groups)
    off = np.abs(profiling_steps.dequantised(packed, scales) - weights)
    assert (off <= np.repeat(scales, GROUP, axis=1) * 0.5001).all()


def test_weights_of_zero_stay_zero():
    packed, scales = quantised(np.zeros((1, GROUP), np.float32))
    assert not profiling_steps.dequantised(packed, scales).any()


def test_low_bits_hold_even_columns_and_a_word_eight_of_them_in_order():
    given = product(1, GROUP)
    q = np.stack([given.packed & 15, given.packed >> 4], axis=-1).reshape(-1)
    words = given.arguments(words=True)[0][0]
    assert [int(words[2]) >> 4 * j & 15 for j in range(8)] == q[16:24].tolist()


@pytest.mark.parametrize("shape", [(0, GROUP), (2, 0), (2, GROUP + 8)], ids=str)
def test_a_product_of_no_size_is_refused_in_three_parts(shape):
    with pytest.raises(ValueError, match="(?s)columns\nWhy: .*\nTry: "):
        product(*shape)


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, len(STEPS)))
def test_each_step_improves_the_figure_by_which_it_was_chosen(number, reports):
    step = STEPS[number]
    before, after = (step.read(reports[STEPS[k].name]) for k in (number - 1, number))
    assert after <= before / 4, step.figure


def test_a_step_is_one_change():
    """What is not asked for stays, as far as the page says so."""
    for before, after in zip(STEPS[1:], STEPS[2:-1], strict=False):
        assert before.lanes == after.lanes == 32 and not after.words


def test_the_first_step_moves_one_sector_where_there_were_32(reports):
    slow, warp = reports["row_a_thread"], reports["row_a_warp"]
    packed = {r.kernel: _line(r, "byte = packed[").sectors_per_load for r in (slow, warp)}
    assert packed == {"row_a_thread": 32, "row_a_warp": 1}
    # for 32 weights: 32 sectors of packed, 16 of scales (two rows of 16 bytes in each) and one of
    # x; then one, one, and four of x
    assert slow.global_load_sectors == ROWS * COLUMNS // 32 * 49
    assert warp.global_load_sectors == ROWS * COLUMNS // 32 * 6


def test_float64_leaves_in_two_steps_and_not_with_the_literals(reports):
    each = {name: r.flops_by_dtype["fp64"] / (ROWS * COLUMNS) for name, r in reports.items()}
    assert each["row_a_thread"] == each["row_a_warp"] == each["float32_literals"] == 4
    assert each["float32_weight"] == 1  # q itself, of int64 and uint64, is a float64
    assert not any(each[step.name] for step in STEPS[3:])


def test_the_branch_that_parts_every_warp_goes_with_the_shift(reports):
    branch = _line(reports["row_a_warp"], "if k % 2 == 0")
    assert branch.divergent_branches == branch.branches == ROWS * COLUMNS // 32
    assert reports["nibble_by_shift"].divergent_branches == 0


def test_atomics_meet_on_one_element_and_go(reports):
    before, after = reports["nibble_by_shift"], reports["sum_by_shuffle"]
    assert before.atomic_requests == ROWS and before.turns_per_atomic == 32
    assert after.atomic_requests == 0 and after.global_store_requests == ROWS


def test_words_alone_ask_less_often_and_move_more(reports):
    before, words = reports["sum_by_shuffle"], reports["words_alone"]
    assert words.global_load_requests < before.global_load_requests / 2
    assert words.bytes_moved > 5 * before.bytes_moved
    assert _line(words, "x[8 * w + j]").sectors_per_load == 32


def test_a_tile_in_order_has_eight_lanes_to_a_bank_and_the_last_one_none(reports):
    half, last = reports["tile_in_order"], reports["words_and_tile"]
    assert _line(half, "tile[8 * w + j]").wavefronts_per_shared_load == 8
    assert last.bank_conflicts == 0
    assert last.wavefronts_per_shared_load == last.wavefronts_per_shared_store == 1
    assert last.bytes_moved == half.bytes_moved < reports["sum_by_shuffle"].bytes_moved / 2


def test_without_the_four_words_of_padding_the_stores_would_meet():
    """Eight neighbours of x go to eight rows of the tile: at a pitch of 128 words, to one bank."""
    k = np.arange(32)
    for pitch, most in ((TILE // 8, 8), (TILE // 8 + 4, 1)):
        banks = (k % 8 * pitch + k // 8) % 32
        assert np.bincount(banks).max() == most


def test_the_wrong_turns_do_not_lead_where_they_should(reports):
    """Each figure of a wrong turn is no better than before it."""
    before = {"float32_literals": "row_a_warp", "words_alone": "sum_by_shuffle"}
    before["tile_in_order"] = "sum_by_shuffle"
    for step in WRONG_TURNS:
        assert step.read(reports[step.name]) >= step.read(reports[before[step.name]])


def test_the_last_kernel_is_bound_by_memory_on_every_device_named_on_the_page():
    _, report = run(STEPS[-1], product(512, 1024))
    for device in ("h100", "l4"):
        assert report.estimate(device).bound_by == "DRAM"
        assert run(STEPS[0], product(512, 1024))[1].estimate(device).bound_by == "fp64 units"


def test_least_bytes_are_the_arrays(reports):
    given = product(ROWS, COLUMNS)
    assert given.least_bytes == sum(a.nbytes for a in given.arguments(words=True))
    assert reports["words_and_tile"].dram_bytes == given.least_bytes


def _line(report, source):
    (number,) = [n for n, text in report.source.items() if source in text]
    return report.lines[number]
