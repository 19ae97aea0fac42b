"""A lock that threads get in the order in which they asked for it. Unit 4.3.

Several threads may step one engine. Python's own lock goes to whoever is quickest, mostly the one
that has just let it go, so that a thread with a new request could wait until all others are done.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """`with turns:` waits for its turn; who has it may take it again at once."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._waiting: deque[tuple[int, threading.Lock]] = deque()  # (thread, opened at its turn)

    def acquire(self, blocking: bool = True) -> bool:
        """Take a turn; False if it is another's and `blocking` is False."""
        me = threading.get_ident()
        with self._changing:
            if self._owner in (None, me):
                self._owner, self._depth = me, self._depth + 1
                return True
            if not blocking:
                return False
            gate = threading.Lock()
            gate.acquire()
            entry = (me, gate)
            self._waiting.append(entry)
        try:
            gate.acquire()
        except BaseException:  # Ctrl-C while it waits: nobody must wait for this one
            with self._changing:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                else:
                    self._pass_on()
            raise
        return True

    def release(self) -> None:
        """Give the turn back; the next one that waits has it at once."""
        with self._changing:
            self._depth -= 1
            if not self._depth:
                self._pass_on()

    def _pass_on(self) -> None:
        self._owner, self._depth = None, 0
        if self._waiting:
            self._owner, gate = self._waiting.popleft()
            self._depth = 1
            gate.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.release()
