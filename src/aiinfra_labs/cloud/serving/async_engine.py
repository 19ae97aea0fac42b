"""An engine for many callers at once: a thread steps it, and each caller awaits its own. Unit 4.3.

    engine = AsyncEngine(Engine.from_folder("model"))
    async for output in engine.generate("def read(", SamplingParams(max_tokens=40)):
        print(output.outputs[0].delta, end="")

A caller that goes away (its task is cancelled, or it leaves the loop) ends its request. An error in
the engine reaches every caller that waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as Row
from typing import Any

from .engine import Engine
from .errors import ServingError
from .output import RequestOutput
from .sampling import SamplingParams

Caller = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[Any]"]


class AsyncEngine:
    """Only the thread touches the engine; what callers want waits in a queue for it."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._wanted: deque[Callable[[], None]] = deque()
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
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
        name: list[str] = []

        def add() -> None:
            try:
                id = self.engine.add_request(
                    prompt, params, priority=priority, stream=True, cache_key=cache_key
                )
            except Exception as error:
                _send((loop, queue), error)
            else:
                name.append(id)
                self._callers[id] = (loop, queue)

        def leave() -> None:
            for id in name:
                self._callers.pop(id, None)
                self.engine.abort(id)

        self._ask(add)
        try:
            while True:
                found = await queue.get()
                if isinstance(found, BaseException):
                    raise found
                yield found
                if found.finished:
                    return
        finally:
            if not self._closed:
                self._ask(leave)

    def _ask(self, what: Callable[[], None]) -> None:
        with self._wake:
            if self._closed:
                raise ServingError("the engine is closed", "it was shut down", "a new one")
            self._wanted.append(what)
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._wanted or self.engine.unfinished or self._closed):
                    self._wake.wait()
                if self._closed:
                    return
                wanted = list(self._wanted)
                self._wanted.clear()
            for what in wanted:
                what()
            if not self.engine.unfinished:
                continue
            try:
                outputs = self.engine.step()
            except Exception as error:
                for id, caller in list(self._callers.items()):
                    self.engine.abort(id)
                    _send(caller, error)
                self._callers.clear()
                continue
            for output in outputs:
                caller = self._callers.get(output.request_id)
                if caller:
                    _send(caller, output)
                    if output.finished:
                        del self._callers[output.request_id]

    def close(self) -> None:
        """End the thread. Callers that still wait get a `ServingError`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()
        for caller in self._callers.values():
            _send(caller, ServingError("the engine is closed", "it was shut down", "a new one"))
        self._callers.clear()


def _send(caller: Caller, what: Any) -> None:
    """Hand something to a caller's own loop, which may be gone by now."""
    loop, queue = caller
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, what)
