"""Exercises 3.9.d and e of unit 3.9: turns on one GPU, and the cheapest way to share it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu.sharing.choice import (
    Option,
    cheapest,
    keeps_promises,
    may_share,
    options,
    try_option,
)
from aiinfra_labs.gpu.sharing.scenarios import BATCH, CHAT, LEAK, SERVICES
from aiinfra_labs.gpu.sharing.simulation import Served
from aiinfra_labs.gpu.sharing.tenants import Tenant
from aiinfra_labs.gpu.sharing.time_slicing import round_robin

from . import gpu_sharing_views as views
from .grading import count

SKILL = "GPU sharing"

# --- 3.9.d -------------------------------------------------------------------------------------

TURNS = "lets jobs take turns, a slice each"
ARRIVE = "lets a job in when it arrives, and waits when there is none"
SWITCH = "pays for each change of process, and for nothing else"
ALL = "ends every job when it should, whatever they are"

Job = tuple[int, int]


@exercise(
    "3.9.d",
    title="Round robin: when does each job end?",
    points=6,
    central=ALL,
    skill=SKILL,
    arguments=("jobs", "slice_us", "switch_us"),
    hints=(
        (
            TURNS,
            "Keep a queue of jobs that have arrived and are not done. Take the first, run it for "
            "`min(slice_us, what is left of it)`, and put it back at the end unless it is done.",
        ),
        (
            ARRIVE,
            "Time is a number that you carry: `now`. When the queue is empty and jobs are still to "
            "come, it jumps to the next arrival.",
        ),
        (
            ARRIVE,
            "A job that arrives during a slice, or as it ends, stands before the job whose slice "
            "has just ended: let arrivals in first, then put that job back.",
        ),
        (
            SWITCH,
            "Remember which job ran last. Only when another one runs now does `now` grow by "
            "`switch_us`; the very first job pays nothing.",
        ),
    ),
)
def turns(function: Any, require: Any) -> None:
    """When each job ends, if jobs take turns of one slice on one GPU."""
    with require(TURNS) as r:
        for jobs, slice_us in (
            ([(0, 5)], 10),
            ([(0, 25)], 10),
            ([(0, 10), (0, 10)], 10),
            ([(0, 30), (0, 10)], 10),
            ([(0, 30), (0, 10), (0, 20)], 10),
            ([(0, 7), (0, 23), (0, 11)], 4),
            ([], 10),
        ):
            _ends(
                r,
                function,
                jobs,
                slice_us,
                0,
                "each runs for a slice in turn; a job that ends gives up the rest of its slice",
            )
    with require(ARRIVE) as r:
        for jobs, slice_us in (
            ([(100, 5)], 10),
            ([(0, 5), (100, 5)], 10),
            ([(0, 30), (5, 10)], 10),
            ([(0, 30), (10, 10)], 10),
            ([(50, 10), (0, 20)], 10),
        ):
            _ends(
                r,
                function,
                jobs,
                slice_us,
                0,
                "a job cannot run before it arrives, and queues behind those that are there; one "
                "that arrives as a slice ends goes before the job that had it",
            )
    with require(SWITCH) as r:
        for jobs, slice_us, switch_us in (
            ([(0, 25)], 10, 3),
            ([(0, 10), (0, 10)], 10, 3),
            ([(0, 30), (0, 10)], 10, 3),
            ([(0, 5), (100, 5)], 10, 3),
        ):
            _ends(
                r,
                function,
                jobs,
                slice_us,
                switch_us,
                "a switch is paid when another job runs than the last, also after a pause; not "
                "before the first job, and not between two slices of one job",
            )
    with require(ALL) as r:
        rng = random.Random(0)
        for number in range(40):
            jobs = [(rng.randrange(60), rng.randrange(1, 40)) for _ in range(1 + number // 5)]
            _ends(
                r,
                function,
                jobs,
                rng.randrange(1, 15),
                rng.randrange(4),
                "worked out turn by turn",
            )


def _ends(r: Any, function: Any, jobs: list[Job], slice_us: int, switch_us: int, why: str) -> None:
    with r.input(f"jobs {jobs}, slice {slice_us}, switch {switch_us}"):
        expected = round_robin(jobs, slice_us, switch_us)
        got = function(list(jobs), slice_us, switch_us)
        r.that(
            isinstance(got, list | tuple) and len(got) == len(jobs),
            what=f"it returned {got!r}, expected a list of {count(len(jobs), 'time', 'times')}",
            why="each job has its end, in the order in which the jobs were given",
            try_="ends = [0] * len(jobs), and ends[job] = now when one is done",
            slip=not isinstance(got, list | tuple),
        )
        got = r.whole(got, "the list of ends")
        wrong = [i for i in range(len(jobs)) if got[i] != expected[i]]
        if wrong:
            job = min(wrong, key=lambda i: expected[i])
            r.that(
                False,
                what=f"job {job} {jobs[job]} ends at {got[job]}, expected {expected[job]}; all: "
                f"{list(got)}, expected {expected}",
                why=why,
                try_="write down who runs from when to when, up to this end",
            )


@turns.show
def _show_turns(function: Any) -> Any:
    jobs = [(0, 9000), (1000, 3000), (2500, 5000)]
    return views.time_slices(jobs, 2000, 100, function(list(jobs), 2000, 100))


# --- 3.9.e -------------------------------------------------------------------------------------

FEWEST = "takes as few GPUs as will do"
P99 = "holds every tenant to its own p99"
FAILURES = "counts a failed request as a broken promise"
TRUST = "puts no untrusted tenant where faults are shared"
PLACE = "goes on where the tenants have no place"
NOTHING = "says None when no option will do"
NO_MORE = "tries nothing dearer once an option will do"

SECONDS = 60.0


@exercise(
    "3.9.e",
    title="The cheapest way to keep every promise",
    points=12,
    central=P99,
    skill=SKILL,
    arguments=("tenants", "options", "try_option"),
    seconds=30.0,
    hints=(
        (
            FEWEST,
            "`options` is in no order. Sort a copy by `option.gpus`, and the first that will do is "
            "the answer.",
        ),
        (
            P99,
            "`served = try_option(tenants, option)` is a dict by name: "
            "`served[tenant.name].p99 <= tenant.slo_ms`, for each tenant that has an `slo_ms`.",
        ),
        (
            FAILURES,
            "A request that found no memory has no latency, so it is not in the p99. "
            "`served[tenant.name].failed` counts them.",
        ),
        (
            TRUST,
            "If any tenant is `untrusted`, an option whose `option.scheme.shares_faults` is true "
            "will not do. That needs no trial.",
        ),
        (
            PLACE,
            "`try_option` gives None where the tenants have no place: two instances of 4g.40gb do "
            "not stand on one board. Ask for that before you look a tenant up.",
        ),
        (NOTHING, "If no option is left, the answer is None, and not the one that misses least."),
    ),
)
def cheapest_option(function: Any, require: Any) -> None:
    """The option of fewest GPUs whose simulation keeps every tenant's promise, or None."""
    with require(FEWEST) as r:
        _chosen(r, function, "four services", list(SERVICES))
        _chosen(r, function, "one service", list(SERVICES[:1]))
    with require(P99) as r:
        _chosen(r, function, "a chat beside a batch job", [CHAT, BATCH])
        tight = [replace(CHAT, slo_ms=48.0), BATCH]
        _chosen(r, function, "the same, with a tighter promise", tight)
    with require(FAILURES) as r:
        _chosen(r, function, "services beside a notebook that leaks", [*SERVICES[:2], LEAK])
    with require(TRUST) as r:
        untrusted = [replace(SERVICES[0], untrusted=True), *SERVICES[1:]]
        _chosen(r, function, "four services, one of them untrusted", untrusted)
    with require(PLACE) as r:
        large = replace(CHAT, profile="4g.40gb", untrusted=True)
        _chosen(r, function, "two large tenants, no trust", [large, replace(large, name="other")])
    with require(NOTHING) as r:
        hopeless = [replace(SERVICES[0], slo_ms=5.0)]
        _chosen(r, function, "a p99 shorter than the work", hopeless)
    with require(NO_MORE) as r:
        for name, tenants in (
            ("four services", list(SERVICES)),
            ("a chat and a batch job", [CHAT, BATCH]),
        ):
            with r.input(name):
                best = cheapest(tenants, options(tenants, 3), _tried)
                tried = _Trials()
                function(list(tenants), _shuffled(tenants), tried)
                dearer = [option for option in tried.options if option.gpus > best.gpus]
                r.that(
                    not dearer,
                    what=f"it tried {dearer[0] if dearer else ''}, and {best} will do",
                    why="a trial stands for a week of load tests: what costs more than an option "
                    "that will do need not be tried",
                    try_="go through the options from the fewest GPUs up, and return at once",
                )


