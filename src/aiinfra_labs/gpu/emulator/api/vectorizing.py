"""`cuda.vectorize` and `cuda.guvectorize`: a function of numbers, or of small arrays, over large
ones. Unit 3.7.

    @cuda.vectorize(["float32(float32, float32)"])
    def add(a, b):
        return a + b

`add(x, y)` broadcasts as NumPy's ufuncs do and runs one thread an element.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LaunchError
from ..lanes.dispatch import Function, jit
from ..lanes.launching import Launch
from ..translation.inference import TypingMachine
from ..translation.signatures import Declared
from .intrinsics import Intrinsic, grid
from .memory import DeviceArray, device_array, to_device

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine

THREADS = 128


def _items(machine: Machine, mask: Mask, line: Line, arrays: tuple, index: Any) -> tuple:
    """The element, or the small array, of each that the thread works on."""
    return tuple(machine.load(mask, array, (index,), line) for array in arrays)


items = Intrinsic("items", _items)


def vectorize(signatures: Any = (), target: str = "cuda", **options: Any) -> Any:
    """`@cuda.vectorize` with a list of signatures, or without: then by the types of the call."""
    if callable(signatures):
        return Vectorized(signatures, [])
    listed = [signatures] if isinstance(signatures, str) else list(signatures)
    return lambda function: Vectorized(function, listed)


def guvectorize(signatures: Any, layout: str, target: str = "cuda", **options: Any) -> Any:
    """`@cuda.guvectorize(["void(float32[:], float32[:])"], "(n)->()")`."""
    listed = [signatures] if isinstance(signatures, str) else list(signatures)
    return lambda function: GeneralVectorized(function, listed, layout)


class Vectorized:
    """A function of numbers that is called with arrays."""

    def __init__(self, function: Any, signatures: Sequence[Any]):
        self.py_func = getattr(function, "py_func", function)
        self.__name__ = self.py_func.__name__
        self.function = Function(self.py_func)
        parameters = self.function.translation.parameters
        self.declared = [Declared.of(self.__name__, s, parameters) for s in signatures]
        one = jit(device=True)(self.py_func)

        @jit
        def apply(inputs, out):
            i = grid(1)
            if i < out.size:
                out[i] = one(*items(inputs, i))

        self.kernel = apply

    def __call__(self, *args: Any, out: Any = None, stream: Any = 0) -> Any:
        """Arrays broadcast as in NumPy; device arrays in, a device array out."""
        count = len(self.function.translation.parameters)
        if len(args) == count + 1 and out is None:
            args, out = args[:count], args[count]
        if len(args) != count:
            raise LaunchError(
                f"{self.__name__} takes {count} argument(s), not {len(args)}",
                "a vectorized function takes an array or a number for each parameter",
                f"pass {count}",
            )
        on_device = any(isinstance(a, DeviceArray) for a in (*args, out))
        arrays = [a._array if isinstance(a, DeviceArray) else np.asarray(a) for a in args]
        dtypes, returned = self._types(args, arrays)
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        result = _result(out, shape, returned)
        inputs = tuple(
            DeviceArray(np.broadcast_to(a.astype(d, copy=False), shape).reshape(-1))
            for a, d in zip(arrays, dtypes, strict=True)
        )
        flat = device_array(math.prod(shape), result.dtype)
        if flat.size:
            self.kernel[-(-flat.size // THREADS), THREADS](inputs, flat)
        result._array[...] = flat._array.reshape(shape)
        return _handed_over(result, out, on_device)

    def reduce(self, array: Any, stream: Any = 0) -> Any:
        """One number from a 1-d array: halves are combined until one element is left."""
        left = to_device(array)
        if not left.size:
            raise LaunchError(
                f"{self.__name__}.reduce of an empty array",
                "there is nothing to combine",
                "pass an array of at least one element",
            )
        while left.size > 1:
            half = left.size // 2
            combined = self(left[:half], left[half : 2 * half])
            if left.size % 2:
                combined[:1].copy_to_device(self(combined[:1], left[2 * half :]))
            left = combined
        return left[0]

    def _types(self, args: Sequence[Any], arrays: Sequence[np.ndarray]) -> tuple[list, np.dtype]:
        """The dtypes of the inputs and of the result, by the first signature that fits."""
        given = [a.dtype for a in arrays]
        weak = [isinstance(a, bool | int | float | complex) for a in args]
        for casting in ("no", "safe", "same_kind"):
            for declared in self.declared:
                dtypes = [k[0] if k else d for k, d in zip(declared.kinds, given, strict=True)]
                fits = all(
                    _fits(d, k, w, casting) for d, k, w in zip(given, dtypes, weak, strict=True)
                )
                if fits:
                    return dtypes, declared.returned or self._inferred(dtypes)
        if self.declared:
            raise LaunchError(
                f"{self.__name__} has no signature for {', '.join(map(str, given))}",
                "a vectorized function computes in the types of one of its signatures",
                "add a signature, or convert the arrays with .astype",
            )
        return given, self._inferred(given)

    def _inferred(self, dtypes: Sequence[np.dtype]) -> np.dtype:
        machine = TypingMachine(Launch(self.__name__, (1, 1, 1), (1, 1, 1), 1))
        with np.errstate(all="ignore"):
            found = self.function.run(machine, machine.all, [np.zeros(0, d) for d in dtypes])
        return found.dtype


def _fits(given: np.dtype, wanted: np.dtype, weak: bool, casting: str) -> bool:
    """Whether a value may be cast; a Python number fits every type of its kind or a wider one."""
    if weak and casting != "no":
        return "biufc".index(given.kind) <= "biufc".index(wanted.kind)
    return np.can_cast(given, wanted, casting)


def _result(out: Any, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
    if isinstance(out, DeviceArray):
        return out
    return device_array(shape, dtype if out is None else out.dtype)


def _handed_over(result: DeviceArray, out: Any, on_device: bool) -> Any:
    """The result as the caller wants it: on the device, in `out`, or as a host array."""
    if isinstance(out, np.ndarray):
        out[...] = result._array
        return out
    if on_device:
        return result
    host = result.copy_to_host()
    return host if host.ndim else host[()]


class GeneralVectorized:
    """A function of small arrays, called with arrays that hold many of them."""

    def __init__(self, function: Any, signatures: Sequence[Any], layout: str):
        self.py_func = getattr(function, "py_func", function)
        self.__name__ = self.py_func.__name__
        sides = layout.split("->")
        self.inputs, self.outputs = ([_axes(c) for c in re.findall(r"\(.*?\)", s)] for s in sides)
        parameters = Function(self.py_func).translation.parameters
        self.declared = [Declared.of(self.__name__, s, parameters) for s in signatures]
        one = jit(device=True)(self.py_func)

        @jit
        def apply(inputs, outputs, count):
            i = grid(1)
            if i < count:
                one(*items(inputs, i), *items(outputs, i))

        self.kernel = apply

    def __call__(self, *args: Any, out: Any = None, stream: Any = 0) -> Any:
        given, results = args[: len(self.inputs)], list(args[len(self.inputs) :])
        if out is not None:
            results = list(out) if isinstance(out, tuple) else [out]
        on_device = any(isinstance(a, DeviceArray) for a in (*given, *results))
        arrays = [a._array if isinstance(a, DeviceArray) else np.asarray(a) for a in given]
        kinds = self._signature([a.dtype for a in arrays])
        sizes: dict[str, int] = {}
        outer = []
        for array, axes in zip(arrays, self.inputs, strict=True):
            split = array.ndim - len(axes)
            sizes |= zip(axes, array.shape[split:], strict=True)
            outer.append(array.shape[:split])
        loop = np.broadcast_shapes(*outer)
        count = math.prod(loop)
        flat = [
            _stacked(a, loop, len(axes), k)
            for a, axes, k in zip(arrays, self.inputs, kinds, strict=False)
        ]
        made = [
            device_array((count, *(sizes[x] for x in axes), *((1,) if not axes else ())), k[0])
            for axes, k in zip(self.outputs, kinds[len(self.inputs) :], strict=True)
        ]
        if count:
            self.kernel[-(-count // THREADS), THREADS](tuple(flat), tuple(made), count)
        answers = []
        for array, axes, wanted in itertools.zip_longest(made, self.outputs, results):
            shape = (*loop, *(sizes[x] for x in axes))
            result = _result(wanted, shape, array.dtype)
            result._array[...] = array._array.reshape(shape)
            answers.append(_handed_over(result, wanted, on_device))
        return answers[0] if len(answers) == 1 else tuple(answers)

    def _signature(self, dtypes: Sequence[np.dtype]) -> list[tuple[np.dtype, int]]:
        """dtype and axes of each parameter, by the first signature that takes the inputs."""
        for casting in ("no", "safe", "same_kind"):
            for declared in self.declared:
                kinds = [k for k in declared.kinds if k is not None]
                if all(np.can_cast(d, k[0], casting) for d, k in zip(dtypes, kinds, strict=False)):
                    return kinds
        raise LaunchError(
            f"{self.__name__} has no signature for {', '.join(map(str, dtypes))}",
            "a vectorized function computes in the types of one of its signatures",
            "add a signature, or convert the arrays with .astype",
        )


def _axes(core: str) -> tuple[str, ...]:
    """`(m, n)` as ("m", "n")."""
    return tuple(name.strip() for name in core.strip("()").split(",") if name.strip())


def _stacked(
    array: np.ndarray, loop: tuple[int, ...], axes: int, kind: tuple[np.dtype, int]
) -> DeviceArray:
    """[count, *core]: what each thread takes, one behind the other."""
    core = array.shape[array.ndim - axes :]
    full = np.broadcast_to(array, (*loop, *core)).reshape(math.prod(loop), *core)
    if kind[1] > axes:  # a number that the function takes as an array of one
        full = full[..., None]
    return DeviceArray(full.astype(kind[0], copy=False))
