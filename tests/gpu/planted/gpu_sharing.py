"""Answers to 3.9.a to c: right ones that differ, and common mistakes."""

from __future__ import annotations

from itertools import product

from aiinfra_labs.gpu.sharing.shared_region import OutOfMemory
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.9.a where may an instance begin? --------------------------------------------------------


@right("3.9.a")
def starts_by_set(size, starts, taken):
    used = {slice_ for start, length in taken for slice_ in range(start, start + length)}
    return [s for s in starts if used.isdisjoint(range(s, s + size))]


@right("3.9.a")
def starts_by_bounds(length, places, instances):
    found = []
    for place in places:
        apart = True
        for begin, other in instances:
            if place < begin + other and begin < place + length:
                apart = False
        if apart:
            found.append(place)
    return found


@wrong("3.9.a", "are in use")
def starts_by_first_slice(size, starts, taken):
    used = {s for start, length in taken for s in range(start, start + length)}
    return [s for s in starts if s not in used]


@wrong("3.9.a", "are in use")
def starts_of_instances_only(size, starts, taken):
    used = {start for start, _ in taken}
    return [s for s in starts if used.isdisjoint(range(s, s + size))]


@wrong("3.9.a", "an empty board has every place of the profile")
def starts_anywhere(size, starts, taken):
    used = {s for start, length in taken for s in range(start, start + length)}
    return [s for s in range(9 - size) if used.isdisjoint(range(s, s + size))]


@wrong("3.9.a", "are in use")
def starts_one_slice_too_many(size, starts, taken):
    used = {s for start, length in taken for s in range(start, start + length + 1)}
    return [s for s in starts if used.isdisjoint(range(s, s + size))]


@wrong("3.9.a", "4 slices are free, and it may begin only at 0, 4")
def starts_by_counting(size, starts, taken):
    used = {s for start, length in taken for s in range(start, start + length)}
    apart = [s for s in starts if used.isdisjoint(range(s, s + size))]
    if not apart and 8 - len(used) >= size:
        return list(starts)
    return apart


@wrong("3.9.a", "expected a list of starts")
def first_start_only(size, starts, taken):
    used = {s for start, length in taken for s in range(start, start + length)}
    for s in starts:
        if used.isdisjoint(range(s, s + size)):
            return s
    return None


@wrong("3.9.a", "after the call, starts is [0, 2]")
def starts_taken_from_the_list(size, starts, taken):
    used = {s for start, length in taken for s in range(start, start + length)}
    for s in list(starts):
        if not used.isdisjoint(range(s, s + size)):
            starts.remove(s)
    return starts


# --- 3.9.b plan a board ------------------------------------------------------------------------


@right("3.9.b")
def plan_by_recursion(profiles, requests, taken):
    if not requests:
        return []
    size, starts = profiles[requests[0]]
    for start in starts:
        slices = set(range(start, start + size))
        if slices & taken:
            continue
        rest = plan_by_recursion(profiles, requests[1:], taken | slices)
        if rest is not None:
            return [start, *rest]
    return None


@right("3.9.b")
def plan_by_trying_all(profiles, requests, taken):
    for starts in product(*(profiles[name][1] for name in requests)):
        used = list(taken)
        for name, start in zip(requests, starts, strict=True):
            used += range(start, start + profiles[name][0])
        if len(used) == len(set(used)):
            return list(starts)
    return None


@right("3.9.b")
def plan_level_by_level(profiles, requests, taken):
    states = {frozenset(taken): ()}
    for name in requests:
        size, starts = profiles[name]
        states = {
            used | set(range(s, s + size)): (*so_far, s)
            for used, so_far in states.items()
            for s in starts
            if used.isdisjoint(range(s, s + size))
        }
    return list(next(iter(states.values()))) if states else None


@wrong("3.9.b", "it returned None, and there is an arrangement")
def plan_first_fit(profiles, requests, taken):
    used, plan = set(taken), []
    for name in requests:
        size, starts = profiles[name]
        legal = [s for s in starts if used.isdisjoint(range(s, s + size))]
        if not legal:
            return None
        plan.append(legal[0])
        used |= set(range(legal[0], legal[0] + size))
    return plan


@wrong("3.9.b", "it returned None, and there is an arrangement")
def plan_large_first(profiles, requests, taken):
    used, plan = set(taken), [0] * len(requests)
    for i in sorted(range(len(requests)), key=lambda i: -profiles[requests[i]][0]):
        size, starts = profiles[requests[i]]
        legal = [s for s in starts if used.isdisjoint(range(s, s + size))]
        if not legal:
            return None
        plan[i] = legal[0]
        used |= set(range(legal[0], legal[0] + size))
    return plan


