"""Exercise 3.9.c of unit 3.9: a memory limit between a program and the driver.

The region and the driver that an answer is given here watch it: who holds the lock, what the driver
was asked for, and what a neighbour, who never waits, takes as soon as the lock is free.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from aiinfra_labs.course import exercise
from aiinfra_labs.gpu.sharing.shared_region import OutOfMemory

from . import gpu_sharing_views as views

COUNTS = "counts what it allocates, and no longer what it frees"
REFUSES = "refuses beyond the limit, and asks the driver for nothing then"
TELLS = "answers the limit to who asks how much memory there is"
LOCKS = "looks and counts under one lock"
DRIVER_ALONE = "lets the lock go before the driver works"
NO_LEAK = "counts nothing for what the driver refused, or never gave"


class WatchedRegion:
    """What an answer sees of a container's shared region, and what it must not get away with.

    others: bytes that the container's other processes hold.
    """

    def __init__(self, limit: int, others: int = 0):
        self.limit, self.mine, self.others = limit, 0, others
        self.locked, self.broken, self._neighbour = False, "", 0

    @property
    def used(self) -> int:
        """Bytes that all processes of the container hold."""
        total = self.mine + self.others
        if not self.locked:
            self._let_the_neighbour_in()
        return total

    def add(self, nbytes: int) -> None:
        """Count `nbytes` more for this process; fewer, where it is negative."""
        if not self.locked:
            self._note(f"add({nbytes}) was called without the lock")
        self.mine += nbytes
        if self.mine < 0:
            self._note(f"this process is counted with {self.mine} bytes")
        if self.mine + self.others > self.limit:
            self._note(
                f"together the processes are counted with {self.mine + self.others} bytes, under a "
                f"limit of {self.limit}"
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time is within this block."""
        if self.locked:
            raise RuntimeError("the lock is taken by this process already: it waits for itself")
        self.locked = True
        try:
            yield
        finally:
            self.locked = False
            self._let_the_neighbour_in()

    def let_in(self, neighbour: int) -> None:
        """From now on a neighbour waits for so many bytes."""
        self._neighbour = neighbour

    def _let_the_neighbour_in(self) -> None:
        if self._neighbour and self.mine + self.others + self._neighbour <= self.limit:
            self.others += self._neighbour
            self._neighbour = 0

    def _note(self, what: str) -> None:
        self.broken = self.broken or what


class WatchedDriver:
    """The driver's allocator: pointers by size, and whether it was asked within the lock."""

    def __init__(self, region: WatchedRegion, memory: int = 10_000):
        self.region, self.memory = region, memory
        self.live: dict[int, int] = {}
        self.asked: list[int] = []
        self.within_the_lock, self._next = "", 0x7F00_0000

    def allocate(self, nbytes: int) -> int:
        """A pointer to `nbytes`. Raises `OutOfMemory` where the device has no room."""
        self._called("allocate")
        self.asked.append(nbytes)
        if sum(self.live.values()) + nbytes > self.memory:
            raise OutOfMemory(f"the device has no {nbytes} bytes left")
        pointer, self._next = self._next, self._next + 512
        self.live[pointer] = nbytes
        return pointer

    def free(self, pointer: int) -> None:
        """Raises `ValueError` for a pointer that it did not give, or that is freed."""
        self._called("free")
        if pointer not in self.live:
            raise ValueError(f"CUDA_ERROR_INVALID_VALUE: nothing was allocated at {pointer}")
        del self.live[pointer]

    def _called(self, name: str) -> None:
        if self.region.locked:
            self.within_the_lock = self.within_the_lock or name


