"""Arrays that a kernel makes: shared by a block, local to a thread, constant. Units 3.2 and 3.4.

A shared array exists once a block. Here the copies of all blocks of a batch lie one behind the
other, each at a multiple of 128 bytes, so that an address taken modulo 128 is a place in the 32
banks of 4 bytes. A local array exists once a thread. Both start out full of ones (NaN, -1), which
no kernel should ever read: see `checking`.
"""

from __future__ import annotations

import math
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from ..devices import get_current_device
from ..errors import LaneError, LaunchError, UnsupportedFeature, described
from ..lanes.views import ArrayView
from ..translation.scalars import scalar_dtype
from ..translation.values import Literal
from .intrinsics import Intrinsic
from .memory import allocate, check_dtype

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine

BANKS_BYTES = 128  # 32 banks, 4 bytes wide
POISON = 0xFF


def _shared_array(
    machine: Machine, mask: Mask, line: Line, site: int, shape: Any, dtype: Any, alignment: Any = 0
) -> ArrayView:
    """`cuda.shared.array(shape, dtype)`; shape 0 is the launch's dynamic shared memory."""
    lengths, kind = _shape("shared", shape), _dtype("shared", dtype)
    dynamic = lengths == (0,)
    key: Any = ("dynamic", kind, _name(line))
    if not dynamic:  # one for each version of the function that makes it
        key = ("shared", line, site, machine.version)
    view = machine.arrays.get(key)
    if view is None:
        view = (
            _dynamic(machine, _name(line), kind)
            if dynamic
            else _make_shared(machine, _name(line), lengths, kind, line)
        )
        machine.arrays[key] = view
    return view


