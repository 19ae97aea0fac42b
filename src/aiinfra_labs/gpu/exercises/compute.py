"""The exercises of unit 3.7 on a full machine: occupancy, and warps that stay together.

Those on precision stand in `compute_precision.py`. Occupancy is compared with the emulator's
calculator, which its tests hold to NVIDIA's own header.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from aiinfra_labs.course import examine, exercise
from aiinfra_labs.course.comparing import is_whole
from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.emulator import LaunchError, SMLimits, occupancy_of, sm_limits
from aiinfra_labs.gpu.kernels import compute

from . import thread_views as views
from .grading import launch, not_written, profile, shape_of, share, written_once
from .thread_map import TracedLaunch

SKILL = "Occupancy and divergence"
CAPABILITIES = ("7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0")

examine(
    "ilp",
    verdict="corrected",
    figure="Each of the four can help, and none always does. Odd and even lanes on two paths issue "
    "nearly twice the instructions, with half of the lanes active. Unrolling alone leaves a chain "
    "of 64 dependent fmas as it is; four accumulators make it 18. An fp16 sum of ones stops at "
    "2,048, and with an fp32 accumulator it does not. Occupancy is a means: with four independent "
    "instructions a warp, a quarter of the warps keeps a scheduler as busy.",
    how="counted in the emulator's reports and in recorded dependency chains, with NVIDIA's 4 "
    "cycles for an arithmetic instruction; the speed itself needs a GPU",
    source="https://www.nvidia.com/content/gtc-2010/pdfs/2238_gtc2010.pdf",
)
examine(
    "goals-80-70-60",
    verdict="corrected",
    figure="Not all at once. 80 % of peak and 70 % of bandwidth together need an intensity within "
    "0.8 and 1.43 of the ridge: 16 to 28.5 fp32 operations a byte on an H100. Vector addition, at "
    "1/12, reaches 0.4 % of peak with all of the bandwidth, and is as fast as it can be. 60 % of "
    "the SMs says nothing of its own: 80 % of peak needs at least 80 % of them.",
    how="derived from the roofline with the H100's published figures, and from the emulator's "
    "counts of operations and bytes",
    source="https://doi.org/10.1145/1498765.1498785",
)


# --- 3.7.a -------------------------------------------------------------------------------------

WARPS = "counts whole warps, and the places for blocks"
REGISTERS = "gives each warp its registers in units of 256, from a quarter of the SM"
SHARED = "adds what the system takes of each block's shared memory, and rounds up"
NAMES = "names a resource that is used up"


@exercise(
    "3.7.a",
    title="Occupancy by hand",
    points=8,
    central="agrees with NVIDIA's calculator on 7 kinds of SM, 700 blocks",
    skill=SKILL,
    arguments=("sm", "threads", "registers", "shared"),
    kind="function",
    hints=(
        (
            WARPS,
            "33 threads need 2 warps. How many blocks of 2 warps fit in `sm.max_warps`, and how "
            "many does the SM take at all?",
        ),
        (
            REGISTERS,
            "33 registers x 32 lanes are 1,056 for a warp, and the SM hands out 256 at a time. How "
            "many does the warp get?",
        ),
        (
            REGISTERS,
            "A quarter of the registers belongs to each scheduler, and a warp cannot straddle two: "
            "`sm.registers // 4 // per_warp` warps fit in a quarter, four times as many in the SM.",
        ),
        (
            SHARED,
            "A block that asks for 0 bytes still costs `sm.shared_memory_reserved`. Round the sum "
            "up to `sm.shared_memory_unit`; where that is 0, shared memory sets no limit.",
        ),
        (
            NAMES,
            "Keep the four numbers in a dict by name; `min(limits, key=limits.get)` is the name of "
            "the least.",
        ),
    ),
)
def blocks_per_sm(function: Any, require: Any) -> None:
    """(blocks of a kernel that one SM holds, the resource that allows no more)."""
    with require(WARPS) as r:
        for capability in ("9.0", "8.6", "7.5"):
            for threads in (32, 64, 256, 1024, 33, 100, 1000):
                _as_calculated(r, function, capability, threads, 16, 0)
    with require(REGISTERS) as r:
        for registers in (32, 64, 33, 40, 72, 96, 168, 255):
            for threads in (128, 96, 224):
                _as_calculated(r, function, "9.0", threads, registers, 0)
    with require(SHARED) as r:
        for capability in ("9.0", "7.0"):
            for shared in (16_384, 32_768, 7_000, 7_168, 7_300, 48_000):
                _as_calculated(r, function, capability, 64, 24, shared)
    with require(NAMES) as r:
        for arguments in (
            ("9.0", 32, 16, 0),
            ("9.0", 1024, 24, 0),
            ("9.0", 256, 64, 0),
            ("9.0", 64, 32, 20_000),
            ("7.0", 64, 32, 20_000),
            ("8.6", 192, 80, 30_000),
        ):
            _names_a_limit(r, function, *arguments)
    with require("agrees with NVIDIA's calculator on 7 kinds of SM, 700 blocks") as r:
        for arguments in _some_blocks(700):
            _as_calculated(r, function, *arguments)


def _called(function: Any, capability: str, *block: int) -> tuple[SMLimits, Any]:
    sm = sm_limits(capability)
    return sm, function(sm, *block)


def _as_calculated(r: Any, function: Any, capability: str, *block: int) -> None:
    """The number of blocks is the calculator's."""
    with r.input(_spoken(capability, *block)):
        expected = occupancy_of(*block, device=capability)
        blocks = _pair(r, _called(function, capability, *block)[1])[0]
        r.that(
            blocks == expected.blocks_per_sm,
            what=f"{blocks} blocks an SM, and the calculator says {expected.blocks_per_sm}",
            why="the blocks that each allows: " + _limits(expected),
            try_="print your four numbers for this block, and see which of them differs",
        )


