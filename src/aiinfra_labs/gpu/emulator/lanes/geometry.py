"""Where each lane of a batch stands: its thread, its block, its place in a warp. Unit 3.2."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import Place
from .launching import Launch, Line
from .mask import WARP_SIZE


class Geometry:
    """The lanes of blocks `first` to `first + blocks - 1` of a launch."""

    def __init__(self, launch: Launch, first: int, blocks: int):
        self.launch, self.first, self.blocks = launch, first, blocks
        self.size = blocks * launch.lanes_per_block  # L
        self._indices: dict[tuple[str, int], Any] = {}

    def index(self, what: str, axis: int) -> Any:
        """threadIdx, blockIdx (int32 [L]), blockDim, gridDim (int32, the same for all)."""
        key = (what, axis)
        if key not in self._indices:
            self._indices[key] = self._compute_index(what, axis)
        return self._indices[key]

    def _compute_index(self, what: str, axis: int) -> Any:
        launch = self.launch
        if what == "blockDim":
            return np.int32(launch.block[axis])
        if what == "gridDim":
            return np.int32(launch.grid[axis])
        if launch.threads_per_block == self.blocks == 1:  # one thread: a number is enough
            linear = np.arange(self.first, self.first + 1)
            if what == "threadIdx":
                return np.int32(0)
            return _coordinate(linear, launch.grid, axis).astype(np.int32)[0]
        if what == "threadIdx":
            linear = np.arange(launch.lanes_per_block, dtype=np.int32)
            return np.tile(_coordinate(linear, launch.block, axis), self.blocks)
        linear = np.arange(self.first, self.first + self.blocks)
        ids = _coordinate(linear, launch.grid, axis).astype(np.int32)
        return ids[0] if self.blocks == 1 else np.repeat(ids, launch.lanes_per_block)

    def lane_index(self) -> np.ndarray:
        """int32 [L]: a thread's place in its warp."""
        return np.tile(np.arange(WARP_SIZE, dtype=np.int32), self.size // WARP_SIZE)

    def grid_axis(self, axis: int) -> Any:
        """int64 [L]: blockIdx * blockDim + threadIdx."""
        key = ("grid", axis)
        if key not in self._indices:
            block = np.int64(self.launch.block[axis])
            self._indices[key] = self.index("blockIdx", axis) * block + self.index(
                "threadIdx", axis
            )
        return self._indices[key]

    def grid_extent(self, axis: int) -> np.int64:
        """gridDim * blockDim: the threads of the grid along an axis."""
        return np.int64(self.launch.grid[axis] * self.launch.block[axis])

    def place(self, line: Line, lane: int) -> Place:
        """Where a lane stands, for an error."""
        block, thread = divmod(lane, self.launch.lanes_per_block)
        return Place(
            self.launch.kernel,
            line.number,
            line.text,
            _coordinates(self.first + block, self.launch.grid),
            _coordinates(thread, self.launch.block),
            line.function if line.function != self.launch.kernel else "",
        )


def _coordinate(linear: np.ndarray, extent: tuple[int, int, int], axis: int) -> np.ndarray:
    """Axis 0 (x) varies fastest."""
    if axis == 0:
        return linear % extent[0] if extent[1] * extent[2] > 1 else linear
    if axis == 1:
        return linear // extent[0] % extent[1]
    return linear // (extent[0] * extent[1])


def _coordinates(linear: int, extent: tuple[int, int, int]) -> tuple[int, int, int]:
    x, y = extent[0], extent[1]
    return linear % x, linear // x % y, linear // (x * y)
