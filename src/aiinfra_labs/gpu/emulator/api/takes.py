"""What each intrinsic takes: one table, from which every wrong call is answered. Unit 3.2.

The names of the parameters are Numba's. By name (`ndim=1`) Numba takes those of a few only: of the
others it knows the places, so a kernel that names them does not compile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Takes:
    """name: after `cuda.`; empty before Python's own. parameters: in order; `=` marks one that may
    be left out. named: whether Numba takes them by name."""

    name: str
    parameters: tuple[str, ...]
    example: str
    named: bool = False

    @property
    def call(self) -> str:
        """`cuda.atomic.add(array, index, value)`: how it is called."""
        return f"{self.name}({', '.join(self.parameters)})"

    @property
    def sentence(self) -> str:
        """What it takes: `cuda.grid takes ndim`, `cuda.syncthreads takes nothing`."""
        needed = [p for p in self.parameters if "=" not in p]
        optional = [p.partition("=")[0] for p in self.parameters if "=" in p]
        takes = _listed(needed) or "nothing"
        if optional:
            rest = _listed(optional)
            takes = f"{takes}, and {rest} if wanted" if needed else f"{rest}, or nothing"
        return f"{self.name} takes {takes}"

    @property
    def advice(self) -> str:
        """How the call is written, with an example."""
        return f"{self.call}, for example {self.example}"

    def ordered(self, given: Sequence[Any], named: dict[str, Any]) -> list[Any]:
        """The arguments of a call in the order of the parameters; raises WrongCall.

        given: those by position. named: those by name.
        """
        names = [p.partition("=")[0] for p in self.parameters]
        missing = [p for p in self.parameters[len(given) :] if "=" not in p and p not in named]
        self._refuse_names(names[: len(given)], names, named)
        if len(given) > len(names):
            raise WrongCall(self, f"is called with {_count(len(given) + len(named))}")
        if missing:
            raise WrongCall(self, f"is called without its {_listed(missing)}")
        values = dict(zip(names, given, strict=False)) | named
        last = max((names.index(name) for name in values), default=-1)
        return [
            values.get(name, parameter.partition("=")[2])
            for name, parameter in zip(names[: last + 1], self.parameters, strict=False)
        ]

    def _refuse_names(self, given: Sequence[str], names: list[str], named: dict) -> None:
        if not named:
            return
        if not self.named:
            raise WrongCall(
                self, f"is called with {next(iter(named))}=: Numba goes by their places"
            )
        for name in named:
            if name not in names:
                raise WrongCall(self, f"is called with {name}=, which it does not know")
            if name in given:
                raise WrongCall(self, f"is given its {name} twice")


class WrongCall(Exception):
    """A call that the table forbids: what is wrong with it, and how it is written."""

    def __init__(self, takes: Takes, wrong: str):
        self.what, self.advice = f"{takes.sentence}, and {wrong}", takes.advice
        super().__init__(takes, wrong)

    def __str__(self) -> str:
        return self.what


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _count(number: int) -> str:
    return f"{number} argument{'' if number == 1 else 's'}"


_ALL = "0xffffffff"
_TABLE = (  # the call, an example, and whether its arguments may be named
    ("shared.array(shape, dtype, alignment=None)", "cuda.shared.array((32, 32), np.float32)", True),
    ("local.array(shape, dtype, alignment=None)", "cuda.local.array(8, np.float32)", True),
    ("const.array_like(array)", "cuda.const.array_like(WEIGHTS)", False),
    ("grid(ndim)", "i = cuda.grid(1), or x, y = cuda.grid(2)", True),
    ("gridsize(ndim)", "step = cuda.gridsize(1)", True),
    ("syncthreads()", "cuda.syncthreads()", False),
    ("syncthreads_count(predicate)", "cuda.syncthreads_count(int(a[i] > 0))", True),
    ("syncthreads_and(predicate)", "cuda.syncthreads_and(int(a[i] > 0))", True),
    ("syncthreads_or(predicate)", "cuda.syncthreads_or(int(a[i] > 0))", True),
    (f"syncwarp(mask={_ALL})", "cuda.syncwarp()", False),
    ("threadfence()", "cuda.threadfence()", False),
    ("threadfence_block()", "cuda.threadfence_block()", False),
    ("threadfence_system()", "cuda.threadfence_system()", False),
    ("nanosleep(ns)", "cuda.nanosleep(100)", False),
    ("cg.this_grid()", "cuda.cg.this_grid().sync()", False),
    ("shfl_sync(mask, value, src_lane)", f"cuda.shfl_sync({_ALL}, x, 0)", True),
    ("shfl_up_sync(mask, value, delta)", f"cuda.shfl_up_sync({_ALL}, x, 1)", True),
    ("shfl_down_sync(mask, value, delta)", f"cuda.shfl_down_sync({_ALL}, x, 16)", True),
    ("shfl_xor_sync(mask, value, lane_mask)", f"cuda.shfl_xor_sync({_ALL}, x, 1)", True),
    *(
        (f"{name}(mask, predicate)", f"cuda.{name}({_ALL}, x > 0)", False)
        for name in ("all_sync", "any_sync", "eq_sync", "ballot_sync")
    ),
    ("match_any_sync(mask, value)", f"cuda.match_any_sync({_ALL}, key)", False),
    ("match_all_sync(mask, value)", f"mask, same = cuda.match_all_sync({_ALL}, key)", False),
    ("activemask()", "cuda.activemask()", False),
    ("lanemask_lt()", "cuda.lanemask_lt()", False),
    *(
        (f"atomic.{name}(array, index, value)", f"cuda.atomic.{name}(counts, i, 1)", False)
        for name in ("add", "sub", "max", "min", "nanmax", "nanmin", "and_", "or_", "xor", "exch")
    ),
    *(
        (f"atomic.{name}(array, index, limit)", f"cuda.atomic.{name}(counts, 0, 31)", False)
        for name in ("inc", "dec")
    ),
    ("atomic.cas(array, index, old, value)", "cuda.atomic.cas(lock, 0, 0, 1)", False),
    (
        "atomic.compare_and_swap(array, old, value)",
        "cuda.atomic.compare_and_swap(lock, 0, 1)",
        False,
    ),
    *(
        (f"{name}(value)", f"cuda.{name}(x)", False)
        for name in ("popc", "brev", "clz", "ffs", "cbrt")
    ),
    ("selp(condition, a, b)", "cuda.selp(x > 0, x, 0)", False),
    ("fma(a, b, c)", "cuda.fma(a, b, c), which is a * b + c", False),
    *(
        (f"fp16.{name}(a, b)", f"cuda.fp16.{name}(a, b)", True)
        for name in (
            *("hadd", "hsub", "hmul", "hdiv", "hmax", "hmin"),
            *("heq", "hne", "hlt", "hle", "hgt", "hge"),
        )
    ),
    *(
        (f"fp16.{name}(a)", f"cuda.fp16.{name}(a)", True)
        for name in (
            *("hneg", "habs", "hceil", "hfloor", "htrunc", "hrint", "hsin", "hcos", "hexp"),
            *("hexp2", "hexp10", "hlog", "hlog2", "hlog10", "hsqrt", "hrsqrt", "hrcp"),
        )
    ),
    ("fp16.hfma(a, b, c)", "cuda.fp16.hfma(a, b, c), which is a * b + c", True),
)


def _entry(call: str, example: str, named: bool) -> Takes:
    name, _, inside = call.rstrip(")").partition("(")
    return Takes(f"cuda.{name}", tuple(inside.split(", ")) if inside else (), example, named)


TAKES = {
    entry.name.removeprefix("cuda."): entry for entry in (_entry(*written) for written in _TABLE)
} | {
    "len": Takes("len", ("array",), "len(a)"),
}