def _names_a_limit(r: Any, function: Any, capability: str, *block: int) -> None:
    with r.input(_spoken(capability, *block)):
        expected = occupancy_of(*block, device=capability)
        name = _pair(r, _called(function, capability, *block)[1])[1]
        r.that(
            name in expected.limited_by,
            what=f"the limit is said to be {name!r}, and it is "
            + " or ".join(map(repr, expected.limited_by)),
            why="the blocks that each allows: " + _limits(expected),
            try_='give one of "warps", "blocks", "registers", "shared memory": the one that allows '
            "the fewest blocks",
        )


def _pair(r: Any, got: Any) -> tuple[Any, Any]:
    r.that(
        isinstance(got, tuple | list) and len(got) == 2,
        what=f"the result is {got!r}",
        why="two things are asked for: how many blocks, and what allows no more",
        try_='return blocks, name; for example 8, "warps"',
        slip=True,
    )
    return r.whole(got[0], "the number of blocks")[0], got[1]


def _limits(found: emulator.Occupancy) -> str:
    return ", ".join(f"{name} {n}" for name, n in found.limits.items() if n is not None)


def _spoken(capability: str, threads: int, registers: int, shared: int) -> str:
    return (
        f"sm = compute capability {capability}, threads = {threads}, registers = {registers}, "
        f"shared = {shared}"
    )


def _some_blocks(count: int) -> list[tuple[str, int, int, int]]:
    """Blocks that can be launched, on all SMs in turn."""
    rng, found = random.Random(0), []
    while len(found) < count:
        capability = CAPABILITIES[len(found) % len(CAPABILITIES)]
        most = sm_limits(capability).shared_memory_per_block
        block = (rng.randint(1, 1024), rng.randint(16, 255), rng.choice([0, rng.randint(0, most)]))
        try:
            occupancy_of(*block, device=capability)
        except LaunchError:
            continue
        found.append((capability, *block))
    return found


@blocks_per_sm.show
def _show_blocks_per_sm(function: Any) -> views.Picture:
    """Warps on an H100's SM against the registers, by the learner's function and the calculator."""
    registers = np.arange(16, 129)
    sm = sm_limits("9.0")
    mine = [function(sm, 256, int(n), 0)[0] * 8 for n in registers]
    theirs = [occupancy_of(256, int(n), 0, "9.0").warps_per_sm for n in registers]
    figure, (ax,) = views.axes(1, 8, 3)
    ax.plot(registers, theirs, drawstyle="steps-mid", color="#9aa4b1", lw=5, label="calculator")
    ax.plot(registers, mine, drawstyle="steps-mid", color="#b3500f", lw=1.6, label="yours")
    ax.set_xlabel("registers a thread, blocks of 256 threads, no shared memory")
    ax.set_ylabel("warps on an SM")
    ax.set_ylim(0, 68)
    ax.legend()
    apart = sum(a != b for a, b in zip(mine, theirs, strict=True))
    said = f"{apart} of {len(registers)} differ from the calculator"
    ax.set_title(f"H100: {said}", fontsize=10)
    return views.Picture(figure, f"Warps on an H100's SM for 16 to 128 registers: {said}.")


