"""Calls between two processes: what cannot cross as plain data stays, and is called where it is.

A `Desk` is one process's end. It names its own objects by number (`mine`) and stands in for the
other side's with `Far` objects, whose calls, attributes and items are asked for there. A call may
ask back before it answers, as when a learner's function calls the model that it was given.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ..alarm import PATIENCE, TimeLimit, Waited
from ..guard import explain
from ..parts import Parts
from . import wire

# What an object may be asked for besides its public attributes. Never how it compares: an answer
# that says of itself that it equals everything is compared as what it is.
_ASKED = ("__call__", "__iter__", "__next__", "__len__", "__getitem__", "__setitem__")
_ASKED += ("__contains__", "__enter__", "__exit__", "__delitem__")
_AFTER_A_STOP = 2.0  # seconds for each further call, as `requirements` has it
_TO_STOP = 20.0  # seconds of the clock until what was told to stop has said at which line it was
_CPU = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Gone(Exception):
    """The other process does not answer any more."""

    what = "the process in which your code runs does not answer any more"
    why = "it ended, or could not be stopped"
    try_ = "run the cells in JupyterLab, one by one: which one ends the kernel?"


class Far:
    """Stands in for an object of the other side. Two of them are equal only if they are one."""

    _desk: Desk
    _number: int

    def __init__(self, desk: Desk, number: int):
        object.__setattr__(self, "_desk", desk)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._desk.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._desk.ask("set", self, name, (value,))

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._desk.dropped.append(self._number)


def _asking(name: str) -> Callable[..., Any]:
    def ask(self: Far, *args: Any, **kwargs: Any) -> Any:
        return self._desk.ask("call", self, name, args, kwargs)

    ask.__name__ = name
    return ask


def _leave(self: Far, kind: Any, error: BaseException | None, trace: Any) -> Any:
    """`__exit__`: the error crosses as any other does."""
    return self._desk.ask("call", self, "__exit__", (None if error is None else _told(error),))


_METHODS = {name: _asking(name) for name in _ASKED} | {"__exit__": _leave}


class Desk:
    """One process's end of the connection: its own objects by number, and a line a thread.

    `connect()` makes a further line, for a second thread. `allow(object, name)` says which of this
    side's attributes may be asked for.
    """

    def __init__(self, first: int, connect: Callable[[], socket.socket] | None = None):
        self.first, self.connect = first, connect
        self.mine: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._out: dict[int, int] = {}  # by number: how many stand-ins the other side has
        self._count = itertools.count(1)
        self._classes: dict[tuple, type] = {}
        self._local = threading.local()
        self._lock = threading.RLock()
        self.dropped: list[int] = []
        self.process: int | None = None  # of the other side, whose time is counted
        self.seconds = 0.0  # that a call may take; 0: no limit
        self.stop: Callable[[], None] | None = None  # asks the other side to end what it does
        self.gone = False

    # --- objects -------------------------------------------------------------------------

    def name_of(self, value: Any) -> dict:
        """How an object crosses that stays on this side, or that is the other side's own."""
        if isinstance(value, Far) and value._desk is self:
            return {"t": "mine", "n": value._number}
        with self._lock:
            number = self._numbers.get(id(value))
            if number is None:
                number = next(self._count)
                self.mine[number] = value
                self._numbers[id(value)] = number
            self._out[number] = self._out.get(number, 0) + 1
        kind = type(value)
        return {
            "t": "far",
            "n": number,
            "c": kind.__name__,
            "m": [name for name in _ASKED if getattr(kind, name, None) is not None],
        }

    def drop(self, number: int) -> None:
        """The other side has one stand-in less."""
        with self._lock:
            self._out[number] -= 1
            if not self._out[number]:
                del self._out[number], self._numbers[id(self.mine.pop(number))]

    def named(self, packed: dict) -> Any:
        """What `name_of` has named: an object of this side, or what stands for the other's."""
        number = packed["n"]
        if packed["t"] == "mine":
            return self.mine[number]
        methods = tuple(name for name in packed["m"] if name in _METHODS)
        key = (str(packed["c"])[:80], methods)
        if key not in self._classes:
            body = {name: _METHODS[name] for name in methods} | {"__module__": "answer"}
            self._classes[key] = type(key[0], (Far,), body)
        return self._classes[key](self, number)

    # --- asking --------------------------------------------------------------------------

    @property
    def line(self) -> Line:
        """This thread's connection."""
        line = getattr(self._local, "line", None)
        if line is None:
            if self.connect is None:
                raise Gone
            line = self._local.line = Line(self, self.connect())
        return line

    def use(self, stream: socket.socket) -> Line:
        """Let this thread speak through `stream` from now on."""
        self._local.line = Line(self, stream)
        return self._local.line

    def ask(
        self, what: str, far: Far, name: str, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """What an object of the other side gives to a "call", a "get" or a "set". Raises `Gone`."""
        if self.gone:
            raise Gone
        return self.line.ask(what, far._number, name, args, kwargs or {})


class Line:
    """One connection, used by one thread on either side."""

    def __init__(self, desk: Desk, stream: socket.socket):
        self.desk, self.stream = desk, stream
        self.shared = wire.Shared(desk.first)
        self.depth = 0  # calls under way that this side began
        self.serving = 0

    # --- messages ------------------------------------------------------------------------

    def send(self, what: str, value: Any = None, **more: Any) -> None:
        """Send one message, with all that changed in what both sides know. Raises `Gone`."""
        packer = wire.Packer(self.shared, self.desk.name_of)
        packed = packer.pack(value)
        changes = packer.changes()
        drops = [self.desk.dropped.pop() for _ in range(len(self.desk.dropped))]
        message = {"k": what, "v": packed, "u": changes, "x": drops} | more
        try:
            wire.write(self.stream, message, packer.blobs)
        except OSError as error:
            raise Gone from error

    def receive(self, patience: Patience | None = None) -> tuple[dict, Any]:
        """The next message and the value in it. patience: limits how long is waited.

        Raises `Gone` where the line was closed, `WireError` for what cannot be read, `TimeLimit`.
        """

        def exactly(count: int) -> bytes:
            data = bytearray()
            while len(data) < count:
                if patience is not None:
                    patience.wait(self.stream)
                try:
                    part = self.stream.recv(min(count - len(data), 1 << 20))
                except OSError as error:
                    raise Gone from error
                if not part:
                    raise Gone
                data += part
            return bytes(data)

        message, blobs = wire.read(exactly)
        try:
            unpacker = wire.Unpacker(self.shared, blobs, self.desk.named)
            value = unpacker.unpack(message["v"])  # what is new is named there
            unpacker.change(message["u"])
            for number in message["x"]:
                self.desk.drop(number)
            return message, value
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise wire.WireError(f"a message cannot be read: {error}") from error

    # --- asking and answering ------------------------------------------------------------

    def ask(self, what: str, number: int, name: str, args: tuple, kwargs: dict) -> Any:
        """Ask the other side for a call, an attribute or a change of one; its answer."""
        args, kwargs, finish = _hooks.leaving(self, args, kwargs)
        value = self._asked(what, (args, kwargs), o=number, m=name, g=finish is not None)
        return value if finish is None else finish(value)

    def gradient(self, token: int, grad: Any) -> Any:
        """Ask the other side to go back through the result of a call."""
        return self._asked("grad", grad, o=token, m="")

    def _asked(self, what: str, value: Any, **more: Any) -> Any:
        outermost = not self.depth and not self.serving
        self.depth += 1
        try:
            self.send(what, value, **more)
            message, found = self._until_answered(Patience(self.desk) if outermost else None)
            if message["k"] == "error":
                raise _error(found)
            return found
        finally:
            self.depth -= 1
            if outermost:
                self.shared.clear()

    def _until_answered(self, patience: Patience | None) -> tuple[dict, Any]:
        while True:
            try:
                message, value = self.receive(patience)
            except TimeLimit as late:
                self._stopped(late)
                raise
            except (wire.WireError, Gone):
                self.desk.gone = True
                raise
            if message["k"] in ("answer", "error"):
                return message, value
            self.answer(message, value)

    def _stopped(self, late: TimeLimit) -> None:
        """Time is up: have the other side end, and take over at which line that was."""
        if self.desk.stop is not None:
            self.desk.stop()
        self.desk.seconds = min(self.desk.seconds, _AFTER_A_STOP)
        patience = Patience(self.desk, wall=_TO_STOP)
        with contextlib.suppress(TimeLimit, Gone, wire.WireError):
            while True:
                message, value = self.receive(patience)
                if message["k"] in ("answer", "error"):
                    late.place = _lines(value) if message["k"] == "error" else None
                    return
                self.send("error", [["TimeLimit"], "", "stopped", "", "", []])
        self.desk.gone = True

    def serve(self) -> None:
        """Answer until the other side closes the line."""
        with contextlib.suppress(Gone):
            while True:
                message, value = self.receive()
                self.answer(message, value)
                self.shared.clear()

    def answer(self, message: dict, value: Any) -> None:
        """Do what a message asks, and send what came of it: a value, or an error."""
        self.serving += 1
        try:
            with _hooks.serving(message):
                found = self._do(message, value)
                self.send("answer", found)
        except Gone:
            raise
        except BaseException as error:
            self.send("error", _told(error))
        finally:
            self.serving -= 1

    def _do(self, message: dict, value: Any) -> Any:
        what, name = message["k"], message["m"]
        if what == "grad":
            return _hooks.gradient(self, message["o"], value)
        target = self.desk.mine[message["o"]]
        args, kwargs = value
        if what == "get":
            return getattr(target, _public(name))
        if what == "set":
            return setattr(target, _public(name), *args)
        if what != "call" or name not in _METHODS:
            raise wire.WireError(f"{what} {name} cannot be asked for")
        if message["g"]:
            _hooks.arriving(args, kwargs)
        if name == "__iter__":
            return iter(target)
        if name == "__next__":
            return next(target)
        if name == "__call__":
            return target(*args, **kwargs)
        if name == "__exit__":
            error = None if args[0] is None else _error(args[0])
            return target.__exit__(None if error is None else type(error), error, None)
        return getattr(type(target), name)(target, *args, **kwargs)


class Hooks:
    """What gradients need at a call's two ends. Without PyTorch there are none."""

    def leaving(self, line: Line, args: tuple, kwargs: dict) -> tuple[tuple, dict, Any]:
        """What is sent for a call's arguments, and what is done to its result, or None."""
        return args, kwargs, None

    def serving(self, message: dict) -> contextlib.AbstractContextManager:
        """Around a call and the sending of its result."""
        return contextlib.nullcontext()

    def arriving(self, args: tuple, kwargs: dict) -> None:
        """The call is given these, and its result may be asked for gradients."""

    def gradient(self, line: Line, number: int, value: Any) -> Any:
        """The gradients of a call's arguments from that of its result. `number`: of the call."""
        raise wire.WireError("there are no gradients here")


_hooks = Hooks()


def use_hooks(hooks: Hooks) -> None:
    """Let what stands for a far object be made and called by `hooks`, from now on."""
    global _hooks
    _hooks = hooks


def _public(name: str) -> str:
    if not isinstance(name, str) or name.startswith("_"):
        raise AttributeError(name)
    return name


class Patience:
    """How long the other side may take: `seconds` of its own processor time, or many more in all.

    A busy machine makes a process wait, and does not make it compute. What sleeps for ever uses no
    processor time; so all in all `PATIENCE` times as long is allowed. wall: that many seconds of
    the clock, and no more.
    """

    def __init__(self, desk: Desk, wall: float = 0.0):
        self.process, self.seconds, self.wall = desk.process, desk.seconds, wall
        self.began, self.used = time.monotonic(), processor_time(desk.process)

    def wait(self, stream: socket.socket) -> None:
        """Until there is something to read. Raises `TimeLimit` when time is up."""
        while not select.select([stream], [], [], 0.1)[0]:
            elapsed = time.monotonic() - self.began
            if self.wall and elapsed > self.wall:
                raise TimeLimit
            if self.seconds and not self.wall:
                used = processor_time(self.process)
                # Without a process to ask about, only the clock is left.
                spent = elapsed if used is None or self.used is None else used - self.used
                if spent > self.seconds:
                    raise TimeLimit
                if elapsed > PATIENCE * self.seconds:
                    raise Waited


def processor_time(process: int | None) -> float | None:
    """Seconds that a process has computed, of all its threads; None where nobody tells."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CPU
    except (OSError, IndexError, ValueError):
        return None


# --- errors ------------------------------------------------------------------------------------


def _told(error: BaseException) -> list:
    """An exception as plain data: its class, message, three parts and the learner's lines."""
    if isinstance(error, KeyboardInterrupt):  # how this side is made to stop
        error = TimeLimit().with_traceback(error.__traceback__)
    try:
        parts = explain(error, 0.0)
    except Exception:
        parts = Parts(type(error).__name__)
    try:
        message = str(error)[:2000]
    except Exception:
        message = ""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return [kinds, message, parts.what, parts.why, parts.try_, list(parts.code)]


def _lines(value: Any) -> str | None:
    try:
        return "\n".join(map(str, value[5])) or None
    except (TypeError, IndexError):
        return None


_made: dict[type, type] = {}


def _exception(name: str) -> type | None:
    """The exception of this name: Python's own, or one of the course's that is loaded here."""
    course = (
        module
        for at, module in list(sys.modules.items())
        if at.startswith("aiinfra_labs.") and not at.startswith(__package__)
    )
    for module in (builtins, *course):
        kind = getattr(module, "__dict__", {}).get(name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            return kind
    return None


def _error(value: Any) -> BaseException:
    """What to raise here for what the other side raised."""
    try:
        kinds, text, what, why, try_, code = value
        parts = Parts(str(what), str(why), str(try_), tuple(map(str, code)))
    except (TypeError, ValueError):
        return Gone()
    if "TimeLimit" in kinds:
        late = TimeLimit()
        late.place = "\n".join(parts.code) or None
        return late
    kind = next((found for found in map(_exception, map(str, kinds)) if found), Exception)
    if kind is StopIteration:
        return StopIteration(text)
    if kind not in _made:
        body = {
            "__new__": lambda cls, *args: kind.__new__(cls),
            "__init__": lambda self: None,
            "__str__": lambda self: self.text,
        }
        _made[kind] = type(kind.__name__, (kind,), body)
    try:
        error = _made[kind]()
    except TypeError:  # one that must be made with arguments of its own
        error = RuntimeError()
    error.args, error.text = (str(text),), str(text)
    error.what, error.why, error.try_ = parts.what, parts.why, parts.try_
    error.place = "\n".join(parts.code) or None
    return error
