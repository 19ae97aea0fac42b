"""The host's side of the API that has little to do on an emulator: streams, events, contexts.

Unit 3.2. Everything is done when its call returns, in order, as on the default stream. What a
real stream gains by overlapping copies and kernels cannot be seen here; the page says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..devices import get_current_device
from ..errors import LaunchError
from .memory import DeviceArray, check_dtype, device_array


class Stream:
    """A queue of work. Work is done at once, so there is never any to wait for."""

    def synchronize(self) -> None:
        """Wait for the stream's work: it is done already."""

    @contextmanager
    def auto_synchronize(self) -> Iterator[Stream]:
        """At the end of the block, wait for the stream's work: it is done already."""
        yield self

    def __bool__(self) -> bool:
        return True


class Event:
    """A point in time on a stream."""

    def __init__(self, timing: bool = True):
        self._time = 0.0

    def record(self, stream: Any = 0) -> None:
        """Take the time."""
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        """Wait until the event has happened: it has."""

    def wait(self, stream: Any = 0) -> None:
        """Let a stream wait for the event: it has happened."""

    def query(self) -> bool:
        """Whether it has happened: True."""
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds of the emulator's own time from this event to `other`: not a GPU's."""
        return (other._time - self._time) * 1e3


def stream() -> Stream:
    """A stream. The emulator runs everything in order, whatever the stream."""
    return Stream()


def event(timing: bool = True) -> Event:
    """An event, to mark a moment of the host's program."""
    return Event(timing)


def synchronize() -> None:
    """Wait for all work: it is done already."""


def is_available() -> bool:
    """True: kernels can be launched (on the emulator)."""
    return True


def detect() -> bool:
    """Say which device there is: the emulator's."""
    device = get_current_device()
    print(
        f"Emulated device: {device.name}, compute capability "
        f"{'.'.join(map(str, device.compute_capability))}"
    )
    return True


class Gpu:
    """The device that is stood for, as `cuda.gpus[0]`: its figures, and `with cuda.gpus[0]:`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(get_current_device(), name)

    def __enter__(self) -> Gpu:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<the emulated device 0: {self.name}>"


class Gpus:
    """`cuda.gpus`, the list of devices: there is one, whichever `select_device` has chosen."""

    lst = property(lambda self: [Gpu()])
    current = property(lambda self: Gpu())

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Gpu]:
        return iter(self.lst)

    def __getitem__(self, number: int) -> Gpu:
        if number != 0:
            raise LaunchError(
                f"there is no device {number}",
                "the emulator stands for one device, number 0",
                'cuda.gpus[0]; cuda.select_device("a100") changes what it stands for',
            )
        return Gpu()


gpus = Gpus()


def list_devices() -> Gpus:
    """The devices, as `cuda.gpus`."""
    return gpus


def close() -> None:
    """End the context. The emulator holds nothing that would have to be freed."""


@contextmanager
def defer_cleanup() -> Iterator[None]:
    """Within the block, nothing is freed: as Numba's, and here nothing ever is."""
    yield


class MemoryInfo(NamedTuple):
    free: int
    total: int


class Context:
    """Stands for the CUDA context."""

    def get_memory_info(self) -> MemoryInfo:
        """Bytes of the device profile's memory; the emulator sets no limit of its own."""
        total = get_current_device().memory_bytes
        return MemoryInfo(total, total)

    def synchronize(self) -> None:
        """Wait for all work: it is done already."""

    @property
    def device(self) -> Any:
        """The device that is stood for."""
        return get_current_device()


def current_context(devnum: int | None = None) -> Context:
    """The context of the device that is stood for."""
    return Context()


def device_array_like(ary: Any, stream: Any = 0) -> DeviceArray:
    """Uninitialised device memory of the shape, dtype and order of `ary`."""
    return device_array(ary.shape, ary.dtype, strides=_packed(ary))


def _packed(ary: Any) -> tuple[int, ...]:
    """Strides without gaps, the axes in the order that they have in `ary`."""
    if ary.flags.c_contiguous or ary.flags.f_contiguous:
        return ary.strides
    strides, step = [0] * ary.ndim, ary.dtype.itemsize
    for axis in sorted(range(ary.ndim), key=lambda axis: (ary.strides[axis], -axis)):
        strides[axis], step = step, step * ary.shape[axis]
    return tuple(strides)


def pinned_array(
    shape: Any, dtype: Any = np.float64, strides: Any = None, order: str = "C"
) -> np.ndarray:
    """Host memory. A device would copy from it without a detour; here it is plain memory."""
    check_dtype(np.dtype(dtype))
    return np.empty(shape, dtype, order)


def pinned_array_like(ary: Any) -> np.ndarray:
    """A host array of the shape, type and order of another, as `pinned_array`."""
    return device_array_like(ary)._array


def mapped_array_like(ary: Any, stream: Any = 0, **_: Any) -> DeviceArray:
    """A mapped array of the shape, type and order of another, as `mapped_array`."""
    return device_array_like(ary)


def managed_array(
    shape: Any, dtype: Any = np.float64, strides: Any = None, order: str = "C", **_: Any
) -> DeviceArray:
    """Memory that moves between host and device by itself."""
    return device_array(shape, dtype, strides, order)


def mapped_array(
    shape: Any, dtype: Any = np.float64, strides: Any = None, order: str = "C", **_: Any
) -> DeviceArray:
    """Memory that host and device both see."""
    return device_array(shape, dtype, strides, order)


@contextmanager
def pinned(*arrays: np.ndarray) -> Iterator[None]:
    """Page-lock host arrays for the block: nothing to do without a device."""
    yield
