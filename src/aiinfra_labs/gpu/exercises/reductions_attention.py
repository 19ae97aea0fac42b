"""The exercises 3.6.a to 3.6.c: a block's sum, a warp's prefix sums, softmax read once. Unit 3.6.

Those on attention are in `attention_steps.py`. Sums are of whole numbers, which float32 adds
exactly in any order. Outputs start full of NaN, and shared memory is poisoned by the emulator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu import emulator

from . import reduction_views as views
from .grading import (
    count,
    few_sectors,
    launch,
    not_written,
    outside_means,
    profile,
    shape_of,
    written_once,
)
from .thread_map import TracedLaunch

SKILL = "Reductions and attention"
THREADS = 256  # of a block in 3.6.a

# --- 3.6.a -------------------------------------------------------------------------------------

SUMS = "adds the 256 elements of each block, where the array ends, too"
ORDER = "puts a barrier wherever one thread reads what another wrote"
TREE = "shares the additions out: no thread reads more than a few"
WHOLE = "lets whole warps drop out, not some lanes of every warp"
BANKS = "lets the lanes of a warp reach different banks"

MOST_READS = 32  # of one thread: a tree of 256 has 8 steps of 2 reads
MOST_DIVERGENT = 16  # a block: 6 in a tree, 10 with shuffles, 48 where neighbours add first


@exercise(
    "3.6.a",
    title="The sum of a block",
    points=8,
    central=SUMS,
    skill=SKILL,
    arguments=("x", "sums"),
    kind="kernel",
    hints=(
        (
            SUMS,
            "Each thread puts its element into shared memory, `cuda.shared.array(256, "
            "np.float32)`; a thread past the end of x puts 0. Then half of the threads add the "
            "other half's values to their own, then half of those, and so on, until one is left.",
        ),
        (
            ORDER,
            "`cuda.syncthreads()` after the first stores, and in every round of the loop; never "
            "inside an `if` that some threads of the block do not enter.",
        ),
        (
            TREE,
            "If one thread adds all of them, 255 wait. 128 threads can do 128 additions at once, "
            "64 the next 64: eight rounds in all.",
        ),
        (
            WHOLE,
            "`if thread % (2 * step) == 0` leaves work in every warp and idles half of its lanes, "
            "then three quarters. Who should work, if whole warps are to have nothing to do? Add "
            "`partial[thread + half]` for `thread < half`, with half = 128, 64, ..., 1.",
        ),
        (
            BANKS,
            "Words that are 32 apart lie in one bank, so threads that are 2, 4, 8 ... words apart "
            "share banks. Let neighbouring threads read neighbouring words.",
        ),
    ),
)
def block_sum(kernel: Any, require: Any) -> None:
    """sums[block] = the sum of x[256 block] to x[256 block + 255], as far as x goes."""
    with require(SUMS) as r:
        for n in (256, 512, 1000, 257, 1):
            with r.input(_sized(n)):
                x, sums = _whole_numbers(n)
                with _past_the_end():
                    launch(kernel, sums.size, THREADS, x, sums)
                r.equal(
                    sums.copy_to_host(),
                    _block_sums(x.copy_to_host()),
                    name="sums",
                    why="sums is full of nan before the launch, and so is shared memory: a nan "
                    "was never stored, or was read before anything was"
                    if np.isnan(sums.copy_to_host()).any()
                    else "the elements are whole numbers, so that every order of additions "
                    "gives the same sum",
                    try_="add up by hand which elements reach partial[0] after the last round; "
                    "a thread past the end of x must put 0 there",
                )
    with require(ORDER) as r, r.input(_sized(1000)):
        x, sums = _whole_numbers(1000)
        launch(kernel, sums.size, THREADS, x, sums, check=True)
        _adds_up(r, x, sums)
    with require(TREE) as r, r.input(_sized(1024)):
        x, sums = _whole_numbers(1024)
        with emulator.trace() as trace:
            launch(kernel, sums.size, THREADS, x, sums)
        _adds_up(r, x, sums)
        reads = views.loads_of_the_busiest(trace.accesses, THREADS)
        r.that(
            reads <= MOST_READS,
            what=f"one thread reads {count(reads, 'value', 'values')}, where "
            f"{MOST_READS} are plenty",
            why="a block is as slow as its slowest thread, and the others wait for it at the "
            "barrier: 256 values can be added in 8 rounds",
            try_="in each round let every thread that still works add one value, and halve "
            "their number",
        )
    with require(WHOLE) as r, r.input(_sized(1024)):
        report = _counted(r, kernel)
        divergent = report.divergent_branches / report.blocks
        r.that(
            divergent <= MOST_DIVERGENT,
            what=f"the warps of a block split at {divergent:g} branches, where {MOST_DIVERGENT} "
            f"are plenty; {report.lanes_per_instruction:.1f} of 32 lanes are active on average",
            why="a warp runs both sides of a branch that its lanes take in different ways; where "
            "every warp keeps a few lanes at work, none of them is ever done",
            try_="let the first half of the threads do the additions: their warps are full, and "
            "those of the other half are done",
        )
    with require(BANKS) as r, r.input(_sized(1024)):
        report = _counted(r, kernel)
        loads = report.wavefronts_per_shared_load
        stores = report.wavefronts_per_shared_store
        r.that(
            report.bank_conflicts == 0,
            what=f"{report.bank_conflicts} bank conflicts: {loads:.3g} wavefronts a shared load "
            f"and {stores:.3g} a store, where 1 suffices",
            why="a bank serves one word at a time, and the words of lanes that are 2, 4, 8 ... "
            "words apart lie in 16, 8, 4 ... banks",
            try_="thread t reads partial[t] and partial[t + half]: neighbours side by side",
        )


def _sized(n: int) -> str:
    return f"n = {n}, {shape_of(-(-n // THREADS), THREADS)}"


def _whole_numbers(n: int) -> tuple[Any, Any]:
    """x of whole numbers from 1 to 9, and sums full of NaN, on the emulated device."""
    x = np.random.default_rng(n).integers(1, 10, n).astype(np.float32)
    sums = np.full(-(-n // THREADS), np.nan, np.float32)
    return emulator.to_device(x), emulator.to_device(sums)


def _block_sums(x: np.ndarray) -> np.ndarray:
    padded = np.zeros(-(-x.size // THREADS) * THREADS, np.float32)
    padded[: x.size] = x
    return padded.reshape(-1, THREADS).sum(axis=1)


def _counted(r: Any, kernel: Any) -> Any:
    """The report of a launch on 1024 elements, whose sums must be right to be judged."""
    x, sums = _whole_numbers(1024)
    report = profile(kernel, sums.size, THREADS, x, sums)
    _adds_up(r, x, sums)
    return report


def _adds_up(r: Any, x: Any, sums: Any) -> None:
    got, expected = sums.copy_to_host(), _block_sums(x.copy_to_host())
    r.that(
        np.array_equal(got, expected),
        what=f"sums[0] is {got[0]:g}, expected {expected[0]:g}",
        why="what a kernel costs is judged when it is right",
        try_="meet the first requirement first",
    )


def _past_the_end() -> Any:
    return outside_means(
        "the last block has more threads than x has elements left",
        "ask `if i < x.size` before you read x[i], and take 0 where there is no element",
    )


# --- 3.6.b -------------------------------------------------------------------------------------

PREFIX = "gives each lane the sum of its own value and all before it"
PARTIAL = "works where the last warp has fewer elements than lanes"
REGISTERS = "stays in registers: one load and one store an element"
FIVE = "takes five shuffles a warp"
MOST_SHUFFLES = 6  # a warp: one more than the steps


@exercise(
    "3.6.b",
    title="Prefix sums by shuffles",
    points=6,
    central=PREFIX,
    skill=SKILL,
    arguments=("x", "out"),
    kind="kernel",
    hints=(
        (
            PREFIX,
            "`cuda.shfl_up_sync(0xffffffff, value, d)` gives a lane the `value` of the lane d "
            "before it. After adding the neighbour's (d = 1) each lane holds a sum of two. Which "
            "d adds the two values before those?",
        ),
        (
            PREFIX,
            "Lane 3 has no lane 4 before it: the shuffle then gives back its own value. Shuffle "
            "in all lanes, and add only `if lane >= d`.",
        ),
        (
            PARTIAL,
            "A shuffle waits for every lane that its mask names. Keep it outside `if i < x.size`: "
            "let a lane without an element take part with 0.",
        ),
        (FIVE, "d = 1, 2, 4, 8, 16: each step doubles how many values a lane has added up."),
    ),
)
def warp_prefix_sums(kernel: Any, require: Any) -> None:
    """out[i] = the sum of x from the first element of i's warp to x[i]; a warp has 32."""
    with require(PREFIX) as r:
        for n, threads in ((32, 32), (256, 64), (512, 128)):
            with r.input(f"n = {n}, {shape_of(n // threads, threads)}"):
                _same_prefix_sums(r, kernel, n, threads)
    with require(PARTIAL) as r:
        for n, threads in ((1, 32), (40, 64), (100, 128)):
            with r.input(f"n = {n}, {shape_of(-(-n // threads), threads)}"), _past_the_end():
                _same_prefix_sums(r, kernel, n, threads)
    with require(REGISTERS) as r, r.input(f"n = 256, {shape_of(2, 128)}"):
        traced = TracedLaunch(kernel, 2, 128, *_to_scan(256))
        not_written(r, traced, {0: "x"})
        reads = int(traced.times("load", 0).max())
        r.that(
            reads <= 1,
            what=f"elements of x are read up to {reads} times",
            why="every lane can have its neighbours' values from their registers",
            try_="read x[i] once, into a variable, and shuffle that",
        )
        written_once(r, traced, 1, "out")
        report = profile(kernel, 2, 128, *_to_scan(256))
        shared = report.shared_load_requests + report.shared_store_requests
        r.that(
            not shared and not report.global_atomic_requests,
            what=f"{count(shared, 'request', 'requests')} to shared memory, and "
            f"{report.global_atomic_requests} atomic ones",
            why="lanes of one warp need no memory to exchange values",
            try_="cuda.shfl_up_sync in place of the shared array",
        )
    with require(FIVE) as r, r.input(f"n = 256, {shape_of(2, 128)}"):
        x, out = _to_scan(256)
        report = profile(kernel, 2, 128, x, out)
        warps = 8
        each = report.shuffles / warps
        right = np.array_equal(out.copy_to_host(), _prefix_sums(x.copy_to_host()))
        r.that(
            right and 0 < each <= MOST_SHUFFLES,
            what=f"{each:g} shuffles a warp, where 5 suffice"
            if right
            else "the sums are not right yet",
            why="adding one lane at a time takes 31 steps; if each lane already holds the sum of "
            "d values, the sum that ends d lanes before it makes that 2 d",
            try_="double the distance at each step",
        )