@exercise(
    "3.9.c",
    title="A memory limit for several processes",
    points=10,
    central=LOCKS,
    skill="GPU sharing",
    arguments=("region", "driver"),
    hints=(
        (
            COUNTS,
            "`allocate` asks the driver and counts with `region.add(nbytes)`; `free` is given a "
            "pointer alone. How does it know how many bytes to take off? Keep them by pointer.",
        ),
        (
            REFUSES,
            "Before the driver is asked: is `region.used + nbytes` more than `region.limit`? "
            '`raise OutOfMemory("...")`. Exactly the limit is allowed.',
        ),
        (
            LOCKS,
            "Between your look at `region.used` and your `region.add`, another process may take "
            "the same bytes. Both belong in one `with region.lock():`.",
        ),
        (
            DRIVER_ALONE,
            "An allocation takes the driver milliseconds, and all processes would wait. Reserve "
            "the bytes under the lock, leave it, then ask the driver.",
        ),
        (
            NO_LEAK,
            "The bytes are counted before the driver is asked, and the driver may refuse. "
            "`try: ... except OutOfMemory:` take them off again, and `raise`.",
        ),
        (
            NO_LEAK,
            "Let the driver free first: of an unknown pointer it raises, and then nothing was "
            "taken off.",
        ),
    ),
)
def limited_memory(make: Any, require: Any) -> None:
    """A class with allocate, free and memory_info, on a shared region and a driver."""
    with require(COUNTS) as r:
        for sizes in ([10], [10, 20, 30], [7, 7, 1]):
            with r.input(f"limit 100: allocate {sizes}, free all, in another order"):
                memory, region, driver = _made(make, 100)
                pointers = [memory.allocate(size) for size in sizes]
                _given(r, pointers, driver)
                _counted(r, region, sum(sizes), f"after {sizes} were allocated")
                for number in range(len(sizes) - 1, -1, -1):
                    memory.free(pointers[number])
                    _counted(r, region, sum(sizes[:number]), f"after {sizes[number]} was freed")
                    _live(r, driver, sum(sizes[:number]))
        with r.input("limit 100: 300 times allocate or free, at random"):
            _random_life(r, make, seed=0)
    with require(REFUSES) as r:
        for held, others, asked in ((0, 0, 101), (60, 0, 41), (0, 60, 41), (30, 30, 41)):
            with r.input(f"limit 100, {held} held here, {others} by others: allocate {asked}"):
                memory, region, driver = _made(make, 100, others)
                if held:
                    memory.allocate(held)
                before = len(driver.asked)
                _refused(r, memory, asked)
                r.that(
                    len(driver.asked) == before,
                    what=f"the driver was asked for {sum(driver.asked[before:])} bytes",
                    why="the device may have them, and then they are taken from the other "
                    "containers",
                    try_="compare with the limit first, and raise before the driver is called",
                )
                _counted(r, region, held, "after the refusal")
        for others in (0, 60):
            with r.input(f"limit 100, {others} by others: allocate {100 - others}"):
                memory, region, driver = _made(make, 100, others)
                try:
                    memory.allocate(100 - others)
                except OutOfMemory as error:
                    r.that(
                        False,
                        what=f"it refused {100 - others} bytes where {100 - others} were free",
                        why="a limit of 100 lets 100 bytes be held",
                        try_=f"refuse only what is more than the limit ({error})",
                    )
                _counted(r, region, 100 - others, "after the last free bytes were allocated")
    with require(TELLS) as r:
        for held, others in ((0, 0), (25, 0), (25, 40)):
            with r.input(f"limit 100, {held} held here, {others} by others: memory_info()"):
                memory, region, driver = _made(make, 100, others)
                if held:
                    memory.allocate(held)
                got = memory.memory_info()
                expected = (100 - held - others, 100)
                r.that(
                    isinstance(got, tuple) and got == expected,
                    what=f"it answered {got!r}, expected (free, total) = {expected}",
                    why="a framework sizes its pool by this answer: told the device's memory, it "
                    "asks for more than it may have",
                    try_="free is the limit less what all processes hold; total is the limit",
                    slip=not isinstance(got, tuple),
                )
    with require(LOCKS) as r:
        for held, neighbour, asked in ((0, 60, 60), (20, 50, 40), (0, 1, 100)):
            with r.input(
                f"limit 100, {held} held: allocate {asked}, while a neighbour wants {neighbour}"
            ):
                region = WatchedRegion(100, held)
                driver = WatchedDriver(region)
                memory = make(region, driver)
                region.let_in(neighbour)
                with contextlib.suppress(OutOfMemory):
                    memory.allocate(asked)
                    _counted(r, region, asked, f"after {asked} were allocated")
                r.that(
                    not region.broken,
                    what=region.broken,
                    why="another process runs between any two of your lines, unless you hold the "
                    "lock: what you saw of `used` is old by then",
                    try_="with region.lock(): look at used, refuse or add",
                )
        with r.input("limit 100: allocate 30 and 40, free both"):
            memory, region, driver = _made(make, 100)
            for pointer in [memory.allocate(30), memory.allocate(40)]:
                memory.free(pointer)
            _counted(r, region, 0, "after both were freed")
            r.that(
                not region.broken,
                what=region.broken,
                why="two processes that count at the same moment lose one of the two counts, also "
                "when they take bytes off",
                try_="with region.lock(): region.add(-nbytes), in free as well",
            )
    with require(DRIVER_ALONE) as r, r.input("limit 100: allocate 10, free it"):
        memory, region, driver = _made(make, 100)
        pointer = memory.allocate(10)
        _counted(r, region, 10, "after 10 were allocated")
        memory.free(pointer)
        r.that(
            not driver.within_the_lock,
            what=f"driver.{driver.within_the_lock} was called within the lock",
            why="the driver takes long, and every process of the container waits for the lock",
            try_="reserve under the lock, and call the driver below the `with` block",
        )
    with require(NO_LEAK) as r:
        with r.input("limit 100, a device with 50 bytes: allocate 30, allocate 40"):
            memory, region, driver = _made(make, 100, memory=50)
            memory.allocate(30)
            _refused(r, memory, 40)
            _counted(r, region, 30, "after the driver refused 40 bytes")
        with r.input("limit 100: allocate 30, free a pointer that nobody gave"):
            memory, region, driver = _made(make, 100)
            memory.allocate(30)
            _not_freed(r, memory, 12345)
            _counted(r, region, 30, "after the wrong free")
        with r.input("limit 100: allocate 30, free it twice"):
            memory, region, driver = _made(make, 100)
            pointer = memory.allocate(30)
            memory.free(pointer)
            _not_freed(r, memory, pointer)
            _counted(r, region, 0, "after the second free")


