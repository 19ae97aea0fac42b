"""An alarm that stops a learner's code which does not end, and no other.

It counts the processor time that the code used, not the time on the wall: on a busy machine, where
each program gets a processor only now and then, an answer that ends has all the time it needs.
"""

from __future__ import annotations

import ctypes
import functools
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

PATIENCE = 6  # seconds on the wall for each second of processor time: for code that waits
_AGAIN = 0.25  # seconds until a stop is repeated, for code that catches every exception
_ANYWAY = 0.25  # seconds until a ring that could not be handled comes again
_SOONEST = 0.01  # seconds: no timer is set to less
_REST = 4  # a stop is repeated no sooner than this many times what the last one took

# Taken here: the code that is timed may put its own in their place.
_monotonic, _process_time, _thread_time = time.monotonic, time.process_time, time.thread_time


class TimeLimit(BaseException):
    """The learner's code computed too long. Not an `Exception`: `except Exception` lets it by."""


class Waited(TimeLimit):
    """The learner's code has not ended, and did not compute most of the time: it waits."""


class Alarm:
    """Raises `TimeLimit` in the thread that made it, when its code computed for `seconds`.

    Code that computes little, because it waits for something, gets `Waited` after `PATIENCE` times
    as long on the wall. Both come only while `on` is true: set it to False, a plain store that
    nothing interrupts, before what may not be cut short.

    On the main thread a timer signal does it, at once; on another an asynchronous exception does,
    at the next Python instruction. A call into C that does not return can be stopped by neither.
    Code that catches even this is stopped on the main thread by raising it anew at every line.
    """

    def __init__(self, seconds: float):
        self.seconds, self.on = seconds, False
        main = threading.current_thread() is threading.main_thread()
        self._by_signal = main and hasattr(signal, "setitimer")
        self._thread = threading.get_ident()
        self._own_time = _thread_time if self._by_signal else _clock_of_this_thread()
        self._limit = seconds
        self._began = (0.0, 0.0, 0.0)
        self._again, self._rang, self._ringing = _AGAIN, False, False
        self._outermost: FrameType | None = None
        self._traced: tuple[Any, list[tuple[FrameType, Any]]] | None = None
        self._lock, self._over, self._sent = threading.Lock(), threading.Event(), False

    def __enter__(self) -> Alarm:
        if self._by_signal:
            self._outermost = sys._getframe(1)
            self._handler = signal.signal(signal.SIGALRM, self._ring)
            self._timer = signal.getitimer(signal.ITIMER_REAL)
        else:
            threading.Thread(target=self._watch, daemon=True).start()
        self.restart()
        return self

    def restart(self, seconds: float | None = None) -> None:
        """Time starts anew: `seconds` from now, or the alarm's own measure."""
        self.hush()
        self._limit = self.seconds if seconds is None else seconds
        self._began = self._own_time(), _process_time(), _monotonic()
        self._again, self._rang = _AGAIN, False
        self.on = True
        if self._by_signal:
            self._set_timer(self._limit)

    def hush(self) -> None:
        """From now on nothing is raised, until `restart`.

        In a thread that is not the main one, a `TimeLimit` that was already under way may come
        out of this call, once: then call it again.
        """
        self.on = False
        if self._by_signal:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._calm()
            return
        with self._lock:
            sent, self._sent = self._sent, False
        if sent:
            _call_back()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self.hush()
        self._outermost = None
        if self._by_signal:
            handler = signal.SIG_DFL if self._handler is None else self._handler
            signal.signal(signal.SIGALRM, handler)
            if self._timer[0]:
                signal.setitimer(signal.ITIMER_REAL, *self._timer)

    # --- what time it is ---------------------------------------------------------------------

    def _left(self) -> tuple[float, type[TimeLimit]]:
        """Seconds until the alarm may ring, 0 or less when it must; and what it raises then."""
        wall = _monotonic() - self._began[2]
        own, process = self._own_time() - self._began[0], _process_time() - self._began[1]
        # Code that computes in other threads makes its own wait. Their time counts by half: the
        # threads of a library that computes with many are not the learner's.
        computed = max(own, min(process, wall) / 2)
        if computed >= self._limit:
            return 0.0, TimeLimit
        return min(self._limit - computed, PATIENCE * self._limit - wall), Waited

    # --- on the main thread: a signal --------------------------------------------------------

    def _set_timer(self, seconds: float) -> None:
        # It comes once, and `_ring` sets it anew as it ends: a timer that repeats by itself can
        # interrupt the handler at its first instruction, over and over. The long interval is for
        # the signal whose handler found no room on a stack that is full.
        signal.setitimer(signal.ITIMER_REAL, max(seconds, _SOONEST), max(_ANYWAY, 2 * self._again))

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self.on:
            return
        if self._ringing:  # came in the middle of the last one: leave it more time
            self._again *= 2
            self._set_timer(self._again)
            return
        self._ringing = True
        try:
            began = _monotonic()
            left, kind = self._left()
            if left > 0:
                self._set_timer(left)
                return
            if _is_here(frame):  # the alarm is being put away, or set anew
                self._set_timer(self._again)
                return
            if self._rang:
                learners = list(self._learners(frame))
                if not learners:  # the last stop has left the learner's code: nothing to repeat
                    self._set_timer(self._again)
                    return
                self._raise_at_lines(learners)
            self._rang = True
            self._again = max(self._again, _REST * (_monotonic() - began))
            self._set_timer(self._again)
        except RecursionError:  # no room for these calls: the timer comes again
            return
        finally:
            self._ringing = False
        raise kind

    def _learners(self, frame: FrameType | None) -> Iterator[FrameType]:
        """The learner's frames on the stack, the innermost first."""
        while frame is not None and frame is not self._outermost:
            if is_learners(frame.f_code.co_filename):
                yield frame
            frame = frame.f_back

    def _raise_at_lines(self, frames: list[FrameType]) -> None:
        """Raise at every line of the learner's that runs from now on, in these frames or new."""
        if self._traced is None:
            self._traced = (sys.gettrace(), [])
        sys.settrace(None)
        for frame in frames:
            if frame.f_trace is not _raise_at_line:
                self._traced[1].append((frame, frame.f_trace))
                frame.f_trace = _raise_at_line
        sys.settrace(_raise_at_line)

    def _calm(self) -> None:
        if self._traced is not None:
            tracer, frames = self._traced
            self._traced = None
            sys.settrace(tracer)
            for frame, before in frames:
                frame.f_trace = before

    # --- on another thread: an asynchronous exception ----------------------------------------

    def _watch(self) -> None:
        not_before = 0.0
        while not self._over.wait(_AGAIN / 5):
            with self._lock:
                if not self.on or self._over.is_set() or _monotonic() < not_before:
                    continue
                frame = sys._current_frames().get(self._thread)
                if frame is None:  # the thread has ended, and another may get its number
                    return
                left, kind = self._left()
                if left > 0 or _is_here(frame):
                    continue
                not_before = _monotonic() + _AGAIN
                self._sent = True
                _send(self._thread, kind)


