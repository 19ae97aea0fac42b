"""The warp access viewer: the bytes that the 32 lanes of a warp touch, and their cost. Unit 3.2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from aiinfra_labs import bounds
from aiinfra_labs.course.framing import framed, scripted

from .access import INACTIVE, LANES, PATTERNS, Cost, addresses, cost, sectors

__all__ = ["Cost", "WarpAccess", "WarpAccessError", "addresses", "cost", "sectors"]

ITEMSIZES = (1, 2, 4, 8, 16)
MOST_STEPS = 10_000  # their addresses are stored in the notebook


class WarpAccessError(bounds.SettingError):
    """Accesses that cannot be drawn, in three parts."""


class WarpAccess(anywidget.AnyWidget):
    """One warp's access to memory, drawn by sectors, to be changed by hand.

    `WarpAccess()` is set by its controls: element size, stride, offset, pattern, active lanes.
    `WarpAccess.from_accesses(...)` shows recorded accesses, step by step. Both keep their whole
    state in the traits below, so they work on a static page.
    """

    _esm = scripted(Path(__file__).parent / "warp_access.js")
    _css = framed(Path(__file__).parent / "warp_access.css")

    itemsize = traitlets.Int(4, min=1, max=16, help="Bytes that each lane touches.").tag(sync=True)
    stride = traitlets.Int(1, min=1, max=33, help="Elements from lane to lane.").tag(sync=True)
    offset = traitlets.Int(0, min=0, max=31, help="Element of the first lane.").tag(sync=True)
    pattern = traitlets.Enum(PATTERNS, "linear", help="Which lane has which place.").tag(sync=True)
    lanes = traitlets.Int(LANES, min=0, max=LANES, help="Active lanes.").tag(sync=True)
    seed = traitlets.Int(1, min=0, max=2**32 - 1, help="Of the random order.").tag(sync=True)
    steps = traitlets.List(help="Recorded addresses, [steps][32]; none: set by hand.").tag(
        sync=True
    )
    labels = traitlets.List(help="What each step is.").tag(sync=True)
    step = traitlets.Int(0, min=0, help="The recorded step that is shown.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)

    @classmethod
    def from_accesses(
        cls,
        addresses: Any,
        itemsize: int,
        labels: list[str] | None = None,
        title: str = "",
    ) -> WarpAccess:
        """A viewer of recorded accesses of one warp, with a slider over the steps.

        addresses: int [steps, 32], bytes from the array's start; -1 for an inactive lane.
        itemsize: bytes that each lane touches, 1 to 16.
        labels: what each step is ("load a, line 4"); by default only its number.
        """
        table = _checked(addresses)
        if not 1 <= itemsize <= max(ITEMSIZES):
            raise WarpAccessError(
                f"itemsize = {itemsize}",
                "one lane's load or store is 1 to 16 bytes",
                "pass the array's dtype.itemsize",
            )
        if labels is not None and len(labels) != len(table):
            raise WarpAccessError(
                f"{len(labels)} labels for {len(table)} steps",
                "each row of addresses is one step and needs one label",
                "leave labels out to have the steps numbered",
            )
        return cls(
            itemsize=int(itemsize),
            steps=table.tolist(),
            labels=[str(label) for label in labels or []],
            title=title,
        )

    @traitlets.validate("step")
    def _within_the_steps(self, proposal: Any) -> int:
        return min(proposal["value"], max(len(self.steps) - 1, 0))

    @property
    def cost(self) -> Cost:
        """The figures of what is drawn now."""
        return cost(self.addresses, self.itemsize)

    @property
    def addresses(self) -> np.ndarray:
        """The byte addresses that are drawn now: int64 [32]."""
        if self.steps:
            return np.array(self.steps[self.step], np.int64)
        return addresses(
            self.pattern, self.itemsize, self.stride, self.offset, self.lanes, self.seed
        )

    def __repr__(self) -> str:
        where = f"step {self.step + 1} of {len(self.steps)}" if self.steps else self.pattern
        return f"WarpAccess({where}; {self.cost})"


def _checked(accesses: Any) -> np.ndarray:
    """Recorded accesses as int64 [steps, 32]."""
    table = np.asarray(accesses)
    if table.ndim != 2 or table.shape[1] != LANES or not len(table):
        raise WarpAccessError(
            f"addresses have the shape {table.shape}",
            "each step holds one address for each of a warp's 32 lanes",
            "pass int [steps, 32], with -1 for a lane that took no part",
        )
    if table.dtype.kind not in "iu":
        raise WarpAccessError(
            f"addresses are {table.dtype}",
            "an address is a whole number of bytes",
            "pass element numbers times itemsize, as integers",
        )
    if len(table) > MOST_STEPS:
        raise WarpAccessError(
            f"{len(table):,} steps",
            f"a notebook keeps each address; more than {MOST_STEPS:,} steps make it slow",
            "pass the accesses of one warp, or of one array",
        )
    if table.min() < INACTIVE:
        raise WarpAccessError(
            f"address {table.min()} at step {int(table.min(axis=1).argmin())}",
            "addresses are relative to the array's start, and only -1 means an inactive lane",
            "subtract the array's own address",
        )
    return table.astype(np.int64)
