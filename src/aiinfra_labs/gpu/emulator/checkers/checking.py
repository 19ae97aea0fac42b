"""`cuda.check()`: races, uninitialised reads, inactive lanes, and what fails anyway. Unit 3.4.

The observer here sees each access of a launch and asks three things: does the shadow memory know of
another thread's access that nothing puts in order (`shadow.py`, `ordering.py`)? Has the element a
value? Does a shuffle read from a lane that takes part? Its findings are worded in `findings.py`.
Bounds, barriers, limits and endless loops are checked in every launch, where they belong.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..counters.observing import Observer
from ..errors import EmulatorError, LaunchError
from ..lanes import dispatch
from ..lanes.launching import Launch, Line
from ..lanes.mask import WARP_SIZE, Mask
from ..lanes.protocol import Machine
from ..lanes.views import ArrayView, converted
from .adversary import Adversary
from .findings import RaceSeen, Side, UnwrittenSeen, inactive_lane, negative_index
from .fresh import overlapping
from .ordering import Order
from .shadow import Clash, Shadow


class Checking(Observer):
    """Watches one launch."""

    def __init__(self, launch: Launch):
        launch.tracked = True
        self.launch = launch
        self.forget()

    def forget(self) -> None:
        launch = self.launch
        self.order = Order(launch)
        self.sites: list[tuple[Line, str, str]] = [(Line("", 0), "", "")]  # by event; see _access
        self.memory = _global_shadows(launch.arrays)
        self.own: list[Shadow] = []  # of the shared and local arrays of this batch
        self.owns: MutableMapping[Machine, list[Shadow]] = WeakKeyDictionary()
        self.races: dict[Any, RaceSeen] = {}
        self.unwritten: dict[Any, UnwrittenSeen] = {}
        self.inactive: dict[Any, list[Any]] = {}

    def begin(self, machine: Machine) -> None:
        self.machine = machine
        self.own = self.owns[machine] = []
        self.order.begin(machine)
        self.everyone = np.arange(machine.size)

    def resume(self, machine: Machine) -> None:
        self.machine, self.own = machine, self.owns[machine]
        self.order.resume(machine)

    def findings(self) -> list[EmulatorError]:
        """Races first: an element read too early may be one that nobody had written yet."""
        racy = {
            (side.line, side.array) for r in self.races.values() for side in (r.before, r.after)
        }
        unwritten = [u for (line, array), u in self.unwritten.items() if (line, array) not in racy]
        for race in self.races.values():
            race.atomics = any(kind == "atomic" for _, kind, _ in self.sites)
        seen = [*self.races.values(), *unwritten]
        found = [s.error() for s in seen] + [inactive_lane(*s) for s in self.inactive.values()]
        below = [(a, seen) for (a, _), seen in self.launch.negative_indices.items()]
        return found + [negative_index(a, seen) for a, seen in below if not seen.written]

    def keep(self) -> None:
        """The launch has ended: note for the next one which bytes of its arrays hold a value."""
        for shadow in self.memory:
            if shadow.written is None:
                continue
            written = np.repeat(shadow.written, shadow.granule)
            for allocation in overlapping(shadow.low, shadow.high):
                low = max(allocation.low, shadow.low)
                high = min(allocation.high, shadow.high)
                part = slice(low - allocation.low, high - allocation.low)
                allocation.bytes_written()[part] = written[low - shadow.low : high - shadow.low]

    # --- what the lanes do ---------------------------------------------------------------

    def read(self, mask: Mask, target: ArrayView, line: Line) -> None:
        self._access("read", mask, target, line)

    def store(self, mask: Mask, target: ArrayView, value: Any, line: Line) -> None:
        self._access("write", mask, target, line, value)

    def atomic(self, mask: Mask, target: ArrayView, line: Line) -> None:
        self._access("atomic", mask, target, line)

    def barrier(self, mask: Mask, line: Line) -> None:
        self.order.barrier(mask)

    def warp_barrier(self, mask: Mask, line: Line, members: np.ndarray) -> None:
        self.order.warp_barrier(mask, members, self.machine.alive)

    def grid_barrier(self, mask: Mask, line: Line) -> None:
        self.order.grid_barrier()

    def fence(self, mask: Mask, line: Line) -> None:
        self.order.fence(mask)

    def shuffle(
        self, mask: Mask, line: Line, name: str, here: np.ndarray, chosen: np.ndarray
    ) -> None:
        away = here & ~np.take_along_axis(here, chosen, axis=1)  # [W, 32]
        if away.any():
            warp, lane = (int(i[0]) for i in np.nonzero(away))
            place = self.machine.place(line, warp * WARP_SIZE + lane)
            first = [f"{name}()", lane, int(chosen[warp, lane]), place, 0]
            self.inactive.setdefault((line, name), first)[-1] += int(away.sum())

    # --- the questions -------------------------------------------------------------------

    def _access(
        self, kind: str, mask: Mask, target: ArrayView, line: Line, value: Any = None
    ) -> None:
        if target.space == "const" or not mask.threads:
            return
        lanes = self.everyone if mask.full else np.flatnonzero(mask.lanes)
        addresses = np.broadcast_to(target.addresses(), (self.machine.size,))[lanes]
        self.order.next()
        self.sites.append((line, kind, target.name))
        if kind == "atomic":
            self.order.atomic(lanes, addresses)
        for shadow, chosen in self._shadows(target, addresses):
            shadow.fit(target.dtype.itemsize, target.address, target.pitch)
            some, at = lanes[chosen], addresses[chosen]
            counted: dict[Any, np.ndarray] = {}  # a wide element races once, not once a piece
            for cells in shadow.pieces(at, target.dtype.itemsize):
                if shadow.written is not None:
                    self._initialised(kind, shadow, cells, some, at, target, line)
                if target.space == "local":
                    continue
                for clash in shadow.touch(kind, cells, some, self.order):
                    self._race(kind, clash, counted, some, at, target, line, value)

    def _shadows(self, target: ArrayView, addresses: np.ndarray) -> Iterator[tuple[Shadow, Any]]:
        """The shadows that the elements lie in, and which elements each has."""
        low, high = int(addresses.min()), int(addresses.max())
        shadows = self.memory if target.space == "global" else self._own(target)
        for shadow in shadows:
            if shadow.low <= low and high < shadow.high:
                yield shadow, slice(None)
                return
        for shadow in shadows:  # a variable that names one array here and another there
            inside = np.flatnonzero((addresses >= shadow.low) & (addresses < shadow.high))
            if inside.size:
                yield shadow, inside

    def _own(self, target: ArrayView) -> list[Shadow]:
        """The shadows of the arrays that the kernel has made so far."""
        views = [v for v in self.machine.arrays.values() if isinstance(v, ArrayView)]
        known = {shadow.low for shadow in self.own}
        for view in views:
            if view.address not in known:
                known.add(view.address)
                high = view.address + view.window.nbytes
                cells = np.zeros(view.window.size, bool)
                shared = view.space == "shared"
                self.own.append(Shadow(view.address, high, view.pitch, shared, cells))
        return self.own

    def _initialised(
        self,
        kind: str,
        shadow: Shadow,
        cells: np.ndarray,
        lanes: np.ndarray,
        addresses: np.ndarray,
        target: ArrayView,
        line: Line,
    ) -> None:
        if kind != "write":
            missing = np.flatnonzero(~shadow.written[cells])
            if missing.size:
                lane = int(lanes[missing[0]])
                array, index = self._element(target, int(addresses[missing[0]]), lane)
                place = self.machine.place(line, lane)
                first = UnwrittenSeen(array, index, target.space, place)
                seen = self.unwritten.setdefault((line, array), first)
                seen.times += missing.size
        if kind != "read":
            shadow.written[cells] = True

    def _race(
        self,
        kind: str,
        clash: Clash,
        counted: dict[Any, np.ndarray],
        lanes: np.ndarray,
        addresses: np.ndarray,
        target: ArrayView,
        line: Line,
        value: Any,
    ) -> None:
        """Sort the races of one access by the line that they race with."""
        for event in np.unique(clash.events):
            chosen = clash.events == event
            mine, theirs = clash.lanes[chosen], clash.threads[chosen]
            other_line, other_kind, other_name = self.sites[event]
            now = lanes[mine] + self.order.first
            distance = self.order.distance(theirs, now)
            far = int(np.argmax(distance))  # the instance to show
            key = (target.name, frozenset((line, other_line)))
            seen = self.races.get(key)
            if seen is None:
                seen = self.races[key] = RaceSeen(target.space == "shared")
            if not seen.times or distance[far] > seen.distance:
                lane, other = int(lanes[mine[far]]), int(theirs[far]) - self.order.first
                array, index = self._element(target, int(addresses[mine[far]]), lane)
                if other_name == target.name:
                    other_name = array
                before = self._side(other_kind, other_line, other_name, other)
                seen.show(before, self._side(kind, line, array, lane), index, int(distance[far]))
            done = counted.setdefault(key, np.zeros(lanes.size, bool))
            seen.times += int(np.count_nonzero(~done[mine]))
            done[mine] = True
            seen.both_write |= kind == other_kind == "write"
            seen.same_warp &= bool((distance == 0).all())
            seen.same_block &= bool((distance < 2).all())
            if seen.same_value:
                same = kind == other_kind == "write" and self._same(
                    target, value, lanes[mine], theirs, clash.among_themselves
                )
                seen.same_value = same

    def _same(
        self,
        target: ArrayView,
        value: Any,
        lanes: np.ndarray,
        others: np.ndarray,
        among_themselves: bool,
    ) -> bool:
        """Whether these lanes store what is there already, or what the others store with them."""
        size = (self.machine.size,)
        new = np.broadcast_to(converted(value, target.dtype, target.name), size)
        if among_themselves:
            old = new[others - self.order.first]
        else:
            old = np.broadcast_to(target.read(), size)[lanes]
        return new[lanes].tobytes() == old.tobytes()

    # --- names ---------------------------------------------------------------------------

    def _side(self, kind: str, line: Line, array: str, lane: int) -> Side:
        place = self.machine.place(line, lane)
        thread = _short(place.thread, self.launch.block)
        return Side(kind, line, array, place, thread, _short(place.block, self.launch.grid))

    def _element(self, target: ArrayView, address: int, lane: int) -> tuple[str, tuple[int, ...]]:
        """The array that a byte lies in, as the kernel names it, and the index of the element."""
        made = [v for v in self.machine.arrays.values() if isinstance(v, ArrayView)]
        candidates = self.launch.arrays if target.space == "global" else made
        inside = [v for v in candidates if v.address <= address < v.end]
        named = [v for v in inside if target.name in (v.name, *_fields(v))]
        for view in [v for v in named if v.dtype == target.dtype] + named + inside:
            return target.name if view in named else view.name, _index(view, address, lane)
        return target.name, (int(address - target.address) // target.pitch,)


def _short(index: tuple[int, ...], extent: tuple[int, ...]) -> str:
    """The axes that the launch has: 5, or (5, 0), or (5, 0, 0)."""
    axes = max((axis + 1 for axis in range(3) if extent[axis] > 1), default=1)
    return str(index[0]) if axes == 1 else str(index[:axes])


def _fields(view: ArrayView) -> list[str]:
    return [f"{view.name}.{field}" for field in view.dtype.fields or ()]


def _index(view: ArrayView, address: int, lane: int) -> tuple[int, ...]:
    """The index of the element at an address, for a view whose axes do not overlap."""
    start = int(view.start[lane]) if isinstance(view.start, np.ndarray) else int(view.start)
    rest = (address - view.address) // view.pitch - start
    index = [0] * view.ndim
    for axis in range(view.ndim):
        if view.strides[axis] < 0:  # counted from the far end, where the lowest address is
            rest -= view.strides[axis] * (view.shape[axis] - 1)
    for axis in sorted(range(view.ndim), key=lambda axis: -abs(view.strides[axis])):
        if view.strides[axis]:
            index[axis], rest = divmod(rest, abs(view.strides[axis]))
        if view.strides[axis] < 0:
            index[axis] = view.shape[axis] - 1 - index[axis]
    return tuple(index)


def _global_shadows(arrays: tuple[ArrayView, ...]) -> list[Shadow]:
    """One shadow for each stretch of memory; arrays that overlap share one."""
    shadows: list[Shadow] = []
    for view in sorted((v for v in arrays if 0 not in v.shape), key=lambda v: v.address):
        if shadows and view.address < shadows[-1].high:
            shadows[-1].high = max(shadows[-1].high, view.end)
        else:
            shadows.append(Shadow(view.address, view.end, view.dtype.itemsize, False))
        shadows[-1].fit(view.dtype.itemsize, view.address, view.pitch)
    for shadow in shadows:
        fresh = list(overlapping(shadow.low, shadow.high))
        if fresh:
            written = np.ones(shadow.high - shadow.low, bool)
            for allocation in fresh:
                low, high = max(allocation.low, shadow.low), min(allocation.high, shadow.high)
                part = slice(low - allocation.low, high - allocation.low)
                written[low - shadow.low : high - shadow.low] = allocation.bytes_written()[part]
            shadow.written = written.reshape(-1, shadow.granule).all(axis=1)
    return shadows


class Check:
    """What the checkers find in the launches inside `with cuda.check() as c:`.

    c.findings: errors, each with what, why and try_. raise_: raise the first finding of a launch
    when it ends. schedule="adversarial" runs warps and blocks in an order drawn from `seed`.
    A launch that cannot go on, as out of bounds, ends the block; with raise_=False quietly.
    """

    def __init__(
        self, kernel: Any = None, raise_: bool = True, schedule: str | None = None, seed: int = 0
    ):
        if schedule not in (None, "adversarial"):
            raise LaunchError(
                f"there is no schedule {schedule!r}",
                "a check runs all threads together, or the warps one by one in a random order",
                'leave it out, or write schedule="adversarial"',
            )
        self.kernel, self.raise_ = kernel, raise_
        self.schedule = None if schedule is None else Adversary(seed)
        self.findings: list[EmulatorError] = []
        self.launches = 0
        self._watching: Checking | None = None

    def __enter__(self) -> Check:
        dispatch._listeners.append(self)
        if self.schedule is not None:
            dispatch._schedules.append(self.schedule)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        dispatch._listeners.remove(self)
        if self.schedule is not None:
            dispatch._schedules.remove(self.schedule)
        if self._watching is not None:  # the launch did not end
            self._keep(self._watching)
        if not isinstance(error, EmulatorError):
            return False
        if error not in self.findings:
            self.findings.append(error)
        return not self.raise_

    def __getitem__(self, configuration: Any) -> Any:
        """`cuda.check(kernel)[grid, block](...)` launches and returns the findings."""

        def run(*args: Any) -> Check:
            with self:
                self.kernel[configuration](*args)
            return self

        return run

    # --- called by the launch ------------------------------------------------------------

    def observer(self, launch: Launch) -> Observer | None:
        """What watches one launch."""
        self.launches += 1
        self._watching = Checking(launch)
        return self._watching

    def end(self, launch: Launch, observer: Checking) -> None:
        """Keep what was found in a launch; raises the first of it, if `raise_`."""
        found = self._keep(observer)
        if found and self.raise_:
            raise found[0]

    def _keep(self, observer: Checking) -> list[EmulatorError]:
        self._watching = None
        observer.keep()
        found = observer.findings()
        self.findings += found
        return found

    # --- as text -------------------------------------------------------------------------

    def __str__(self) -> str:
        if not self.findings:
            return f"{self._checked()}: nothing found"
        parts = [f"{self._checked()}: {_count(len(self.findings), 'finding')}"]
        for k, finding in enumerate(self.findings, 1):
            text = str(finding).replace("\n", "\n   ")
            parts.append(f"{k}. {type(finding).__name__}: {text}")
        return "\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li><b>{type(f).__name__}</b><pre>{html.escape(str(f))}</pre></li>"
            for f in self.findings
        )
        return f"<p>{html.escape(str(self).partition(chr(10))[0])}</p><ol>{items}</ol>"

    def _checked(self) -> str:
        how = "" if self.schedule is None else f", in the random order of seed {self.schedule.seed}"
        return f"{_count(self.launches, 'launch', 'es')} checked{how}"


class _Always(Check):
    """With AIINFRA_CHECK=1: every launch that no other check watches."""

    def observer(self, launch: Launch) -> Observer | None:
        others = any(isinstance(x, Check) and x is not self for x in dispatch._listeners)
        self.findings.clear()
        return None if others else super().observer(launch)


def _count(number: int, one: str, plural: str = "s") -> str:
    return f"{number} {one}{'' if number == 1 else plural}"


def check(
    kernel: Any = None, raise_: bool | None = None, schedule: str | None = None, seed: int = 0
) -> Check:
    """A `Check`: `with cuda.check() as c:`, or `cuda.check(kernel)[grid, block](...)`.

    The first raises what it finds, unless raise_=False; the second returns it, unless raise_=True.
    schedule="adversarial" runs warps and blocks one by one in a random order, drawn from `seed`.
    """
    return Check(kernel, kernel is None if raise_ is None else raise_, schedule, seed)


if os.environ.get("AIINFRA_CHECK", "0") not in ("", "0"):
    dispatch._listeners.append(_Always())
