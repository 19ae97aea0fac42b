"""What one warp of a learner's launch asked of memory, step by step, in the widget. Unit 3.3."""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.widgets.warp_access import WarpAccess, sectors

from .grading import launch, shape_of


def first_warp(kernel: Any, grid: Any, block: Any, args: tuple[Any, ...]) -> WarpAccess:
    """The loads and stores of the first warp of block 0, a step each, in their order.

    Where they differ in width, those of the widest: the others are few, and are told in the title.
    """
    with emulator.trace() as trace:
        launch(kernel, grid, block, *args)
    steps = [
        access
        for access in trace.accesses
        if access.first_block == 0 and (access.addresses[0] >= 0).any()
    ]
    if not steps:
        raise emulator.EmulatorError(
            "the first warp touched no array",
            "the kernel ran, and none of the threads 0 to 31 loaded or stored anything",
            "let check say what is missing",
        )
    itemsize = max(access.itemsize for access in steps)
    shown = [access for access in steps if access.itemsize == itemsize]
    table = np.array([access.addresses[0] for access in shown])
    labels = [f"{access.kind} {access.array}, line {access.line}" for access in shown]
    title = f"{shape_of(grid, block)}, the first warp: " + " and ".join(
        _summary(kind, table, shown, itemsize)
        for kind in ("load", "store", "atomic")
        if any(access.kind == kind for access in shown)
    )
    if len(shown) < len(steps):
        title += f" (of {itemsize} bytes a lane; {len(steps) - len(shown)} narrower not shown)"
    return WarpAccess.from_accesses(table, itemsize, labels, title)


def _summary(kind: str, table: np.ndarray, shown: list[Any], itemsize: int) -> str:
    """`8 loads of 32 sectors`, `4 stores of 1 to 4 sectors`."""
    found = [
        sectors(addresses, itemsize)
        for addresses, access in zip(table, shown, strict=True)
        if access.kind == kind
    ]
    least, most = min(found), max(found)
    span = f"{most}" if least == most else f"{least} to {most}"
    return (
        f"{len(found)} {kind}{'' if len(found) == 1 else 's'} of {span} "
        f"sector{'' if most == 1 else 's'}"
    )
