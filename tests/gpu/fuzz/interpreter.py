"""A plain interpreter for kernels, one thread after the other, with Numba's own types.

Numba's CUDA front end turns a kernel into its intermediate representation and infers each
variable's type; this needs no GPU. Here that representation is walked for each thread, every value
a NumPy scalar of the inferred type. A thread is a generator that yields where it waits for others:
at a barrier, or at a shuffle. It shares no code with the emulator, neither its translator nor its
rules for types.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any
from unittest import mock

import numpy as np
from numba import cuda
from numba.core.errors import NumbaError
from numba.cuda import compiler, dispatcher, types
from numba.cuda.core import ir
from numba.cuda.core.errors import NumbaError as CudaNumbaError
from numba.cuda.descriptor import cuda_target

WARP = 32
LIMIT = 200_000  # steps of one thread; a kernel of the fuzzer needs far fewer

INPLACE = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "lshift", "rshift", "xor")
} | {operator.iand: operator.and_, operator.ior: operator.or_}
# a NaN gives way to a number, as in CUDA's fmin and fmax
PLAIN = {min: np.fmin, max: np.fmax, abs: np.abs, math.sqrt: np.sqrt}
PLAIN |= {cuda.selp: lambda condition, a, b: a if condition else b}


class Refused(Exception):
    """Numba does not compile this kernel."""


class _TypesOnly(compiler.CUDACompiler):
    """Numba's pipeline up to the inference of types."""

    def define_pipelines(self) -> list:
        (pipeline,) = super().define_pipelines()
        names = [p[0].__name__ for p in pipeline.passes]
        pipeline.passes[:] = pipeline.passes[: names.index("PreLowerStripPhis") + 1]
        pipeline._finalized = False
        pipeline.finalize()
        return [pipeline]


class Typed:
    """A function's representation with the types for one list of argument types."""

    def __init__(self, function: Callable, args: tuple[types.Type, ...]):
        flags = compiler.CUDAFlags()
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        flags.error_model = "numpy"
        flags.compute_capability = (9, 0)
        typing, target = cuda_target.typing_context, cuda_target.target_context
        typing.refresh()
        target.refresh()
        front_end = _TypesOnly(typing, target, None, args, None, flags, {})
        state = front_end.state
        state.cr = None
        try:
            front_end.compile_extra(function)
        except (
            NumbaError,
            CudaNumbaError,
        ) as error:  # also raised at the end: there is no machine code
            if state.typemap is None:
                raise Refused(str(error)) from error
        self.blocks, self.types = state.func_ir.blocks, state.typemap
        self.calls, self.returned = state.calltypes, state.return_type
        self.entry = min(self.blocks)


_typed: dict[Any, Typed] = {}


def typed(function: Callable, args: tuple[types.Type, ...]) -> Typed:
    """`Typed`, made once for each function and list of argument types."""
    key = (function, args)
    if key not in _typed:
        _typed[key] = Typed(function, args)
    return _typed[key]


def order_decides(function: Callable) -> bool:
    """Whether a variable that the fuzzer calls an integer (a1, a2, ...) is a float64 to Numba."""
    return any(
        isinstance(kind, types.Float)
        for (typed_function, _), code in _typed.items()
        if typed_function.__code__.co_filename == function.__code__.co_filename
        for name, kind in code.types.items()
        if re.match(r"a\d", name)
    )


def _device_template(self: Any, args: Any, kws: Any) -> Any:
    """In place of the compilation of a device function: its signature alone."""
    from numba.cuda import typing

    args = tuple(map(types.unliteral, args))
    signature = typing.signature(typed(self.py_func, args).returned, *args)
    template = typing.make_concrete_template("device", key=self.py_func, signatures=[signature])
    return template, None, args, kws


_resolved: dict[Any, Any] = {}
_resolve = type(cuda_target.typing_context).resolve_function_type


