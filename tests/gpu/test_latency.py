"""Warps that take turns keep to Little's law, on both sides of the limit."""

import pytest

from aiinfra_labs.gpu import latency


@pytest.mark.parametrize("warps", [1, 3, 10, 11, 40])
@pytest.mark.parametrize("transfer", [1.0, 2.5])
def test_warps_that_take_turns_keep_to_littles_law(warps, transfer):
    wait, rounds = 25.0, 400
    done = latency.take_turns(warps, wait, transfer, warps * rounds)
    _, asked, there = done[-1]
    share = len(done) * transfer / there
    assert share == pytest.approx(min(1.0, warps * transfer / wait), rel=0.05)
    assert there - asked == pytest.approx(max(wait, warps * transfer))
    # what is in flight = rate x time under way
    assert len(done) / there * (there - asked) == pytest.approx(warps, rel=0.05)


def test_no_two_loads_come_at_once_and_none_before_its_time():
    done = latency.take_turns(7, 10.0, 2.0, 70)
    arrivals = [there for *_, there in done]
    assert all(b - a >= 2.0 - 1e-9 for a, b in zip(arrivals, arrivals[1:], strict=False))
    assert all(there - asked >= 10.0 for _, asked, there in done)
    assert {warp for warp, *_ in done} == set(range(7))
