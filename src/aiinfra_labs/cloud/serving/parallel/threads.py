"""The same ranks as threads of one process: for exercises and tests. Unit 4.6.

Nothing is faster this way. But starting is free, every message is seen, and where all ranks wait
for messages that nobody will send, it is known at once, where processes would hang.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .collectives import Comm, Traffic
from .errors import Deadlock


class _Over(BaseException):
    """Ends a rank that waits, after another has failed. The caller of `run` sees the failure."""


class Wire:
    """The messages under way between `size` threads, and who waits for whom."""

    def __init__(self, size: int):
        self.size = size
        self.traffic = [Traffic() for _ in range(size)]
        self._changed = threading.Condition()
        self._mail: dict[tuple[Any, int, int], deque[Tensor]] = {}
        self._waits: dict[int, tuple[Any, int, int]] = {}  # rank: the message it waits for
        self._alive = set(range(size))
        self.failure: BaseException | None = None

    def comm(self, rank: int, ranks: Sequence[int] | None = None) -> ThreadComm:
        """Rank's end of a group; all ranks unless said. `rank` counts all of the wire's."""
        return ThreadComm(self, list(range(self.size) if ranks is None else ranks), rank)

    def post(self, key: tuple[Any, int, int], x: Tensor) -> None:
        """Leave a copy of x under (group, from, to); does not wait."""
        with self._changed:
            self._mail.setdefault(key, deque()).append(x.detach().clone())
            self._changed.notify_all()

    def take(self, key: tuple[Any, int, int], rank: int) -> Tensor:
        """Wait for the next message under (group, from, to), which `rank` receives.

        It never returns once a rank has failed: the waiting thread ends as well.
        """
        with self._changed:
            while not self._mail.get(key):
                if self.failure is not None:
                    raise _Over
                self._waits[rank] = key
                self._see_whether_all_wait()
                if self.failure is None:
                    self._changed.wait()
                self._waits.pop(rank, None)
            return self._mail[key].popleft()

    def leave(self, rank: int, error: BaseException | None) -> None:
        """A rank has ended."""
        with self._changed:
            self._alive.discard(rank)
            if error is not None and self.failure is None:
                self.failure = error
            self._see_whether_all_wait()
            self._changed.notify_all()

    def _see_whether_all_wait(self) -> None:
        waiting = {r: key for r, key in self._waits.items() if not self._mail.get(key)}
        if self.failure is not None or not self._alive or set(waiting) != self._alive:
            return
        said = ", ".join(f"rank {r} for rank {key[1]}" for r, key in sorted(waiting.items()))
        ended = sorted(set(range(self.size)) - self._alive)
        also = f"; {', '.join(f'rank {r}' for r in ended)} has ended" if ended else ""
        self.failure = Deadlock(
            f"every rank waits for a message, and none is under way: {said}{also}",
            "a message must be sent by one rank as often as another receives it",
            "count the messages of each rank, and compare the order of its sends and receives "
            "with its neighbour's",
        )
        self._changed.notify_all()


class ThreadComm(Comm):
    """One thread's end of a group. All collectives are done by hand, from counted messages."""

    def __init__(self, wire: Wire, ranks: list[int], rank: int):
        super().__init__(ranks.index(rank), len(ranks), wire.traffic[rank])
        self.wire, self.ranks, self._own = wire, ranks, rank
        self._name = tuple(ranks)

    def _send(self, x: Tensor, to: int) -> None:
        self.wire.post((self._name, self._own, self.ranks[to]), x)

    def _next(self, source: int) -> Tensor:
        return self.wire.take((self._name, self.ranks[source], self._own), self._own)

    def _receive(self, out: Tensor, source: int) -> None:
        out.copy_(self._next(source))

    def flush(self) -> None:
        return  # what was posted has arrived

    def shift(self, x: Tensor) -> Tensor:
        self.send(x, (self.rank + 1) % self.size)
        return self._next((self.rank - 1) % self.size)


def run(size: int, function: Callable[[int, Wire], Any], wire: Wire | None = None) -> list[Any]:
    """`function(rank, wire)` on `size` threads at once; what each returned, by rank.

    Raises what the first of them raised, and `Deadlock` where all wait for each other.
    """
    wire = wire or Wire(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def work(rank: int) -> None:
        error: BaseException | None = None
        try:
            results[rank] = function(rank, wire)
        except BaseException as raised:
            error = raised
            errors.append(raised)
        wire.leave(rank, error)

    threads = [threading.Thread(target=work, args=(r,), daemon=True) for r in range(size)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.05)  # a while at a time, so that a signal is heard between
    except BaseException as stopped:  # a time limit, or Ctrl-C
        _stop(threads, wire, stopped)
        # The same, as it was raised in a rank, says at which line that was.
        raise next((e for e in errors if type(e) is type(stopped)), stopped) from None
    if wire.failure is not None:
        raise wire.failure
    return results


def _stop(threads: Sequence[threading.Thread], wire: Wire, why: BaseException) -> None:
    """End threads that still run: those that wait at once, those that compute by `why` itself."""
    with wire._changed:
        wire.failure = wire.failure or why
        wire._changed.notify_all()
    for thread in threads:
        if thread.is_alive() and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(type(why))
            )
    end = time.monotonic() + 1.0
    while any(thread.is_alive() for thread in threads) and time.monotonic() < end:
        with contextlib.suppress(type(why)):  # an alarm that rings again
            time.sleep(0.01)
    _settle()


class _Arrived(BaseException):
    """An asynchronous exception that its own thread catches at once."""


def _settle() -> None:
    """End the interpreter's search for an asynchronous exception that met a thread at its end.

    CPython 3.11 and 3.12 search until one arrives, and meanwhile spin at the entry of the first
    function that is traced: under a debugger, or a measurement of coverage, for ever.
    """
    try:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(threading.get_ident()), ctypes.py_object(_Arrived)
        )
        for _ in range(1000):  # it arrives within a few instructions
            pass
    except _Arrived:
        pass
