"""The exercises of unit 3.9 on MIG, and what the unit found of the talk's claims.

Boards are filled at random, with the profiles and places of NVIDIA's tables. What an answer may do
is counted out: every arrangement of a board is known (`gpu/sharing/layouts.py`), and an answer that
says "impossible" is held to all of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.gpu.sharing.layouts import can_stand
from aiinfra_labs.gpu.sharing.mig import Board, Gpu, Instance, gpus, legal_starts

from . import gpu_sharing_views as views
from .grading import count

SKILL = "GPU sharing"
PLACEMENTS = "https://docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-mig-profiles.html"
DEVICE_PLUGIN = "https://github.com/NVIDIA/k8s-device-plugin#shared-access-to-gpus"

examine(
    "mig-7",
    verdict="reproduced",
    figure="7 on A100, H100 and H200, and no arrangement holds more; 4 on an A30. Seven instances "
    "have 112 of an H100's 132 multiprocessors; two 3g instances take all 8 memory slices and 6 "
    "of 7 compute slices. The PCIe link and the power limit are still shared.",
    how="every arrangement of NVIDIA's placement tables counted out",
    source=PLACEMENTS,
)
examine(
    "time-slice",
    verdict="reproduced",
    figure="Of four ways to give a service, a batch job and a notebook a GPU, time slices use it "
    "most (86 % against 51 % by MIG and 35 % of three whole GPUs), and the service's p99 is 2.9 "
    "times what it is alone. The talk leaves out that memory and faults are shared, too.",
    how="simulated for 60 s with slices of 2 ms and switches of 0.1 ms, the same requests for all",
    source=DEVICE_PLUGIN,
)
examine(
    "hami",
    verdict="corrected",
    figure="What is false is the limit on compute: it counts blocks, not time, and by its rule a "
    "limit of 30 % gave between 29 % and 99 %, by the kernels' grids. What holds: Apache 2.0 (and "
    "since 2026 a CNCF incubating project); the memory limit, for programs that load its library; "
    "a webhook, a scheduler extender, a device plugin and HAMi-core, with a monitor beside them. "
    "Faults are not isolated: the processes take turns on one GPU. Stars were not counted.",
    how="its rules read in HAMi-core's source and run here; the limiter simulated for 60 s with "
    "each of 12 kernels",
    source="https://github.com/Project-HAMi/HAMi",
)
examine(
    "sharing-choice",
    verdict="opinion",
    figure="Three sets of tenants, made up to stand for a bank, an internet company and a class, "
    "come out as the talk says. One changed property turns each round: a bank whose tenants trust "
    "each other needs no MIG, a student who leaks memory makes time slices fail.",
    how="the cheapest of 4 schemes on up to 4 GPUs that keeps every p99, by simulation",
    source=DEVICE_PLUGIN,
)


# --- 3.9.a -------------------------------------------------------------------------------------

EMPTY = "knows the places of an empty board"
APART = "lets no two instances have a slice"
FRAGMENTED = "tells a place from free slices"
KEEPS_TAKEN = "leaves the list of instances as it was"


@exercise(
    "3.9.a",
    title="Where may an instance begin?",
    points=6,
    central=APART,
    skill=SKILL,
    arguments=("size", "starts", "taken"),
    changes=("starts", "taken"),  # a requirement of its own looks at them
    hints=(
        (EMPTY, "`starts` is the list of places. On an empty board, which of them are left out?"),
        (
            APART,
            "An instance of size 4 that begins at 0 has the slices 0, 1, 2 and 3: "
            "`range(0, 0 + 4)`. Which of them has another instance already?",
        ),
        (
            APART,
            "Collect the slices that are in use in a set. A start is legal when none of the slices "
            "from `start` to `start + size - 1` is in it.",
        ),
        (FRAGMENTED, "Never count free slices. Ask of each start whether all its slices are free."),
    ),
)
def where_may_it_begin(function: Any, require: Any) -> None:
    """The legal starts of an instance of `size` memory slices, beside the instances `taken`."""
    with require(EMPTY) as r:
        for gpu in gpus().values():
            for profile in gpu.profiles:
                with r.input(f"{gpu.name}, {profile.name}, no instance"):
                    _same_starts(
                        r,
                        function(profile.memory, list(profile.starts), []),
                        list(profile.starts),
                        "an empty board has every place of the profile, in order",
                    )
    with require(APART) as r:
        for board, profile in _boards(60, seed=1):
            taken = _taken(board)
            with r.input(f"{profile.name}: size {profile.memory}, instances {_shown(taken)}"):
                _same_starts(
                    r,
                    function(profile.memory, list(profile.starts), list(taken)),
                    legal_starts(profile, board.taken),
                    f"the slices {_numbers(sorted(board.taken)) or 'none'} are in use",
                )
    with require(FRAGMENTED) as r:
        for name, profile, taken in (
            ("a100-40gb", "3g.20gb", [(6, 1), (4, 1), (0, 2)]),
            ("h100-80gb", "2g.20gb", [(1, 1), (3, 1), (4, 1)]),
            ("h100-80gb", "4g.40gb", [(0, 1)]),
            ("a30-24gb", "2g.12gb", [(0, 1), (3, 1)]),
        ):
            wanted = gpus()[name].profile(profile)
            with r.input(f"{profile}: size {wanted.memory}, instances {_shown(taken)}"):
                used = {s for start, size in taken for s in range(start, start + size)}
                free = gpus()[name].memory_slices - len(used)
                _same_starts(
                    r,
                    function(wanted.memory, list(wanted.starts), list(taken)),
                    legal_starts(wanted, used),
                    f"{free} slices are free, and it may begin only at "
                    f"{_numbers(wanted.starts)}: each place meets an instance",
                )
    with require(KEEPS_TAKEN) as r, r.input("2g.20gb, instances (4, 4)"):
        starts, taken = [0, 2, 4], [(4, 4)]
        function(2, starts, taken)
        r.that(
            starts == [0, 2, 4] and taken == [(4, 4)],
            what=f"after the call, starts is {starts} and taken is {taken}",
            why="the caller goes on with its lists",
            try_="make a list of your own and return it",
        )


def _same_starts(r: Any, got: Any, expected: list[int], why: str) -> None:
    r.that(
        isinstance(got, list | tuple) and all(_is_int(start) for start in got),
        what=f"it returned {got!r}, expected a list of starts",
        why="an instance may have several places, or none: then the list is empty",
        try_="return the starts in a list",
        slip=True,
    )
    r.that(
        list(got) == expected,
        what=f"it returned {list(got)}, expected {expected}",
        why=why,
        try_="write down the slices that the first start in question would take",
    )


# --- 3.9.b -------------------------------------------------------------------------------------

LEGAL = "places every request on slices of its own"
ORDER = "finds the places whatever the order of the requests"
NONE = "says None when there is no arrangement"
BESIDE = "works beside instances that are there already"


@exercise(
    "3.9.b",
    title="Plan a board: all requests, or none",
    points=6,
    central=ORDER,
    skill=SKILL,
    arguments=("profiles", "requests", "taken"),
    seconds=20.0,
    hints=(
        (
            LEGAL,
            "Return one start for each request, in the order of the requests: "
            "`starts[i]` belongs to `requests[i]`.",
        ),
        (
            ORDER,
            "Taking the first legal start for each request is what the driver's caller does, and "
            "it paints itself into a corner. What do you do when a later request finds no place?",
        ),
        (
            ORDER,
            "Try each legal start of the first request; for each, try to place the rest (a call of "
            "the function itself, with the slices added to `taken`). If the rest has no "
            "arrangement, try the next start.",
        ),
        (
            NONE,
            "With no request left to place, the answer is the empty list: that is how the "
            "recursion ends. When no start of a request leads to an arrangement, it is None.",
        ),
        (BESIDE, "`taken` holds slices that are in use before you begin. Start from them."),
    ),
)
def plan_a_board(function: Any, require: Any) -> None:
    """A start for each requested profile so that all stand at once, or None."""
    with require(LEGAL) as r:
        for id, requests in (
            ("h100-80gb", []),
            ("h100-80gb", ["7g.80gb"]),
            ("h100-80gb", ["1g.10gb"] * 3),
            ("h100-80gb", ["4g.40gb", "2g.20gb", "1g.10gb"]),
            ("a30-24gb", ["2g.12gb", "1g.6gb"]),
        ):
            _planned(r, function, gpus()[id], requests)
    with require(ORDER) as r:
        for id, requests in (
            ("a100-40gb", ["1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"]),
            ("h100-80gb", ["3g.40gb", "2g.20gb", "2g.20gb"]),
            ("h100-80gb", ["3g.40gb", "4g.40gb"]),
            ("h100-80gb", ["1g.20gb", "2g.20gb", "2g.20gb", "2g.20gb"]),
        ):
            _planned(r, function, gpus()[id], requests)
        for gpu, requests, used in _requests(40, seed=2, possible=True):
            _planned(r, function, gpu, requests, used)
    with require(NONE) as r:
        for id, requests in (
            ("h100-80gb", ["4g.40gb", "4g.40gb"]),
            ("h100-80gb", ["2g.20gb"] * 4),
            ("h100-80gb", ["4g.40gb", "3g.40gb", "1g.10gb"]),
            ("a30-24gb", ["4g.24gb", "1g.6gb"]),
        ):
            _planned(r, function, gpus()[id], requests)
        for gpu, requests, used in _requests(25, seed=3, possible=False):
            _planned(r, function, gpu, requests, used)
    with require(BESIDE) as r:
        for id, requests, used in (
            ("h100-80gb", ["1g.10gb"], {0, 1, 2, 3}),
            ("h100-80gb", ["3g.40gb"], {6}),
            ("h100-80gb", ["1g.20gb", "1g.10gb"], {0, 1, 4, 5}),
            ("a100-40gb", ["3g.20gb"], {0, 1, 4, 6}),
        ):
            _planned(r, function, gpus()[id], requests, used)


def _planned(
    r: Any, function: Any, gpu: Gpu, requests: Sequence[str], used: set[int] | None = None
) -> None:
    """One call, held to every arrangement of the board."""
    used = used or set()
    beside = f", slices {_numbers(sorted(used))} in use" if used else ""
    profiles = {p.name: (p.memory, list(p.starts)) for p in gpu.profiles}
    with r.input(f"{gpu.name}: {', '.join(requests) or 'no request'}{beside}"):
        got = function(profiles, list(requests), set(used))
        possible = can_stand(gpu, requests, used)
        if got is None:
            r.that(
                not possible,
                what="it returned None, and there is an arrangement",
                why=f"{_numbers(possible or ())} are starts with which all of them stand at once",
                try_="follow your search: where did it give up, and which start was left untried?",
            )
            return
        r.that(
            isinstance(got, list | tuple) and len(got) == len(requests) and all(map(_is_int, got)),
            what=f"it returned {got!r}, expected {count(len(requests), 'start', 'starts')} or None",
            why="each request has one start, in the order of the requests",
            try_="None stands for the whole plan: return it alone, not within a list",
            slip=not (isinstance(got, list | tuple) and all(map(_is_int, got))),
        )
        _stand(r, gpu, requests, list(got), used)


def _stand(r: Any, gpu: Gpu, requests: Sequence[str], got: list[int], used: set[int]) -> None:
    has = dict.fromkeys(used, "an instance that is there already")
    for name, start in zip(requests, got, strict=True):
        profile = gpu.profile(name)
        r.that(
            start in profile.starts,
            what=f"{name} is to begin at {start}, and may only at {_numbers(profile.starts)}",
            why="the hardware has no other places for this profile",
            try_="choose among `profiles[name][1]`",
        )
        for place in profile.slices(start):
            r.that(
                place not in has,
                what=f"{name} at {start} and {has.get(place)} both have slice {place}: {got}",
                why="a memory slice belongs to one instance",
                try_="add the slices of each placed request to those in use, before the next",
            )
            has[place] = f"{name} at {start}"


# --- boards and requests -----------------------------------------------------------------------


def _boards(number: int, seed: int) -> list[tuple[Board, Any]]:
    """Boards filled at random, each with a profile to place; the emptiest first."""
    rng = random.Random(seed)
    found = []
    for _ in range(number):
        gpu = rng.choice(list(gpus().values()))
        board = Board(gpu)
        for _ in range(rng.randrange(1, 6)):
            profile = rng.choice(gpu.profiles[:-1])
            starts = board.starts(profile.name)
            if starts:
                board.create(profile.name, rng.choice(starts))
        found.append((board, rng.choice(gpu.profiles[:-1])))
    return sorted(found, key=lambda made: len(made[0].instances))


def _requests(number: int, seed: int, possible: bool) -> list[tuple[Gpu, list[str], set[int]]]:
    """Requests at random that can (or cannot) all stand, some beside slices in use."""
    rng = random.Random(seed)
    found = []
    while len(found) < number:
        gpu = rng.choice(list(gpus().values()))
        requests = [rng.choice(gpu.profiles[:-1]).name for _ in range(rng.randrange(1, 6))]
        used = {rng.randrange(gpu.memory_slices) for _ in range(rng.randrange(3))}
        if (can_stand(gpu, requests, used) is not None) == possible:
            found.append((gpu, requests, used))
    return sorted(found, key=lambda case: len(case[1]))


def _taken(board: Board) -> list[tuple[int, int]]:
    return [(i.start, i.profile.memory) for i in board.instances.values()]


def _shown(taken: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"({start}, {size})" for start, size in taken) or "none"


def _numbers(values: Any) -> str:
    return ", ".join(map(str, values))


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


@where_may_it_begin.show
def _show_starts(function: Any) -> Any:
    gpu = gpus()["h100-80gb"]
    board = Board(gpu, [Instance(4, gpu.profile("1g.10gb")), Instance(6, gpu.profile("1g.10gb"))])
    rows = [
        (p, [s for s in function(p.memory, list(p.starts), _taken(board)) or [] if _is_int(s)])
        for p in gpu.profiles
    ]
    return views.starts_by_profile(board, rows)


@plan_a_board.show
def _show_plan(function: Any) -> Any:
    gpu = gpus()["h100-80gb"]
    requests = ["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"]
    profiles = {p.name: (p.memory, list(p.starts)) for p in gpu.profiles}
    return views.plan(gpu, requests, function(profiles, list(requests), set()))
