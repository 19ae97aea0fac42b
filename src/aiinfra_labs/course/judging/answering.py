"""The learner's end: the process that holds the answer serves the judge's calls.

It holds no reference and no expected value. Whatever runs here may be the learner's own: the judge
believes nothing of what comes from it but plain values.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import inspect
import signal
import socket
import sys
import threading
from dataclasses import asdict
from typing import Any

from .. import registry
from ..limits import spare_memory
from ..results import FAILED, NOT_ATTEMPTED, Outcome, Result
from ..starters import is_starter
from ..trying import try_out
from . import far

MAIN, CONTROL, MORE = b"m", b"c", b"l"  # what a connection is for


def answer(address: str, obj: Any) -> None:
    """Serve the judge that listens at `address` with `obj`, until it has judged."""
    ending = threading.Event()
    main = threading.get_ident()
    threads: dict[int, bool] = {main: True}  # that serve, for the judge may have to stop them

    def connect(role: bytes) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(address)
        stream.sendall(role)
        return stream

    def serve_more() -> None:
        threads[threading.get_ident()] = True
        with contextlib.suppress(BaseException), connect(MORE) as stream:
            desk.use(stream).serve()

    def listen(control: socket.socket) -> None:
        while word := control.recv(1):
            if word == MORE:
                threading.Thread(target=serve_more, daemon=True).start()
            elif not ending.is_set():
                _stop(main, threads)

    with connect(MAIN) as stream, connect(CONTROL) as control:
        desk = far.Desk(first=1)
        threading.Thread(target=listen, args=(control,), daemon=True).start()
        line = desk.use(stream)
        message, needed = line.receive()
        for name in needed["kinds"]:
            importlib.import_module(name).install()
        leave = prepare(needed, desk)
        try:
            with spare_memory():  # what asks for more than there is gets an error, not the kernel
                first = tried(needed["beside"], obj) if needed["beside"] else given(obj)
                line.send("given", first)
                while True:
                    with contextlib.suppress(KeyboardInterrupt):  # stopped between two calls
                        line.serve()
                        break
        finally:
            ending.set()
            leave()


def prepare(needed: dict, desk: far.Desk) -> Any:
    """What a chapter does here while its exercises are judged; gives what undoes it."""
    undo = [
        importlib.import_module(name).begin(desk, needed.get("door"))
        for name in needed["kinds"]
        if hasattr(importlib.import_module(name), "begin")
    ]
    return lambda: [end() for end in undo]


def given(obj: Any) -> dict:
    """The answer and what can be said of it before it is called."""
    try:
        signature = [
            [p.name, p.kind.name, p.default is not p.empty]
            for p in inspect.signature(obj).parameters.values()
        ]
    except (TypeError, ValueError):
        signature = None
    try:
        starter = is_starter(obj)
    except Exception:
        starter = False
    name = getattr(obj, "__name__", type(obj).__name__)
    said = {"name": str(name), "module": str(getattr(obj, "__module__", ""))}
    return {"obj": obj, "signature": signature, "starter": bool(starter)} | said


def tried(id: str, obj: Any) -> dict:
    """The result of an exercise whose body must run in this process: see `judge.BESIDE`."""
    exercise = registry.find(id)
    objection = exercise.objection(obj)
    if objection is not None:
        parts = (objection.what, objection.why, objection.try_)
        outcomes = (Outcome("can be tried", False, 0.0, "", *parts),)
        return {"result": asdict(Result(id, exercise.title, FAILED, requirements=outcomes))}
    if is_starter(obj):
        return {"result": asdict(Result(id, exercise.title, NOT_ATTEMPTED))}
    return {"result": asdict(try_out(exercise, obj))}


def _stop(main: int, threads: dict[int, bool]) -> None:
    """Interrupt whatever the learner's code does, in every thread that serves."""
    for thread in list(threads):
        if thread == main and hasattr(signal, "pthread_kill"):
            with contextlib.suppress(OSError):
                signal.pthread_kill(main, signal.SIGINT)  # wakes what sleeps, too
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
            )


def main() -> None:
    """`python -m aiinfra_labs.course.judging.answering ADDRESS FILE NAME`: for a plain file."""
    address, path, name = sys.argv[1:]
    space: dict[str, Any] = {"__name__": "answer"}
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), path, "exec", dont_inherit=True), space)
    answer(address, space[name])


if __name__ == "__main__":
    main()
