"""Runs a translated kernel on one batch of blocks. Unit 3.2.

The translator turns a kernel into a Python function that calls the methods here: `split` where a
thread decides, `loop` where it goes round, `load` and `store` where it touches memory. All lanes of
the batch advance together. `ObservedMachine` shows the same steps to profilers and checkers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api.whole import METHODS, fill, unpacked
from ..checkers.endings import MEASURES
from ..checkers.waiting import Waiter, Waits, contents, deadlock, named_element
from ..errors import (
    LaneError,
    OutOfBounds,
    RaisedInKernel,
    StepBudgetExceeded,
    UninitialisedRead,
    described,
)
from ..translation.calling import need_self_contained
from ..translation.values import UNDEFINED, Literal, Partial, conform, merge
from . import arithmetic
from .geometry import Geometry
from .items import Elements, Range
from .launching import PRINT_LIMIT, Launch, Line, NegativeIndices, as_printed
from .loops import ForLoop, Loop
from .mask import EMPTY, Mask
from .methods import method_of
from .views import ArrayView, FromTheEnd

if TYPE_CHECKING:
    from ..checkers.endings import Ends


class Machine(Geometry):
    """The lanes of blocks `first` to `first + blocks - 1` of a launch, and what they can do."""

    typing = False
    observed = False  # whether somebody is told of each step
    patience = 16  # rounds of a loop, until it is asked whether it will ever end
    by_turns = False  # whether other lanes get on meanwhile

    def __init__(self, launch: Launch, first: int, blocks: int):
        super().__init__(launch, first, blocks)
        self.spent = 0  # rounds of loops so far, for the step budget
        in_block = np.arange(launch.lanes_per_block) < launch.threads_per_block
        self.all = Mask(np.tile(in_block, blocks))
        self.alive = self.all.lanes  # bool [L]: the threads that have not returned
        self.depth = 0  # of calls: 0 in the kernel itself
        self.version: Any = None  # the function that runs, and the types of its arguments
        self.arrays: dict[Any, Any] = {}  # what the kernel made: shared and local arrays
        self.offsets: dict[Any, Any] = {}  # of indices used before: see `memory`
        self.shared_bytes = 0  # of a block's static shared arrays so far
        self.watching = 0  # loops under way that may wait for a change of memory
        self.changes = 0  # of memory, as far as such a loop can see
        self.seen: ArrayView | None = None  # the element that was read last in one
        self.odd_fields = False  # whether a record has a field named as an array's size or shape

    # --- control flow --------------------------------------------------------------------

    def split(self, mask: Mask, condition: Any, line: Line) -> tuple[Mask, Mask]:
        """The active lanes where the condition holds, and where it does not."""
        if isinstance(condition, bool):  # known at compile time, as in `if x is None`
            return (mask, EMPTY) if condition else (EMPTY, mask)
        return mask.split(arithmetic.truth(condition))

    def join(self, before: Mask, a: Mask, b: Mask) -> Mask:
        """The lanes that come out of either side of a branch."""
        if a is before or b is before:
            return before
        both = a.union(b)
        return before if both.threads == before.threads else both

    def phi(self, table: dict, site: int, mask_a: Mask, a: Any, mask_b: Mask, b: Any) -> Any:
        """The value of a variable where two ways join, in the type that was inferred for it."""
        return conform(merge(mask_a, a, mask_b, b), table.get(site))

    def loop(
        self, table: dict, site: int, mask: Mask, line: Line, ends: Ends | None = None
    ) -> Loop:
        """A `while` loop begins."""
        return Loop(self, table, site, mask, line, ends)

    def for_loop(
        self, table: dict, site: int, mask: Mask, items: Any, line: Line, ends: Ends | None = None
    ) -> ForLoop:
        """A `for` loop begins."""
        return ForLoop(self, table, site, mask, items, line, ends)

    def range(self, mask: Mask, line: Line, *bounds: Any) -> Range:
        """`range(...)`. Raises `LaneError` for a step of 0, or bounds that are no integers."""
        found = Range.of(bounds)
        still = mask.lanes & (found.step == 0)
        if still.any():
            raise LaneError("range() has a step of 0 and would never end", "give it another step")
        return found

    def defined(self, mask: Mask, value: Any, name: str, line: Line) -> Any:
        """A local that some way through the kernel does not assign, where it is read."""
        if value is UNDEFINED:
            missing = mask.lanes
        elif isinstance(value, Partial):
            missing = mask.lanes & ~value.lanes
            value = value.value
        else:
            return value
        if missing.any():
            raise UninitialisedRead(
                f"{name} is read before it has a value",
                f"{np.count_nonzero(missing)} thread(s) come here without an assignment to it: "
                "past an `if` that they did not enter, or a loop that went round 0 times",
                f"give {name} a value at the top of the kernel",
                self.place(line, int(np.argmax(missing))),
            )
        return value

    def choose(
        self,
        table: dict,
        site: int,
        mask: Mask,
        condition: Any,
        then: Callable[[Mask], Any],
        other: Callable[[Mask], Any],
        line: Line,
    ) -> Any:
        """`then if condition else other`: each side sees only the lanes that reach it."""
        yes, no = self.split(mask, condition, line)
        a = then(yes) if yes is not EMPTY else None
        b = other(no) if no is not EMPTY else None
        return self.phi(table, site, yes, a, no, b)

    def select(self, *what: Any) -> Any:
        """`a if c else b`, as `choose`: a compiler may do it without a branch."""
        return self.choose(*what)

    def and_(
        self, table: dict, site: int, mask: Mask, a: Any, b: Callable[[Mask], Any], line: Line
    ) -> Any:
        """`a and b`: b is computed for the lanes where a holds."""
        if isinstance(a, bool):  # known at compile time
            return b(mask) if a else a
        return self.choose(table, site, mask, a, b, lambda _: a, line)

    def or_(
        self, table: dict, site: int, mask: Mask, a: Any, b: Callable[[Mask], Any], line: Line
    ) -> Any:
        """`a or b`: b is computed for the lanes where a does not hold."""
        if isinstance(a, bool):
            return a if a else b(mask)
        return self.choose(table, site, mask, a, lambda _: a, b, line)

    def call(self, callee: Any, mask: Mask, args: Sequence[Any]) -> Any:
        """A device function, called by the lanes of `mask`."""
        function = self.launch.function_of(callee)
        if self.depth >= MOST_CALLS:
            raise StepBudgetExceeded(
                f"{function.py_func.__name__} is called {self.depth} calls deep",
                "each call waits for the one inside it; the stack of a GPU thread is small, too",
                "check that the recursion comes to its end, or write it as a loop",
            )
        self.depth += 1
        try:
            return function.run(self, mask, args)
        finally:
            self.depth -= 1

    def returned(self, mask: Mask) -> None:
        """The lanes of `mask` return: from the kernel, they are done."""
        if self.depth == 0:
            self.alive = self.alive & ~mask.lanes

    # --- memory --------------------------------------------------------------------------

    def load(self, mask: Mask, array: Any, index: tuple, line: Line) -> Any:
        """What each lane reads: numbers, or a part of the array. Raises `LaneError`."""
        if isinstance(array, tuple):
            return self._tuple_item(mask, array, index, line)
        if not isinstance(array, ArrayView):
            raise LaneError(f"{described(array)} cannot be indexed")
        target = array.locate(self, mask, index, line)
        if target.ndim or target.dtype.fields:  # a row, a slice or a record: nothing is read yet
            return target
        if target.dtype.kind in "SU":
            raise LaneError(
                f"{array.name} holds text, which a kernel can store and not read",
                "encode it as numbers first: view(np.uint8), or np.frombuffer(text.encode(), "
                "np.uint8)",
            )
        return self._read(mask, target, line)

    def _read(self, mask: Mask, target: ArrayView, line: Line) -> Any:
        if self.watching:
            self.seen = target
        return target.read()

    def store(self, mask: Mask, array: Any, index: tuple, value: Any, line: Line) -> None:
        """Each lane writes an element, or a row. Raises `LaneError`."""
        if not isinstance(array, ArrayView):
            raise LaneError(f"{described(array)} cannot be assigned to by index")
        if array.space == "const" or not array.writable:
            kind = "a global" if array.space == "const" else "a read-only"
            raise LaneError(
                f"{array.name} is {kind} array: a kernel can read it and not write it",
                "pass an array in that can be written",
            )
        target = array.locate(self, mask, index, line)
        if target.dtype.fields and isinstance(value, ArrayView) and not value.ndim:
            if value.dtype != target.dtype:
                raise LaneError(f"{array.name} holds other records than {value.name}")
            value = self._read(mask, value, line)
        if target.ndim:
            fill(self, mask, target, value, line)
        else:
            self._write(mask, target, value, line)

    def _write(self, mask: Mask, target: ArrayView, value: Any, line: Line) -> None:
        if not self.watching:
            target.write(mask, value)
            return
        before = contents(target, mask)
        target.write(mask, value)
        if contents(target, mask) != before:
            self.changed()

    def load_field(self, mask: Mask, record: Any, name: str, line: Line) -> Any:
        """`record.name`, read."""
        return self.load(mask, record, (name,), line)

    def store_field(self, mask: Mask, record: Any, name: str, value: Any, line: Line) -> None:
        """`record.name = value`."""
        self.store(mask, record, (name,), value, line)

    def attribute(self, mask: Mask, value: Any, name: str, line: Line) -> Any:
        """`a.shape`, `a.size`, `z.real`, a field of a record."""
        if isinstance(value, ArrayView):
            if value.dtype.fields and name in value.dtype.fields:
                self.odd_fields |= name in MEASURES
                return self.load(mask, value, (name,), line)
            match name:
                case "shape":
                    return tuple(_int64(n) for n in value.shape)
                case "ndim":
                    return Literal(value.ndim)
                case "size":
                    return self._size(value)
                case "itemsize":
                    return np.int64(value.dtype.itemsize)
                case "T":
                    return value.transposed()
                case "dtype":
                    return value.dtype
                case "nbytes":
                    return np.int64(self._size(value) * value.dtype.itemsize)
                case "strides":
                    return tuple(np.int64(s * value.pitch) for s in value.strides)
                case "real" | "imag" if value.dtype.kind == "c":
                    return value.part(name)
                case "real":
                    return value
                case "flat":
                    return Elements(value)
        elif name in _named(value):
            return getattr(value, name)
        raise LaneError(f"{described(value)} has no attribute {name!r} in a kernel")

    @staticmethod
    def _size(value: ArrayView) -> Any:
        size = np.int64(1)
        for n in value.shape:
            size = size * _int64(n)
        return size

    def length(self, value: Any) -> Any:
        """`len(value)`, int64. Raises `LaneError` for what has no length."""
        if isinstance(value, tuple):
            return np.int64(len(value))
        if isinstance(value, ArrayView) and value.ndim:
            return _int64(value.shape[0])
        raise LaneError(f"{described(value)} has no len()")

    def unpack(self, mask: Mask, value: Any, count: int, line: Line) -> tuple:
        """The `count` values of `a, b = value`. Raises `LaneError` for another number of them."""
        if isinstance(value, ArrayView) and value.ndim:
            return unpacked(self, mask, value, count, line)
        if not isinstance(value, tuple) or len(value) != count:
            raise LaneError(
                f"{described(value)} cannot be unpacked into {count} names",
                "give a name to each item of the tuple",
            )
        return value

    def _tuple_item(self, mask: Mask, values: tuple, index: tuple, line: Line) -> Any:
        if len(index) != 1:
            raise LaneError(f"a tuple has one index, not {len(index)}")
        item = index[0]
        if isinstance(item, slice):
            bounds = (item.start, item.stop, item.step)
            if any(getattr(b, "ndim", 0) for b in bounds):
                raise LaneError("a tuple is sliced with constants")
            return values[slice(*(None if b is None else int(b) for b in bounds))]
        if not isinstance(item, np.ndarray | np.generic) or item.dtype.kind not in "iu":
            raise LaneError(f"a tuple is indexed with an integer, not with {described(item)}")
        outside = mask.lanes & ((item < -len(values)) | (item >= len(values)))
        if outside.any():
            lane = int(np.argmax(outside))
            at = int(item[lane] if item.ndim else item)
            raise OutOfBounds(
                f"the index {at} is outside a tuple of {len(values)}",
                "the items of a tuple are counted from 0",
                "check the index, or use an array",
                self.place(line, lane),
                "tuple",
                (at,),
                (len(values),),
            )
        if item.ndim == 0:
            return need_self_contained(values[int(item)])
        if not all(isinstance(v, np.ndarray | np.generic) for v in values):
            raise LaneError("a tuple of arrays is indexed with a constant")
        if len({v.dtype for v in values}) > 1:
            raise LaneError("a tuple of several types is indexed with a constant")
        result = np.broadcast_to(values[0], item.shape)
        for k, value in enumerate(values[1:], 1):
            result = np.where((item == k) | (item == k - len(values)), value, result)
        return result

    def method(self, mask: Mask, value: Any, name: str, args: tuple, line: Line) -> Any:
        """`grid.sync()`, where `grid = cuda.cg.this_grid()`: nothing else has methods."""
        known = getattr(type(value), "METHODS", ())
        if name in known:
            return getattr(value, name)(self, mask, line, *args)
        if isinstance(value, ArrayView) and name in METHODS:
            return METHODS[name](self, mask, line, value, *args)
        method = method_of(value, name)
        if method is not None:
            return method(value, *args)
        raise LaneError(
            f"{described(value)} has no method {name}() in a kernel",
            "arrays and numbers have no methods in a kernel: write the loop",
        )

    # --- waiting for each other ----------------------------------------------------------

    def meet(self, mask: Mask, line: Line, name: str, value: Any = None) -> tuple[np.ndarray, Any]:
        """The lanes, bool [L], that stand at a barrier together, and the value that each brings.

        All lanes of a batch advance together, so that nobody has to wait. `adversary` differs.
        """
        return mask.lanes, value

    def converge(
        self, mask: Mask, line: Line, name: str, members: Any, *values: Any
    ) -> tuple[Any, ...]:
        """The lanes of a warp meet, with the values that each brings: (mask, members, *values)."""
        return mask, members, *values

    def changed(self) -> None:
        """Memory is not what it was: whoever waits for that may go on."""
        self.changes += 1

    def round(self, loop: Loop, mask: Mask) -> None:
        """A loop whose end memory decides has gone round again."""

    def spins(self, loop: Loop, mask: Mask, for_ever: bool) -> None:
        """The lanes of `mask` go round and wait for a change of memory; see `waiting`.

        for_ever: their round will be the same until there is one. Else it has an end of its own.
        Returns if nobody else is there to change memory.
        """
        alone = mask.threads == np.count_nonzero(self.alive)
        if not alone or self.blocks < math.prod(self.launch.grid):
            raise Waits
        if for_ever:
            raise deadlock([self.waits_for(loop, mask)])

    def waits_for(self, loop: Loop, mask: Mask) -> Waiter:
        """Who waits in a loop, and for what: the element that was read last."""
        lane = int(np.argmax(mask.lanes))
        element, value = "", None
        if self.seen is not None:
            start = np.broadcast_to(self.seen.start, (self.size,))[lane]
            element, value = named_element(self.seen, int(start)), self.seen.window[start]
        return Waiter(self.place(loop.line, lane), mask.threads, element, value)

    # --- ending early --------------------------------------------------------------------

    def raise_(self, mask: Mask, kind: type[Exception], values: tuple, line: Line) -> None:
        """`raise ValueError("text")` ends the launch; the host gets it from the first thread."""
        lane = int(np.argmax(mask.lanes))
        place = self.place(line, lane)
        thread = f"tid={list(place.thread or ())} ctaid={list(place.block or ())}"
        message = ", ".join(str(as_printed(v, lane)) for v in values)
        raised = kind(f"{thread}: {message}" if message else thread)
        # The exception is the kernel's own, so its three parts are put on it.
        raised.what = f"the kernel raised {kind.__name__}" + (f": {message}" if message else "")
        raised.why = (
            "a `raise` ends the thread that comes to it, here with the launch; a GPU tells the "
            "host of it only under @cuda.jit(debug=True)"
        )
        raised.try_ = "let such a thread do nothing instead: it has no caller that could catch it"
        raised.place = place
        raise RaisedInKernel(raised)

    def assert_(self, mask: Mask, condition: Any, values: tuple, line: Line) -> None:
        """`assert condition, message`: an AssertionError of the first lane where it fails."""
        failed = self.split(mask, condition, line)[1]
        if failed is not EMPTY:
            self.raise_(failed, AssertionError, values or (line.text,), line)

    # --- what observers see: see `observing.py` -------------------------------------------

    def atomic(self, mask: Mask, target: ArrayView, line: Line) -> None:
        """Each lane of `mask` is about to change its element in one step."""

    def reduction(self, mask: Mask, target: ArrayView, line: Line) -> None:
        """The atomic operation to come gives its lanes nothing back."""

    def barrier(self, mask: Mask, line: Line) -> None:
        """Whole blocks have arrived at a barrier."""

    def warp_barrier(self, mask: Mask, line: Line, members: np.ndarray) -> None:
        """`syncwarp`; members: int64 [W, 32], the lanes that each lane names, one a bit."""

    def grid_barrier(self, mask: Mask, line: Line) -> None:
        """The whole grid has arrived."""

    def fence(self, mask: Mask, line: Line) -> None:
        """`threadfence`: what these lanes wrote is seen before what they write from here on."""

    def shuffle(
        self, mask: Mask, line: Line, name: str, here: np.ndarray, chosen: np.ndarray
    ) -> None:
        """Each lane reads lane `chosen` [W, 32] of its warp; `here` [W, 32] are those that came."""

    # --- the rest ------------------------------------------------------------------------

    def print(self, mask: Mask, line: Line, *values: Any) -> None:
        """One line a thread, in the order of the lanes; a long output is cut, and says so."""
        for lane in np.flatnonzero(mask.lanes):
            self.launch.printed += 1
            if self.launch.printed == PRINT_LIMIT + 1:
                self.launch.say(
                    f"... the kernel prints more than {PRINT_LIMIT} lines: the rest is left out"
                )
            if self.launch.printed > PRINT_LIMIT:
                return
            self.launch.say(*(as_printed(v, lane) for v in values))

    def note_negative_index(self, array: str, line: Line, index: Any, lanes: np.ndarray) -> None:
        """Numba wraps a negative index once; in CUDA C it is out of bounds. The report tells.

        index: the number, or one for each lane; lanes: bool [L], those that wrap.
        """
        lane = int(np.argmax(lanes))
        first = int(index[lane] if index.ndim else index)
        written = isinstance(index, FromTheEnd)
        seen = self.launch.negative_indices.get((array, line))
        if seen is None or (seen.written and not written):
            times = 0 if seen is None else seen.times
            seen = NegativeIndices(self.place(line, lane), first, times, written)
            self.launch.negative_indices[array, line] = seen
        seen.times += int(np.count_nonzero(lanes))

    def tick(self, mask: Mask, line: Line, operations: int) -> None:
        """A statement of so many operations was issued ."""

    def flop(self, mask: Mask, value: Any, line: Line, kind: str) -> Any:
        """An arithmetic result passes through. kind: "add", "mul", "fma", "div" or "sqrt"."""
        return value

    def stored_flop(
        self, mask: Mask, value: Any, operand: Any, array: Any, line: Line, kind: str
    ) -> Any:
        """A result of `operand` and a literal passes through, on its way to an element of `array`.

        Where both hold float32, it is one operation on float32: see `counters.literals`.
        """
        return value


MOST_CALLS = 64  # of functions inside each other


def _named(value: Any) -> tuple[str, ...]:
    """The attributes of a number, or of a tuple whose items have names."""
    if isinstance(value, np.ndarray | np.generic):
        return ("real", "imag")
    if isinstance(value, slice):
        return ("start", "stop", "step")
    return getattr(value, "_fields", ())


def _int64(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else np.int64(value)