# --- 3.7.b -------------------------------------------------------------------------------------

REACHES = "reaches the occupancy that is asked for"
NONE = "gives None where no block reaches it"
# registers a thread, shared bytes a block, shared bytes a thread, occupancy asked for, device
ASKED = (
    (32, 0, 0, 1.0, "h100"),
    (40, 0, 0, 0.75, "h100"),
    (72, 0, 0, 0.4375, "h100"),
    (32, 0, 0, 1.0, "rtx3090"),
    (80, 0, 0, 0.375, "h100"),
    (32, 16_384, 0, 1.0, "h100"),
    (32, 0, 128, 0.8, "h100"),
    (40, 4_096, 48, 0.7, "a100"),
    (64, 20_000, 0, 0.9, "t4"),
    (48, 2_048, 64, 0.75, "l4"),
)
TOO_MUCH = (
    (128, 0, 0, 0.5, "h100"),
    (32, 0, 128, 1.0, "h100"),
    (40, 60_000, 0, 0.8, "rtx3090"),
)


@exercise(
    "3.7.b",
    title="A block that fills the SM",
    points=3,
    central=REACHES,
    skill=SKILL,
    arguments=("registers", "fixed", "per_thread", "target", "device"),
    kind="function",
    hints=(
        (
            REACHES,
            "There are only 32 sizes to try: 32, 64, ..., 1024 threads. For each, "
            "`cuda.occupancy_of(threads, registers, shared, device).fraction` is the occupancy.",
        ),
        (
            REACHES,
            "How many bytes does a block of `threads` threads need? It is "
            "`fixed + per_thread * threads`.",
        ),
        (
            REACHES,
            "Some sizes cannot be launched at all, and `occupancy_of` says so by an error: "
            "`except emulator.LaunchError: continue`.",
        ),
        (NONE, "A function that finds nothing in its loop reaches its end: return None there."),
    ),
)
def choose_block(function: Any, require: Any) -> None:
    """Threads of a block with which a kernel reaches an occupancy on a device, or None."""
    with require(REACHES) as r:
        for registers, fixed, per_thread, target, device in ASKED:
            with r.input(_need(registers, fixed, per_thread, target, device)):
                threads = function(registers, fixed, per_thread, target, device)
                _reaches(r, threads, registers, fixed, per_thread, target, device)
    with require(NONE) as r:
        for registers, fixed, per_thread, target, device in TOO_MUCH:
            with r.input(_need(registers, fixed, per_thread, target, device)):
                got = function(registers, fixed, per_thread, target, device)
                best = max(_curve(registers, fixed, per_thread, device).values())
                r.that(
                    got is None,
                    what=f"it gives {got!r}, and no block reaches {target:.1%}: the best have "
                    f"{best:.1%}",
                    why="with so many registers or so much shared memory, too few warps fit",
                    try_="return None when no size from 32 to 1024 reaches the target",
                    slip=not is_whole(got),
                )


def _reaches(
    r: Any, threads: Any, registers: int, fixed: int, per_thread: int, target: float, device: str
) -> None:
    whole = is_whole(threads) and threads % 32 == 0 and 32 <= threads <= 1024
    good = [
        n for n, share in _curve(registers, fixed, per_thread, device).items() if share >= target
    ]
    r.that(
        whole,
        what=f"it gives {threads!r}; {len(good)} of the 32 sizes reach {target:.1%}",
        why="a block is made of whole warps: 32, 64, ..., 1024 threads",
        try_="try each of these sizes, and give one that reaches the target",
        slip=threads is not None and not is_whole(threads),
    )
    try:
        found = occupancy_of(int(threads), registers, fixed + per_thread * int(threads), device)
    except LaunchError as error:
        r.that(
            False,
            what=f"a block of {threads} threads cannot be launched: {error.what}",
            why=error.why,
            try_="leave sizes out for which occupancy_of raises a LaunchError",
        )
    r.that(
        found.fraction >= target,
        what=f"{threads} threads a block give {found.fraction:.1%}, asked for is {target:.1%}: "
        f"{found.blocks_per_sm} blocks, {found.warps_per_sm} of {found.max_warps} warps",
        why=f"no further block fits, for lack of {' and '.join(found.limited_by)}",
        try_="blocks of another size may leave less unused; compare all 32 sizes",
    )