def _make_shared(
    machine: Machine, name: str, lengths: tuple[int, ...], dtype: np.dtype, line: Line
) -> ArrayView:
    nbytes = math.prod(lengths) * dtype.itemsize
    machine.shared_bytes += -(-nbytes // 16) * 16
    limit = get_current_device().static_shared_memory_per_block
    if machine.shared_bytes > limit:
        raise LaunchError(
            f"the kernel's shared arrays need {machine.shared_bytes:,} bytes a block",
            f"{get_current_device().name} gives a block {limit:,} bytes of static shared memory",
            "use a smaller tile, or dynamic shared memory: cuda.shared.array(0, dtype) and "
            "kernel[blocks, threads, stream, bytes]",
            machine.place(line, 0) if machine.size else None,
        )
    return _per_block(machine, name, lengths, dtype, nbytes)


def _per_block(
    machine: Machine, name: str, lengths: tuple[int, ...], dtype: np.dtype, nbytes: int
) -> ArrayView:
    """One copy a block, each a multiple of 128 bytes and of the element."""
    step = math.lcm(BANKS_BYTES, dtype.itemsize)
    padded = max(-(-nbytes // step), 1) * step
    memory = _poisoned(max(machine.blocks, 1) * padded)
    return _view(machine, memory, name, lengths, dtype, padded // dtype.itemsize, "shared")


def _dynamic(machine: Machine, name: str, dtype: np.dtype) -> ArrayView:
    """All dynamic shared arrays are one memory, whatever their dtypes."""
    nbytes = machine.launch.shared
    key = ("dynamic", "bytes")
    padded = max(-(-nbytes // BANKS_BYTES), 1) * BANKS_BYTES
    if BANKS_BYTES % dtype.itemsize:
        raise LaneError(
            f"dynamic shared memory as records of {dtype.itemsize} bytes",
            "use a dtype whose size divides 128 bytes",
        )
    memory = machine.arrays.get(key)
    if memory is None:
        memory = machine.arrays[key] = _poisoned(max(machine.blocks, 1) * padded)
    lengths = (nbytes // dtype.itemsize,)
    return _view(machine, memory, name, lengths, dtype, padded // dtype.itemsize, "shared")


def _local_array(
    machine: Machine, mask: Mask, line: Line, site: int, shape: Any, dtype: Any, alignment: Any = 0
) -> ArrayView:
    """`cuda.local.array(shape, dtype)`: each thread has its own."""
    key = ("local", line, site, machine.depth, machine.version)
    view = machine.arrays.get(key)
    if view is None:
        lengths, kind = _shape("local", shape), _dtype("local", dtype)
        count = max(math.prod(lengths), 1)
        memory = _poisoned(max(machine.size, 1) * count * kind.itemsize)
        view = _view(machine, memory, _name(line), lengths, kind, count, "local")
        machine.arrays[key] = view
    return view


def _constant_array(machine: Machine, mask: Mask, line: Line, site: int, array: Any) -> ArrayView:
    """`cuda.const.array_like(global_array)`: a global array is constant to a kernel anyway."""
    if not isinstance(array, ArrayView) or array.space != "const":
        raise LaneError(
            f"const.array_like takes a global array, not {described(array)}",
            "make the array with NumPy outside the kernel, and name it here",
        )
    return array


def _view(
    machine: Machine,
    memory: np.ndarray,
    name: str,
    lengths: tuple[int, ...],
    dtype: np.dtype,
    step: int,
    space: str,
) -> ArrayView:
    """`memory` (uint8) as one array for each block or lane, `step` elements apart."""
    window = memory[: memory.size // dtype.itemsize * dtype.itemsize].view(dtype)
    if space == "local":
        start: Any = np.arange(machine.size, dtype=np.int64) * step
    elif machine.blocks == 1:
        start = np.int64(0)
    else:
        first = np.arange(machine.blocks, dtype=np.int64) * step
        start = np.repeat(first, machine.launch.lanes_per_block)
    strides = tuple(math.prod(lengths[axis + 1 :]) for axis in range(len(lengths)))
    return ArrayView(window, memory.ctypes.data, start, lengths, strides, dtype, name, space)


def _poisoned(nbytes: int) -> np.ndarray:
    memory = allocate(nbytes)
    memory.fill(POISON)
    return memory


def _shape(what: str, shape: Any) -> tuple[int, ...]:
    parts = shape if isinstance(shape, tuple) else (shape,)
    for part in parts:
        if isinstance(part, Literal) and part < 0:
            raise LaneError(f"a {what} array has a length of {part}: lengths are 0 or more")
        if not isinstance(part, Literal):
            raise UnsupportedFeature(
                f"a length of cuda.{what}.array is not known when the kernel is compiled: "
                f"{described(part)}",
                "such an array is laid out by the compiler. An argument of the kernel, an array's "
                "shape and what is computed from them are known only when the kernel runs",
                "write a number, or the name of a global integer"
                + (
                    "; for a size chosen at the launch: cuda.shared.array(0, dtype) and "
                    "kernel[blocks, threads, stream, bytes]"
                    if what == "shared"
                    else ", as large as any thread needs"
                ),
            )
    return tuple(int(part) for part in parts)


def _dtype(what: str, dtype: Any) -> np.dtype:
    try:
        found = np.dtype(dtype) if isinstance(dtype, str) else scalar_dtype(dtype)
    except TypeError:
        raise LaneError(
            f"Invalid NumPy dtype specified: {dtype!r}",
            f"write cuda.{what}.array(shape, np.float32)",
        ) from None
    if found is None:
        raise LaneError(
            f"{what}.array has {described(dtype)} for its dtype",
            f"write cuda.{what}.array(shape, np.float32)",
        )
    check_dtype(found)
    return found


def _name(line: Line) -> str:
    """`tile` for `tile = cuda.shared.array(...)`: what a report should call the array."""
    name = line.text.partition("=")[0].strip()
    return name if name.isidentifier() else "array"


shared = types.SimpleNamespace(array=Intrinsic("shared.array", _shared_array, site=True))
local = types.SimpleNamespace(array=Intrinsic("local.array", _local_array, site=True))
const = types.SimpleNamespace(array_like=Intrinsic("const.array_like", _constant_array, site=True))