class _CalledBack(BaseException):
    """Takes the place of an asynchronous exception that is not wanted any more."""


def _send(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def _call_back() -> None:
    """Call back an asynchronous exception that was sent to this thread and has not arrived.

    To set it to NULL is not enough: CPython 3.11 and 3.12 then look for it for ever, and spin at
    the entry of the first function that is traced. One that arrives ends the search.
    """
    try:
        _send(threading.get_ident(), _CalledBack)
        for _ in range(1000):  # it arrives within a few instructions
            pass
    except _CalledBack:
        pass


def _is_here(frame: FrameType | None) -> bool:
    """Whether what runs is this file: nothing is raised there, so that an alarm always ends."""
    return frame is not None and frame.f_code.co_filename == _HERE


def _clock_of_this_thread() -> Callable[[], float]:
    """The processor time of the thread that calls this, to be read from any thread, in seconds."""
    if sys.platform == "linux":
        # The number by which Linux knows a thread's clock: clock_getcpuclockid(3) makes it so.
        # Of a thread that has ended it is an error, where pthread_getcpuclockid may crash.
        clock = (~threading.get_native_id() << 3) | 0b110
        try:
            time.clock_gettime(clock)
        except OSError:
            pass
        else:
            return functools.partial(_read, clock)
    began = _process_time(), _monotonic()
    # All that the process used, and never more than one processor gives.
    return lambda: min(_process_time() - began[0], _monotonic() - began[1])


def _read(clock: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:  # the thread has ended
        return 0.0


def _raise_at_line(frame: FrameType, event: str, argument: Any) -> Any:
    # Only at a line: raised while an exception passes, it would land in the same `try` again.
    if event == "line" and is_learners(frame.f_code.co_filename):
        raise TimeLimit
    return _raise_at_line


_HERE = sys._getframe().f_code.co_filename
_OURS = Path(__file__).resolve().parent.parent
_LIBRARIES = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib")}
)


@functools.lru_cache(maxsize=4096)  # asked of every frame of a deep stack
def is_learners(filename: str) -> bool:
    """Whether code of this file is the learner's: not the course's, not a library's."""
    if filename.startswith("<frozen") or "site-packages" in filename:
        return False
    path = Path(filename).resolve()
    return not path.is_relative_to(_OURS) and not str(path).startswith(_LIBRARIES)