class _Trials:
    """`try_option` as an answer is given it: remembers which options were tried."""

    def __init__(self) -> None:
        self.options: list[Option] = []

    def __call__(self, tenants: Sequence[Tenant], option: Option) -> dict[str, Served] | None:
        self.options.append(option)
        return _tried(tenants, option)


def _tried(tenants: Sequence[Tenant], option: Option) -> dict[str, Served] | None:
    return _simulated(tuple(tenants), option)


@cache
def _simulated(tenants: tuple[Tenant, ...], option: Option) -> dict[str, Served] | None:
    return try_option(tenants, option, SECONDS)


def _shuffled(tenants: Sequence[Tenant]) -> list[Option]:
    """The options in no order: neither the first nor the last is of the fewest GPUs."""
    found, rng = options(tenants, 3), random.Random(len(tenants))
    least, most = found[0].gpus, found[-1].gpus
    rng.shuffle(found)
    while least < most and least in (found[0].gpus, found[-1].gpus):
        rng.shuffle(found)
    return found


def _chosen(r: Any, function: Any, name: str, tenants: list[Tenant]) -> None:
    with r.input(name):
        got = function(list(tenants), _shuffled(tenants), _Trials())
        best = cheapest(tenants, options(tenants, 3), _tried)
        if got is None:
            r.that(
                best is None,
                what=f"it chose nothing, and {best} will do",
                why=_why(tenants, best),
                try_="which of your conditions does this option not meet?",
            )
            return
        r.that(
            isinstance(got, Option),
            what=f"it returned {got!r}, expected one of the options, or None",
            why="the caller sets up what you return",
            try_="return option",
            slip=True,
        )
        r.that(
            may_share(tenants, got),
            what=f"it chose {got} for an untrusted tenant",
            why=f"under {got.scheme.name} all processes run in one fault domain: one that crashes "
            "the GPU takes the others with it",
            try_="leave out options whose scheme shares faults, if a tenant is untrusted",
        )
        if not keeps_promises(_tried(tenants, got)):
            r.that(
                False,
                what=f"it chose {got}, which breaks a promise: {_broken(tenants, got)}",
                why="the simulation says so, on the requests of these tenants",
                try_="look at each tenant's p99 against its own slo_ms, and at failed",
            )
        r.that(
            got.gpus == best.gpus,
            what=f"it chose {got}, and {best} will do",
            why=_why(tenants, best),
            try_="take the options in the order of their GPUs",
        )


def _why(tenants: Sequence[Tenant], option: Option | None) -> str:
    if option is None:
        return ""
    served = _tried(tenants, option) or {}
    kept = [
        f"{s.tenant.name} p99 {s.p99:.0f} of {s.tenant.slo_ms:.0f} ms"
        for s in served.values()
        if s.tenant.slo_ms is not None
    ]
    return f"there: {', '.join(kept[:3])}, no request failed that was promised"


def _broken(tenants: Sequence[Tenant], option: Option) -> str:
    served = _tried(tenants, option)
    if served is None:
        return "the tenants have no place in it"
    worst = next(s for s in served.values() if not s.keeps_its_promise)
    if worst.failed:
        return f"{worst.tenant.name} had {worst.failed} failed requests"
    return (
        f"{worst.tenant.name} has a p99 of {worst.p99:.0f} ms, promised {worst.tenant.slo_ms:.0f}"
    )


@cheapest_option.show
def _show_choice(function: Any) -> Any:
    tenants = [CHAT, BATCH]
    trials = _Trials()
    chosen = function(list(tenants), _shuffled(tenants), trials)
    rows = [(option, _tried(tenants, option)) for option in options(tenants, 3)]
    return views.choice("chat", rows, chosen, trials.options)