def _resolve_once(self: Any, func: Any, args: Any, kws: Any) -> Any:
    """Numba looks for the overload of `+` at every `+`: half of the time that the fuzzer takes."""
    if kws or not isinstance(func, types.Function):
        return _resolve(self, func, args, kws)
    key = (func, tuple(args))
    if key not in _resolved:
        _resolved[key] = _resolve(self, func, args, kws)
    return _resolved[key]


# --- values -----------------------------------------------------------------------------------


def dtype_of(kind: types.Type) -> np.dtype | None:
    """The NumPy type of a Numba number, None for anything else."""
    kind = types.unliteral(kind)
    if isinstance(kind, types.Boolean):
        return np.dtype(bool)
    if isinstance(kind, types.Integer | types.Float):
        return np.dtype(kind.name)
    return None


def cast(value: Any, kind: types.Type) -> Any:
    """A value as Numba's type for it."""
    if isinstance(kind, types.BaseTuple) and isinstance(value, tuple):
        return tuple(cast(v, k) for v, k in zip(value, kind, strict=True))
    dtype = dtype_of(kind)
    if dtype is None or not isinstance(value, int | float | np.number | np.bool_):
        return value
    if isinstance(value, int) and dtype.kind in "iu":  # a literal
        return np.array(value & (2 ** (8 * dtype.itemsize) - 1), f"u{dtype.itemsize}").view(dtype)[
            ()
        ]
    if isinstance(value, float | np.floating) and dtype.kind in "iu":
        return _whole(float(value), dtype)
    return np.asarray(value).astype(dtype)[()]


def _whole(value: float, dtype: np.dtype) -> Any:
    """A real as an integer, by PTX's cvt: the nearest end of the range where it does not fit."""
    limits = np.iinfo(dtype)
    if math.isnan(value):
        bits = 8 * dtype.itemsize - 1
        return np.uint64(1 << bits).astype(dtype)
    whole = value if math.isinf(value) else int(value)
    return dtype.type(min(max(whole, limits.min), limits.max))


def type_of(value: Any) -> types.Type:
    """Numba's type of a launch's argument."""
    if isinstance(value, np.ndarray):
        element = types.boolean if value.dtype == bool else getattr(types, value.dtype.name)
        return types.Array(element, value.ndim, "C")
    return types.float64 if isinstance(value, float) else types.int64


class _Range:
    """A range and how far it has come."""

    def __init__(self, start: Any, stop: Any, step: Any):
        self.now, self.stop, self.step = start, stop, step

    def next(self) -> tuple[Any, bool]:
        more = self.now < self.stop if self.step > 0 else self.now > self.stop
        value = self.now
        if more:
            self.now = value + self.step
        return value, bool(more)


# --- one thread -------------------------------------------------------------------------------

Steps = Generator[tuple, Any, Any]  # yields (what, ...) where it waits; gets the answer


