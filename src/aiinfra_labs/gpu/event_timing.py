"""Launches timed by the device's own events, as ratios within one run. Unit 3.7.

Only on a GPU do the figures mean anything: the emulator has events, and no clock of a GPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from aiinfra_labs.gpu import cuda


def times_as_long(launches: dict[str, Callable[[], Any]], rounds: int = 21) -> dict[str, float]:
    """How many times as long as the first each launch takes: medians of `rounds`, taken in turn.

    launches: name and what launches a kernel on arrays that are on the device already.
    """
    for launch in launches.values():
        launch()  # compiled, and its data in the cache, before it is timed
    taken: dict[str, list[float]] = {name: [] for name in launches}
    for _ in range(rounds):
        for name, launch in launches.items():
            begin, end = cuda.event(), cuda.event()
            begin.record()
            launch()
            end.record()
            end.synchronize()
            taken[name].append(begin.elapsed_time(end))
    median = {name: statistics.median(times) for name, times in taken.items()}
    first = next(iter(median.values()))
    return {name: time / first for name, time in median.items()}