def _curve(registers: int, fixed: int, per_thread: int, device: str) -> dict[int, float]:
    """Occupancy by threads a block, 0 where the block is refused."""
    curve = {}
    for threads in range(32, 1025, 32):
        try:
            found = occupancy_of(threads, registers, fixed + per_thread * threads, device)
            curve[threads] = found.fraction
        except LaunchError:
            curve[threads] = 0.0
    return curve


def _need(registers: int, fixed: int, per_thread: int, target: float, device: str) -> str:
    return (
        f"registers = {registers}, fixed = {fixed}, per_thread = {per_thread}, target = {target}, "
        f"device = {device!r}"
    )


@choose_block.show
def _show_choose_block(function: Any) -> views.Picture:
    """Every size's occupancy, the one chosen marked, for two of the inputs."""
    figure, both = views.axes(2, 11, 3)
    said = []
    for ax, asked in zip(both, (ASKED[2], ASKED[6]), strict=True):
        *needs, target, device = asked
        curve = _curve(*needs, device)
        chosen = function(*asked)
        colours = ["#b3500f" if n == chosen else "#9fd3f0" for n in curve]
        ax.bar(list(curve), list(curve.values()), width=26, color=colours, edgecolor="#1a1a1a")
        ax.axhline(target, color="#1a1a1a", ls="--", lw=1)
        what = f"{chosen} threads: {curve.get(chosen, 0):.1%} of {target:.1%} asked"
        ax.set_title(f"{device}, {needs[0]} registers, {needs[2]} B a thread\n{what}", fontsize=10)
        ax.set_xlabel("threads a block; dashed: asked for")
        ax.set_ylim(0, 1.05)
        said.append(what)
    both[0].set_ylabel("occupancy")
    return views.Picture(figure, f"Occupancy by threads a block; chosen: {'; '.join(said)}.")


# --- 3.7.c -------------------------------------------------------------------------------------

JOBS = "gives each element the job of its parity"
TOGETHER = "lets no warp part"
ONCE = "does no work that it throws away"