def _same_prefix_sums(r: Any, kernel: Any, n: int, threads: int) -> None:
    x, out = _to_scan(n)
    launch(kernel, -(-n // threads), threads, x, out, check=True)
    got, expected = out.copy_to_host(), _prefix_sums(x.copy_to_host())
    r.equal(
        got,
        expected,
        name="out",
        why="out is full of nan before the launch: nan marks an element that no thread wrote"
        if np.isnan(got).any()
        else _why_other_sums(x.copy_to_host(), got),
        try_="show draws which lanes' values reach which lane",
    )


def _why_other_sums(x: np.ndarray, got: np.ndarray) -> str:
    expected = _prefix_sums(x)
    if np.array_equal(got, expected - x):
        return "each lane left its own value out: that is the exclusive scan"
    if np.array_equal(got[:32], np.cumsum(x[:32][::-1])[::-1]):
        return (
            "the lanes after it were added: shfl_down reads from higher lanes, shfl_up from lower"
        )
    if x.size > 32 and np.array_equal(got, np.cumsum(x)):
        return "each warp begins anew: its first lane has only its own value"
    if got[0] == 32 * x[0]:
        return (
            "lane 0 has no lane before it, and its shuffle gives it its own value, which it added"
        )
    return "out[i] is the sum of the values of its warp up to and with x[i]"


def _to_scan(n: int) -> tuple[Any, Any]:
    x = np.random.default_rng(n).integers(1, 100, n).astype(np.float32)
    return emulator.to_device(x), emulator.to_device(np.full(n, np.nan, np.float32))


def _prefix_sums(x: np.ndarray) -> np.ndarray:
    """The inclusive scan of each 32 elements."""
    return np.concatenate([np.cumsum(x[w : w + 32]) for w in range(0, x.size, 32)])


# --- 3.6.c -------------------------------------------------------------------------------------

BOTH = "finds each row's largest value and the sum of exp(x - largest)"
LARGE = "overflows nowhere, however large the values are and in whatever order"
MASKED = "takes -inf for a value that is not there, also where a row has no other"
ONE_READING = "reads each element once"
SIDE_BY_SIDE = "lets the lanes of a warp read side by side"


@exercise(
    "3.6.c",
    title="Online softmax: maximum and sum in one reading",
    points=8,
    central=BOTH,
    skill=SKILL,
    arguments=("x", "largest", "total"),
    kind="kernel",
    hints=(
        (
            BOTH,
            "Each lane takes the columns lane, lane + 32, ... and keeps two numbers: the largest "
            "value so far, and the sum of exp(value - largest). When a larger value comes, what "
            "factor turns the sum that it has into one relative to the new largest?",
        ),
        (
            BOTH,
            "exp(v - old) = exp(v - new) exp(new - old): multiply the sum by exp(old - new), then "
            "add exp(value - new). Two lanes' pairs merge in the same way; five steps of "
            "`cuda.shfl_xor_sync` leave the row's pair in every lane.",
        ),
        (
            LARGE,
            "exp of a float32 beyond 88 is inf. Every exponent that you take must be a difference "
            "from the largest value known, which is never positive.",
        ),
        (
            MASKED,
            "-inf - -inf is nan. As long as nothing but -inf has come, the sum is 0: ask before "
            "you subtract.",
        ),
        (
            ONE_READING,
            "One loop over the columns. It updates both numbers, and no second one reads the row.",
        ),
    ),
)
def maximum_and_sum(kernel: Any, require: Any) -> None:
    """For each row its largest value, and the sum of exp(x - largest): one warp a row."""
    with require(BOTH) as r:
        for rows, columns in ((1, 32), (3, 100), (2, 7), (1, 1), (4, 64)):
            x = np.random.default_rng(columns).normal(0, 3, (rows, columns))
            _same_pairs(r, kernel, x, "")
    with require(LARGE) as r:
        rising = np.linspace(-500, 500, 96)[None]
        for name, x in (
            ("rising from -500 to 500", rising),
            ("falling from 500 to -500", rising[:, ::-1]),
            ("between 990 and 1,010", 1000 + 10 * np.cos(np.arange(70))[None]),
        ):
            _same_pairs(r, kernel, x, name)
    with require(MASKED) as r:
        x = np.random.default_rng(6).normal(0, 3, (3, 80))
        x[0, :70], x[1, 1:], x[2, ::2] = -np.inf, -np.inf, -np.inf
        _same_pairs(r, kernel, x, "-inf in places")
        _same_pairs(r, kernel, np.full((2, 40), -np.inf), "nothing but -inf")
    with require(ONE_READING) as r:
        for rows, columns in ((2, 100), (3, 64)):
            x = np.random.default_rng(columns).normal(0, 3, (rows, columns))
            with r.input(_rows(x)):
                traced = TracedLaunch(kernel, rows, 32, *_pairs(x))
                not_written(r, traced, {0: "x"})
                times = traced.times("load", 0)
                r.that(
                    (times == 1).all(),
                    what=f"{times.sum():,} loads for {x.size:,} elements of x: the one read most "
                    f"is read {count(times.max(), 'time', 'times')}, the one read least "
                    f"{count(times.min(), 'time', 'times')}",
                    why="a row of scores may be larger than any memory on the chip: each reading "
                    "comes from DRAM, and takes as long as the first",
                    try_="one loop that keeps both numbers, and reads x[row, column] once",
                )
    with require(SIDE_BY_SIDE) as r, r.input("2 rows of 1024 columns"):
        x = np.random.default_rng(1).normal(0, 3, (2, 1024))
        report = profile(kernel, 2, 32, *_pairs(x))
        few_sectors(
            r,
            "load",
            report.sectors_per_load,
            why="lanes that each have a stretch of the row read far apart",
            try_="lane, lane + 32, lane + 64, ...: range(lane, x.shape[1], 32)",
        )


def _rows(x: np.ndarray) -> str:
    return (
        f"{count(x.shape[0], 'row', 'rows')} of {count(x.shape[1], 'column', 'columns')}, "
        f"{shape_of(x.shape[0], 32)}"
    )


def _pairs(x: np.ndarray) -> tuple[Any, Any, Any]:
    nan = np.full(x.shape[0], np.nan, np.float32)
    return tuple(map(emulator.to_device, (x.astype(np.float32), nan, nan)))


def _same_pairs(r: Any, kernel: Any, values: np.ndarray, name: str) -> None:
    with r.input(_rows(values) + (f", {name}" if name else "")):
        x, largest, total = _pairs(values)
        launch(kernel, x.shape[0], 32, x, largest, total, check=True)
        expected_largest, expected_total = _reference(x.copy_to_host())
        r.equal(
            largest.copy_to_host(),
            expected_largest,
            name="largest",
            why="largest is the maximum of the whole row, of all lanes",
            try_="after the loop each lane knows the largest of its own columns: merge the lanes",
        )
        got = total.copy_to_host()
        r.equal(
            got,
            expected_total,
            name="total",
            tolerance=1e-4,
            why=_why_no_number(got, values),
            try_="follow one lane through its first two columns: by what must the sum be "
            "multiplied when the largest changes?",
        )


def _why_no_number(got: np.ndarray, values: np.ndarray) -> str:
    if np.isnan(got).any():
        idle = 32 - values.shape[1]
        if np.isinf(values).any():
            made = "-inf - -inf was taken, which is nan"
        elif idle > 0:
            made = (
                f"-inf - -inf was taken, which is nan: {count(idle, 'lane', 'lanes')} of the warp "
                "had no column, so its largest value is still -inf when two of them are merged"
            )
        else:
            made = "an exponential became inf, and inf x 0 is nan"
        return f"total is full of nan before the launch, and was not written; or {made}"
    if np.isinf(got).any():
        return "exp overflowed: float32 ends at exp(88.7)"
    return "total is the sum of exp(x - largest) with the row's largest, not one met on the way"


def _reference(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(largest, total) of each row, in float64; 0 for a row of -inf."""
    exact = x.astype(np.float64)
    largest = exact.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        total = np.exp(exact - np.where(np.isinf(largest), 0, largest)).sum(axis=1)
    return largest[:, 0].astype(np.float32), total.astype(np.float32)


# --- what `show` draws -------------------------------------------------------------------------


@block_sum.show
def _show_block_sum(kernel: Any) -> views.Picture:
    x, sums = _whole_numbers(THREADS)
    with emulator.trace() as trace, emulator.profile() as p:
        launch(kernel, 1, THREADS, x, sums)
    return views.steps(trace.accesses, p.report)


@warp_prefix_sums.show
def _show_warp_prefix_sums(kernel: Any) -> views.Picture:
    one_each = np.eye(32, dtype=np.float32).reshape(-1)  # warp k holds a 1 in lane k alone
    x, out = emulator.to_device(one_each), emulator.to_device(np.full(1024, np.nan, np.float32))
    launch(kernel, 8, 128, x, out)
    return views.reaches(out.copy_to_host().reshape(32, 32))


@maximum_and_sum.show
def _show_maximum_and_sum(kernel: Any) -> views.Picture:
    x = np.random.default_rng(3).normal(0, 3, (4, 40))
    arguments = _pairs(x)
    traced = TracedLaunch(kernel, 4, 32, *arguments)
    _, total = _reference(x.astype(np.float32))
    return views.readings(traced.times("load", 0), arguments[2].copy_to_host(), total)
