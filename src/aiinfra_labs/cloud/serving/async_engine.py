"""An engine for many callers at once: a thread steps it, and each caller awaits its own. Unit 4.3.

    engine = AsyncEngine(Engine.from_folder("model"))
    async for output in engine.generate("def read(", SamplingParams(max_tokens=40)):
        print(output.outputs[0].delta, end="")

A caller that goes away (its task is cancelled, or it leaves the loop) ends its request. An error in
the engine reaches every caller that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as Row
from typing import Any

from .engine import Engine
from .errors import ServingError
from .output import RequestOutput
from .sampling_params import SamplingParams

Caller = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[Any]"]


class AsyncEngine:
    """The thread steps the engine; what callers want waits in a queue for it."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._wanted: deque[tuple[Caller, Callable[[], None]]] = deque()
        self._callers: dict[str, Caller] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def generate(
        self,
        prompt: str | Row[int],
        params: SamplingParams | None = None,
        priority: int = 0,
        cache_key: str = "",
    ) -> AsyncIterator[RequestOutput]:
        """An output at every step of the request, the last one finished. Raises `RequestError`."""
        caller: Caller = (asyncio.get_running_loop(), asyncio.Queue[Any]())
        name: list[str] = []

        def add() -> None:
            try:
                id = self.engine.add_request(
                    prompt,
                    params,
                    priority=priority,
                    stream=True,
                    cache_key=cache_key,
                    deliver=lambda output: self._deliver(caller, output),
                )
            except Exception as error:
                _send(caller, error)
            else:
                name.append(id)
                self._callers[id] = caller

        def leave() -> None:
            for id in name:
                self._callers.pop(id, None)
                self.engine.abort(id)

        if not self._ask(caller, add):
            raise _closed()
        try:
            while True:
                found = await caller[1].get()
                if isinstance(found, BaseException):
                    raise found
                yield found
                if found.finished:
                    return
        finally:
            self._ask(caller, leave)

    def _deliver(self, caller: Caller, output: RequestOutput) -> None:
        if output.finished:
            self._callers.pop(output.request_id, None)
        _send(caller, output)

    def _ask(self, caller: Caller, what: Callable[[], None]) -> bool:
        """Let the thread do something; False if it has ended."""
        with self._wake:
            if self._closed:
                return False
            self._wanted.append((caller, what))
            self._wake.notify()
            return True

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._wanted or self.engine.requests or self._closed):
                    self._wake.wait()
                if self._closed:
                    return
                wanted = list(self._wanted)
                self._wanted.clear()
            for _, what in wanted:
                what()
            if not self.engine.requests:
                continue
            try:
                self.engine.run_step()
            except Exception as error:
                for id, caller in list(self._callers.items()):
                    _send(caller, error)  # before the "abort" that follows from it
                    self.engine.abort(id)
                self._callers.clear()

    def close(self) -> None:
        """End the thread. Callers that still wait get a `ServingError`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:  # an observer may close it
            self._thread.join()
        waiting = [*self._callers.values(), *(caller for caller, _ in self._wanted)]
        self._wanted.clear()
        for id, caller in list(self._callers.items()):
            _send(caller, _closed())
            self.engine.abort(id)
        for caller in waiting:
            _send(caller, _closed())
        self._callers.clear()


def _closed() -> ServingError:
    return ServingError("the engine is closed", "it was shut down", "a new one")


def _send(caller: Caller, what: Any) -> None:
    """Hand something to a caller's own loop, which may be gone by now."""
    loop, queue = caller
    with contextlib.suppress(RuntimeError):  # the loop is closed, and so nobody waits
        loop.call_soon_threadsafe(queue.put_nowait, what)
