"""What a kernel may name: `cuda.threadIdx.x`, `cuda.grid(1)`, ... Unit 3.2.

An intrinsic is recognised by the object that a name resolves to, never by its spelling: `from
aiinfra_labs.gpu.cuda import grid as g` works. Each holds the function that does its work on lanes;
the function gets the machine, the mask of active lanes, the line, and the arguments.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EmulatorError, LaneError, described
from ..lanes import arithmetic
from ..translation.values import Literal
from . import whole
from .takes import TAKES, Takes

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine


class Intrinsic:
    """A function that only a kernel can call. `value` ones are read, not called.

    A `site` one is told which call in the text it is, for each has an array of its own. A `gives`
    one is told with used=False where nobody reads what it gives back.
    """

    def __init__(
        self,
        name: str,
        run: Callable[..., Any],
        value: bool = False,
        site: bool = False,
        gives: bool = False,
    ):
        self.__name__ = self.name = name
        self.value, self.site, self.gives = value, site, gives
        self.takes = TAKES.get(name)
        self.run = run if self.takes is None else _explained(run, self.takes)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise EmulatorError(
            f"cuda.{self.name} is called outside a kernel",
            "it asks which thread is running, and the host runs none",
            "use it inside a function decorated with @cuda.jit, launched with "
            "kernel[blocks, threads](...)",
        )

    def __repr__(self) -> str:
        return f"<cuda.{self.name}, emulated>"


def _explained(run: Callable[..., Any], takes: Takes) -> Callable[..., Any]:
    """`run`, which answers a value of the wrong kind with what the function takes.

    The kinds are known when the types are inferred, before any lane runs.
    """

    def explained(machine: Machine, mask: Mask, line: Line, *args: Any, **used: Any) -> Any:
        if not machine.typing:
            return run(machine, mask, line, *args, **used)
        try:
            return run(machine, mask, line, *args, **used)
        except LaneError as error:
            raise error if error.advised else LaneError(str(error), takes.advice) from None
        except (AttributeError, TypeError, ValueError):
            values = " and ".join(map(described, args))
            what = f"{takes.sentence}; it does not work on {values}"
            raise LaneError(what, takes.advice) from None

    return explained


class Dim3:
    """threadIdx, blockIdx, blockDim or gridDim: three axes, x varying fastest."""

    def __init__(self, name: str):
        self.__name__ = name
        for axis, letter in enumerate("xyz"):
            setattr(self, letter, Intrinsic(f"{name}.{letter}", _reader(name, axis), value=True))

    def __repr__(self) -> str:
        return f"<cuda.{self.__name__}, emulated>"


def _reader(name: str, axis: int) -> Callable[..., Any]:
    def read(machine: Machine, mask: Mask, line: Line) -> Any:
        return machine.index(name, axis)

    return read


def _grid(machine: Machine, mask: Mask, line: Line, ndim: Any = None) -> Any:
    """The thread's position in the grid: int64 [L], or a tuple of them for ndim 2 or 3."""
    axes = tuple(machine.grid_axis(axis) for axis in range(_dimensions("grid", ndim)))
    return axes[0] if len(axes) == 1 else axes


def _gridsize(machine: Machine, mask: Mask, line: Line, ndim: Any = None) -> Any:
    """The number of threads of the grid along each axis."""
    axes = tuple(machine.grid_extent(axis) for axis in range(_dimensions("gridsize", ndim)))
    return axes[0] if len(axes) == 1 else axes


def _dimensions(name: str, ndim: Any) -> int:
    if not isinstance(ndim, Literal) or int(ndim) not in (1, 2, 3):
        raise LaneError(
            f"cuda.{name} takes 1, 2 or 3, the number of axes, as a constant",
            f"write cuda.{name}(1)",
        )
    return int(ndim)


# What numba.cuda has and this version of the emulator has not. A kernel that names it is told so.
NOT_YET = frozenset(
    {
        "libdevice",
        *("declare_device", "as_cuda_array", "is_cuda_array", "open_ipc_array"),
    }
)


def _length(machine: Machine, mask: Mask, line: Line, value: Any) -> Any:
    return machine.length(value)


def _print(machine: Machine, mask: Mask, line: Line, *values: Any) -> None:
    for value in values:
        if hasattr(value, "window"):
            raise LaneError(f"print takes numbers and text, not {described(value)}")
    machine.print(mask, line, *values)


threadIdx, blockIdx = Dim3("threadIdx"), Dim3("blockIdx")
blockDim, gridDim = Dim3("blockDim"), Dim3("gridDim")
grid, gridsize = Intrinsic("grid", _grid), Intrinsic("gridsize", _gridsize)
laneid = Intrinsic("laneid", lambda machine, mask, line: machine.lane_index(), value=True)
print_ = Intrinsic("print", _print)
length = Intrinsic("len", _length)
range_ = Intrinsic("range", lambda machine, mask, line, *bounds: machine.range(mask, line, *bounds))

sum_ = Intrinsic("sum", whole.sum_of)
min_ = Intrinsic("min", whole.extreme("min", arithmetic.minimum))
max_ = Intrinsic("max", whole.extreme("max", arithmetic.maximum))

# Objects that stand for another: Python's own, and numba.cuda's where that is the door (`alias`).
_ALIASES: dict[int, tuple[Any, Any]] = {
    id(theirs): (theirs, ours)
    for theirs, ours in (
        *((print, print_), (len, length), (range, range_), (sum, sum_), (min, min_), (max, max_)),
        *((getattr(np, n), Intrinsic(f"np.{n}", run)) for n, run in whole.REDUCTIONS.items()),
    )
}


def alias(theirs: Any, ours: Any) -> None:
    """Let kernels name `theirs` for `ours`. The object is kept, so that its id stays its own."""
    _ALIASES[id(theirs)] = (theirs, ours)


def alias_module(theirs: Any, ours: types.ModuleType | types.SimpleNamespace) -> None:
    """Alias every intrinsic of `ours` to what `theirs` has under the same name."""
    for name, own in vars(ours).items():
        if not hasattr(theirs, name):
            continue
        if isinstance(own, Intrinsic | Dim3):
            alias(getattr(theirs, name), own)
        elif isinstance(own, types.SimpleNamespace):  # shared, local, const, atomic, cg
            alias_module(getattr(theirs, name), own)


def canonical(obj: Any) -> Any:
    """The emulator's object for one that a kernel names."""
    return _ALIASES.get(id(obj), (obj, obj))[1]
