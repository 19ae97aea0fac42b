"""From `@cuda.jit` to a launch: `kernel[grid, block](arguments)`. Unit 3.2."""

from __future__ import annotations

import functools
import inspect
import linecache
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..api.memory import DeviceArray
from ..checkers.fresh import wrote_bytes
from ..checkers.progress import by_turns, resident_blocks
from ..checkers.waiting import Waits
from ..counters.observing import ObservedMachine, Observer
from ..errors import (
    DeviceMemoryError,
    EmulatorError,
    LaneError,
    LaunchError,
    Place,
    RaisedInKernel,
    UnsupportedFeature,
)
from ..translation.calling import need_self_contained, signature_of
from ..translation.inference import TypingMachine
from ..translation.signatures import Declared
from ..translation.translator import Translation, translate
from ..translation.values import kind_of
from .configuration import Overload, Overloads, launch_shape, need_all_resident, three_axes
from .machine import Launch, Machine
from .mask import Mask
from .passing import argument, arrays_among
from .views import view_of

MAX_PASSES = 4  # over a function that calls itself, until the type of its result stays
LANES = 1 << 16  # lanes that run together: enough to hide Python's cost, small enough for a cache
_step_budget = int(os.environ.get("AIINFRA_STEP_BUDGET", 1 << 20))
# a `while` that shows no sign of its end is told of within a second or so, unless more is asked for
_blind_budget = _step_budget if "AIINFRA_STEP_BUDGET" in os.environ else 1 << 15


@contextmanager
def step_budget(rounds: int) -> Iterator[None]:
    """Within the block, a loop may go round so many times before it counts as endless."""
    global _step_budget, _blind_budget
    before = _step_budget, _blind_budget
    _step_budget = _blind_budget = rounds
    try:
        yield
    finally:
        _step_budget, _blind_budget = before


class Function:
    """A Python function in the kernel dialect, translated at its first use."""

    def __init__(self, py_func: Callable[..., Any], signature: Any = None):
        self.py_func, self.signature = py_func, signature
        self.tables: dict[Any, dict] = {}  # types of the joins, by types of the arguments
        self.arrays: dict[Any, dict] = {}  # shared and local arrays, by types of the arguments
        self.cooperative: set[Any] = set()  # those of the keys whose blocks wait for each other
        self.waiting: set[Any] = set()  # those whose threads may wait in a loop
        self._inferring: dict[Any, Any] = {}  # keys under way: their result so far
        self._recursive: set[Any] = set()

    @functools.cached_property
    def translation(self) -> Translation:
        """The function on lanes. Raises `TranslationError` for what a kernel cannot hold."""
        return translate(self.py_func)

    @functools.cached_property
    def declared(self) -> Declared:
        """What an explicit signature says of the arguments and the result."""
        return Declared.of(self.py_func.__name__, self.signature, self.translation.parameters)

    def run(self, machine: Machine, mask: Mask, args: Sequence[Any]) -> Any:
        """Call it with the lanes of `mask`; the types are inferred once for each signature."""
        given = key = tuple(map(signature_of, args))
        if self.signature is not None:
            args = [self.declared.argument(k, a) for k, a in enumerate(args)]
            key = tuple(map(signature_of, args))
        if self._inferring and machine.typing:
            self._need_itself(machine, given)
        outer, machine.version = machine.version, (self, key)
        try:
            if machine.typing:
                result = self._infer(machine, mask, key, args)
            else:
                if key not in self.tables:
                    typing = TypingMachine(machine.launch)
                    typing.version = machine.version
                    self._infer(typing, typing.all, key, args)
                result = self.translation.run(machine, self.tables[key], mask, *args)
        finally:
            machine.version = outer
        return result if self.signature is None else self.declared.result(result)

    def prepare(self, launch: Launch, args: Sequence[Any]) -> None:
        """Infer the types of a launch, and learn whether its blocks wait for each other."""
        typing = TypingMachine(launch)
        if self.signature is not None:
            args = [self.declared.argument(k, a) for k, a in enumerate(args)]
        key = tuple(map(signature_of, args))
        if key not in self.tables:
            typing.version = (self, key)
            self._infer(typing, typing.all, key, args)
            self.arrays[key] = typing.arrays
            if launch.cooperative:
                self.cooperative.add(key)
            if typing.may_wait:
                self.waiting.add(key)
        launch.cooperative, launch.may_wait = key in self.cooperative, key in self.waiting

    def _need_itself(self, machine: Machine, given: Any) -> None:
        """Numba lets a function call itself: the very version of it that runs."""
        name, (caller, key) = self.py_func.__name__, version_of(machine)
        if caller is not self:
            raise LaneError(
                f"{name} calls {caller.py_func.__name__}, which calls {name}",
                "on a GPU a function may call itself, and two may not call each other in turn: "
                "write them as one function, or as a loop",
            )
        if key != given:
            raise LaneError(
                f"{name} calls itself with other types than it was called with",
                "each call takes the types of the first one: begin with an int64 where a step such "
                "as n - 1 makes one, as in f(np.int64(4)), and not with a literal or an int32; or "
                "write a loop",
            )

    def _infer(self, machine: Machine, mask: Mask, key: Any, args: Sequence[Any]) -> Any:
        if key in self._inferring:  # it calls itself: what is known of the result so far
            self._recursive.add(key)
            return self._inferring[key]
        self._inferring[key] = np.zeros(0, dtype=bool)  # which unifies with every number
        try:
            for _ in range(MAX_PASSES):
                table = dict(self.tables.get(key, {}))
                result = self.translation.run(machine, table, mask, *args)
                before, self._inferring[key] = self._inferring[key], result
                if key not in self._recursive or kind_of(before) == kind_of(result):
                    break
        finally:
            del self._inferring[key]
        need_self_contained(result)
        self.tables[key] = table  # kept only when the inference comes to its end
        return result


