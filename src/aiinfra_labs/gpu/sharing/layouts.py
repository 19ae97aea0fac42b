"""Every arrangement of a MIG board, to hold a plan to. Unit 3.9.

A layout is a set of (profile, start) whose slices do not overlap. A board of 8 slices has some
hundreds; each is written down once, as the profiles that it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from aiinfra_labs import bounds

from .mig import Gpu, MigError

Layout = tuple[tuple[str, int], ...]  # (profile, start) of each instance, by start


@cache
def layouts(gpu: Gpu) -> tuple[Layout, ...]:
    """All of them, the empty one first."""
    found: list[Layout] = []

    def extend(slice_: int, placed: Layout) -> None:
        if slice_ == gpu.memory_slices:
            found.append(placed)
            return
        extend(slice_ + 1, placed)  # this slice stays free
        for profile in gpu.profiles:
            if slice_ in profile.starts:
                extend(slice_ + profile.memory, (*placed, (profile.name, slice_)))

    extend(0, ())
    return tuple(sorted(found, key=len))


def can_stand(gpu: Gpu, requests: Sequence[str], used: Iterable[int] = ()) -> list[int] | None:
    """Starts with which all requests stand beside the slices `used`; None if there are none.

    requests: names of profiles. Raises `MigError` for one that the board does not have.
    """
    for name in bounds.texts("requests", requests, MigError):
        gpu.profile(name)
    wanted, used = Counter(requests), set(used)
    for layout in layouts(gpu):
        if len(layout) != len(requests) or Counter(name for name, _ in layout) != wanted:
            continue
        if any(used.intersection(gpu.profile(name).slices(start)) for name, start in layout):
            continue
        places = {name: [start for other, start in layout if other == name] for name in wanted}
        return [places[name].pop() for name in requests]
    return None
