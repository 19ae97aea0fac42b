"""Grid and block of a launch, checked against the device: `kernel[grid, block]`. Unit 3.2."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..counters.occupancy import occupancy_of
from ..devices import get_current_device
from ..errors import (
    LaunchError,
)
from .launching import Launch
from .passing import article
from .views import ArrayView


def launch_shape(name: str, configuration: Any) -> tuple[tuple, tuple, int]:
    """Grid, block (three axes each) and dynamic shared memory, checked against the device."""
    if not isinstance(configuration, tuple) or not 2 <= len(configuration) <= 4:
        raise LaunchError(
            f"{name}[{configuration!r}] is not a launch configuration",
            "it takes the number of blocks and the threads of a block, then optionally a stream "
            "and bytes of shared memory",
            f"{name}[blocks, threads](...)",
        )
    grid = three_axes(name, "grid", configuration[0])
    block = three_axes(name, "block", configuration[1])
    device = get_current_device()
    for what, dims, limits in (
        ("grid", grid, device.max_grid_dim),
        ("block", block, device.max_block_dim),
    ):
        for axis, size, limit in zip("xyz", dims, limits, strict=True):
            if size < 1:
                raise LaunchError(
                    f"{name} is launched with {size} {_UNITS[what]} along {axis}",
                    f"a {what} has at least 1 along every axis",
                    "round up: (n + threads - 1) // threads; and launch nothing when n is 0"
                    if what == "grid"
                    else "use 128 or 256 threads a block, and as many blocks as cover the data",
                )
            if size > limit and (
                what == "grid" or math.prod(block) <= device.max_threads_per_block
            ):
                raise LaunchError(
                    f"{name} is launched with {size} {_UNITS[what]} along {axis}",
                    f"{device.name} takes at most {limit} along {axis}",
                    "use another axis, or let each thread do more with a grid-stride loop",
                )
    threads = math.prod(block)
    if threads > device.max_threads_per_block:
        raise LaunchError(
            f"{name} is launched with {threads} threads a block",
            f"{device.name} takes at most {device.max_threads_per_block} threads a block",
            "use fewer threads and more blocks: 128 or 256 threads is a good start",
        )
    shared = configuration[3] if len(configuration) == 4 else 0
    if isinstance(shared, bool) or not isinstance(shared, int | np.integer) or shared < 0:
        raise LaunchError(
            f"{name} asks for {shared!r} of shared memory",
            "the fourth part of a launch configuration is a number of bytes",
            f"{name}[blocks, threads, 0, bytes](...)",
        )
    if shared > device.shared_memory_per_block:
        raise LaunchError(
            f"{name} asks for {shared} bytes of shared memory a block",
            f"{device.name} has {device.shared_memory_per_block} bytes for a block",
            "keep a smaller tile in shared memory",
        )
    return grid, block, int(shared)


def need_all_resident(launch: Launch) -> None:
    """Blocks that wait for each other must all be on the device at once: a cooperative launch."""
    device = get_current_device()
    found = occupancy_of(launch.threads_per_block, shared=launch.shared)
    blocks, most = math.prod(launch.grid), device.multiprocessors * found.blocks_per_sm
    if blocks > most:
        raise LaunchError(
            f"{launch.kernel} is launched with {blocks:,} blocks of {launch.threads_per_block} "
            "threads that wait for each other (cuda.cg.this_grid().sync())",
            f"they must all be on the device at once, and {device.name} holds {most:,}: "
            f"{found.blocks_per_sm} on each of {device.multiprocessors} multiprocessors, by "
            f"{' and '.join(found.limited_by)} (CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE)",
            "launch fewer blocks, and let each thread do more with a grid-stride loop",
        )


_UNITS = {"grid": "blocks", "block": "threads a block"}


def three_axes(name: str, what: str, dims: Any) -> tuple[int, int, int]:
    """A size of a grid or block as (x, y, z); what is left out is 1."""
    sizes = tuple(dims) if isinstance(dims, tuple | list | np.ndarray) else (dims,)
    if not 1 <= len(sizes) <= 3:
        raise LaunchError(
            f"{name} is launched with a {what} of {len(sizes)} dimensions",
            "a grid and a block have 1, 2 or 3",
            "give one number an axis: (x, y, z), and leave out the axes that are not there",
        )
    for size in sizes:
        if isinstance(size, bool | np.bool_) or not isinstance(size, int | np.integer):
            raise LaunchError(
                f"{name} is launched with a {what} of {size!r}"
                + ("" if size is None else f", {article(type(size).__name__)}"),
                f"the number of {_UNITS[what]} is an integer",
                "divide with // instead of /, or round up with math.ceil"
                if isinstance(size, float)
                else f"{name}[blocks, threads](...) with whole numbers, as {name}[8, 256](...)",
            )
    full = [int(s) for s in sizes] + [1] * (3 - len(sizes))
    return full[0], full[1], full[2]


class Overload:
    """One version of a kernel, for one signature. arrays: the shared and local ones it makes."""

    def __init__(self, arrays: Iterable[Any] = ()):
        self.arrays = [a for a in arrays if isinstance(a, ArrayView)]

    def max_cooperative_grid_blocks(self, block: Any, sharedmem: int = 0) -> int:
        """How many blocks of a cooperative launch fit on the device at once, by their threads."""
        device = get_current_device()
        threads = math.prod(three_axes("the kernel", "block", block))
        return device.multiprocessors * occupancy_of(threads, shared=sharedmem).blocks_per_sm


class Overloads(dict):
    """A version for every signature that is asked for."""

    def __missing__(self, signature: Any) -> Overload:
        return Overload()
