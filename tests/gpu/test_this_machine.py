"""The machine's own roofline: figures that are possible, from loops that do what they say."""

import numpy as np
import pytest

from aiinfra_labs.course.measured import measured
from aiinfra_labs.gpu import this_machine


def test_a_walk_follows_the_table():
    table = memoryview(np.array([2, 0, 1]))
    assert this_machine.walk(table, 0) == 0
    assert [this_machine.walk(table, steps) for steps in (1, 2, 3)] == [2, 1, 0]
    assert this_machine.walk(table, 1, place=2) == 1


def test_a_ring_goes_through_all_its_places_and_walks_go_on():
    places = np.array([6, 2, 4, 0])
    table = this_machine._ring(places, 8)
    seen = [this_machine.walk(memoryview(table), steps, 6) for steps in range(5)]
    assert seen == [6, 2, 4, 0, 6]
    asked = []
    run = this_machine._onward(table, 3)
    original, this_machine.walk = this_machine.walk, lambda t, s, p: asked.append(p) or p + s
    try:
        run()
        run()
    finally:
        this_machine.walk = original
    assert asked == [0, 3]


def test_the_best_repetition_counts(monkeypatch):
    clock = iter([0, 3, 10, 11, 20, 22])
    monkeypatch.setattr(this_machine.time, "perf_counter", lambda: next(clock))
    assert this_machine._best(lambda: None, 3) == 1


def test_an_addition_covers_every_element_once(monkeypatch):
    done = []
    add = np.add

    def counted(a, b, out):
        done.append(out.size)
        return add(a, b, out=out)

    monkeypatch.setattr(this_machine.np, "add", counted)
    this_machine.add_rate(1, threads=3, repetitions=1)
    assert sum(done) == 2**20 // 4 and len(done) == 3


def test_rates_count_what_was_done(monkeypatch):
    monkeypatch.setattr(this_machine, "_best", lambda run, repetitions: run() or 2.0)
    assert this_machine.add_rate(1, 1) == 3 * 2**20 / 2
    monkeypatch.setattr(this_machine, "_best", lambda run, repetitions: 2.0)
    assert this_machine.matmul_rate(8) == 2 * 8**3 / 2


def test_measuring_gives_a_roofline():
    found = this_machine.Measured("a machine", 4, 2e11, 5e10)
    assert found.roofline.ridge == 4
    assert "a machine" in found.roofline.name
    assert this_machine.cpu_name() and this_machine.cores() >= 1


def test_latency_runs_and_says_what_was_under_way():
    found = this_machine.latency(megabytes=1, steps=1000, repetitions=2)
    assert found.under_way == found.in_turn / found.together
    assert this_machine.Latency(100e-9, 10e-9).under_way == pytest.approx(10)


def test_what_is_stored_is_possible():
    for figures in measured("this_machine"):
        assert 1e9 < figures["matmul_rate"] < 1e14 * figures["machine"]["cores"]
        assert 1e9 < figures["add_rate_one_thread"] <= 1.05 * figures["add_rate"] < 2e12
        assert 20e-9 < figures["access_in_turn"] < 1e-6
        assert 2 < figures["access_in_turn"] / figures["access_together"] < 100
        assert figures["rounds"] >= 5