def _made(
    make: Any, limit: int, others: int = 0, memory: int = 10_000
) -> tuple[Any, WatchedRegion, WatchedDriver]:
    region = WatchedRegion(limit, others)
    driver = WatchedDriver(region, memory)
    return make(region, driver), region, driver


def _counted(r: Any, region: WatchedRegion, expected: int, when: str) -> None:
    r.that(
        region.mine == expected,
        what=f"{when}, {region.mine} bytes are counted for this process, expected {expected}",
        why="what is counted and not held is lost to all processes; what is held and not counted "
        "is beyond the limit",
        try_="one add(nbytes) for each allocation that went well, one add(-nbytes) for each free",
    )


def _live(r: Any, driver: WatchedDriver, expected: int) -> None:
    r.that(
        sum(driver.live.values()) == expected,
        what=f"the driver still holds {sum(driver.live.values())} bytes, expected {expected}",
        why="memory that is no longer counted and not freed is lost to the whole GPU",
        try_="driver.free(pointer)",
    )


def _given(r: Any, pointers: list[Any], driver: WatchedDriver) -> None:
    r.that(
        list(driver.live) == pointers,
        what=f"allocate returned {pointers}, the driver gave {list(driver.live)}",
        why="the program works with the driver's pointers",
        try_="return what driver.allocate(nbytes) returned",
    )


def _refused(r: Any, memory: Any, asked: int) -> None:
    _raises(
        r,
        OutOfMemory,
        lambda: memory.allocate(asked),
        what=f"allocate({asked})",
        why="a program knows CUDA_ERROR_OUT_OF_MEMORY, and can free something and try again",
        try_='raise OutOfMemory("how much was asked for, how much is free")',
    )


def _not_freed(r: Any, memory: Any, pointer: int) -> None:
    _raises(
        r,
        ValueError,
        lambda: memory.free(pointer),
        what="freeing what is not allocated",
        why="the program has an error, and the driver says so (a ValueError here)",
        try_="let the driver's exception through",
    )


def _raises(
    r: Any, expected: type[Exception], call: Callable[[], Any], what: str, why: str, try_: str
) -> None:
    try:
        got = call()
    except expected:
        return
    except Exception as error:
        r.that(
            False,
            what=f"{what} raised {type(error).__name__}: {error}; expected {expected.__name__}",
            why=why,
            try_=try_,
            slip=isinstance(error, AttributeError | NameError | TypeError),
        )
    else:
        r.that(
            False,
            what=f"{what} returned {got!r}, expected {expected.__name__}",
            why=why,
            try_=try_,
        )


def _random_life(r: Any, make: Any, seed: int) -> None:
    rng = random.Random(seed)
    memory, region, driver = _made(make, 100, others=17)
    held: list[tuple[int, int]] = []
    for _ in range(300):
        if held and rng.random() < 0.5:
            pointer, size = held.pop(rng.randrange(len(held)))
            memory.free(pointer)
        else:
            size = rng.randrange(1, 40)
            with contextlib.suppress(OutOfMemory):
                held.append((memory.allocate(size), size))
        _counted(r, region, sum(size for _, size in held), "after some allocations and frees")
    for pointer, _ in held:
        memory.free(pointer)
    _counted(r, region, 0, "after everything was freed")
    _live(r, driver, 0)


@limited_memory.show
def _show_life(make: Any) -> Any:
    """Two processes of one container, each with the learner's own object, under one limit."""
    rng = random.Random(3)
    region = WatchedRegion(100)
    driver = WatchedDriver(region)
    sides = [make(region, driver), make(region, driver)]
    held: list[list[tuple[int, int]]] = [[], []]
    history, refusals = [], []
    for step in range(60):
        who = rng.randrange(2)
        if held[who] and rng.random() < 0.42:
            pointer, _ = held[who].pop(rng.randrange(len(held[who])))
            sides[who].free(pointer)
        else:
            size = rng.randrange(5, 30)
            try:
                held[who].append((sides[who].allocate(size), size))
            except OutOfMemory:
                refusals.append((step, who))
        history.append([sum(size for _, size in side) for side in held])
    return views.memory_life(history, refusals, region.limit)
