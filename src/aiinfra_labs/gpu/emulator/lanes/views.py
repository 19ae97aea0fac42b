"""Arrays as the lanes of a kernel see them. Unit 3.2.

An `ArrayView` is the bytes of an array with an offset that may differ from thread to thread, so
that `row = a[i]` works. Addresses are those of the process, aligned as cudaMalloc aligns, so
sectors are counted on what a GPU would see.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaneError, OutOfBounds, UnsupportedFeature, described
from .arithmetic import convert
from .mask import Mask

if TYPE_CHECKING:
    from .protocol import Machine


class FromTheEnd(np.int64):
    """A negative number that the source has for an index: `a[-1]` means the last element."""


KEPT_OFFSETS = 16  # index vectors that a machine remembers; see `ArrayView._offset`


class WideIndex(tuple):
    """An index with `...`, which stands for all axes that are not named, or None, a new axis."""

    def spread(self, ndim: int) -> list[Any]:
        """One item for each axis, None for each new one. ndim: of the array."""
        named = sum(item is not None and item is not Ellipsis for item in self)
        if named > ndim:
            raise LaneError(f"an index names {named} axes, and the array has {ndim}")
        items, rest = list(self), [slice(None)] * (ndim - named)
        for at, item in enumerate(items):
            if item is Ellipsis:
                return items[:at] + rest + items[at + 1 :]
        return items + rest

    def plain(self, ndim: int) -> tuple[Any, ...]:
        """The index of the array that has the new axes already."""
        return tuple(slice(None) if item is None else item for item in self.spread(ndim))


_NEVER: tuple[Any, Any] = (lambda: None, None)


@dataclass(eq=False, slots=True)  # one is made for every load: frozen ones cost four times more
class ArrayView:
    """An array as the lanes see it. Element (i, j) lies at window[start + i*stride0 + j*stride1].

    window: 1-d view of the memory, one entry each `pitch` bytes, from byte address `address` on.
    start:  int64, or int64 [L] where threads hold different parts of one array.
    shape:  one length an axis, each an int or int64 [L].
    """

    window: np.ndarray
    address: int
    start: Any
    shape: tuple[Any, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    name: str
    space: str = "global"
    writable: bool = True

    __array_ufunc__ = None  # NumPy must not take it for an operand

    @property
    def pitch(self) -> int:
        """Bytes from one entry of the window to the next."""
        return self.window.strides[0]

    @property
    def end(self) -> int:
        """The address behind the last byte of the window."""
        return self.address + (self.window.size - 1) * self.pitch + self.window.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def locate(self, machine: Machine, mask: Mask, index: tuple, line: Any) -> ArrayView:
        """The element, row or slice that `index` names: a view of fewer dimensions."""
        if type(index) is WideIndex:
            return self._widened(index).locate(machine, mask, index.plain(self.ndim), line)
        if len(index) == 1 and isinstance(index[0], str):
            return self.field(index[0])
        if not self.shape and self.dtype.fields and len(index) == 1 and not index[0].ndim:
            return self.field(self.dtype.names[int(index[0])])  # record[0]: its first field
        if len(index) > len(self.shape):
            axes = len(self.shape)
            raise LaneError(
                f"{self.name} is indexed with {len(index)} numbers and has "
                f"{'1 axis' if axes == 1 else f'{axes} axes'}",
                f"{self.name}.ndim is {axes}: give one index an axis",
            )
        start, shape, strides = self.start, [], []
        for axis, item in enumerate(index):
            extent, stride = self.shape[axis], self.strides[axis]
            if isinstance(item, slice):
                first, length, step = _slice(item, extent)
                shape.append(length)
                strides.append(stride * step)
                first = first * stride
            else:
                first = self._offset(machine, mask, item, axis, index, line)
            start = first if isinstance(start, int) and start == 0 else start + first
        shape.extend(self.shape[len(index) :])
        strides.extend(self.strides[len(index) :])
        kept = (self.dtype, self.name, self.space, self.writable)
        return ArrayView(self.window, self.address, start, tuple(shape), tuple(strides), *kept)

    def _widened(self, index: WideIndex) -> ArrayView:
        """With an axis of length 1 for each None of the index."""
        shape, strides, own = [], [], 0
        for item in index.spread(self.ndim):
            inserted = item is None
            shape.append(1 if inserted else self.shape[own])
            strides.append(0 if inserted else self.strides[own])
            own += not inserted
        return replace(self, shape=tuple(shape), strides=tuple(strides))

    def _offset(
        self, machine: Machine, mask: Mask, item: Any, axis: int, index: tuple, line: Any
    ) -> Any:
        """How far index `item` leads along an axis.

        A vector that comes again, as threadIdx.x in each round of a loop, leads as far as before:
        lane vectors never change.
        """
        extent, stride = self.shape[axis], self.strides[axis]
        if not isinstance(item, np.ndarray) or isinstance(extent, np.ndarray) or machine.typing:
            return self._checked(machine, mask, item, axis, index, line) * stride
        key = (id(item), extent, stride)
        known, offset = machine.offsets.get(key, _NEVER)
        again = known() is item
        if again and offset is not None:
            return offset
        first = self._checked(machine, mask, item, axis, index, line)
        offset = first if stride == 1 else first * stride
        inside = first is item or (again and np.array_equal(first, item))  # none has wrapped
        if len(machine.offsets) >= KEPT_OFFSETS:
            machine.offsets.pop(next(iter(machine.offsets)))
        machine.offsets[key] = weakref.ref(item), offset if again and inside else None
        return offset

    def _checked(
        self, machine: Machine, mask: Mask, item: Any, axis: int, index: tuple, line: Any
    ) -> Any:
        """`item` as an offset within the axis: negative indices wrapped once, bounds checked."""
        kind = getattr(getattr(item, "dtype", None), "kind", "")
        if isinstance(item, ArrayView) or kind not in ("i", "u", "b" if machine.typing else "i"):
            raise LaneError(
                f"{self.name} is indexed with {described(item)}; an index is an integer",
                "divide with // rather than /, or convert with int(...)",
            )
        extent = self.shape[axis]
        if machine.typing:
            return np.zeros(0, dtype=np.int64)
        signed = kind == "i"
        if item.ndim == 0 and not isinstance(extent, np.ndarray):
            wrapped = int(item)
            if wrapped < 0 and signed:
                wrapped += int(extent)
            if 0 <= wrapped < extent:
                if item < 0:
                    machine.note_negative_index(self.name, line, item, mask.lanes)
                return np.int64(wrapped)
            self._out_of_bounds(machine, mask, mask.lanes, index, line)
        i = item.astype(np.int64, copy=False)
        # one comparison finds both ends: a negative index is a huge one when read as unsigned
        outside = i.view(np.uint64) >= np.asarray(extent).astype(np.uint64)
        if not outside.any():
            return i
        if signed:
            below = (i < 0) & mask.lanes
            if below.any():
                machine.note_negative_index(self.name, line, np.broadcast_to(i, below.shape), below)
            i = np.where(i < 0, i + extent, i)
        outside = ((i < 0) | (i >= extent)) & mask.lanes
        if outside.any():
            self._out_of_bounds(machine, mask, outside, index, line)
        return np.clip(i, 0, np.maximum(np.asarray(extent) - 1, 0))  # lanes that are not active

    def _out_of_bounds(
        self, machine: Machine, mask: Mask, outside: np.ndarray, index: tuple, line: Any
    ) -> None:
        lane = int(np.argmax(outside & mask.lanes))
        at = tuple(_of_lane(i, lane) for i in index)
        shape = tuple(_of_lane(n, lane) for n in self.shape)
        threads = int(np.count_nonzero(outside & mask.lanes))
        place = machine.place(line, lane)
        shown = ", ".join(map(str, at))
        limits = ", ".join(map(str, shape))
        raise OutOfBounds(
            f"{self.name}[{shown}] is outside the array: its shape is ({limits})",
            f"{'1 thread goes' if threads == 1 else f'{threads} threads go'} outside here; "
            f"{_valid(shape)}. A grid has more threads than elements whenever the size is no "
            "multiple of the block",
            f"let a thread work only where its index is inside: `if i < {self.name}.size:`"
            if len(shape) == 1
            else f"compare each index with its own axis of {self.name}.shape before this line",
            place,
            self.name,
            at,
            shape,
        )

    def transposed(self) -> ArrayView:
        """The axes in reverse order."""
        return replace(self, shape=self.shape[::-1], strides=self.strides[::-1])

    def flipped(self) -> ArrayView:
        """From the last element (row, ...) to the first."""
        start = self.start + (np.int64(1) * self.shape[0] - 1) * self.strides[0]
        return replace(self, start=start, strides=(-self.strides[0], *self.strides[1:]))

    def part(self, name: str) -> ArrayView:
        """The real or the imaginary parts of complex numbers."""
        half = np.dtype(f"f{self.dtype.itemsize // 2}")
        record = np.dtype([("real", half), ("imag", half)])
        return replace(self, window=self.window.view(record), dtype=record).field(name)

    def addresses(self) -> Any:
        """Byte address of the element, one a lane: int64 [L], or one for all."""
        return self.address + self.start * self.pitch

    def read(self) -> Any:
        """The element of each lane, [L]; one number where it is the same for all."""
        if isinstance(self.start, np.ndarray):
            return self.window.take(self.start, mode="clip")
        return self.window[self.start]

    def write(self, mask: Mask, value: Any) -> None:
        """Store the value of each active lane, converted to the array's dtype."""
        value = converted(value, self.dtype, self.name)
        if not isinstance(self.start, np.ndarray):  # all write one address: the last lane wins
            if value.ndim:
                value = value[len(mask.lanes) - 1 - int(np.argmax(mask.lanes[::-1]))]
            self.window[self.start] = value
        elif mask.full:
            self.window[self.start] = value
        else:
            lanes = mask.lanes
            self.window[self.start[lanes]] = value[lanes] if value.ndim else value

    def field(self, name: str) -> ArrayView:
        """One field of an array of records."""
        if not self.dtype.fields or name not in self.dtype.fields:
            raise LaneError(f"{self.name} has no field {name!r}")
        dtype, offset = self.dtype.fields[name][:2]
        element, inner = dtype.subdtype or (dtype, ())
        _need_aligned(self.name, name, element, offset)
        if not inner:
            return replace(
                self,
                window=self.window[name],
                address=self.address + offset,
                dtype=dtype,
                name=f"{self.name}.{name}",
            )
        # the field is an array itself: its axes follow those of the array of records
        pitch = math.gcd(self.pitch, element.itemsize)
        span = (self.window.size - 1) * self.pitch + dtype.itemsize
        length = (span - element.itemsize) // pitch + 1
        window = np.lib.stride_tricks.as_strided(self.window[name], (length,), (pitch,))
        scale, step = self.pitch // pitch, element.itemsize // pitch
        return ArrayView(
            window,
            self.address + offset,
            self.start * scale,
            (*self.shape, *inner),
            (
                *(s * scale for s in self.strides),
                *(step * math.prod(inner[axis + 1 :]) for axis in range(len(inner))),
            ),
            element,
            f"{self.name}.{name}",
            self.space,
        )


