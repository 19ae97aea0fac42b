"""From `@cuda.jit` to a launch: `kernel[grid, block](arguments)`. Unit 3.2."""

from __future__ import annotations

import enum
import functools
import inspect
import linecache
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arguments import In, Out
from .arithmetic import convert
from .calling import Inner
from .devices import get_current_device
from .errors import (
    DeviceMemoryError,
    EmulatorError,
    LaneError,
    LaunchError,
    Place,
    RaisedInKernel,
    UnsupportedFeature,
    described,
)
from .expressions import scalar_dtype
from .fresh import wrote_bytes
from .inference import TypingMachine
from .machine import Launch, Machine
from .mask import Mask
from .memory import ArrayView, DeviceArray, check_dtype, to_device, view_of
from .observing import ObservedMachine, Observer
from .translator import Translation, translate
from .values import Literal, kind_of, tuple_like

MAX_PASSES = 4  # over a function that calls itself, until the type of its result stays
LANES = 1 << 16  # lanes that run together: enough to hide Python's cost, small enough for a cache
_step_budget = int(os.environ.get("AIINFRA_STEP_BUDGET", 1 << 20))


@contextmanager
def step_budget(rounds: int) -> Iterator[None]:
    """Within the block, a loop may go round so many times before it counts as endless."""
    global _step_budget
    before, _step_budget = _step_budget, rounds
    try:
        yield
    finally:
        _step_budget = before


class Function:
    """A Python function in the kernel dialect, translated at its first use."""

    def __init__(self, py_func: Callable[..., Any], signature: Any = None):
        self.py_func, self.signature = py_func, signature
        self.tables: dict[Any, dict] = {}  # types of the joins, by types of the arguments
        self.arrays: dict[Any, dict] = {}  # shared and local arrays, by types of the arguments
        self.cooperative: set[Any] = set()  # those of the keys whose blocks wait for each other
        self._inferring: dict[Any, Any] = {}  # keys under way: their result so far
        self._recursive: set[Any] = set()

    @functools.cached_property
    def translation(self) -> Translation:
        return translate(self.py_func)

    @functools.cached_property
    def declared(self) -> Declared:
        """What an explicit signature says of the arguments and the result."""
        return Declared.of(self.py_func.__name__, self.signature, self.translation.parameters)

    def run(self, machine: Machine, mask: Mask, args: Sequence[Any]) -> Any:
        """Call it with the lanes of `mask`; the types are inferred once for each signature."""
        if self.signature is not None:
            args = [self.declared.argument(k, a) for k, a in enumerate(args)]
        key = tuple(map(_signature, args))
        if machine.typing:
            result = self._infer(machine, mask, key, args)
        else:
            if key not in self.tables:
                typing = TypingMachine(machine.launch)
                self._infer(typing, typing.all, key, args)
            result = self.translation.run(machine, self.tables[key], mask, *args)
        return result if self.signature is None else self.declared.result(result)

    def prepare(self, launch: Launch, args: Sequence[Any]) -> None:
        """Infer the types of a launch, and learn whether its blocks wait for each other."""
        typing = TypingMachine(launch)
        if self.signature is not None:
            args = [self.declared.argument(k, a) for k, a in enumerate(args)]
        key = tuple(map(_signature, args))
        if key not in self.tables:
            self._infer(typing, typing.all, key, args)
            self.arrays[key] = typing.arrays
            if launch.cooperative:
                self.cooperative.add(key)
        launch.cooperative = key in self.cooperative

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
        self.tables[key] = table  # kept only when the inference comes to its end
        return result


def _signature(value: Any) -> Any:
    if isinstance(value, ArrayView):
        return ("array", value.dtype.str, value.ndim)
    if isinstance(value, tuple):
        return tuple(map(_signature, value))
    if isinstance(value, Literal) and value.ndim == 0:
        return bool(value)
    kind = kind_of(value)
    if isinstance(kind, np.dtype):
        return kind.str
    if isinstance(value, Inner):
        return value.run.__code__
    return value if callable(value) or isinstance(value, str) else type(value).__name__


_functions: dict[Any, Function] = {}


