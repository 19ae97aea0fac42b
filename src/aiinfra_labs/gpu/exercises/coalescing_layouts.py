"""The exercises of unit 3.3 in which the layout decides: structures and arrays, rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu import cuda, emulator
from aiinfra_labs.gpu.kernels.coalescing import REQUEST, WARP, advance_array

from . import thread_views as views
from .coalescing import BEST, ONCE, SKILL, coalesced, reached
from .grading import (
    count,
    launch,
    not_written,
    outside_means,
    profile,
    shape_of,
    written_once,
)
from .thread_map import TracedLaunch
from .warp_view import first_warp

NAN_WHY = (
    "out is full of NaN before the launch: nan marks an element that no thread wrote, or that was "
    "read before it was written"
)

# --- 3.3.c ---------------------------------------------------------------------------------------

ADVANCES = "advances every position, and changes nothing else"
ARRAY = "gives the kernel positions that lie side by side"
LINK = "copies the positions once each way, and no other field"


@exercise(
    "3.3.c",
    title="From an array of structures to an array",
    points=4,
    central=ADVANCES,
    skill=SKILL,
    arguments=("kernel", "requests", "steps"),
    new=True,
    kind="function",
    hints=(
        (
            ADVANCES,
            "`requests['position']` gives and takes a whole field, on the host: "
            "`result = requests.copy()`, then `result['position'] = ...`.",
        ),
        (
            ARRAY,
            "`requests['position']` copies nothing. It is a view of the same memory: the next "
            "position is still a whole structure, 32 bytes, further on. Look at its `.strides`.",
        ),
        (
            ARRAY,
            "`np.ascontiguousarray(view)` copies what a view shows into an array without gaps.",
        ),
        (
            LINK,
            "Only what goes to the device travels over the link. Make the positions an array of "
            "their own on the host, and copy that.",
        ),
    ),
)
def advance(function: Any, require: Any) -> None:
    """requests after `steps` launches of kernel[blocks, threads](position): position[i] += 1."""
    with require(ADVANCES) as r:
        for n, steps in ((1, 1), (100, 1), (100, 3), (1000, 4), (100, 0)):
            with r.input(f"n = {n}, steps = {steps}"):
                requests = _requests(n)
                got = function(advance_array, requests, steps)
                _is_requests(r, got)
                r.equal(
                    got["position"],
                    requests["position"] + np.int32(steps),
                    name="position",
                    why="each launch adds 1 to every position that it is given",
                    try_="launch enough blocks for all n, rounding up, and bring the positions "
                    "back after the last step",
                )
                others = [name for name in REQUEST.names if name != "position"]
                r.equal(
                    got[others],
                    requests[others],
                    name="the other fields",
                    why="a request keeps its token, its temperature and the rest",
                    try_="begin with requests.copy() and replace only the field position",
                )
    with require(ARRAY) as r:
        for n, steps in ((1024, 1), (2048, 3)):
            with r.input(f"n = {n}, steps = {steps}"):
                p = _advanced(function, n, steps)
                r.that(
                    len(p.launches) == steps,
                    what=f"{count(len(p.launches), 'launch', 'launches')} where {steps} "
                    f"{'was' if steps == 1 else 'were'} asked for",
                    why="the kernel advances by one step",
                    try_="for _ in range(steps): kernel[blocks, threads](...)",
                )
                for kind in ("load", "store"):
                    sectors = getattr(p.report, f"sectors_per_{kind}")
                    r.that(
                        sectors <= BEST + 1,
                        what=f"each {kind} of a warp touches {sectors:.3g} sectors where "
                        f"{BEST} suffice",
                        why="in an array of structures the positions are 32 bytes apart: each "
                        "lane's 4 bytes bring in a sector whose other 28 nobody asked for",
                        try_="a field of a structured array is a view with gaps, on the host and "
                        "on the device: copy it into an array of its own",
                    )
    with require(LINK) as r:
        for n, steps in ((1024, 4), (3000, 2)):
            with r.input(f"n = {n}, steps = {steps}"):
                p = _advanced(function, n, steps)
                for where, moved in (
                    ("to the device", p.bytes_to_device),
                    ("to the host", p.bytes_to_host),
                ):
                    r.that(
                        0 < moved <= 4 * n,
                        what=f"{moved:,} bytes were copied {where} where {4 * n:,} suffice",
                        why="a host array is copied at each launch that it is passed to, and a "
                        "structured array goes with all of its fields"
                        if moved
                        else "the kernel works on device memory, the caller on host memory",
                        try_="cuda.to_device(positions) before the loop, .copy_to_host() after it",
                    )


def _requests(n: int) -> np.ndarray:
    """n requests as an engine has them: REQUEST [n], no two fields alike."""
    rng = np.random.default_rng(n)
    requests = np.zeros(n, REQUEST)
    for place, name in enumerate(REQUEST.names):
        requests[name] = rng.integers(100 * place, 100 * place + 90, n)
    return requests


def _is_requests(r: Any, got: Any) -> None:
    if got is None:
        what, try_ = "it returned nothing", "end with `return` and the structured array"
    elif hasattr(got, "copy_to_host"):
        what, try_ = "it returned a device array", "return a host array: copy the positions back"
    else:
        dtype = f" of {got.dtype}" if isinstance(got, np.ndarray) and not got.dtype.names else ""
        what, try_ = (
            f"it returned a {type(got).__name__}{dtype}",
            "return all fields of all requests",
        )
    r.that(
        isinstance(got, np.ndarray) and got.dtype == REQUEST,
        what=what,
        why="the caller gave requests, and wants requests back, in host memory",
        try_=try_,
        slip=not isinstance(got, np.ndarray),
    )


def _advanced(function: Any, n: int, steps: int) -> Any:
    with cuda.profile() as p:
        function(advance_array, _requests(n), steps)
    return p


# --- 3.3.e ---------------------------------------------------------------------------------------

ROWS = "copies the row of every token, whatever its width"
BY_WARP = "gives each row to one warp"


@exercise(
    "3.3.e",
    title="Embeddings: one warp, one row",
    points=4,
    central=ROWS,
    skill=SKILL,
    arguments=("table", "tokens", "out"),
    kind="kernel",
    hints=(
        (
            ROWS,
            "Number the warps of the whole grid: a thread's number divided by 32, without the "
            "rest. The rest is its lane.",
        ),
        (
            ROWS,
            "A row may be wider than 32, or narrower, and the grid may have warps without a "
            "token. The lanes go round a loop over the columns.",
        ),
        (
            BY_WARP,
            "In one round of the loop the 32 lanes should have 32 neighbouring columns: start at "
            "the lane's number, step on by 32.",
        ),
        (
            BY_WARP,
            "`for d in range(lane, table.shape[1], 32): out[t, d] = table[tokens[t], d]`",
        ),
    ),
)
def embed(kernel: Any, require: Any) -> None:
    """out[t] = table[tokens[t]], with a warp for each token, or some more."""
    with require(ROWS) as r:
        for n, dim, blocks in ((4, 32, 1), (1, 1, 1), (7, 5, 2), (9, 33, 3), (6, 200, 3)):
            with r.input(_embedding_input(n, dim, blocks)):
                table, tokens, out = _embedding(n, dim)
                with outside_means(
                    "the grid may have more warps than there are tokens, and the row's width need "
                    "not be a multiple of 32",
                    "compare the token's place with tokens.size and the column with table.shape[1]",
                ):
                    launch(kernel, blocks, 128, table, tokens, out)
                r.equal(
                    out.copy_to_host(),
                    table.copy_to_host()[tokens.copy_to_host()],
                    name="out",
                    why=NAN_WHY
                    if np.isnan(out.copy_to_host()).any()
                    else "row t of out is the row of the table that tokens[t] names",
                    try_="follow lane 1 of warp 1: which token has it, which columns?",
                )
    with require(ONCE) as r:
        for n, dim, blocks in ((4, 32, 1), (9, 33, 3), (6, 200, 2)):
            with r.input(_embedding_input(n, dim, blocks)):
                with _past_the_tokens():
                    traced = TracedLaunch(kernel, blocks, 128, *_embedding(n, dim))
                not_written(r, traced, {0: "table", 1: "tokens"})
                written_once(r, traced, 2, "out")
    with require(BY_WARP) as r:
        for n, dim, blocks in ((64, 64, 16), (32, 256, 8)):
            with r.input(_embedding_input(n, dim, blocks)):
                with _past_the_tokens():
                    traced = TracedLaunch(kernel, blocks, 128, *_embedding(n, dim))
                    report = profile(kernel, blocks, 128, *_embedding(n, dim))
                reached(r, traced, 2)
                asked, enough = report.global_store_requests, n * dim // WARP
                r.that(
                    asked <= enough,
                    what=f"{count(n, 'row', 'rows')} of {dim} took {asked:,} store requests where "
                    f"{enough:,} suffice",
                    why="one request of a warp stores 32 elements, if its lanes have one each. "
                    "Where all lanes store the same one, or some are idle, it takes more",
                    try_="let the lane's number choose the column: 32 columns at a time",
                )
                for kind, position in (("load", 0), ("store", 2)):
                    coalesced(
                        r,
                        traced,
                        kind,
                        position,
                        why="rows of different tokens lie anywhere in the table, and the elements "
                        "of one row side by side. Lanes that have a row each, or stretches of one "
                        "row, touch a sector each",
                        try_="let all 32 lanes work on one row, on 32 neighbouring columns at a "
                        "time",
                    )


def _past_the_tokens() -> Any:
    return outside_means(
        "the grid may have more warps than there are tokens, and the row's width need not be a "
        "multiple of 32",
        "compare the token's place with tokens.size and the column with table.shape[1]",
    )


def _embedding_input(n: int, dim: int, blocks: int) -> str:
    return f"{count(n, 'token', 'tokens')}, dim = {dim}, {shape_of(blocks, 128)}"


def _embedding(n: int, dim: int, vocabulary: int = 200) -> tuple[Any, Any, Any]:
    """A table, tokens of which one comes twice, and an output full of NaN, on the device."""
    rng = np.random.default_rng(n * 1000 + dim)
    table = rng.uniform(1, 2, (vocabulary, dim)).astype(np.float32)
    tokens = rng.permutation(vocabulary)[:n].astype(np.int32)
    tokens[-1] = tokens[0]
    return tuple(map(emulator.to_device, (table, tokens, np.full((n, dim), np.nan, np.float32))))


# --- what `show` draws ---------------------------------------------------------------------------


@advance.show
def _show_advance(function: Any) -> Any:
    n, steps = 1024, 2
    p = _advanced(function, n, steps)
    rows = [
        ("to the device", p.bytes_to_device, 4 * n),
        ("to the host", p.bytes_to_host, 4 * n),
        ("moved by the kernel", p.report.bytes_moved, 2 * steps * 4 * n),
    ]
    figure, (ax,) = views.axes(1, 7, 3)
    views.draw_bars(ax, rows)
    ax.set_xlabel("bytes")
    what = f"{n:,} requests, {count(len(p.launches), 'launch', 'launches')}"
    ax.set_title(f"{what}, {p.report.sectors_per_load:.3g} sectors a load", fontsize=10)
    said = "; ".join(f"{used:,} bytes {way} where {enough:,} suffice" for way, used, enough in rows)
    return views.Picture(figure, f"{what}: {said}.")


@embed.show
def _show_embed(kernel: Any) -> Any:
    return first_warp(kernel, 1, 128, _embedding(4, 64))