def version_of(machine: Machine) -> tuple[Function, Any]:
    """The function that runs, and the types of its arguments; what it defines inside is part."""
    version = machine.version
    while not isinstance(version[0], Function):
        version = version[0]
    return version


_functions: dict[Any, Function] = {}


def function_of(callee: Any) -> Function:
    """The function behind a `cuda.jit` object, ours or Numba's."""
    if isinstance(callee, Kernel):
        return callee.function
    if callee not in _functions:
        _functions[callee] = Function(callee.py_func)
    return _functions[callee]


Launch.function_of = staticmethod(function_of)


class Kernel:
    """What `@cuda.jit` makes. `kernel[blocks, threads](...)` launches it."""

    def __init__(
        self,
        py_func: Callable[..., Any],
        device: bool = False,
        signature: Any = None,
        extensions: Sequence[Any] = (),
    ):
        functools.update_wrapper(self, py_func)
        self.py_func, self.device = py_func, device
        self.extensions: list[Any] = list(extensions)  # each may change an argument at the launch
        self.function = Function(py_func, signature)
        if signature is not None and not isinstance(signature, list):
            code = py_func.__code__
            if code.co_name not in (*code.co_names, *code.co_freevars):  # its own is not bound yet
                self._check_types()

    def _check_types(self) -> None:
        """With a signature the types are known: what is wrong with them is told at once."""
        with explained(self), np.errstate(all="ignore"):
            kinds = self.function.declared.kinds
            if not any(map(_unknown, kinds)):
                names = self.function.declared.parameters
                values = [_example(n, kind) for n, kind in zip(names, kinds, strict=True)]
                self.function.prepare(Launch(self.__name__, (1, 1, 1), (32, 1, 1), 1, 1), values)

    def __getitem__(self, configuration: Any) -> ConfiguredKernel:
        if self.device:
            raise LaunchError(
                f"{self.__name__} is a device function and cannot be launched",
                "device=True marks a function that kernels call",
                "launch the kernel that calls it",
            )
        return ConfiguredKernel(self, *launch_shape(self.__name__, configuration))

    def forall(self, ntasks: int, tpb: int = 0, stream: Any = 0, sharedmem: int = 0):
        """A 1-d launch of at least `ntasks` threads."""
        if ntasks < 0:
            raise LaunchError(
                f"{self.__name__}.forall({ntasks})",
                "the number of tasks is negative",
                "pass the number of elements that the kernel works on",
            )
        threads = tpb or 256
        tasks = three_axes(self.__name__, "grid", ntasks)[0]
        return self[max(1, -(-tasks // threads)), threads, stream, sharedmem]

    def specialize(self, *args: Any) -> Kernel:
        """The kernel for the types of `args`: types are found at each launch anyway."""
        return self

    @property
    def overloads(self) -> Overloads:
        """The versions for the types that the kernel was called with or declares."""
        return Overloads({k: Overload(a.values()) for k, a in self.function.arrays.items()})

    def configure(self, blocks: Any, threads: Any, stream: Any = 0, sharedmem: int = 0):
        """`kernel[blocks, threads, stream, sharedmem]`, as a call."""
        return self[blocks, threads, stream, sharedmem]

    def __call__(self, *args: Any) -> Any:
        if self.device:
            raise LaunchError(
                f"{self.__name__} is a device function and cannot be called from the host",
                "device=True marks a function that kernels call",
                f"call {self.__name__}.py_func(...) for the plain Python function",
            )
        raise LaunchError(
            f"{self.__name__} is called without a launch configuration",
            "a kernel runs on a grid of blocks of threads; the call must say how many of each",
            f"{self.__name__}[blocks, threads](...), for example "
            f"{self.__name__}[(n + 255) // 256, 256](...)",
        )

    def __repr__(self) -> str:
        return f"<kernel {self.__name__}, emulated>"


def _example(name: str, kind: Any) -> Any:
    """A value of a declared type."""
    if isinstance(kind, list):
        return tuple(_example(name, item) for item in kind)
    dtype, ndim = kind
    return view_of(np.zeros((1,) * ndim, dtype), name) if ndim else np.zeros((), dtype)[()]


def _unknown(kind: Any) -> bool:
    return any(map(_unknown, kind)) if isinstance(kind, list) else kind is None


class ConfiguredKernel:
    """A kernel with its grid and block, ready to be called."""

    def __init__(self, kernel: Kernel, grid: tuple, block: tuple, shared: int):
        self.kernel, self.grid, self.block, self.shared = kernel, grid, block, shared

    def __call__(self, *args: Any, **named: Any) -> None:
        if named:
            name = self.kernel.__name__
            raise LaunchError(
                f"{name} is launched with {next(iter(named))}=...",
                "a launch takes its arguments by position",
                f"{name}[blocks, threads]({', '.join(inspect.signature(self.kernel).parameters)})",
            )
        launch(self.kernel, self.grid, self.block, args, self.shared)


_accepted: list[Any] = []  # each is told of a launch that has run: kernel, arguments
_listeners: list[Any] = []  # open profiles, traces, checks: each gives an observer to a launch
_schedules: list[Any] = []  # what runs the threads of a launch in another order: see `adversary`


def launch(kernel: Kernel, grid: tuple, block: tuple, args: Sequence[Any], shared: int = 0) -> None:
    """Run a kernel. Host arrays are copied to the device before and back after, as in Numba."""
    name = kernel.__name__
    state = Launch(name, grid, block, _step_budget, _blind_budget, shared)
    with explained(kernel):
        parameters = kernel.function.translation.parameters
        if len(args) != len(parameters):
            raise LaunchError(
                f"{name} takes {_arguments(len(parameters))} ({', '.join(parameters)}); "
                f"the launch passes {len(args)}",
                "every parameter of the kernel needs a value",
                f"{name}[blocks, threads]({', '.join(parameters)})",
            )
        if kernel.function.translation.returned is not None:
            raise UnsupportedFeature(
                f"{name} returns a value",
                "a kernel has no caller to take it: thousands of threads run it at once",
                "store the value in an array that is passed in: out[i] = ...",
                kernel.function.translation.returned,
            )
        copies: list[tuple[np.ndarray, DeviceArray]] = []
        for extension in kernel.extensions:
            args = [extension.prepare_args(None, a, stream=0, retr=[])[1] for a in args]
        values = [argument(n, a, copies) for n, a in zip(parameters, args, strict=True)]
        _run(kernel.function, state, values)
        for host, device in copies:
            device.copy_to_host(host)
    for told in _accepted:
        told(kernel, args)


@contextmanager
def explained(kernel: Kernel) -> Iterator[None]:
    """What goes wrong inside is told with the kernel's own lines."""
    try:
        yield
    except EmulatorError as error:
        error.place = error.place or _place(kernel, error)
        raise
    except RaisedInKernel as error:
        raise error.raised from None
    except Exception as error:
        raise _explained(kernel, error) from None


def _arguments(count: int) -> str:
    return f"{count} argument{'' if count == 1 else 's'}"


def _run(function: Function, state: Launch, values: list[Any]) -> None:
    state.arrays = tuple(arrays_among(values))
    watching = [(listener, listener.observer(state)) for listener in list(_listeners)]
    observers = [observer for _, observer in watching if observer is not None]
    if not state.tracked:  # what the kernel leaves unwritten is not known afterwards
        for view in state.arrays:
            wrote_bytes(view.address, view.end)
    with np.errstate(all="ignore"):
        function.prepare(state, values)
        if state.cooperative:
            need_all_resident(state)
        with _beginning(state, observers) as anew:
            if _schedules:
                _schedules[-1].run(function, state, values, observers, anew)
            else:
                try:
                    _run_in_batches(function, state, values, observers)
                except Waits:
                    anew()
                    state.waited = True
                    by_turns(function, state, values, observers, anew)
    for listener, observer in watching:
        if observer is not None:
            listener.end(state, observer)


@contextmanager
def _beginning(state: Launch, observers: list[Observer]) -> Iterator[Callable[[], None]]:
    """Gives what brings a launch back to its beginning, for threads may wait for each other."""
    saved = [(v.window, v.window.copy()) for v in state.arrays] if state.may_wait else []
    state.held = [] if state.may_wait else None

    def anew() -> None:
        for window, contents in saved:
            window[...] = contents
        for observer in observers:
            observer.forget()
        state.begin_anew()

    try:
        yield anew
    finally:
        for text in state.held or ():
            print(text)


def _run_in_batches(
    function: Function, state: Launch, values: list[Any], observers: list[Observer]
) -> None:
    total = math.prod(state.grid)
    # blocks that wait for each other must all be there
    blocks = total if state.cooperative else max(1, LANES // state.lanes_per_block)
    if state.may_wait and not state.cooperative:
        blocks = min(blocks, resident_blocks(state))
    for first in range(0, total, blocks):
        count = min(blocks, total - first)
        machine = (
            ObservedMachine(state, first, count, observers)
            if observers
            else Machine(state, first, count)
        )
        function.run(machine, machine.all, values)


def _explained(kernel: Kernel, error: Exception) -> EmulatorError:
    """A Python error inside lane code, placed on the kernel's line that caused it."""
    name, place = kernel.__name__, _place(kernel, error)
    if isinstance(error, LaneError):
        if "the array" in str(error) and "does not work" in str(error):
            return UnsupportedFeature(
                f"{name} computes with a whole array: {error}",
                "in a kernel an array has no arithmetic of its own: each thread computes with "
                "elements",
                "index it with the thread's own number, as in a[i]",
                place,
            )
        return UnsupportedFeature(
            f"{name}: {error}",
            "a kernel computes with numbers of fixed types, one element of an array at a time",
            error.try_,
            place,
        )
    if isinstance(error, MemoryError):
        return DeviceMemoryError(
            f"{name} needs more memory than this computer has",
            "the emulator keeps the arrays of a launch in the computer's own memory",
            "launch on smaller arrays",
            place,
        )
    return UnsupportedFeature(  # no rule of ours foresaw it: say where, and what Python said
        f"{name} cannot be run by the emulator: {type(error).__name__}: {error}",
        "it does something that the emulator does not foresee",
        "write the line named above in another way",
        place or Place(name),
    )


def _place(kernel: Kernel, error: Exception) -> Place | None:
    """The innermost line of a kernel that the error passed through."""
    place, trace = None, error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if trace.tb_frame.f_globals.get("LANE_CODE"):
            text = linecache.getline(code.co_filename, trace.tb_lineno)
            function = code.co_name.removeprefix("f_")
            inner = "" if function == kernel.__name__ or function == "<lambda>" else function
            place = Place(kernel.__name__, trace.tb_lineno, text, function=inner)
        trace = trace.tb_next
    return place


def jit(
    func_or_sig: Any = None,
    device: bool = False,
    inline: Any = None,
    link: Any = None,
    debug: Any = None,
    opt: Any = None,
    lineinfo: Any = None,
    cache: Any = None,
    fastmath: Any = None,
    max_registers: Any = None,
    **options: Any,
) -> Any:
    """`@cuda.jit`, with or without a signature; `device=True` for functions that kernels call.

    Options that steer Numba's compiler (inline, opt, fastmath, ...) are taken and change nothing.
    """
    if _is_function(func_or_sig):
        return Kernel(func_or_sig, device, None, options.get("extensions", ()))

    def decorate(py_func: Callable[..., Any]) -> Kernel:
        if not _is_function(py_func):
            raise UnsupportedFeature(
                f"cuda.jit was given {py_func!r}",
                "it turns a Python function into a kernel",
                "put @cuda.jit on the line above def",
            )
        return Kernel(py_func, device, func_or_sig, options.get("extensions", ()))

    numba = type(func_or_sig).__module__.startswith("numba")  # a signature in Numba's own types
    if func_or_sig is None or isinstance(func_or_sig, str | tuple | list) or numba:
        return decorate
    return decorate(func_or_sig)


def _is_function(obj: Any) -> bool:
    return hasattr(obj, "__code__")