class Thread:
    """One thread: where it is, and its way through the representation."""

    def __init__(self, block: Block, index: tuple[int, int, int]):
        self.block, self.index = block, index
        self.arrays: dict[Any, np.ndarray] = {}  # its local arrays
        self.steps = 0

    def run(self, code: Typed, args: Sequence[Any]) -> Steps:
        names: dict[str, Any] = {}
        label = code.entry
        while True:
            for statement in code.blocks[label].body:
                self.steps += 1
                if self.steps > LIMIT:
                    raise RuntimeError("a thread does not come to its end")
                match statement:
                    case ir.Assign(value=ir.Expr() as expression, target=target):
                        value = yield from self.expression(code, names, expression)
                        names[target.name] = cast(value, code.types[target.name])
                    case ir.Assign(value=value, target=target):
                        names[target.name] = cast(
                            _constant(value, names, args), code.types[target.name]
                        )
                    case ir.SetItem() | ir.StaticSetItem():
                        index = statement.index_var if hasattr(statement, "index_var") else None
                        index = statement.index if index is None else index
                        array, where = names[statement.target.name], names[index.name]
                        value = names[statement.value.name]
                        value = cast(value, code.calls[statement].args[2])
                        kind = code.types[statement.target.name].dtype
                        array[where] = cast(value, kind)
                    case ir.Branch():
                        taken = bool(names[statement.cond.name])
                        label = statement.truebr if taken else statement.falsebr
                        break
                    case ir.Jump():
                        label = statement.target
                        break
                    case ir.Return():
                        return names[statement.value.name]
                    case ir.Del():
                        pass
                    case _:
                        raise NotImplementedError(type(statement).__name__)

    def expression(self, code: Typed, names: dict[str, Any], e: ir.Expr) -> Steps:
        match e.op:
            case "call":
                return (yield from self.call(code, names, e))
            case "binop" | "inplace_binop":
                return _operate(
                    INPLACE.get(e.fn, e.fn), names[e.lhs.name], names[e.rhs.name], code.calls[e]
                )
            case "unary":
                value = cast(names[e.value.name], code.calls[e].args[0])
                return (not value) if e.fn is operator.not_ else e.fn(value)
            case "getitem":
                return names[e.value.name][names[e.index.name]]
            case "static_getitem":
                index = e.index if e.index_var is None else names[e.index_var.name]
                return names[e.value.name][index]
            case "getattr":
                return self.attribute(names[e.value.name], e.attr)
            case "build_tuple":
                return tuple(names[v.name] for v in e.items)
            case "exhaust_iter" | "cast" | "getiter":
                return names[e.value.name]
            case "iternext":
                return names[e.value.name].next()
            case "pair_first":
                return names[e.value.name][0]
            case "pair_second":
                return names[e.value.name][1]
        raise NotImplementedError(e.op)

    def attribute(self, owner: Any, name: str) -> Any:
        axis = "xyz".find(name)
        if owner is cuda.threadIdx:
            return np.int32(self.index[axis])
        if owner is cuda.blockIdx:
            return np.int32(self.block.index[axis])
        if owner is cuda.blockDim:
            return np.int32(self.block.size[axis])
        if owner is cuda.gridDim:
            return np.int32(self.block.grid[axis])
        if owner is cuda and name == "laneid":
            return np.int32(self.block.linear(self.index) % WARP)
        return getattr(owner, name)

    def call(self, code: Typed, names: dict[str, Any], e: ir.Expr) -> Steps:
        callee, signature = names[e.func.name], code.calls[e]
        args = [names[a.name] for a in e.args]
        if callee is cuda.shared.array:
            return self.block.arrays.setdefault(e.loc.line, _array(*args))
        if callee is cuda.local.array:
            return self.arrays.setdefault(e.loc.line, _array(*args))
        if callee is cuda.grid:
            axes = [
                np.int64(b) * np.int64(s) + np.int64(t)
                for b, s, t in zip(self.block.index, self.block.size, self.index, strict=True)
            ]
            return axes[0] if args[0] == 1 else tuple(axes[: args[0]])
        if callee is cuda.syncthreads:
            return (yield ("barrier",))
        args = [cast(a, k) for a, k in zip(args, signature.args, strict=True)]
        if callee in SHUFFLES:
            return (yield ("shuffle", callee, args[1], args[2]))
        if callee is range:
            start, stop, step = (
                (np.int64(0), args[0], np.int64(1)) if len(args) == 1 else (*args, np.int64(1))[:3]
            )
            kind = stop.dtype.type
            return _Range(kind(start), stop, kind(step))
        if callee in ATOMICS:
            array, index, value = args
            old = array[index]
            array[index] = ATOMICS[callee](old, cast(value, signature.args[0].dtype))
            return old
        if hasattr(callee, "py_func"):
            inner = typed(callee.py_func, tuple(signature.args))
            return (yield from self.run(inner, args))
        if callee is bool:
            return bool(args[0] != 0)
        if callee in PLAIN:
            dtype = dtype_of(signature.return_type)
            return (
                functools.reduce(
                    PLAIN[callee], [a.astype(dtype) for a in args[1:]], args[0].astype(dtype)
                )
                if callee in (min, max)
                else (PLAIN[callee](*args))
            )
        if callee in (int, float) or isinstance(callee, type):
            return args[0]  # the assignment casts it
        raise NotImplementedError(str(callee))


