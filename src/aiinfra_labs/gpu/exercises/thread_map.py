"""Which thread touched which element: read from a learner's own run. Unit 3.2.

A check launches the learner's kernel on the emulator, on a GPU machine too: there every access is
seen, and a write outside an array is an error with a line number instead of a corrupted neighbour.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aiinfra_labs.gpu import emulator
from aiinfra_labs.gpu.beside import emulated
from aiinfra_labs.gpu.emulator import Access

ROUNDS = 4096  # of a loop, before it counts as endless: several times what any exercise needs


class TracedLaunch:
    """One launch of `kernel[grid, block](*args)`, with every access of every thread kept.

    Arrays among `args` are named by their position, so a learner may rename the parameters.
    Threads are numbered through the grid: block 0 has threads 0 to t - 1, block 1 the next t.
    """

    def __init__(self, kernel: Any, grid: Any, block: Any, *args: Any):
        self.grid, self.block, self.args = grid, block, args
        code = kernel.py_func.__code__
        self._names = code.co_varnames[: code.co_argcount]
        self.threads_per_block = int(np.prod(block))
        with emulator.step_budget(ROUNDS), emulator.trace() as trace:
            emulated(kernel)[grid, block](*args)
        self._trace = trace

    def times(self, kind: str, position: int) -> np.ndarray:
        """How often each element of an array was touched, in the array's shape.

        kind: "load" or "store". position: of the array among the arguments.
        """
        elements, _ = self._touches(kind, position)
        array = self.args[position]
        return np.bincount(elements, minlength=array.size).reshape(array.shape)

    def threads_at(self, kind: str, position: int, index: tuple[int, ...]) -> list[int]:
        """The threads that touched one element, in the order of their numbers."""
        elements, threads = self._touches(kind, position)
        flat = int(np.ravel_multi_index(index, self.args[position].shape))
        return sorted(threads[elements == flat].tolist())

    def thread_of(self, kind: str, position: int) -> np.ndarray:
        """The last thread that touched each element, in the array's shape; -1 for none."""
        elements, threads = self._touches(kind, position)
        array = self.args[position]
        last = np.full(array.size, -1, dtype=np.int64)
        last[elements] = threads
        return last.reshape(array.shape)

    def times_by_thread(self, kind: str, position: int) -> np.ndarray:
        """How many elements of an array each thread touched: int64 [threads of the grid]."""
        _, threads = self._touches(kind, position)
        return np.bincount(threads, minlength=int(np.prod(self.grid)) * self.threads_per_block)

    def accesses(self, kind: str, position: int) -> list[Access]:
        """The emulator's own records: one an instruction, addresses int64 [warps, 32]."""
        return self._trace.of(self._names[position], kind)

    def _touches(self, kind: str, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Element and thread of every touch, in the order in which they happened."""
        itemsize = self.args[position].dtype.itemsize
        pairs = [self._active(access, itemsize) for access in self.accesses(kind, position)]
        if not pairs:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate([e for e, _ in pairs]), np.concatenate([t for _, t in pairs])

    def _active(self, access: Access, itemsize: int) -> tuple[np.ndarray, np.ndarray]:
        """Elements of `itemsize` bytes, and who touched them: a wider word holds several."""
        warp, lane = np.nonzero(access.addresses >= 0)
        warps_per_block = -(-self.threads_per_block // emulator.warpsize)
        block = access.first_block + warp // warps_per_block
        in_block = warp % warps_per_block * emulator.warpsize + lane
        thread = block * self.threads_per_block + in_block
        words = np.arange(max(access.itemsize // itemsize, 1))
        elements = access.addresses[warp, lane] // itemsize
        return (elements[:, None] + words).ravel(), np.repeat(thread, words.size)