def function_of(callee: Any) -> Function:
    """The function behind a `cuda.jit` object, ours or Numba's."""
    if isinstance(callee, Kernel):
        return callee.function
    if callee not in _functions:
        _functions[callee] = Function(callee.py_func)
    return _functions[callee]


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
            if None not in kinds:
                names = self.function.declared.parameters
                values = [_example(n, *kind) for n, kind in zip(names, kinds, strict=True)]
                self.function.prepare(Launch(self.__name__, (1, 1, 1), (32, 1, 1), 1), values)

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
        tasks = _three(self.__name__, "grid", ntasks)[0]
        return self[max(1, -(-tasks // threads)), threads, stream, sharedmem]

    def specialize(self, *args: Any) -> Kernel:
        """The kernel for the types of `args`: types are found at each launch anyway."""
        return self

    @property
    def overloads(self) -> Overloads:
        """The versions for the types that the kernel was called with or declares."""
        return Overloads({k: Overload(a.values()) for k, a in self.function.arrays.items()})

    def configure(self, blocks: Any, threads: Any, stream: Any = 0, sharedmem: int = 0):
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


def _example(name: str, dtype: np.dtype, ndim: int) -> Any:
    """A value of a declared type."""
    return view_of(np.zeros((1,) * ndim, dtype), name) if ndim else np.zeros((), dtype)[()]


class Overload:
    """One version of a kernel, for one signature. arrays: the shared and local ones it makes."""

    def __init__(self, arrays: Iterable[Any] = ()):
        self.arrays = [a for a in arrays if isinstance(a, ArrayView)]

    def max_cooperative_grid_blocks(self, block: Any, sharedmem: int = 0) -> int:
        """How many blocks of a cooperative launch fit on the device at once, by their threads."""
        device = get_current_device()
        threads = math.prod(_three("the kernel", "block", block))
        return device.multiprocessors * (device.max_threads_per_block // threads)


class Overloads(dict):
    """A version for every signature that is asked for."""

    def __missing__(self, signature: Any) -> Overload:
        return Overload()


def launch_shape(name: str, configuration: Any) -> tuple[tuple, tuple, int]:
    """Grid, block (three axes each) and dynamic shared memory, checked against the device."""
    if not isinstance(configuration, tuple) or not 2 <= len(configuration) <= 4:
        raise LaunchError(
            f"{name}[{configuration!r}] is not a launch configuration",
            "it takes the number of blocks and the threads of a block, then optionally a stream "
            "and bytes of shared memory",
            f"{name}[blocks, threads](...)",
        )
    grid = _three(name, "grid", configuration[0])
    block = _three(name, "block", configuration[1])
    device = get_current_device()
    for what, dims, limits in (
        ("grid", grid, device.max_grid_dim),
        ("block", block, device.max_block_dim),
    ):
        for axis, size, limit in zip("xyz", dims, limits, strict=True):
            if size < 1:
                raise LaunchError(
                    f"{name} is launched with {size} {_UNITS[what]} along {axis}",
                    f"a {what} has at least 1 along every axis",
                    "round up: (n + threads - 1) // threads; and launch nothing when n is 0"
                    if what == "grid"
                    else "use 128 or 256 threads a block, and as many blocks as cover the data",
                )
            if size > limit and (
                what == "grid" or math.prod(block) <= device.max_threads_per_block
            ):
                raise LaunchError(
                    f"{name} is launched with {size} {_UNITS[what]} along {axis}",
                    f"{device.name} takes at most {limit} along {axis}",
                    "use another axis, or let each thread do more with a grid-stride loop",
                )
    threads = math.prod(block)
    if threads > device.max_threads_per_block:
        raise LaunchError(
            f"{name} is launched with {threads} threads a block",
            f"{device.name} takes at most {device.max_threads_per_block} threads a block",
            "use fewer threads and more blocks: 128 or 256 threads is a good start",
        )
    shared = configuration[3] if len(configuration) == 4 else 0
    if isinstance(shared, bool) or not isinstance(shared, int | np.integer) or shared < 0:
        raise LaunchError(
            f"{name} asks for {shared!r} of shared memory",
            "the fourth part of a launch configuration is a number of bytes",
            f"{name}[blocks, threads, 0, bytes](...)",
        )
    if shared > device.shared_memory_per_block:
        raise LaunchError(
            f"{name} asks for {shared} bytes of shared memory a block",
            f"{device.name} has {device.shared_memory_per_block} bytes for a block",
            "keep a smaller tile in shared memory",
        )
    return grid, block, int(shared)


_UNITS = {"grid": "blocks", "block": "threads a block"}


def _three(name: str, what: str, dims: Any) -> tuple[int, int, int]:
    sizes = tuple(dims) if isinstance(dims, tuple | list | np.ndarray) else (dims,)
    if not 1 <= len(sizes) <= 3:
        raise LaunchError(
            f"{name} is launched with a {what} of {len(sizes)} dimensions",
            "a grid and a block have 1, 2 or 3",
            "give one number an axis: (x, y, z), and leave out the axes that are not there",
        )
    for size in sizes:
        if isinstance(size, bool | np.bool_) or not isinstance(size, int | np.integer):
            raise LaunchError(
                f"{name} is launched with a {what} of {size!r}"
                + ("" if size is None else f", {_article(type(size).__name__)}"),
                f"the number of {_UNITS[what]} is an integer",
                "divide with // instead of /, or round up with math.ceil"
                if isinstance(size, float)
                else f"{name}[blocks, threads](...) with whole numbers, as {name}[8, 256](...)",
            )
    full = [int(s) for s in sizes] + [1] * (3 - len(sizes))
    return full[0], full[1], full[2]


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


_listeners: list[Any] = []  # open profiles, traces, checks: each gives an observer to a launch
_schedules: list[Any] = []  # what runs the threads of a launch in another order: see `adversary`


def launch(kernel: Kernel, grid: tuple, block: tuple, args: Sequence[Any], shared: int = 0) -> None:
    """Run a kernel. Host arrays are copied to the device before and back after, as in Numba."""
    name = kernel.__name__
    state = Launch(name, grid, block, _step_budget, shared)
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
        values = [_argument(n, a, copies) for n, a in zip(parameters, args, strict=True)]
        _run(kernel.function, state, values)
        for host, device in copies:
            device.copy_to_host(host)


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
    state.arrays = tuple(_views(values))
    watching = [(listener, listener.observer(state)) for listener in list(_listeners)]
    observers = [observer for _, observer in watching if observer is not None]
    if not state.tracked:  # what the kernel leaves unwritten is not known afterwards
        for view in state.arrays:
            wrote_bytes(view.address, view.end)
    with np.errstate(all="ignore"):
        function.prepare(state, values)
        if _schedules:
            _schedules[-1].run(function, state, values, observers)
        else:
            _run_in_batches(function, state, values, observers)
    for listener, observer in watching:
        if observer is not None:
            listener.end(state, observer)


def _run_in_batches(
    function: Function, state: Launch, values: list[Any], observers: list[Observer]
) -> None:
    total = math.prod(state.grid)
    # blocks that wait for each other must all be there
    blocks = total if state.cooperative else max(1, LANES // state.lanes_per_block)
    for first in range(0, total, blocks):
        count = min(blocks, total - first)
        machine = (
            ObservedMachine(state, first, count, observers)
            if observers
            else Machine(state, first, count)
        )
        function.run(machine, machine.all, values)


def _views(values: Sequence[Any]) -> Iterator[ArrayView]:
    """The arrays among the arguments of a launch, also those within tuples."""
    for value in values:
        if isinstance(value, ArrayView):
            yield value
        elif isinstance(value, tuple):
            yield from _views(value)


def _argument(name: str, value: Any, copies: list[tuple[np.ndarray, DeviceArray]]) -> Any:
    """A launch argument as the lanes see it."""
    copied_back = True
    if isinstance(value, In):
        copied_back = isinstance(value, Out)
        value = value.value
    if isinstance(value, np.ndarray):
        device = to_device(value)
        if not value.flags.writeable:
            return replace(view_of(device._array, name), writable=False)
        if copied_back:
            copies.append((value, device))
        value = device
    if isinstance(value, DeviceArray):
        return view_of(value._array, name)
    if isinstance(value, tuple):
        items = (_argument(f"{name}[{i}]", v, copies) for i, v in enumerate(value))
        return tuple_like(value, items)
    if isinstance(value, enum.Enum):
        return _argument(name, value.value, copies)
    if isinstance(value, np.void):  # a record: an array of no axes, copied back after the launch
        return _argument(name, np.asarray(value), copies)
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        return _number(name, value)
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        check_dtype(value.dtype)
        return value
    if hasattr(value, "__cuda_array_interface__") or hasattr(value, "copy_to_host"):
        return view_of(to_device(value.copy_to_host())._array, name)
    raise DeviceMemoryError(
        f"the argument {name} is {_article(type(value).__name__)}",
        "a kernel takes numbers, NumPy or device arrays, and tuples of these",
        f"convert it first, for example np.asarray({name})"
        if isinstance(value, list)
        else "pass what it holds as numbers and arrays, each an argument of its own",
    )


def _article(name: str) -> str:
    if name == "NoneType":
        return "None"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def typed(name: str, value: Any) -> Any:
    """A default value of Python's with its type in a kernel; all else as it is."""
    plain = isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic)
    return _number(name, value) if plain else value


def _number(name: str, value: bool | int | float | complex) -> np.generic:
    """A Python number with Numba's type for it."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return np.int64(value)
        if 0 <= value < 2**64:
            return np.uint64(value)
        raise LaunchError(
            f"the argument {name} is {value}, which needs more than 64 bits",
            "a kernel computes with integers of up to 64 bits",
            "pass it in two parts, or as a float",
        )
    return np.float64(value) if isinstance(value, float) else np.complex128(value)


@dataclass(frozen=True)
class Declared:
    """An explicit signature: for each argument its dtype and number of axes, None where unknown."""

    name: str
    parameters: tuple[str, ...]
    kinds: tuple[tuple[np.dtype, int] | None, ...]
    returned: np.dtype | None

    @staticmethod
    def of(name: str, signature: Any, parameters: tuple[str, ...]) -> Declared:
        if isinstance(signature, list):  # several: Numba chooses by the arguments
            if len(signature) != 1:
                return Declared(name, parameters, (None,) * len(parameters), None)
            signature = signature[0]
        returned = None
        if isinstance(signature, str):
            opening = signature.find("(")
            returned = _scalar_kind(signature[:opening])
            inside = signature[opening + 1 : signature.rfind(")")]
            parts: list[Any] = re.findall(r"[^,\[\]]*[^\s,\[\]][^,\[\]]*(?:\[[^\]]*\])?", inside)
        else:
            parts = list(getattr(signature, "args", signature))
            returned = _scalar_kind(getattr(signature, "return_type", None))
        if len(parts) != len(parameters):
            raise LaunchError(
                f"the signature of {name} has {len(parts)} types, its def {len(parameters)} "
                "parameters",
                "a signature gives each parameter its type",
                "leave it out: the types are found at the launch",
            )
        return Declared(name, parameters, tuple(map(_kind, parts)), returned)

    def argument(self, k: int, value: Any) -> Any:
        """The k-th argument as the type that the signature gives it."""
        kind, name = self.kinds[k], self.parameters[k]
        if kind is None:
            return value
        dtype, ndim = kind
        if isinstance(value, ArrayView):
            if (value.dtype, value.ndim) != kind:
                same_bits = {dtype.kind, value.dtype.kind} == {"i", "u"}
                if same_bits and (dtype.itemsize, ndim) == (value.dtype.itemsize, value.ndim):
                    return replace(value, window=value.window.view(dtype), dtype=dtype)
                raise LaunchError(
                    f"{self.name} declares {name} as {_typed(dtype, ndim)} and got an array of "
                    f"{_typed(value.dtype, value.ndim)}",
                    "a kernel with a signature takes these types and no others",
                    f"convert it with .astype(np.{dtype}), or leave the signature out",
                )
            return value
        if ndim or not isinstance(value, np.ndarray | np.generic):
            raise LaunchError(
                f"{self.name} declares {name} as {_typed(dtype, ndim)} and got {described(value)}",
                "a kernel with a signature takes these types and no others",
                "pass what the signature says, or leave the signature out",
            )
        return convert(value, dtype)

    def result(self, value: Any) -> Any:
        if self.returned is None or not isinstance(value, np.ndarray | np.generic):
            return value
        return convert(value, self.returned)


def _typed(dtype: np.dtype, ndim: int) -> str:
    return f"{dtype}[{', '.join(':' * ndim)}]" if ndim else str(dtype)


def _kind(part: Any) -> tuple[np.dtype, int] | None:
    """dtype and number of axes of `float32[:, ::1]` or of a Numba type."""
    if isinstance(part, str):
        scalar, _, axes = part.partition("[")
        ndim = axes.count(",") + 1 if axes else 0
        dtype = _scalar_kind(scalar)
    else:
        ndim = getattr(part, "ndim", 0)
        dtype = _scalar_kind(getattr(part, "dtype", part))
    return None if dtype is None else (dtype, ndim)


_SHORT = {"boolean": "bool", "b1": "bool"} | {
    f"{letter}{size}": f"{name}{8 * size}"
    for letter, name, sizes in (
        ("i", "int", (1, 2, 4, 8)),
        ("u", "uint", (1, 2, 4, 8)),
        ("f", "float", (2, 4, 8)),
        ("c", "complex", (8, 16)),
    )
    for size in sizes
}


def _scalar_kind(part: Any) -> np.dtype | None:
    if not isinstance(part, str):
        return scalar_dtype(part)
    part = part.strip()
    if not part or part == "void" or not part.isidentifier():
        return None
    try:
        return np.dtype(_SHORT.get(part, part))
    except TypeError:
        raise LaunchError(
            f"{part!r} is no type that a signature can name",
            "a signature names types as NumPy does: int32, float64, float32[:, :]",
            "look for a misspelling, or leave the signature out",
        ) from None


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
