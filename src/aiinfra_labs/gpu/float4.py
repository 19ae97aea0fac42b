"""Loads and stores of 16 bytes, which CUDA C has as `float4` and Numba does not. Unit 3.5.

    v = load_float4(a, (row, column))  # a[row, column] to a[row, column + 3], as v.x, v.y, v.z, v.w
    store_float4(a, (row, column), cuda.float32x4(x, y, z, w))

One request then moves 512 bytes for a warp where `a[row, column]` moves 128: a fourth of the
instructions for the same sectors. The array is float32, its last axis without gaps, and the first
of the four elements lies at a multiple of 16 bytes: a GPU refuses any other address. A shared
array lies so if it is made with `cuda.shared.array(shape, np.float32, 16)`. A negative index does
not wrap.

Numba has the type `float32x4` and no load or store of it, but it can be taught: an intrinsic writes
LLVM's `load <4 x float>, align 16`, which NVVM makes `ld.global.v4.f32` or `ld.shared.v4.f32`. The
emulator has its own, which counts one request of 16 bytes a lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.gpu import compiled, cuda, emulator

from .emulator.api.intrinsics import Intrinsic, alias
from .emulator.errors import EmulatorError, LaneError, described
from .emulator.lanes.views import ArrayView

if TYPE_CHECKING:
    from .emulator.lanes.machine import Line, Machine
    from .emulator.lanes.mask import Mask

WIDTH = 16  # bytes
FLOAT4 = emulator.VECTORS["float32x4"]
_RECORD = np.dtype([(name, np.float32) for name in "xyzw"])


# --- for the emulator -----------------------------------------------------------------------------


def _load(machine: Machine, mask: Mask, line: Line, array: Any, index: Any) -> Any:
    four = _four(machine, mask, line, array, index)
    if machine.typing:
        return FLOAT4(*(np.zeros(0, np.float32) for _ in "xyzw"))
    found = machine._read(mask, four, line)
    return FLOAT4(*(np.ascontiguousarray(found[name])[()] for name in "xyzw"))


def _store(machine: Machine, mask: Mask, line: Line, array: Any, index: Any, value: Any) -> None:
    if not isinstance(value, FLOAT4):
        raise LaneError(
            f"store_float4 stores {described(value)}",
            "it stores a cuda.float32x4(x, y, z, w)",
        )
    four = _four(machine, mask, line, array, index)
    if not machine.typing:
        joined = np.empty(np.broadcast_shapes(*(np.shape(v) for v in value)), _RECORD)
        for name, component in zip("xyzw", value, strict=True):
            joined[name] = component
        machine._write(mask, four, joined[()], line)


def _four(machine: Machine, mask: Mask, line: Line, array: Any, index: Any) -> ArrayView:
    """The element at `index` and the three behind it, as one element of 16 bytes."""
    places = index if isinstance(index, tuple) else (index,)
    _need_float4(array, places)
    first = array.locate(machine, mask, places, line)
    if machine.typing:
        return first
    last, extent = places[-1], array.shape[-1]
    beyond = (last < 0) | (np.asarray(last) + 3 >= extent)
    if np.any(beyond & mask.lanes):
        fourth = (*places[:-1], np.asarray(last + 3)[()])
        array._out_of_bounds(machine, mask, np.broadcast_to(beyond, mask.lanes.shape), fourth, line)
    address = np.asarray(first.addresses())
    crooked = np.broadcast_to(address % WIDTH != 0, mask.lanes.shape) & mask.lanes
    if crooked.any():
        lane = int(np.argmax(crooked))
        at = ", ".join(str(int(np.broadcast_to(p, mask.lanes.shape)[lane])) for p in places)
        raise EmulatorError(
            f"{array.name}[{at}] is not at a multiple of 16 bytes",
            f"it lies {int(np.broadcast_to(address, mask.lanes.shape)[lane]) % WIDTH} bytes behind "
            "one, and a load or store of 16 bytes at such an address stops the GPU (misaligned "
            "address)",
            "begin at a multiple of 4 floats, in an array whose rows have a multiple of 4 floats",
            machine.place(line, lane),
        )
    base = array.address + -array.address % WIDTH
    skipped = (base - array.address) // array.pitch
    whole = (array.window.size - skipped) // 4
    window = array.window[skipped : skipped + 4 * whole].view(_RECORD)
    start = (address - base) // WIDTH
    return ArrayView(
        window, base, start[()], (), (), _RECORD, array.name, array.space, array.writable
    )


def _need_float4(array: Any, places: tuple) -> None:
    if not isinstance(array, ArrayView) or array.dtype != np.float32:
        raise LaneError(
            f"load_float4 and store_float4 take a float32 array, not {described(array)}"
        )
    if array.space not in ("global", "shared"):
        raise LaneError(
            f"a float4 moves from or to global or shared memory: {array.name} is neither"
        )
    if len(places) != array.ndim:
        raise LaneError(f"{array.name} has {array.ndim} axes: give one index an axis, as a tuple")
    if array.strides[-1] != 1 or array.pitch != array.dtype.itemsize:
        raise LaneError(
            f"the last axis of {array.name} has gaps: four elements are not neighbours",
            "pass an array in C's order: np.ascontiguousarray(a)",
        )


# --- for Numba ------------------------------------------------------------------------------------


def _of_numba() -> tuple[Any, Any]:
    """(load_float4, store_float4) as Numba's intrinsics: they write a piece of LLVM's language."""
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.cuda.extending import intrinsic
    from numba.cuda.vector_types import vector_types

    float32x4 = vector_types["float32x4"]
    four_floats = ir.VectorType(ir.FloatType(), 4)

    def component(number: int) -> ir.Constant:
        return ir.Constant(ir.IntType(32), number)

    def pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        """To the four floats that begin at the element."""
        array_type, index_type = signature.args[:2]
        array = context.make_array(array_type)(context, builder, args[0])
        if isinstance(index_type, types.BaseTuple):
            given, kinds = cgutils.unpack_tuple(builder, args[1]), list(index_type)
        else:
            given, kinds = [args[1]], [index_type]
        index = [
            context.cast(builder, value, kind, types.intp)
            for value, kind in zip(given, kinds, strict=True)
        ]
        element = cgutils.get_item_pointer(context, builder, array_type, array, index)
        return builder.bitcast(element, four_floats.as_pointer(element.type.addrspace))

    @intrinsic
    def load_float4(typing: Any, array: Any, index: Any) -> Any:
        """Four floats from `index` on, as a float32x4."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            loaded = builder.load(pointer(context, builder, signature, args), align=WIDTH)
            result = cgutils.create_struct_proxy(float32x4)(context, builder)
            for number, name in enumerate("xyzw"):
                setattr(result, name, builder.extract_element(loaded, component(number)))
            return result._getvalue()

        return float32x4(array, index), generate

    @intrinsic
    def store_float4(typing: Any, array: Any, index: Any, value: Any) -> Any:
        """Store a float32x4 from `index` on."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            given = cgutils.create_struct_proxy(float32x4)(context, builder, value=args[2])
            vector = ir.Constant(four_floats, ir.Undefined)
            for number, name in enumerate("xyzw"):
                vector = builder.insert_element(vector, getattr(given, name), component(number))
            builder.store(vector, pointer(context, builder, signature, args), align=WIDTH)
            return context.get_dummy_value()

        return types.void(array, index, value), generate

    return load_float4, store_float4


_emulated = Intrinsic("load_float4", _load), Intrinsic("store_float4", _store)
if cuda is emulator:
    load_float4, store_float4 = _emulated
    compiled.teach(_emulated, _of_numba)
else:  # a kernel that Numba compiles is run on the emulator beside it, too
    load_float4, store_float4 = _of_numba()
    for theirs, ours in zip((load_float4, store_float4), _emulated, strict=True):
        alias(theirs, ours)
