"""The judge: a process of its own that holds the exercises, and calls the answer in another one.

    python -m aiinfra_labs.course.judging.judge

reads one line of JSON from stdin for each exercise, {"id": "3.2.a", "process": 1234}, and writes
{"address": ...}, to which the answer's process connects, then {"result": ...}.

Threat model
------------
A learner's notebook is graded for points. What its code may do in its own process is not limited
here, so nothing that it can reach may be worth points:

- The references, the expected values, the requirements and the comparison are in the judge alone.
  `sys._getframe`, `gc.get_objects` and `inspect` show the learner's process, and these are not in
  it. A patched `check`, `Requirement`, `numpy.testing`, `math.isclose` or `sys.modules` patches
  the learner's own copy.
- The judge takes plain values and names of objects, and unpickles, imports and evaluates nothing
  (`wire.py`). An object that equals everything is compared as what it is.
- Kernels cross as source and are run by the judge's emulator, which translates them and runs none
  of their Python; so gates on sectors, banks and races are counted by the judge.
- The score is what the judge writes to its own stdout. What the learner's process prints, the
  metadata and outputs of the notebook, its progress file and its exit code say nothing.
- A process that ends (`os._exit`), sends nonsense or does not answer loses the exercise.

What remains, and needs a sandbox (a user of its own, no file system, no /proc):

- The course's files can be read and imported: an answer may call the library's own function, or
  read `exercises/` and `solutions/` on disk.
- A process of the same user can be killed, and on many systems traced, by the learner's.
- What is measured beside the answer, and not by the judge: see `BESIDE`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import socket
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..alarm import TimeLimit
from ..limits import spare_memory
from ..parts import Parts
from ..results import FAILED, NOT_ATTEMPTED, Outcome, Result, result_of
from ..trying import try_out
from . import answering, far, wire

# Exercises whose body must run beside the answer, with why. What it says can be forged there.
BESIDE = {
    "1.3.d": "the bytes that a call allocates are counted in the process that makes it",
    "1.7.b": "the bytes that a call allocates are counted in the process that makes it",
    "1.4.e": "a training run, its optimizer and its generators are kept and restored in place",
}
CONNECT = 60.0  # seconds for the answer's process to connect, and to import what it needs
WHOLE = 300.0  # seconds for an exercise that is tried beside the answer


class Connections:
    """The judge's end of the connections of one exercise."""

    def __init__(self, listener: socket.socket):
        self.listener = listener
        self.control: socket.socket | None = None
        self.open: list[socket.socket] = []

    def take(self, role: bytes) -> socket.socket:
        """The next connection, which must be for `role`."""
        try:
            stream, _ = self.listener.accept()
            self.open.append(stream)
            if stream.recv(1) != role:
                raise far.Gone
        except OSError as error:
            raise far.Gone from error
        return stream

    def more(self) -> socket.socket:
        """One more connection, which the other side is asked to open."""
        self.tell(answering.MORE)
        return self.take(answering.MORE)

    def tell(self, word: bytes) -> None:
        """Send one byte of control; if the other side is gone, nothing happens."""
        with contextlib.suppress(OSError):
            self.control.sendall(word)

    def close(self) -> None:
        """Close every connection that was made."""
        for stream in self.open:
            stream.close()


def judge(
    id: str, listener: socket.socket, process: int | None, seconds: float | None = None
) -> Result:
    """The result of the exercise, for the answer that connects to `listener`."""
    exercise = registry.find(id)
    if exercise is None:
        return _refused(id, "", Parts(f"there is no exercise {id!r}", "", ""))
    exercise = replace(exercise, seconds=seconds or exercise.seconds)
    connections = Connections(listener)
    desk = far.Desk(first=0, connect=connections.more)
    desk.process, desk.seconds = process, exercise.seconds
    desk.stop = lambda: connections.tell(b"s")
    try:
        line = desk.use(connections.take(answering.MAIN))
        connections.control = connections.take(answering.CONTROL)
        kinds, door = _kinds(id)
        hello = {"kinds": kinds, "door": door, "beside": id if id in BESIDE else None}
        line.send("hello", hello)
        message, given = line.receive(far.Patience(desk, wall=WHOLE if id in BESIDE else CONNECT))
        line.shared.clear()
        return _beside(exercise, given) if id in BESIDE else _judged(exercise, given)
    except (far.Gone, wire.WireError, TimeLimit, KeyError, TypeError) as error:
        parts = far.Gone
        what = parts.what + (f": {error}" if str(error) else "")
        return _refused(id, exercise.title, Parts(what, parts.why, parts.try_), exercise.points)
    finally:
        connections.close()


def _kinds(id: str) -> tuple[list[str], Any]:
    """Modules that both sides need for what crosses, installed here; and the door to this side."""
    names, door = [], None
    if "torch" in sys.modules:
        names.append(f"{__package__}.tensors")
    chapter = registry.CHAPTERS[id[:1]].name
    own = f"aiinfra_labs.{chapter}.exercises.crossing"
    if importlib.util.find_spec(own) is not None:
        names.append(own)
    for name in names:
        module = importlib.import_module(name)
        module.install()
        door = module.door() if hasattr(module, "door") else door
    return names, door


def _judged(exercise: Any, given: dict) -> Result:
    obj = given["obj"]
    if isinstance(obj, far.Far):
        _describe(obj, given)
    objection = exercise.objection(obj)
    if objection is not None:
        return _refused(exercise.id, exercise.title, objection, exercise.points)
    if given["starter"] is True:
        return Result(exercise.id, exercise.title, NOT_ATTEMPTED, points=exercise.points)
    return try_out(exercise, obj)


def _beside(exercise: Any, given: dict) -> Result:
    """A result that the answer's process has made: its points are those of the exercise."""
    result = result_of(given["result"])
    score = min(max(float(result.score), 0.0), exercise.points)
    return replace(result, id=exercise.id, score=score, points=exercise.points)


def _describe(obj: far.Far, given: dict) -> None:
    """What a function says of itself: its name and its parameters."""
    object.__setattr__(obj, "__name__", str(given["name"])[:80])
    object.__setattr__(obj, "__module__", str(given["module"])[:200])  # the course's own is refused
    if given["signature"] is None:
        return
    kinds = {kind.name: kind for kind in inspect._ParameterKind}
    with contextlib.suppress(ValueError, TypeError, KeyError):
        parameters = [
            inspect.Parameter(name, kinds[kind], default=None if default else inspect._empty)
            for name, kind, default in given["signature"]
        ]
        object.__setattr__(obj, "__signature__", inspect.Signature(parameters))


def _refused(id: str, title: str, parts: Parts, points: float = 0.0) -> Result:
    outcome = Outcome("can be tried", False, 0.0, "", parts.what, parts.why, parts.try_, parts.code)
    return Result(id, title, FAILED, points=points, requirements=(outcome,))


def main() -> int:
    """Judge one exercise after another, as stdin asks."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints here does not mix with the results
    with tempfile.TemporaryDirectory(prefix="aiinfra-judge-") as folder:
        for number, text in enumerate(sys.stdin):
            asked = json.loads(text)
            address = str(Path(folder, str(number)))
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(address)
                listener.listen(64)
                listener.settimeout(CONNECT)
                print(json.dumps({"address": address}), file=out, flush=True)
                with spare_memory():
                    result = judge(asked["id"], listener, asked["process"], asked["seconds"])
            print(json.dumps({"result": asdict(result)}), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