SHUFFLES = {
    cuda.shfl_sync: lambda lane, x: x % WARP,
    cuda.shfl_up_sync: lambda lane, x: lane - x,
    cuda.shfl_down_sync: lambda lane, x: lane + x,
    cuda.shfl_xor_sync: lambda lane, x: lane ^ x,
}
ATOMICS = {cuda.atomic.add: operator.add, cuda.atomic.max: max, cuda.atomic.min: min}


def _constant(value: Any, names: dict[str, Any], args: Sequence[Any]) -> Any:
    match value:
        case ir.Var():
            return names[value.name]
        case ir.Arg():
            return args[value.index]
        case ir.Const() | ir.Global() | ir.FreeVar():
            return value.value
    raise NotImplementedError(type(value).__name__)


def _operate(operation: Callable, left: Any, right: Any, signature: Any) -> Any:
    """A binary operation by its signature: comparisons on the operands, others in the result."""
    left_kind, right_kind = signature.args
    if operation in COMPARISONS:
        return operation(cast(left, left_kind), cast(right, right_kind))
    left = cast(cast(left, left_kind), signature.return_type)
    if operation is operator.pow and isinstance(types.unliteral(right_kind), types.Integer):
        # Numba multiplies, by repeated squaring; the exponents here are 2 and 3
        return left * left if int(right) == 2 else left * (left * left)
    return operation(left, cast(cast(right, right_kind), signature.return_type))


COMPARISONS = {operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne}


def _array(shape: Any, dtype: Any) -> np.ndarray:
    return np.full(shape, -1).astype(dtype)


# --- a block of threads, and a launch -----------------------------------------------------------


class Block:
    """A block: its threads advance in turn, each to where it waits."""

    def __init__(self, grid: tuple, size: tuple, index: tuple):
        self.grid, self.size, self.index = grid, size, index
        self.arrays: dict[Any, np.ndarray] = {}  # shared by its threads

    def linear(self, index: tuple[int, int, int]) -> int:
        return index[0] + self.size[0] * (index[1] + self.size[1] * index[2])

    def run(self, code: Typed, args: Sequence[Any]) -> None:
        x, y, z = self.size
        threads = [
            Thread(self, (i, j, k)).run(code, args)
            for k in range(z)
            for j in range(y)
            for i in range(x)
        ]
        answers: dict[int, Any] = dict.fromkeys(range(len(threads)))
        while answers:
            waiting: dict[int, tuple] = {}
            for number in answers:
                with contextlib.suppress(StopIteration):
                    waiting[number] = threads[number].send(answers[number])
            answers = self.answer(waiting)

    def answer(self, waiting: dict[int, tuple]) -> dict[int, Any]:
        kinds = {request[0] for request in waiting.values()}
        if len(kinds) > 1:
            raise RuntimeError("threads of one block wait for different things")
        if kinds != {"shuffle"}:
            return dict.fromkeys(waiting)
        found = {}
        for number, (_, callee, value, argument) in waiting.items():
            warp, lane = divmod(number, WARP)
            source = int(SHUFFLES[callee](lane, int(argument)))
            other = waiting.get(warp * WARP + source) if 0 <= source < WARP else None
            found[number] = value if other is None else other[2]
        return found


def launch(kernel: Any, grid: tuple, block: tuple, args: Sequence[Any]) -> None:
    """Run a `numba.cuda` kernel on host arrays, in place."""
    grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
    with (
        mock.patch.object(dispatcher.CUDADispatcher, "get_call_template", _device_template),
        mock.patch.object(type(cuda_target.typing_context), "resolve_function_type", _resolve_once),
        np.errstate(all="ignore"),
    ):
        code = typed(kernel.py_func, tuple(type_of(a) for a in args))
        for z in range(grid[2]):
            for y in range(grid[1]):
                for x in range(grid[0]):
                    Block(grid, block, (x, y, z)).run(code, args)
