"""The exercises of unit 3.3: right answers pass, wrong ones fail, and `show` draws what was run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import planting
from aiinfra_labs.course.checking import show
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.exercises.coalescing import sectors_asked
from aiinfra_labs.gpu.exercises.thread_map import TracedLaunch
from aiinfra_labs.gpu.exercises.warp_view import first_warp
from aiinfra_labs.gpu.kernels import coalescing as kernels
from aiinfra_labs.gpu.widgets.access import addresses, cost
from planting import name_of

EXERCISES = ("3.3.a", "3.3.b", "3.3.c", "3.3.d", "3.3.e")


planted = planting.planted("gpu", "coalescing")


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        ("3.3.a", planted.tile_by_rounds, "8 loads of 4 sectors and 8 stores of 4 sectors"),
        ("3.3.a", planted.tile_in_stretches, "8 loads of 32 sectors and 8 stores of 32 sectors"),
        ("3.3.b", planted.sums_by_loops, "loads of 4 sectors and 1 atomic of 4 sectors"),
        ("3.3.d", planted.four_with_a_tail, "1 load of 16 sectors and 1 store of 16 sectors"),
        ("3.3.d", planted.one_at_a_time, "loads of 1 to 4 sectors"),
        ("3.3.e", planted.embed_by_warp, "2 stores of 4 sectors"),
    ],
    ids=name_of,
)
def test_show_walks_through_the_first_warp(exercise: str, answer: Any, said: str) -> None:
    widget = show(exercise, answer)
    assert said in widget.title, widget.title
    assert len(widget.steps) == len(widget.labels) > 0


def test_show_has_one_warp_where_the_blocks_run_in_several_batches() -> None:
    n = 1 << 17
    arrays = tuple(cuda.to_device(np.zeros(n, np.float32)) for _ in range(2))
    assert first_warp(kernels.copy_shifted, n // 32, 32, (*arrays, 0)).title.endswith(
        "1 load of 4 sectors and 1 store of 4 sectors"
    )


def test_show_tells_the_bytes_of_a_function() -> None:
    assert "32,768 bytes to the device where 4,096 suffice" in str(
        show("3.3.c", planted.advance_a_field_of_the_device_array)
    )
    assert "1,024 requests, 2 launches: 4,096 bytes to the device where 4,096 suffice" in str(
        show("3.3.c", planted.advance_contiguous)
    )


def test_show_of_a_warp_that_does_nothing_says_so() -> None:
    @cuda.jit
    def nothing(source, target):
        if cuda.grid(1) > 1000:
            target[0] = source[0]

    assert "the first warp touched no array" in str(show("3.3.a", nothing))


# --- what the checks stand on --------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("lanes", [1, 7, 32])
def test_sectors_asked_is_the_count_of_the_widget(stride: int, lanes: int) -> None:
    source, target = np.zeros(32 * stride, np.float32), np.zeros(lanes, np.float32)
    args = (cuda.to_device(source), cuda.to_device(target), stride)
    traced = TracedLaunch(kernels.copy_strided, 1, 32, *args)
    expected = cost(addresses(stride=stride, lanes=lanes), 4).sectors
    assert sectors_asked(traced.accesses("load", 0)) == expected
    assert sectors_asked([]) == 0


def test_a_bad_line_does_not_hide_behind_good_ones() -> None:
    @cuda.jit
    def kernel(source, target):
        i = cuda.grid(1)
        total = source[i] + source[i + 32]
        total += source[8 * i]
        target[i] = total

    arrays = [cuda.to_device(np.zeros(256, np.float32)) for _ in range(2)]
    traced = TracedLaunch(kernel, 1, 32, *arrays)
    assert sectors_asked(traced.accesses("load", 0)) == 32


def test_the_map_sees_each_element_of_a_float4() -> None:
    arrays = [cuda.to_device(np.zeros(131, np.float32)) for _ in range(2)]
    traced = TracedLaunch(kernels.copy_float4, 1, 64, *arrays)
    assert (traced.times("store", 1) == 1).all() and (traced.times("load", 0) == 1).all()
    assert traced.thread_of("store", 1)[:9].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert traced.thread_of("store", 1)[128:].tolist() == [32, 33, 34]


def test_the_claims_have_the_figures_that_are_counted() -> None:
    claims = {claim.id: claim for claim in all_claims()}
    claim = claims["coalescing-90"]
    worst, half, shifted = (
        cost(addresses(**settings), 4) for settings in ({"stride": 8}, {"stride": 2}, {"offset": 1})
    )
    assert (worst.useful / worst.moved, worst.moved // worst.useful) == (0.125, 8)
    assert "12.5 %" in claim.figure and "+700 %" in claim.figure
    assert half.moved == 2 * half.useful and "+100 %" in claim.figure
    assert shifted.moved == 1.25 * shifted.useful and "+25 %" in claim.figure
    bytes_ = cost(addresses(itemsize=1, stride=33), 1)
    assert bytes_.moved == 32 * bytes_.useful and "32 times" in claim.figure
    assert claim.verdict == "corrected" and claims["float4"].verdict == "reproduced"
