"""What the requirements of the kernel exercises share. Unit 3.2; later units grade with it, too.

Kernels are graded on the emulator, on a GPU machine too (`thread_map.py` says why). Each function
that takes a requirement `r` fails it in three parts: what was seen, why, what to try.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.beside import emulated

from .thread_map import ROUNDS, TracedLaunch

BEST = 4  # sectors of a request for 32 neighbouring float32: 32 x 4 bytes / 32 bytes a sector


def launch(kernel: Any, grid: Any, block: Any, *args: Any, check: bool = False) -> None:
    """Run a learner's kernel on arrays of the emulated device.

    check: a race, an element read before it has a value, or a shuffle from a lane that takes no
    part fails the exercise, too.
    """
    try:
        with emulator.step_budget(ROUNDS), emulator.check() if check else nullcontext():
            emulated(kernel)[grid, block](*args)
    except emulator.Deadlock:  # which says itself who waits for what
        raise
    except emulator.StepBudgetExceeded as error:
        error.try_ = "follow one thread: what changes from round to round, and when does it stop?"
        raise


def profile(kernel: Any, grid: Any, block: Any, *args: Any) -> emulator.Report:
    """Run it, and count its requests and sectors."""
    with emulator.profile() as p:
        launch(kernel, grid, block, *args)
    return p.report


@contextmanager
def outside_means(why: str, try_: str) -> Iterator[None]:
    """Within the block, an access outside an array is explained in the exercise's own words."""
    try:
        yield
    except emulator.OutOfBounds as error:
        error.why, error.try_ = why, try_
        raise


def written_once(r: Any, traced: TracedLaunch, position: int, name: str) -> None:
    """Each element of the array at `position` was stored by one thread, one time."""
    times = traced.times("store", position)
    never, often = np.argwhere(times == 0), np.argwhere(times > 1)
    if len(often):
        first = tuple(often[0].tolist())
        writers = traced.threads_at("store", position, first)
        r.that(
            False,
            what=f"{share(len(often), times.size)} written more than once: "
            f"{name}{list(first)} {times[first]} times, by {_who(writers)}",
            why=_why_again(writers, traced.threads_per_block),
            try_="one store for each element, by the one thread whose number it has",
        )
    r.that(
        not len(never),
        what=f"{share(len(never), times.size)} never written{beginning(name, never)}",
        why="no thread took it for its own" if len(never) == 1 else "no thread took them",
        try_="which thread should write the first of them? Follow what that thread does instead",
    )


def _why_again(writers: list[int], threads_per_block: int) -> str:
    if len(set(writers)) == 1:
        return "a store is a trip to memory; a sum is made in a register and stored once"
    if len({w % threads_per_block for w in writers}) == 1:
        return (
            "these threads have the same threadIdx, each in its own block: only blockIdx tells "
            "them apart. On a GPU nobody knows which of them writes last"
        )
    return "several threads took this element. On a GPU nobody knows which of them writes last"


def _who(threads: list[int]) -> str:
    if len(set(threads)) == 1:
        return f"thread {threads[0]}"
    shown = ", ".join(map(str, threads[:4]))
    return f"threads {shown}" + (f" and {len(threads) - 4} more" if len(threads) > 4 else "")


def not_written(r: Any, traced: TracedLaunch, inputs: dict[int, str]) -> None:
    """No thread stored anything in the arrays at these positions."""
    for position, name in inputs.items():
        stores = int(traced.times("store", position).sum())
        r.that(
            stores == 0,
            what=f"the input {name} was written to: {count(stores, 'store', 'stores')}",
            why="the caller may need its inputs again, and other threads may still read them",
            try_=f"read {name}, write only the output",
        )


def few_sectors(r: Any, kind: str, sectors: float, why: str, try_: str) -> None:
    """At most one sector more a request than the least, for arrays that begin inside a sector."""
    r.that(
        sectors > 0,
        what=f"the kernel makes no {kind} at all",
        why="how a warp meets memory shows in what it loads and stores",
        try_="meet the requirements above first",
    )
    r.that(
        sectors <= BEST + 1,
        what=f"each {kind} of a warp touches {sectors:.3g} sectors of 32 bytes where {BEST} "
        "suffice",
        why=why,
        try_=try_,
    )


def shape_of(grid: Any, block: Any) -> str:
    """A launch in words: 3 x 2 blocks of 8 x 8 threads."""

    def spoken(size: Any) -> str:
        return " x ".join(map(str, size)) if isinstance(size, tuple) else str(size)

    return f"{count(spoken(grid), 'block', 'blocks')} of {spoken(block)} threads"


def count(number: Any, one: str, many: str) -> str:
    return f"{number} {one if number in (1, '1', '1 x 1') else many}"


def share(part: int, whole: int, one: str = "element", many: str = "elements") -> str:
    """`3 of 100 elements are`: the beginning of a sentence."""
    return f"{part:,} of {whole:,} {one if whole == 1 else many} {'is' if part == 1 else 'are'}"


def beginning(name: str, places: np.ndarray) -> str:
    """`: out[3]`, or `: out[3] and 7 more`: the end of a sentence. places: int [elements, axes]."""
    if not len(places):
        return ""
    more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
    return f": {name}{places[0].tolist()}{more}"