def _need_aligned(array: str, field: str, element: np.dtype, offset: int) -> None:
    """A GPU loads a number from a multiple of its size, and Numba refuses a record that has not."""
    unit = 1 if element.fields or element.kind in "SU" else element.alignment
    if offset % unit:
        raise UnsupportedFeature(
            f"the field {array}.{field} ({element}) lies {offset} bytes into its record, no "
            f"multiple of {unit}",
            "a GPU loads a number from an address that is a multiple of its size, and Numba "
            "compiles no access to one that is not",
            "make the dtype with np.dtype([...], align=True), which leaves gaps where needed",
        )


def _valid(shape: tuple[int, ...]) -> str:
    if 0 in shape:
        return "the array is empty"
    if len(shape) == 1:
        return f"the last valid index is {shape[0] - 1}"
    return f"the last valid index is ({', '.join(str(n - 1) for n in shape)})"


def _of_lane(value: Any, lane: int) -> Any:
    if isinstance(value, slice):
        bounds = (value.start, value.stop, value.step)
        first, last, step = ("" if b is None else str(_of_lane(b, lane)) for b in bounds)
        return f"{first}:{last}" + (f":{step}" if step else "")
    return int(value[lane]) if getattr(value, "ndim", 0) else int(value)


def converted(value: Any, dtype: np.dtype, name: str) -> Any:
    """A value as an array of `dtype` stores it."""
    if isinstance(value, bool):  # known before the kernel runs, as `a is None`
        value = np.bool_(value)
    if isinstance(value, str) and dtype.kind in "SU":
        return np.array(value.encode("latin1") if dtype.kind == "S" else value, dtype)
    if not isinstance(value, np.ndarray | np.generic):
        raise LaneError(f"{name} holds {dtype}; {described(value)} cannot be stored in it")
    if value.dtype.kind == "c" and dtype.kind != "c":
        raise LaneError(f"{name} holds {dtype}; a complex number cannot be stored in it")
    if dtype.fields:
        if value.dtype != dtype:
            raise LaneError(f"{name} holds records; {described(value)} cannot be stored in one")
        return value
    return convert(value, dtype)


