"""A memory limit between a program and the device's allocator, set from outside. Unit 3.9.

HAMi-core is a library that the file /etc/ld.so.preload puts before the CUDA driver's: its
`cuMemAlloc` counts, then calls the driver's. Here the same is done one level up, to the functions
of `cuda` that allocate: within `limited(region)` each reserves its bytes in the region first. The
program is not changed, and neither is the allocator. What does not pass these functions is not
counted: here, the copy that Numba makes of a host array for one launch; under HAMi, a program that
calls the driver past the library.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from aiinfra_labs.gpu import cuda as default

from .shared_region import OutOfMemory, SharedRegion

__all__ = ["MemoryInfo", "OutOfMemory", "limited"]


class MemoryInfo(NamedTuple):
    """What `cuMemGetInfo` answers, in bytes."""

    free: int
    total: int


@contextmanager
def limited(region: SharedRegion, cuda: ModuleType | None = None) -> Iterator[SharedRegion]:
    """Within the block, device memory is counted in `region` and refused beyond its limit.

    `cuda.to_device`, `device_array`, `device_array_like` and `managed_array` raise `OutOfMemory`
    where the limit would be exceeded; `current_context().get_memory_info()` answers the limit in
    place of the device's memory. An array's bytes go back when the last view of it is gone. Blocks
    may be nested: the limit of a container within the memory of a device.

    cuda: the module to put the limit on; by default that of `aiinfra_labs.gpu`.
    """
    cuda = default if cuda is None else cuda
    sizes: dict[str, Callable[..., int]] = {
        "to_device": _size_to_device,
        "device_array": _size_of_shape,
        "managed_array": _size_of_shape,
        "device_array_like": lambda ary, *_, **__: int(ary.nbytes),
    }
    with ExitStack() as hooks:
        for name, size in sizes.items():
            hook = _counted(getattr(cuda, name), size, region)
            hooks.enter_context(mock.patch.object(cuda, name, hook))
        context = _context_of(region, cuda.current_context)
        hooks.enter_context(mock.patch.object(cuda, "current_context", context))
        yield region


def _counted(allocate: Callable, size: Callable[..., int], region: SharedRegion) -> Callable:
    """`allocate`, with its bytes reserved before and released when the memory is freed."""

    def hook(*args: Any, **kwargs: Any) -> Any:
        nbytes = size(*args, **kwargs)
        if nbytes <= 0:  # nothing to count, or no size: then the allocator says what is wrong
            return allocate(*args, **kwargs)
        region.reserve(nbytes)
        try:
            array = allocate(*args, **kwargs)
        except BaseException:  # the driver refused: what was reserved is not held
            region.release(nbytes)
            raise
        weakref.finalize(_memory_of(array), region.release, nbytes)
        return array

    return hook


def _size_of_shape(shape: Any, dtype: Any = np.float64, *_: Any, **__: Any) -> int:
    lengths = [int(n) for n in (shape if isinstance(shape, tuple | list) else (shape,))]
    if min(lengths, default=0) < 0:  # two of them would make a size above 0
        return -1
    return math.prod(lengths) * np.dtype(dtype).itemsize


def _size_to_device(obj: Any, stream: Any = 0, copy: bool = True, to: Any = None) -> int:
    if to is not None or hasattr(obj, "copy_to_host"):  # into an array that is there
        return 0
    return int(np.asarray(obj).nbytes)


def _memory_of(array: Any) -> Any:
    """What lives as long as the memory: views of an array keep it alive, not the array."""
    if hasattr(array, "gpu_data"):  # Numba
        return array.gpu_data
    memory = array._array
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    return memory


def _context_of(region: SharedRegion, real: Callable) -> Callable:
    def current_context(*args: Any, **kwargs: Any) -> Any:
        context = real(*args, **kwargs)

        def get_memory_info() -> MemoryInfo:
            with region.lock():
                return MemoryInfo(region.limit - region.used, region.limit)

        return SimpleNamespace(
            get_memory_info=get_memory_info,
            synchronize=context.synchronize,
            device=context.device,
        )

    return current_context
