"""Device memory as the host holds it: `cuda.to_device` gives a `DeviceArray`. Unit 3.2.

What a kernel sees of it is in `views.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..checkers.fresh import made, wrote
from ..devices import get_current_device
from ..errors import DeviceMemoryError

ALIGNMENT = 256  # bytes; cudaMalloc's guarantee (CUDA C++ Programming Guide, 5.3.2)


def allocate(nbytes: int) -> np.ndarray:
    """`nbytes` of uninitialised memory on a 256-byte boundary, as uint8 [nbytes]."""
    raw = np.empty(nbytes + 2 * ALIGNMENT, dtype=np.uint8)
    shift = -raw.ctypes.data % ALIGNMENT
    return raw[shift : shift + nbytes]


def check_dtype(dtype: np.dtype, what: str = "an array") -> None:
    """Raise `DeviceMemoryError` for a dtype that no CUDA kernel can hold."""
    if dtype.fields is not None:
        for name in dtype.fields:
            check_dtype(dtype.fields[name][0], f"the field {name!r}")
        return
    element = dtype.base  # of a sub-array, its elements
    if not element.isnative:
        raise DeviceMemoryError(
            f"{what} of dtype {dtype.str} has its bytes in the other order than the device",
            "CUDA devices are little-endian",
            "convert it first: array.astype(array.dtype.newbyteorder('='))",
        )
    if element.kind in "SU":  # a kernel can store a constant text in it, and no more
        return
    if element.kind in "biufc" and element.itemsize <= (16 if element.kind == "c" else 8):
        return
    raise DeviceMemoryError(
        f"{what} of dtype {dtype} cannot live on the device",
        "CUDA kernels work on bool, int8 to int64, uint8 to uint64, float16, float32, float64, "
        "complex64, complex128 and records of these",
        _DTYPE_ADVICE.get(dtype.kind, "convert it first: array.astype(np.float32)"),
    )


_DTYPE_ADVICE = {
    "O": "make an array of numbers: np.array(values, dtype=np.float32)",
    "M": "view the dates as integers: array.view(np.int64)",
    "m": "view the durations as integers: array.view(np.int64)",
}


class DeviceArray:
    """An array in device memory. Element access copies; slices and reshapes are views."""

    def __init__(self, array: np.ndarray):
        self._array = array  # lies in memory that `allocate` gave

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    size = property(lambda self: self._array.size)
    ndim = property(lambda self: self._array.ndim)
    strides = property(lambda self: self._array.strides)
    nbytes = property(lambda self: self._array.nbytes)
    alloc_size = property(lambda self: self._array.nbytes)
    T = property(lambda self: DeviceArray(self._array.T))
    flags = property(lambda self: self._array.flags)

    def copy_to_host(self, ary: np.ndarray | None = None, stream: Any = 0) -> np.ndarray:
        """The contents as a host array (cudaMemcpy, device to host), into `ary` if given."""
        _record_copy("to_host", self.nbytes)
        if ary is None:
            return self._array.copy(order="K")
        if not isinstance(ary, np.ndarray):
            raise DeviceMemoryError(
                f"copy_to_host into a {type(ary).__name__}",
                "the copy needs a NumPy array to write into",
                "leave it out: host = device.copy_to_host()",
            )
        if ary.shape != self.shape or ary.dtype != self.dtype:
            raise DeviceMemoryError(
                f"copy_to_host into an array of {ary.dtype}{list(ary.shape)}, "
                f"from one of {self.dtype}{list(self.shape)}",
                "both sides of a copy have one shape and one dtype",
                "leave `ary` out, or make it with np.empty_like",
            )
        ary[...] = self._array
        return ary

    def copy_to_device(self, ary: np.ndarray | DeviceArray, stream: Any = 0) -> None:
        """Overwrite the contents with `ary` (cudaMemcpy, host to device)."""
        source = ary._array if isinstance(ary, DeviceArray) else np.asarray(ary)
        if source.shape != self.shape or source.dtype != self.dtype:
            raise DeviceMemoryError(
                f"copy_to_device of {source.dtype}{list(source.shape)} into device memory of "
                f"{self.dtype}{list(self.shape)}",
                "both sides of a copy have one shape and one dtype",
                "allocate with cuda.to_device(array), which takes both from the array",
            )
        _record_copy("to_device", source.nbytes)
        self._array[...] = source
        wrote(self._array)

    def is_c_contiguous(self) -> bool:
        """Whether rows lie one behind the other, without gaps."""
        return bool(self._array.flags.c_contiguous)

    def is_f_contiguous(self) -> bool:
        """Whether columns lie one behind the other, without gaps."""
        return bool(self._array.flags.f_contiguous)

    def reshape(self, *shape: Any, order: str = "C") -> DeviceArray:
        """A view of another shape. Raises `DeviceMemoryError` where that would take a copy."""
        try:
            view = self._array.reshape(*shape, order=order)
        except (ValueError, TypeError) as error:
            raise DeviceMemoryError(
                f"a device array of shape {self.shape} cannot be reshaped to {shape}",
                str(error),
                "keep the number of elements; one length may be -1, for what is left",
            ) from None
        if not np.shares_memory(view, self._array) and self.size:
            raise DeviceMemoryError(
                f"reshape of strides {self.strides} to {shape} needs a copy",
                "on the device a reshape only re-labels memory that is contiguous",
                "reshape on the host, before to_device",
            )
        return DeviceArray(view)

    def ravel(self, order: str = "C") -> DeviceArray:
        """A view of one axis. Raises `DeviceMemoryError` where that would take a copy."""
        return self.reshape(-1, order=order)

    def transpose(self, axes: Any = None) -> DeviceArray:
        """A view with its axes in another order, by default reversed."""
        return DeviceArray(self._array.transpose(axes))

    def view(self, dtype: Any) -> DeviceArray:
        """The same bytes as elements of another dtype."""
        return DeviceArray(self._array.view(dtype))

    def split(self, section: int, stream: Any = 0) -> list[DeviceArray]:
        """The array in pieces of `section` elements each, without a copy."""
        return [DeviceArray(self._array[i : i + section]) for i in range(0, self.size, section)]

    def __getitem__(self, index: Any) -> Any:
        item = self._array[index]
        return DeviceArray(item) if isinstance(item, np.ndarray) else item

    def __setitem__(self, index: Any, value: Any) -> None:
        self._array[index] = value._array if isinstance(value, DeviceArray) else value
        part = self._array[index]  # a copy, where the index is an array
        view = isinstance(part, np.ndarray) and np.may_share_memory(part, self._array)
        wrote(part if view else self._array)

    def __len__(self) -> int:
        return len(self._array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        host = self.copy_to_host()
        return host if dtype is None else host.astype(dtype)

    def __repr__(self) -> str:
        return f"<device array {self.dtype}{list(self.shape)}, emulated>"


_copy_listeners: list[Any] = []  # profiles that are open


def _record_copy(direction: str, nbytes: int) -> None:
    for listener in _copy_listeners:
        listener(direction, nbytes)


def device_array(
    shape: Any,
    dtype: Any = np.float64,
    strides: Any = None,
    order: str = "C",
    stream: Any = 0,
) -> DeviceArray:
    """Uninitialised device memory (cudaMalloc)."""
    dtype = np.dtype(dtype)
    check_dtype(dtype)
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    bad = [n for n in shape if not isinstance(n, int | np.integer) or n < 0]
    if bad:
        raise DeviceMemoryError(
            f"a device array of shape {shape}",
            f"{bad[0]!r} is not a length: lengths are integers, 0 or more",
            "use // rather than / to compute a length",
        )
    total = get_current_device().memory_bytes
    if math.prod(shape) * dtype.itemsize > total:
        raise DeviceMemoryError(
            f"a device array of {math.prod(shape) * dtype.itemsize:,} bytes",
            f"{get_current_device().name} has {total:,} bytes of memory",
            "use a smaller array, or work through it in pieces",
        )
    if strides is not None:
        span = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
        return DeviceArray(np.ndarray(shape, dtype, made(allocate(span)), strides=strides))
    nbytes = math.prod(shape) * dtype.itemsize
    return DeviceArray(np.ndarray(shape, dtype, made(allocate(nbytes)), order=order))


def to_device(obj: Any, stream: Any = 0, copy: bool = True, to: DeviceArray | None = None):
    """A copy of a host array in device memory, with the same layout (cudaMalloc, cudaMemcpy)."""
    if isinstance(obj, DeviceArray):
        return obj
    host = _host_array(obj)
    if to is not None:
        to.copy_to_device(host)
        return to
    check_dtype(host.dtype)
    if not (host.flags.c_contiguous or host.flags.f_contiguous):
        raise DeviceMemoryError(
            f"an array of shape {host.shape} with strides {host.strides} is not contiguous",
            "a transfer copies one unbroken stretch of memory",
            "pass np.ascontiguousarray(array), or slice the device array after the transfer",
        )
    order = "C" if host.flags.c_contiguous else "F"
    device = device_array(host.shape, host.dtype, order=order)
    if copy:
        device.copy_to_device(host)
    return device


def _host_array(obj: Any) -> np.ndarray:
    try:
        return np.asarray(obj)
    except ValueError:  # rows of several lengths
        raise DeviceMemoryError(
            f"a {type(obj).__name__} that is no regular array",
            "device memory holds arrays whose rows have one length",
            "pad the rows, or keep them in one flat array with an array of offsets",
        ) from None
