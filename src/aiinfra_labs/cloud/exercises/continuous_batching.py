"""The exercises of unit 4.3 on a step: who is in it, and what a caller sees; the claim's verdict.

Plain Python: nothing here computes a token. What is graded is which tokens a plan gives to whom,
and how many steps a workload then takes. Preemption and the hand-over are in
`continuous_batching_blocks`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.course.comparing import is_whole

from . import continuous_batching_views as views

SKILL = "Continuous batching"
Waiting = tuple[str, int]  # a sequence's name, and how many of its tokens are not computed yet
Plan = list[tuple[str, int]]

examine(
    "cont-batch",
    verdict="corrected",
    figure="While requests wait, continuous batching has a token for 99 % of the slots, static "
    "batching for 28 %: above 90 % holds of slots. It does not hold of the GPU: the share of time "
    "in which a step runs, nvidia-smi's utilisation, is 100 % with both, and of an H100's "
    "arithmetic 18 and 10 % are used at most. Mean latency is 28 % lower where static batching "
    "keeps up, and 68 % lower where it does not: no fixed half.",
    how="counted in runs of the engine's scheduler on one seeded workload at four rates, by the "
    "clock of an H100's roofline with Llama 3 8B; by a clock fitted to a CPU, and by the engine "
    "itself there (benchmarks/batching.py), the gain is smaller",
    source="https://www.usenix.org/conference/osdi22/presentation/yu",
)


# --- 4.3.a ---------------------------------------------------------------------------------------

BUDGET = "spends the budget, and no more"
RUNNING = "serves all that run before any that wait"
CHUNK = "cuts a prompt to what is left"
ORDER = "admits in order, and lets none overtake"
SLOTS = "runs no more sequences than there are slots"
WHOLE = "serves a whole workload in as few steps as the rules allow"


@exercise(
    "4.3.a",
    title="The plan of a step",
    points=10,
    central=WHOLE,
    skill=SKILL,
    arguments=("running", "waiting", "budget", "slots"),
    changes=("running", "waiting"),
    hints=(
        (
            BUDGET,
            "Keep what is left of the budget in a variable. Each sequence gets "
            "`min(missing, left)` tokens.",
        ),
        (RUNNING, "One loop over `running`, then one over `waiting`, with the same `left`."),
        (
            CHUNK,
            "A prompt of 100 tokens and 30 left: it gets 30 now, runs from here on, and is among "
            "`running` with 70 missing in the next step.",
        ),
        (
            ORDER,
            "`waiting` is in the order of arrival. Where one cannot be admitted, the loop ends: "
            "`break`, not `continue`.",
        ),
        (
            SLOTS,
            "Every sequence in `running` has a slot, whether it gets a token in this step or not. "
            "A new one takes one more.",
        ),
        (WHOLE, "Leave no token of the budget unspent while one of those that may run lacks some."),
    ),
)
def plan(function: Any, require: Any) -> None:
    """Which sequences compute how many tokens in the next step, as [(name, tokens), ...]."""
    with require(BUDGET) as r:
        for running, waiting, budget in (
            ([("a", 1)], [], 8),
            ([], [("a", 5)], 8),
            ([("a", 1), ("b", 1), ("c", 1)], [], 2),
            ([("a", 1), ("b", 1)], [("c", 6), ("d", 4)], 8),
            ([], [], 8),
        ):
            _plans(r, function, running, waiting, budget, 8)
    with require(RUNNING) as r:
        for running, waiting, budget in (
            ([("a", 1), ("b", 1)], [("c", 20)], 8),
            ([("a", 1), ("b", 30), ("c", 1)], [("d", 2)], 16),
            ([(f"r{i}", 1) for i in range(12)], [("new", 40)], 12),
        ):
            _plans(r, function, running, waiting, budget, 16)
    with require(CHUNK) as r:
        for running, waiting, budget in (
            ([], [("a", 100)], 30),
            ([("a", 70)], [], 30),
            ([("a", 1), ("b", 1)], [("c", 3), ("d", 90)], 16),
        ):
            _plans(r, function, running, waiting, budget, 8)
    with require(ORDER) as r:
        for running, waiting, budget in (
            ([("a", 1)], [("b", 50), ("c", 1)], 8),
            ([("a", 1)], [("b", 9), ("c", 2), ("d", 1)], 14),
        ):
            _plans(r, function, running, waiting, budget, 8)
    with require(SLOTS) as r:
        for running, waiting, slots in (
            ([("a", 1), ("b", 1)], [("c", 2), ("d", 2)], 3),
            ([("a", 1), ("b", 1)], [("c", 2)], 2),
            ([("a", 40), ("b", 1), ("c", 1)], [("d", 2)], 4),
        ):
            _plans(r, function, running, waiting, 64, slots)
    with require(WHOLE) as r:
        for seed in range(4):
            _serves(r, function, seed)


def reference(
    running: Sequence[Waiting], waiting: Sequence[Waiting], budget: int, slots: int
) -> Plan:
    """What `serving.scheduler` does where there are blocks enough."""
    found: Plan = []
    for name, missing in running:
        if budget > 0:
            found.append((name, min(missing, budget)))
            budget -= found[-1][1]
    for name, missing in waiting[: max(0, slots - len(running))]:
        if budget > 0:
            found.append((name, min(missing, budget)))
            budget -= found[-1][1]
    return found


def _plans(
    r: Any,
    function: Any,
    running: list[Waiting],
    waiting: list[Waiting],
    budget: int,
    slots: int,
) -> None:
    label = f"running = {_few(running)}, waiting = {_few(waiting)}, budget = {budget}"
    with r.input(f"{label}, slots = {slots}"):
        got = function(list(running), list(waiting), budget, slots)
        _is_right(r, got, running, waiting, budget, slots)


def _few(rows: Sequence[Any]) -> str:
    return str(list(rows)) if len(rows) < 6 else f"{str(list(rows[:3]))[:-1]}, ... {len(rows)}]"


def _is_right(
    r: Any,
    got: Any,
    running: Sequence[Waiting],
    waiting: Sequence[Waiting],
    budget: int,
    slots: int,
) -> dict[str, int]:
    """The plan as a dict, if it is the right one; else says which rule it breaks."""
    r.that(
        isinstance(got, list | tuple)
        and all(isinstance(row, list | tuple) and len(row) == 2 for row in got),
        what=f"the plan is {got!r}"[:160],
        why="a plan is a list of (name, tokens), empty if there is nothing to do",
        try_="plan.append((name, tokens)), and `return plan` at the end",
        slip=True,
    )
    missing = dict([*running, *waiting])
    found = dict(got)
    for name, tokens in got:
        r.that(
            name in missing,
            what=f"{name!r} is in the plan, and neither runs nor waits",
            why="the names are those of the two lists",
            try_="take name and missing from each row: `for name, missing in running`",
        )
        r.that(
            is_whole(tokens) and tokens > 0,
            what=f"{name!r} gets {tokens!r} tokens",
            why="a sequence without a token is not in the step",
            try_="stop when nothing is left of the budget",
            slip=not is_whole(tokens),
        )
        r.that(
            tokens <= missing[name],
            what=f"{name!r} gets {tokens} tokens, and only {missing[name]} of its own are missing",
            why="what follows them is not known before this step has ended",
            try_="min(missing, left)",
        )
    r.that(
        len(found) == len(got),
        what="a sequence is in the plan twice",
        why="a step computes a sequence's tokens in one piece",
        try_="one row for each",
    )
    _keeps_rules(r, found, running, waiting, budget, slots)
    return found


def _keeps_rules(
    r: Any,
    found: Mapping[str, int],
    running: Sequence[Waiting],
    waiting: Sequence[Waiting],
    budget: int,
    slots: int,
) -> None:
    total = sum(found.values())
    r.that(
        total <= budget,
        what=f"{total} tokens are in the step, and the budget is {budget}",
        why="every sequence in a step waits for all of its tokens: the budget bounds that wait",
        try_="subtract what each one gets before the next one is looked at",
    )
    new = [name for name, _ in waiting if name in found]
    for name, missing in running:
        r.that(
            found.get(name, 0) == missing or not new,
            what=f"{name!r} runs, lacks {missing}, and gets {found.get(name, 0)}, while "
            f"{', '.join(map(repr, new))} {'is' if len(new) == 1 else 'are'} admitted",
            why="someone reads along with a sequence that runs; one that waits has not begun",
            try_="spend the budget on all of `running` first",
        )
    r.that(
        len(running) + len(new) <= slots,
        what=f"{len(running) + len(new)} sequences run, and there are {slots} slots",
        why="each that runs keeps its slot and its blocks until it ends",
        try_="count those that run: len(running), and one more for each that you admit",
    )
    first = [name for name, _ in waiting[: len(new)]]
    r.that(
        new == first,
        what=f"{', '.join(map(repr, new))} is admitted, and {first[0]!r} came first"
        if first
        else "",
        why="who may be overtaken waits for as long as others come: nobody may starve",
        try_="where the first cannot be admitted, none behind it is",
    )
    expected = dict(reference(running, waiting, budget, slots))
    could = [n for n, m in [*running, *waiting] if found.get(n, 0) < expected.get(n, 0)]
    r.that(
        dict(found) == expected,
        what=f"{total} of {budget} tokens are spent, and "
        + (f"{could[0]!r} could have {expected[could[0]]}" if could else "not in order"),
        why="the step reads all weights, whether it computes one token or many: what is not spent "
        "is lost, and a prompt that is cut is computed on in the next step"
        if sum(expected.values()) > total
        else "of those that run, the first come are served first",
        try_="give each min(missing, left), in the order of the lists",
    )


def workload(seed: int, count: int = 12) -> list[tuple[str, int, int, int]]:
    """(name, step of arrival, prompt, new tokens), some prompts far longer than a budget."""
    rng = random.Random(seed)
    return [
        (f"q{i}", rng.randrange(0, 18), rng.choice((3, 7, 12, 60)), rng.randint(1, 14))
        for i in range(count)
    ]


def run(
    planner: Callable[..., Any],
    requests: Sequence[tuple[str, int, int, int]],
    budget: int = 16,
    slots: int = 4,
    look: Callable[..., dict[str, int]] | None = None,
    most: int = 400,
) -> list[dict[str, tuple[int, bool]]]:
    """Steps of a workload: {name: (tokens, whether they were of the prompt)}, until all have ended.

    look(plan, running, waiting): the plan as a dict; by default it is taken as it is.
    """
    todo = {name: [prompt, new] for name, _, prompt, new in requests}
    prompts = {name: prompt for name, _, prompt, _ in requests}
    computed = dict.fromkeys(todo, 0)
    running: list[str] = []
    order = [name for name, *_ in sorted(requests, key=lambda q: (q[1], int(q[0][1:])))]
    arrival = {name: step for name, step, *_ in requests}
    steps: list[dict[str, tuple[int, bool]]] = []
    while any(new for _, new in todo.values()) and len(steps) < most:
        now = len(steps)
        waiting = [n for n in order if arrival[n] <= now and n not in running and todo[n][1]]
        rows = [[(n, todo[n][0]) for n in names] for names in (running, waiting)]
        got = planner(list(rows[0]), list(rows[1]), budget, slots)
        found = look(got, *rows) if look else dict(got)
        running += [n for n in waiting if n in found]
        steps.append({n: (tokens, computed[n] < prompts[n]) for n, tokens in found.items()})
        for name, tokens in found.items():
            computed[name] += tokens
            todo[name][0] -= tokens
            if todo[name][0] == 0:  # its last known token is computed: one more is chosen
                todo[name][1] -= 1
                todo[name][0] = 1
        running = [n for n in running if todo[n][1]]
    return steps


def _serves(r: Any, function: Any, seed: int) -> None:
    requests = workload(seed)
    with r.input(f"12 requests, budget = 16, slots = 4 (seed {seed})"):
        expected = len(run(reference, requests))

        def look(got: Any, running: list[Waiting], waiting: list[Waiting]) -> dict[str, int]:
            return _is_right(r, got, running, waiting, 16, 4)

        steps = run(function, requests, look=look)
        r.at_most(len(steps), expected, "steps", "each step reads all weights", "compare with show")


@plan.show
def _show_plan(function: Any) -> views.Picture:
    requests = workload(0, 8)
    return views.timeline(run(function, requests, most=60), requests)


# --- 4.3.b ---------------------------------------------------------------------------------------

FIRST = "counts the time to first token from the arrival"
PER = "gives the time per output token without the first"
LONGEST = "finds the longest gap"
SINGLE = "knows answers of one token, and of none"


@exercise(
    "4.3.b",
    title="What the caller sees",
    points=6,
    central=PER,
    skill=SKILL,
    arguments=("arrivals", "log"),
    hints=(
        (
            FIRST,
            "A request may wait before any step has it. `times[name][0] - arrivals[name]`, where "
            "`times` collects the ends of the steps that gave it a token.",
        ),
        (
            PER,
            "n tokens have n - 1 gaps between them. The last time minus the first one, over n - 1.",
        ),
        (LONGEST, "max over `b - a` for neighbours: `zip(times, times[1:])`."),
        (SINGLE, "One token has no gap: 0.0 twice. A request without any token is left out."),
    ),
)
def latencies(function: Any, require: Any) -> None:
    """{name: (time to first token, time per output token, longest gap)} from a log of steps."""
    with require(FIRST) as r:
        for arrivals, log in (
            ({"a": 0.0}, [(0.5, ["a"]), (1.0, ["a"])]),
            ({"a": 0.25, "b": 2.0}, [(1.0, ["a"]), (3.0, ["a", "b"]), (3.5, ["b"])]),
        ):
            _sees(r, function, arrivals, log, 0)
    with require(PER) as r:
        for arrivals, log in (
            ({"a": 0.0}, [(1.0, ["a"]), (1.5, ["a"]), (3.0, ["a"])]),
            ({"a": 0.5, "b": 0.0}, [(1.0, ["a", "b"]), (2.0, ["b"]), (6.0, ["a", "b"])]),
            _random_log(1),
        ):
            _sees(r, function, arrivals, log, 1)
    with require(LONGEST) as r:
        for arrivals, log in (
            ({"a": 0.0}, [(4.0, ["a"]), (4.5, ["a"]), (6.5, ["a"]), (7.0, ["a"])]),
            ({"a": 0.0, "b": 0.0}, [(1.0, ["a", "b"]), (2.0, ["b"]), (5.0, ["b"]), (9.0, ["a"])]),
            _random_log(2),
        ):
            _sees(r, function, arrivals, log, 2)
    with require(SINGLE) as r:
        for arrivals, log in (
            ({"a": 1.0}, [(1.5, ["a"])]),
            ({"a": 0.0, "b": 0.0}, [(1.0, ["a"]), (1.5, ["a"])]),
            ({"a": 3.0}, []),
        ):
            _sees(r, function, arrivals, log, None)


Log = list[tuple[float, list[str]]]


def _random_log(seed: int) -> tuple[dict[str, float], Log]:
    rng = random.Random(seed)
    names = [f"q{i}" for i in range(6)]
    arrivals = {name: rng.randrange(8) / 4 for name in names}
    now, log = 2.0, []
    for _ in range(30):
        now += rng.choice((0.25, 0.25, 0.5, 4.0))
        log.append((now, [name for name in names if rng.random() < 0.5]))
    return arrivals, log


def reference_latencies(
    arrivals: Mapping[str, float], log: Log
) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name, arrival in arrivals.items():
        times = [end for end, names in log if name in names]
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        if times:
            mean = sum(gaps) / len(gaps) if gaps else 0.0
            found[name] = (times[0] - arrival, mean, max(gaps, default=0.0))
    return found


def _sees(r: Any, function: Any, arrivals: dict[str, float], log: Log, which: int | None) -> None:
    shown = f"arrivals = {arrivals}, log = {log}" if len(log) < 6 else f"a log of {len(log)} steps"
    with r.input(shown):
        expected = reference_latencies(arrivals, log)
        got = function(dict(arrivals), [(end, list(names)) for end, names in log])
        r.that(
            isinstance(got, Mapping),
            what=f"it returned {'nothing' if got is None else f'a {type(got).__name__}'}",
            why="three figures are asked for each request, by its name",
            try_="a dict: found[name] = (first, per_token, longest)",
            slip=True,
        )
        r.that(
            set(got) == set(expected),
            what=f"there are figures for {sorted(got)}, expected {sorted(expected)}",
            why="a request that got no token yet has no latency, and all others have",
            try_="look at which names come in the log",
        )
        for name, right in expected.items():
            row = got[name]
            r.that(
                isinstance(row, list | tuple) and len(row) == 3,
                what=f"of {name!r} there is {row!r}",
                why="three figures were asked for",
                try_="(first, per_token, longest)",
                slip=True,
            )
            for place in range(3) if which is None else (which,):
                _is_close(r, name, row[place], right[place], place, arrivals[name], log)


NAMES = ("time to first token", "time per output token", "longest gap")


def _is_close(
    r: Any, name: str, got: Any, right: float, place: int, arrival: float, log: Log
) -> None:
    times = [end for end, names in log if name in names]
    n = len(times)
    why = (
        "the caller waits from the moment when the request is sent, in the queue as well",
        f"{n} tokens have {n - 1} gaps, and the first token's wait is none of them"
        if n > 1
        else "a single token has no gap",
        "a reader notices the one long halt, which the mean hides"
        if n > 1
        else "a single token has no gap",
    )[place]
    number = isinstance(got, int | float) and not isinstance(got, bool)
    r.that(
        number and abs(got - right) < 1e-9,
        what=f"the {NAMES[place]} of {name!r} is {got!r}, expected {right:g}",
        why=why,
        try_=f"it came at {arrival:g}, and its tokens at {', '.join(f'{t:g}' for t in times[:6])}",
        slip=not number,
    )
