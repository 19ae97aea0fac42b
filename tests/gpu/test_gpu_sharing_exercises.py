"""The exercises of unit 3.9, what `show` draws of them, the drawings, and the claims' figures."""

from __future__ import annotations

import itertools
import re

import pytest

import planting
from aiinfra_labs.course import facts, figures
from aiinfra_labs.course.checking import show
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.gpu.drawings import gpu_sharing as drawings
from aiinfra_labs.gpu.exercises.gpu_sharing_memory import WatchedDriver, WatchedRegion
from aiinfra_labs.gpu.sharing import core_limit, scenarios
from aiinfra_labs.gpu.sharing.choice import cheapest, options
from aiinfra_labs.gpu.sharing.mig import Board
from aiinfra_labs.gpu.sharing.schemes import SCHEMES, Hami
from aiinfra_labs.gpu.sharing.simulation import simulate
from aiinfra_labs.gpu.sharing.tenants import Tenant
from pictures import texts_stand_apart

PLANTED = [planting.planted("gpu", name) for name in ("gpu_sharing", "gpu_sharing_time")]
RIGHT = [answer for module in PLANTED for answer in module.RIGHT]
WRONG = [answer for module in PLANTED for answer in module.WRONG]
EXERCISES = ("3.9.a", "3.9.b", "3.9.c", "3.9.d", "3.9.e")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_answers_are_drawn_whatever_they_are(exercise):
    answers = [answer for id, answer, *_ in (*RIGHT, *WRONG) if id == exercise]
    for answer in answers[:6]:
        picture = show(exercise, answer)
        assert str(picture) and "Traceback" not in str(picture)


def test_the_watched_region_sees_what_an_answer_does():
    region = WatchedRegion(100)
    region.add(10)
    assert "without the lock" in region.broken
    region = WatchedRegion(100)
    region.let_in(60)
    assert region.used == 0 and region.others == 60  # the neighbour came after the look
    driver = WatchedDriver(region)
    with region.lock():
        driver.allocate(1)
        with pytest.raises(RuntimeError, match="waits for itself"), region.lock():
            pass
    assert driver.within_the_lock == "allocate"


# --- what the page and the claims say -------------------------------------------------------------


def figure_of(claim):
    return next(c.figure for c in all_claims() if c.id == claim)


def test_the_figures_of_time_slice_are_those_of_the_simulation():
    by_name = {s.name: simulate(scenarios.TRIO, s, 60) for s in SCHEMES}
    alone = simulate([scenarios.CHAT], by_name["time slicing"].scheme, 60)["chat"].p99
    used = [f"{100 * by_name[n].utilisation:.0f} %" for n in ("time slicing", "MIG", "exclusive")]
    times = f"{by_name['time slicing']['chat'].p99 / alone:.1f} times"
    said = figure_of("time-slice")
    assert [part for part in (*used, times) if part not in said] == []


def test_the_figures_of_hami_are_those_of_its_rule():
    got = [
        100 * simulate([job], Hami(), 60).utilisation
        for job in (
            Tenant("batch", 0, 200, kernel_ms=ms, blocks=blocks, cores=30)
            for ms, blocks in itertools.product((1, 10, 100), (10**3, 10**4, 10**5, 10**6))
        )
    ]
    assert f"between {min(got):.0f} % and {max(got):.0f} %" in figure_of("hami")


def test_the_choice_turns_with_one_property():
    chosen = [
        str(cheapest(tenants, options(tenants, 2)))
        for tenants in (
            scenarios.BANK,
            scenarios.SERVICES,
            scenarios.INTERNET,
            scenarios.CLASSROOM,
            scenarios.CLASSROOM_WITH_A_LEAK,
        )
    ]
    assert chosen == [
        "MIG on 1 GPU",
        "time slicing on 1 GPU",
        "HAMi on 1 GPU",
        "time slicing on 1 GPU",
        "HAMi on 1 GPU",
    ]


def test_hamis_times_are_the_facts():
    known = facts.load("gpu")
    assert known["hami.launch_poll"].value == core_limit.POLL_MS
    assert known["hami.watch"].value == core_limit.WATCH_MS


# --- drawings -------------------------------------------------------------------------------------


def _filled():
    board = Board("a100-40gb")
    for profile in ("1g.5gb", "1g.5gb", "2g.10gb"):
        board.create(profile)
    return board


DRAWINGS = {
    "ways": drawings.ways,
    "board": lambda: drawings.board(_filled()),
    "blocked": lambda: drawings.board(_filled(), "3g.20gb"),
    "places": lambda: drawings.board(_filled(), "1g.5gb"),
    "empty": lambda: drawings.board(Board("h200-141gb"), "7g.141gb"),
    "four slices": lambda: drawings.board(Board("a30-24gb"), "1g.6gb"),
    "turns": lambda: drawings.time_slices([(0, 9000), (1000, 3000), (2500, 5000)], 2000, 100),
    "one job": lambda: drawings.time_slices([(3000, 9000)], 2000, 100),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_no_text_leaves_the_frame_or_covers_another(draw):
    fig = draw()
    assert fig.get_label()
    texts_stand_apart(fig, [text for text in fig.axes[0].texts if text.get_text()], overlap=0)


def test_a_drawing_is_the_same_each_time():
    one, again = (figures.to_html(drawings.board(_filled(), "3g.20gb")) for _ in range(2))
    assert one == again
    assert "may begin nowhere" in re.search('aria-label="([^"]*)"', one)[1]


def test_too_many_turns_are_not_drawn():
    with pytest.raises(ValueError, match="50 turns"):
        drawings.time_slices([(0, 25), (0, 25)], 1, 0)