def _slice(item: slice, extent: Any) -> tuple[Any, Any, int]:
    """First index, length and step of a slice along an axis; start and stop may vary by lane."""
    for bound in (item.start, item.stop, item.step):
        if bound is not None and getattr(getattr(bound, "dtype", None), "kind", "f") not in "iu":
            raise LaneError(f"a slice goes from integer to integer, not to {described(bound)}")
    if getattr(item.step, "ndim", 0):
        if item.step.size:
            raise LaneError("the step of a slice is the same for all threads")
        return np.zeros(0, np.int64), np.zeros(0, np.int64), 1  # while types are inferred
    step = 1 if item.step is None else int(item.step)
    if step == 0:
        raise LaneError("a slice has a step of 0")
    # going forward a slice starts at 0 and ends before `extent`; backward, at the last and at -1
    low, high = (0, extent) if step > 0 else (-1, np.asarray(extent) - 1)
    ends = (low, high) if step > 0 else (high, low)
    bounds = []
    for bound, default in zip((item.start, item.stop), ends, strict=True):
        if bound is None:
            bounds.append(np.asarray(default)[()])
        else:
            wrapped = np.where(np.asarray(bound) < 0, bound + extent, bound)
            bounds.append(np.clip(wrapped, low, high)[()])
    first, last = bounds
    length = np.maximum((last - first + step - np.sign(step)) // step, 0)
    return first.astype(np.int64), length, step


def common_window(a: ArrayView, b: ArrayView) -> tuple[ArrayView, ArrayView]:
    """Both views on one window that spans both memories; what lies between is never touched."""
    low, high = (a, b) if a.address <= b.address else (b, a)
    gap = high.address - low.address
    pitch = math.gcd(low.pitch, high.pitch, gap)
    length = gap // pitch + high.window.size * (high.pitch // pitch)
    window = np.lib.stride_tricks.as_strided(low.window, (length,), (pitch,))

    def moved(view: ArrayView) -> ArrayView:
        scale = view.pitch // pitch
        return replace(
            view,
            window=window,
            address=low.address,
            start=view.start * scale + (view.address - low.address) // pitch,
            strides=tuple(s * scale for s in view.strides),
        )

    return moved(a), moved(b)


def view_of(array: np.ndarray, name: str, space: str = "global") -> ArrayView:
    """An `ArrayView` of a NumPy array of any strides."""
    strides = [s for n, s in zip(array.shape, array.strides, strict=True) if n > 1 and s]
    pitch = math.gcd(*(abs(s) for s in strides)) if strides else max(array.itemsize, 1)
    # the stride of a lone element is never walked; on one axis it is an unbroken row all the same
    lone = 1 if array.ndim == 1 else 0
    steps = tuple(
        s // pitch if n > 1 else lone for n, s in zip(array.shape, array.strides, strict=True)
    )
    if array.flags.c_contiguous and array.size:
        return ArrayView(
            array.reshape(-1), array.ctypes.data, 0, array.shape, steps, array.dtype, name, space
        )
    if array.size == 0:
        return ArrayView(
            np.zeros(1, array.dtype),
            array.ctypes.data,
            0,
            array.shape,
            steps,
            array.dtype,
            name,
            space,
        )
    # from the lowest address to the highest: with a negative stride element 0 is not the lowest
    low = sum((n - 1) * s for n, s in zip(array.shape, steps, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(array.shape, steps, strict=True) if s > 0)
    address = array.ctypes.data + low * pitch
    corner = array[(..., *(slice(-1, None) if s < 0 else slice(0, 1) for s in steps))]
    window = np.lib.stride_tricks.as_strided(corner, (high - low + 1,), (pitch,))
    return ArrayView(window, address, -low, array.shape, steps, array.dtype, name, space)