@wrong("3.9.b", "both have slice")
def plan_forgetting(profiles, requests, taken):
    plan = []
    for name in requests:
        size, starts = profiles[name]
        legal = [s for s in starts if taken.isdisjoint(range(s, s + size))]
        if not legal:
            return None
        plan.append(legal[0])
    return plan


@wrong("3.9.b", "and may only at")
def plan_side_by_side(profiles, requests, taken):
    plan, next_ = [], max(taken, default=-1) + 1
    for name in requests:
        plan.append(next_)
        next_ += profiles[name][0]
    return plan if next_ <= 8 else None


@wrong("3.9.b", "in the order of the requests")
def plan_with_holes(profiles, requests, taken):
    used, plan = set(taken), []
    for name in requests:
        size, starts = profiles[name]
        legal = [s for s in starts if used.isdisjoint(range(s, s + size))]
        plan.append(legal[0] if legal else None)
        if legal:
            used |= set(range(legal[0], legal[0] + size))
    return plan


@wrong("3.9.b", "an instance that is there already")
def plan_on_an_empty_board(profiles, requests, taken):
    return plan_by_recursion(profiles, requests, set())


@wrong("3.9.b", "and may only at")
def plan_in_another_order(profiles, requests, taken):
    ordered = sorted(requests, key=lambda name: len(profiles[name][1]))
    return plan_by_recursion(profiles, ordered, taken)


# --- 3.9.c a memory limit ----------------------------------------------------------------------


@right("3.9.c")
class ReservedFirst:
    def __init__(self, region, driver):
        self.region, self.driver, self.sizes = region, driver, {}

    def allocate(self, nbytes):
        with self.region.lock():
            if self.region.used + nbytes > self.region.limit:
                raise OutOfMemory(f"{nbytes} bytes asked for")
            self.region.add(nbytes)
        try:
            pointer = self.driver.allocate(nbytes)
        except OutOfMemory:
            with self.region.lock():
                self.region.add(-nbytes)
            raise
        self.sizes[pointer] = nbytes
        return pointer

    def free(self, pointer):
        self.driver.free(pointer)
        with self.region.lock():
            self.region.add(-self.sizes.pop(pointer))

    def memory_info(self):
        return self.region.limit - self.region.used, self.region.limit


@right("3.9.c")
class CountedBack:
    """Takes the bytes off before the driver frees them, and looks the pointer up first."""

    def __init__(self, shared, driver):
        self._shared, self._driver, self._held = shared, driver, {}

    def _change(self, nbytes):
        with self._shared.lock():
            if nbytes > self._shared.limit - self._shared.used:
                raise OutOfMemory("over the limit", "others hold the rest", "free something")
            self._shared.add(nbytes)

    def allocate(self, nbytes):
        self._change(nbytes)
        done = False
        try:
            pointer = self._driver.allocate(nbytes)
            done = True
        finally:
            if not done:
                self._change(-nbytes)
        self._held[pointer] = nbytes
        return pointer

    def free(self, pointer):
        if pointer not in self._held:
            raise ValueError(f"nothing at {pointer}")
        self._change(-self._held.pop(pointer))
        self._driver.free(pointer)

    def memory_info(self):
        with self._shared.lock():
            return (self._shared.limit - self._shared.used, self._shared.limit)


class _Nearly(ReservedFirst):
    """A right answer, of which the wrong ones change one method."""


@wrong("3.9.c", "together the processes are counted with 120 bytes, under a limit of 100")
class LookedThenCounted(_Nearly):
    def allocate(self, nbytes):
        with self.region.lock():
            used = self.region.used
        if used + nbytes > self.region.limit:
            raise OutOfMemory("over the limit")
        with self.region.lock():
            self.region.add(nbytes)
        pointer = self.driver.allocate(nbytes)
        self.sizes[pointer] = nbytes
        return pointer


@wrong("3.9.c", "was called without the lock")
class WithoutALock(_Nearly):
    def allocate(self, nbytes):
        if self.region.used + nbytes > self.region.limit:
            raise OutOfMemory("over the limit")
        pointer = self.driver.allocate(nbytes)
        self.region.add(nbytes)
        self.sizes[pointer] = nbytes
        return pointer