@exercise(
    "3.7.c",
    title="Two jobs, and no warp that parts",
    points=6,
    central=JOBS,
    skill=SKILL,
    arguments=("x", "out"),
    kind="kernel",
    hints=(
        (
            JOBS,
            "Element 0 takes root, element 1 logistic, element 2 root. Whatever thread it is that "
            "takes element 7, it must call logistic.",
        ),
        (
            TOGETHER,
            "A warp parts when its lanes answer the question of an `if` differently. Which "
            "question do all 32 lanes of a warp answer alike? Ask for the warp, not for the "
            "element: `i // 32`.",
        ),
        (
            TOGETHER,
            "Two warps have 64 elements together, 32 of them even. Let the first of the two warps "
            "take all the even ones: which element has its lane k?",
        ),
        (
            ONCE,
            "Computing both and choosing keeps the warp together and doubles the work. One job for "
            "each element: decide which before you call.",
        ),
    ),
)
def two_jobs(kernel: Any, require: Any) -> None:
    """root(x[i]) for even i and logistic(x[i]) for odd i, without a warp that parts."""
    with require(JOBS) as r:
        for n, threads in ((64, 64), (128, 64), (1024, 256), (100, 64), (1, 64), (65, 128)):
            blocks = -(-n // threads)
            with r.input(f"n = {n}, {shape_of(blocks, threads)}"):
                x, out, expected = _mixed(n)
                launch(kernel, blocks, threads, x, out)
                r.equal(
                    out.copy_to_host(),
                    expected,
                    name="out",
                    tolerance=1e-6,
                    why="out is full of NaN before the launch; even elements are root(x[i]), odd "
                    "ones logistic(x[i])",
                    try_="which thread takes the element named above, and which job does it do? "
                    "A thread whose element is not below out.size does nothing",
                )
    with require("writes each element exactly once, and nothing else") as r:
        for n, threads in ((128, 64), (512, 128)):
            with r.input(f"n = {n}, {shape_of(n // threads, threads)}"):
                traced = TracedLaunch(kernel, n // threads, threads, *_mixed(n)[:2])
                not_written(r, traced, {0: "x"})
                written_once(r, traced, 1, "out")
    with require(TOGETHER) as r:
        for n, threads in ((128, 64), (2048, 256)):
            with r.input(f"n = {n}, {shape_of(n // threads, threads)}"):
                report = profile(kernel, n // threads, threads, *_mixed(n)[:2])
                _has_worked(r, report, n)
                r.that(
                    report.divergent_branches == 0,
                    what=f"warps part {report.divergent_branches:,} times at "
                    f"{report.branches:,} branches; {report.lanes_per_instruction:.3g} of 32 lanes "
                    "are active on average",
                    why="where the lanes of a warp disagree, it runs both sides one after the "
                    "other, each with the other's lanes switched off",
                    try_="let whole warps do the same job: the branch may ask which warp this is, "
                    "and not which lane",
                )
    with require(ONCE) as r:
        for n, threads in ((128, 64), (2048, 256)):
            with r.input(f"n = {n}, {shape_of(n // threads, threads)}"):
                x, out, _ = _mixed(n)
                report = profile(kernel, n // threads, threads, x, out)
                _has_worked(r, report, n)
                enough = profile(compute.by_parity, n // threads, threads, x, out)
                done, least = _operations(report), _operations(enough)
                r.that(
                    done <= 1.1 * least,
                    what=f"{done:,} floating-point operations where {least:,} suffice "
                    f"({done / least:.3g} times as many)",
                    why="a thread that does both jobs and keeps one result takes the time of both, "
                    "as a warp that parts does",
                    try_="call one of the two functions for each element",
                )


def _mixed(n: int) -> tuple[Any, Any, np.ndarray]:
    """x of (0, 1) and an output full of NaN on the emulated device, and what is expected."""
    x = np.random.default_rng(n).uniform(0.1, 0.9, n).astype(np.float32)
    expected = x.copy()
    for _ in range(compute.ROUNDS):
        expected = np.float32(3.7) * expected * (np.float32(1) - expected)
    expected[::2] = np.sqrt(x[::2])
    return emulator.to_device(x), emulator.to_device(np.full(n, np.nan, np.float32)), expected


def _operations(report: emulator.Report) -> int:
    return report.flops + report.divisions + report.square_roots


def _has_worked(r: Any, report: emulator.Report, n: int) -> None:
    stored = report.global_store_bytes // 4
    r.that(
        stored >= n,
        what=f"{share(stored, n)} stored: too few to judge how the warps went",
        why="whether warps part shows when all the work is done",
        try_="meet the requirement on the jobs first",
    )


@two_jobs.show
def _show_two_jobs(kernel: Any) -> views.Picture:
    """The learner's figures beside those of the kernel that parts."""
    n, threads = 2048, 256
    reports = [profile(k, 8, threads, *_mixed(n)[:2]) for k in (compute.by_parity, kernel)]
    rows = (
        ("active lanes\nan instruction", [r.lanes_per_instruction for r in reports]),
        ("instructions\na warp", [r.warp_instructions / (n / 32) for r in reports]),
        ("sectors\na load", [r.sectors_per_load for r in reports]),
    )
    figure, all_axes = views.axes(3, 10, 2.6)
    for ax, (name, values) in zip(all_axes, rows, strict=True):
        ax.barh(["by parity", "yours"], values, color=["#f7cf82", "#9fd3f0"], edgecolor="#1a1a1a")
        for row, value in enumerate(values):
            ax.text(value, row, f" {value:.3g}", va="center", fontsize=9)
        ax.set_xlim(0, 1.3 * max(*values, 1))
        ax.set_title(name, fontsize=10)
        ax.invert_yaxis()
    said = "; ".join(
        f"{' '.join(name.split())}: {a:.3g} by parity, {b:.3g} yours" for name, (a, b) in rows
    )
    return views.Picture(figure, f"{n} elements: {said}.")
