"""What waits for what: the arithmetic of a function, and the cycles that its order costs. Unit 3.7.

`recorded` runs a plain Python function on numbers that note their own history. `cycles` then lets
`warps` warps issue those instructions as one scheduler of an SM does: in order within a warp, one a
cycle over all of them, each once its operands are there. It is a model: it knows no memory, no
register file and no other instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiinfra_labs import bounds


@dataclass(frozen=True)
class Instructions:
    """needs[i]: the earlier instructions whose results instruction i takes."""

    needs: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """How many instructions there are."""
        return len(self.needs)

    @property
    def chain(self) -> int:
        """The longest chain of instructions of which each needs the one before."""
        depth: list[int] = []
        for needed in self.needs:
            depth.append(1 + max((depth[i] for i in needed), default=0))
        return max(depth, default=0)


class Recorded:
    """A number that was loaded (`number` None) or made by an instruction. Only + and * are known.

    A product waits for what becomes of it: with a sum it makes one fma, as on the hardware.
    """

    __array_ufunc__ = None  # NumPy's own numbers leave the arithmetic to this class

    def __init__(
        self,
        needs: list[tuple[int, ...]],
        number: int | None = None,
        factors: tuple[Any, ...] = (),
    ):
        self._needs, self._number, self._factors = needs, number, factors

    def __mul__(self, other: Any) -> Recorded:
        return Recorded(self._needs, factors=(self._settled(), _settled(other)))

    def __add__(self, other: Any) -> Recorded:
        for product, addend in ((self, other), (other, self)):
            if isinstance(product, Recorded) and product._factors:
                return self._issue(*product._factors, _settled(addend))  # an fma
        return self._issue(self, other)

    __rmul__ = __mul__
    __radd__ = __add__

    def _settled(self) -> Recorded:
        """A product that nothing was added to is an instruction of its own."""
        if self._factors:
            self._number, self._factors = self._issue(*self._factors)._number, ()
        return self

    def _issue(self, *operands: Any) -> Recorded:
        numbers = {o._number for o in operands if isinstance(o, Recorded)}
        self._needs.append(tuple(sorted(n for n in numbers if n is not None)))
        return Recorded(self._needs, len(self._needs) - 1)


def _settled(value: Any) -> Any:
    return value._settled() if isinstance(value, Recorded) else value


def recorded(function: Callable[..., Any], *lengths: int) -> Instructions:
    """The instructions of function(list, ...), whose lists have these lengths and are loaded.

    Raises ValueError for a length below 0. Only + and * are recorded.
    """
    for length in lengths:
        bounds.whole("length", length, "numbers of a list", 0)
    needs: list[tuple[int, ...]] = []
    result = function(*([Recorded(needs) for _ in range(n)] for n in lengths))
    _settled(result)
    return Instructions(tuple(needs))


def issue_times(instructions: Instructions, latency: int, warps: int = 1) -> list[list[int]]:
    """[warp][instruction]: the cycle at which each is issued.

    latency: cycles after which an instruction's result can be used, a whole number. Raises
    ValueError for less than 1, which would let a result be used before it is there, or no warp.
    """
    bounds.whole("latency", latency, "cycles until a result can be used")
    bounds.whole("warps", warps, "each issues the instructions")
    times: list[list[int]] = [[] for _ in range(warps)]
    cycle, last = 0, warps - 1
    while any(len(issued) < instructions.count for issued in times):
        for k in range(warps):  # the next warp after the last that issued, and is ready
            issued = times[(last + 1 + k) % warps]
            if len(issued) == instructions.count:
                continue
            needed = instructions.needs[len(issued)]
            if all(issued[i] + latency <= cycle for i in needed):
                issued.append(cycle)
                last = (last + 1 + k) % warps
                break
        cycle += 1
    return times


def cycles(instructions: Instructions, latency: int, warps: int = 1) -> int:
    """Cycles until the last result of `warps` warps is there. Arguments: see `issue_times`."""
    times = issue_times(instructions, latency, warps)
    return max((issued[-1] + latency for issued in times if issued), default=0)