@wrong("3.9.c", "was called within the lock")
class DriverWithinTheLock(_Nearly):
    def allocate(self, nbytes):
        with self.region.lock():
            if self.region.used + nbytes > self.region.limit:
                raise OutOfMemory("over the limit")
            pointer = self.driver.allocate(nbytes)
            self.region.add(nbytes)
        self.sizes[pointer] = nbytes
        return pointer


@wrong("3.9.c", "after the driver refused 40 bytes, 70 bytes are counted")
class ForgetsTheRefusal(_Nearly):
    def allocate(self, nbytes):
        with self.region.lock():
            if self.region.used + nbytes > self.region.limit:
                raise OutOfMemory("over the limit")
            self.region.add(nbytes)
        pointer = self.driver.allocate(nbytes)
        self.sizes[pointer] = nbytes
        return pointer


@wrong("3.9.c", "it refused 100 bytes where 100 were free")
class OneByteTooStrict(_Nearly):
    def allocate(self, nbytes):
        if self.region.used + nbytes >= self.region.limit:
            raise OutOfMemory("at the limit")
        return super().allocate(nbytes)


@wrong("3.9.c", "returned 2130706432, expected OutOfMemory")
class OnlyOwnBytes(_Nearly):
    def allocate(self, nbytes):
        if sum(self.sizes.values()) + nbytes > self.region.limit:
            raise OutOfMemory("over the limit")
        pointer = self.driver.allocate(nbytes)
        with self.region.lock():
            self.region.add(nbytes)
        self.sizes[pointer] = nbytes
        return pointer


@wrong("3.9.c", "the driver was asked for 101 bytes")
class AsksFirst(_Nearly):
    def allocate(self, nbytes):
        pointer = self.driver.allocate(nbytes)
        with self.region.lock():
            fits = self.region.used + nbytes <= self.region.limit
            if fits:
                self.region.add(nbytes)
        if not fits:
            self.driver.free(pointer)
            raise OutOfMemory("over the limit")
        self.sizes[pointer] = nbytes
        return pointer


@wrong("3.9.c", "expected OutOfMemory")
class RefusesWithNone(_Nearly):
    def allocate(self, nbytes):
        if self.region.used + nbytes > self.region.limit:
            return None
        return super().allocate(nbytes)


@wrong("3.9.c", "raised MemoryError")
class RefusesInItsOwnWords(_Nearly):
    def allocate(self, nbytes):
        if self.region.used + nbytes > self.region.limit:
            raise MemoryError("too much")
        return super().allocate(nbytes)


@wrong("3.9.c", "after 10 was freed, 10 bytes are counted for this process, expected 0")
class NeverCountsBack(_Nearly):
    def free(self, pointer):
        self.driver.free(pointer)


@wrong("3.9.c", "the driver still holds")
class NeverFrees(_Nearly):
    def free(self, pointer):
        with self.region.lock():
            self.region.add(-self.sizes.pop(pointer))


@wrong("3.9.c", "freeing what is not allocated raised KeyError")
class FreesTwice(_Nearly):
    def free(self, pointer):
        with self.region.lock():
            self.region.add(-self.sizes.pop(pointer))
        self.driver.free(pointer)


@wrong("3.9.c", "it answered (75, 100), expected (free, total) = (35, 100)")
class TellsItsOwnShare(_Nearly):
    def memory_info(self):
        return self.region.limit - sum(self.sizes.values()), self.region.limit


@wrong("3.9.c", "the lock is taken by this process already")
class LocksTwice(_Nearly):
    def allocate(self, nbytes):
        with self.region.lock():
            return super().allocate(nbytes)


@wrong("3.9.c", "add(-30) was called without the lock")
class FreesWithoutTheLock:
    def __init__(self, region, driver):
        self.region, self.driver, self.sizes = region, driver, {}

    def allocate(self, nbytes):
        with self.region.lock():
            if self.region.used + nbytes > self.region.limit:
                raise OutOfMemory("no room")
            self.region.add(nbytes)
        try:
            pointer = self.driver.allocate(nbytes)
        except OutOfMemory:
            with self.region.lock():
                self.region.add(-nbytes)
            raise
        self.sizes[pointer] = nbytes
        return pointer

    def free(self, pointer):
        self.driver.free(pointer)
        self.region.add(-self.sizes.pop(pointer))

    def memory_info(self):
        return self.region.limit - self.region.used, self.region.limit
