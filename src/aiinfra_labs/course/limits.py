"""What a learner's code may not take with it: the functions that everybody uses, the memory.

A cell that replaces `np.isnan` breaks the check and every cell after it; an array larger than the
machine's memory ends the kernel, and all that was in it.
"""

from __future__ import annotations

import builtins
import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .parts import Parts

SHARED: tuple[ModuleType, ...] = (builtins, math, time, np, np.linalg, np.random, np.testing)
_LEAST = 1 << 30  # bytes that code may always ask for: what is free is an estimate
_MISSING = object()


class Intact:
    """The names of the shared modules as they are now. `mend` puts back what was replaced."""

    def __init__(self, modules: tuple[ModuleType, ...] = SHARED):
        self._kept: list[tuple[ModuleType, dict[str, Any]]] = [
            # `_` is the last value that an interactive Python has shown.
            (module, {name: value for name, value in vars(module).items() if name != "_"})
            for module in modules
        ]

    def mend(self) -> Parts | None:
        """Put everything back; three parts about it when anything had been replaced."""
        replaced = []
        for module, kept in self._kept:
            now = vars(module)
            for name, value in kept.items():
                if now.get(name, _MISSING) is not value:
                    now[name] = value
                    replaced.append(f"{module.__name__}.{name}")
        if not replaced:
            return None
        more = f" and {len(replaced) - 3} more" if len(replaced) > 3 else ""
        return Parts(
            f"your code replaced {', '.join(replaced[:3])}{more}",
            "all code in this kernel uses the same one, the check as well; it was put back",
            "give your own function a name of its own",
        )


@contextlib.contextmanager
def spare_memory() -> Iterator[None]:
    """Within the block, asking for more memory than is free raises `MemoryError` (on Linux).

    Without it the system ends the whole kernel. Only writable memory of the process counts, so
    that the address space a GPU's driver reserves does not.
    """
    limit = _limit()
    if limit is None:
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    except (OSError, ValueError):  # a system that does not allow it
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _limit() -> int | None:
    """Bytes of writable memory that this process may have: what it has and what is free."""
    try:
        used = _figures("/proc/self/status")["VmData"]
        free = _figures("/proc/meminfo")["MemAvailable"]
    except (OSError, KeyError):
        return None
    with contextlib.suppress(OSError, ValueError):  # a container may have less
        most, now = (
            int(Path("/sys/fs/cgroup", name).read_text())
            for name in ("memory.max", "memory.current")
        )
        free = min(free, most - now)
    return used + max(free * 9 // 10, _LEAST)


def _figures(path: str) -> dict[str, int]:
    """The sizes, in bytes, of a file of lines such as `VmData:  1234 kB`."""
    found = {}
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = 1024 * int(value[:-3])
    return found
