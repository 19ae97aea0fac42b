"""Planning a MIG board: place all requests, place the most of them, move the fewest. Unit 3.9.

The driver places one request at a time and never moves an instance, so the order of requests
decides whether the last one fits. A planner knows all requests and looks for places for all of
them at once. Boards are small (at most 8 slices), so each search here is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from aiinfra_labs import bounds

from .mig import Gpu, Instance, MigError, MigProfile, legal_starts

MOST_REQUESTS = 16  # 2^16 choices of them; a board has 8 slices


def place_all(gpu: Gpu, requests: Sequence[str], taken: Iterable[int] = ()) -> list[int] | None:
    """A start for each request, in the order of the requests; None when they cannot all stand.

    requests: names of profiles. taken: memory slices already in use. Raises `MigError` for a
    profile that the board does not have, or one str in place of a list.

    Depth first, profiles with the fewest places first: they are the ones that run out of choice.
    """
    profiles = [gpu.profile(name) for name in bounds.texts("requests", requests, MigError)]
    # Requests of one profile are alike: sorted next to each other, each begins after the last.
    order = sorted(range(len(profiles)), key=lambda i: _hardest(profiles[i]))
    starts: list[int] = [-1] * len(profiles)

    def place(position: int, used: frozenset[int]) -> bool:
        if position == len(order):
            return True
        request = order[position]
        profile = profiles[request]
        before = order[position - 1] if position else None
        alike = before is not None and profiles[before] == profile
        for start in legal_starts(profile, used):
            if alike and start < starts[before]:
                continue
            starts[request] = start
            if place(position + 1, used | set(profile.slices(start))):
                return True
        return False

    return starts if place(0, frozenset(taken)) else None


def _hardest(profile: MigProfile) -> tuple[int, int, str]:
    return len(profile.starts), -profile.memory, profile.name


def place_most(gpu: Gpu, requests: Sequence[str], taken: Iterable[int] = ()) -> list[int | None]:
    """A start for as many requests as can stand at once, None for each of the others.

    Of choices with equally many, the one with the most compute slices; then the earliest requests.
    Raises `MigError` as `place_all` does, and for more than `MOST_REQUESTS`, whose choices are too
    many to look through.
    """
    requests = bounds.texts("requests", requests, MigError)
    why = "every choice of them is looked at"
    bounds.whole("the number of requests", len(requests), why, 0, MOST_REQUESTS, MigError)
    used = frozenset(taken)
    best: tuple[int, int] = (-1, -1)
    found: list[int | None] = [None] * len(requests)
    for count in range(len(requests), -1, -1):
        for chosen in combinations(range(len(requests)), count):
            compute = sum(gpu.profile(requests[i]).compute for i in chosen)
            if (count, compute) <= best:
                continue
            starts = place_all(gpu, [requests[i] for i in chosen], used)
            if starts is not None:
                best = (count, compute)
                found = [None] * len(requests)
                for request, start in zip(chosen, starts, strict=True):
                    found[request] = start
        if best[0] == count:
            break
    return found


@dataclass(frozen=True)
class Repartition:
    """Which instances to move so that new ones find a place.

    moves: (instance as it stands, its new start). starts: of the new requests, in their order.
    """

    moves: tuple[tuple[Instance, int], ...]
    starts: tuple[int, ...]


def repartition(
    gpu: Gpu, instances: Sequence[Instance], requests: Sequence[str]
) -> Repartition | None:
    """Places for `requests` beside `instances`, moving as few of these as possible.

    To move an instance is to end what runs on it, destroy it and create it elsewhere. None when no
    number of moves is enough. Raises `MigError` as `place_all` does.
    """
    requests = bounds.texts("requests", requests, MigError)
    for count in range(len(instances) + 1):
        for movers in combinations(range(len(instances)), count):
            staying = [inst for i, inst in enumerate(instances) if i not in movers]
            used = {s for inst in staying for s in inst.slices}
            moved = [instances[i] for i in movers]
            starts = place_all(gpu, [*(m.profile.name for m in moved), *requests], used)
            if starts is not None:
                moves = zip(moved, starts[:count], strict=True)
                return Repartition(tuple(moves), tuple(starts[count:]))
    return None
