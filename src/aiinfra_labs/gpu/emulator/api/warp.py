"""Operations within a warp: shuffles, votes, matches. Unit 3.6.

The 32 lanes of a warp exchange values without memory. A vector [L] seen as [W, 32] has one warp a
row, so each operation is one on rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DivergentBarrier, LaneError, described
from ..lanes import arithmetic
from ..lanes.mask import WARP_SIZE
from .intrinsics import Intrinsic

if TYPE_CHECKING:
    from ..lanes.launching import Line
    from ..lanes.mask import Mask
    from ..lanes.protocol import Machine

LANES = np.arange(WARP_SIZE)
EXCHANGED = frozenset(map(np.dtype, ("i4", "i8", "f4", "f8")))  # Numba's shuffles: no others
BITS = np.uint32(1) << LANES.astype(np.uint32)


def by_warp(machine: Machine, value: Any) -> np.ndarray:
    """A value as [W, 32]."""
    if not isinstance(value, np.ndarray | np.generic):
        raise LaneError(f"lanes exchange numbers, not {described(value)}")
    return np.broadcast_to(value, (machine.size,)).reshape(-1, WARP_SIZE)


def meet_warp(machine: Machine, mask: Mask, line: Line, members: Any, name: str) -> np.ndarray:
    """Which lanes take part: bool [W, 32]. Every lane that `members` names must be here."""
    if getattr(getattr(members, "dtype", None), "kind", "") not in ("i", "u"):
        raise LaneError(f"Mask type must be an integer in {name}, not {described(members)}")
    named = by_warp(machine, members).astype(np.int64).astype(np.uint32)
    here = mask.lanes.reshape(-1, WARP_SIZE)
    if machine.typing:
        return here
    wanted = (named & BITS) != 0  # [W, 32]: by the mask that each lane gave
    called = wanted
    if _differ(named):  # groups of lanes, each with a mask of its own
        called = (((named[:, :, None] & BITS) != 0) & here[:, :, None]).any(axis=1)
    alive = machine.alive.reshape(-1, WARP_SIZE)
    missing = called & alive & ~here & here.any(axis=1)[:, None]
    outside = here & ~wanted
    if missing.any() or outside.any():
        _refuse(machine, line, name, here, missing, outside)
    return here


def _differ(named: np.ndarray) -> bool:
    return bool(named.size) and bool((named != named[:, :1]).any())


def _refuse(
    machine: Machine,
    line: Line,
    name: str,
    here: np.ndarray,
    missing: np.ndarray,
    outside: np.ndarray,
) -> None:
    if missing.any():
        warp, away = (int(i[0]) for i in np.nonzero(missing))
        raise DivergentBarrier(
            f"{name} names lane {away} in its mask, and that lane does not come here",
            f"the {int(here[warp].sum())} lane(s) that did come wait for every lane of the mask",
            f"call {name} where all lanes of the mask pass, or leave the lane out of the mask",
            machine.place(line, warp * WARP_SIZE + int(np.argmax(here[warp]))),
        )
    warp, lane = (int(i[0]) for i in np.nonzero(outside))
    raise DivergentBarrier(
        f"lane {lane} calls {name} with a mask that leaves it out",
        "a lane must be in the mask that it passes, or its result is undefined",
        "pass a mask with a bit for each lane that calls, for example 0xffffffff",
        machine.place(line, warp * WARP_SIZE + lane),
    )


def _shuffle(name: str, source: Callable[[np.ndarray], np.ndarray]) -> Intrinsic:
    """`source`: from each lane's argument [W, 32] to the lane that it reads, [W, 32]."""

    def run(
        machine: Machine, mask: Mask, line: Line, members: Any, value: Any, argument: Any
    ) -> np.ndarray:
        mask, members, value, argument = machine.converge(
            mask, line, name, members, value, argument
        )
        here = meet_warp(machine, mask, line, members, f"{name}()")
        if getattr(value, "dtype", None) not in EXCHANGED:
            raise LaneError(
                f"{name} exchanges int32, int64, float32 and float64, not {described(value)}",
                "convert it first, as in np.int32(x); the bits of a uint32 are those of an int32",
            )
        rows = by_warp(machine, value)
        wanted = source(by_warp(machine, argument).astype(np.int64))
        inside = (wanted >= 0) & (wanted < WARP_SIZE)  # else a lane keeps its own value
        chosen = np.where(inside, wanted, LANES)
        if not machine.typing:
            machine.shuffle(mask, line, name, here, chosen)
        return np.take_along_axis(rows, chosen, axis=1).reshape(-1)

    return Intrinsic(name, run)


def _all(machine: Machine, mask: Mask, line: Line, members: Any, predicate: Any) -> np.ndarray:
    here, holds = _vote(machine, mask, line, members, predicate, "all_sync()")
    return _spread((holds | ~here).all(axis=1))


def _any(machine: Machine, mask: Mask, line: Line, members: Any, predicate: Any) -> np.ndarray:
    here, holds = _vote(machine, mask, line, members, predicate, "any_sync()")
    return _spread((holds & here).any(axis=1))


def _eq(machine: Machine, mask: Mask, line: Line, members: Any, predicate: Any) -> np.ndarray:
    """Whether the predicate is the same in all lanes."""
    here, holds = _vote(machine, mask, line, members, predicate, "eq_sync()")
    return _spread((holds | ~here).all(axis=1) | (~holds | ~here).all(axis=1))


def _ballot(machine: Machine, mask: Mask, line: Line, members: Any, predicate: Any) -> np.ndarray:
    """int32: a bit for each lane in which the predicate holds; the 32nd is the sign."""
    here, holds = _vote(machine, mask, line, members, predicate, "ballot_sync()")
    return _spread(_bits(holds & here))


def _vote(
    machine: Machine, mask: Mask, line: Line, members: Any, predicate: Any, name: str
) -> tuple[np.ndarray, np.ndarray]:
    number = isinstance(predicate, np.ndarray | np.generic)
    if not number or predicate.dtype.kind not in "iub":
        raise LaneError(
            f"Predicate must be an integer or boolean in {name}, not {described(predicate)}"
        )
    mask, members, predicate = machine.converge(mask, line, name[:-2], members, predicate)
    here = meet_warp(machine, mask, line, members, name)
    return here, by_warp(machine, arithmetic.truth(predicate))


def _match_any(machine: Machine, mask: Mask, line: Line, members: Any, value: Any) -> np.ndarray:
    """int32: a bit for each lane that holds the same value as this one."""
    mask, members, value = machine.converge(mask, line, "match_any_sync", members, value)
    here = meet_warp(machine, mask, line, members, "match_any_sync()")
    rows = _real(machine, value, "match_any_sync")
    same = (rows[:, :, None] == rows[:, None, :]) & here[:, None, :]  # [W, 32, 32]
    return (same * BITS).sum(axis=2).astype(np.int32).reshape(-1)


def _real(machine: Machine, value: Any, name: str) -> np.ndarray:
    rows = by_warp(machine, value)
    if rows.dtype.kind == "c":
        raise LaneError(f"{name} compares real numbers, not {described(value)}")
    return rows


def _match_all(
    machine: Machine, mask: Mask, line: Line, members: Any, value: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(mask, whether all lanes hold one value); the mask is 0 where they do not."""
    mask, members, value = machine.converge(mask, line, "match_all_sync", members, value)
    here = meet_warp(machine, mask, line, members, "match_all_sync()")
    rows = _real(machine, value, "match_all_sync")
    if not here.size:
        return np.zeros(0, np.int32), np.zeros(0, np.bool_)
    first = np.take_along_axis(rows, np.argmax(here, axis=1)[:, None], axis=1)
    all_same = ((rows == first) | ~here).all(axis=1)
    return _spread(np.where(all_same, _bits(here), np.int32(0))), _spread(all_same)


def _activemask(machine: Machine, mask: Mask, line: Line) -> np.ndarray:
    """uint32: a bit for each lane that runs this instruction."""
    return _spread(_bits(mask.lanes.reshape(-1, WARP_SIZE))).view(np.uint32)


def _lanemask_lt(machine: Machine, mask: Mask, line: Line) -> np.ndarray:
    """uint32: the bits of the lanes before this one."""
    return np.tile(BITS - np.uint32(1), machine.size // WARP_SIZE)


def _bits(lanes: np.ndarray) -> np.ndarray:
    """int32 [W] from bool [W, 32]."""
    return (lanes * BITS).sum(axis=1).astype(np.int32)


def _spread(per_warp: np.ndarray) -> np.ndarray:
    """[L] from [W]: all lanes of a warp get its value."""
    return np.repeat(per_warp, WARP_SIZE)


shfl_sync = _shuffle("shfl_sync", lambda lane: lane % WARP_SIZE)
shfl_up_sync = _shuffle("shfl_up_sync", lambda delta: LANES - delta)
shfl_down_sync = _shuffle("shfl_down_sync", lambda delta: LANES + delta)
shfl_xor_sync = _shuffle("shfl_xor_sync", lambda bits: LANES ^ bits)
all_sync, any_sync = Intrinsic("all_sync", _all), Intrinsic("any_sync", _any)
eq_sync, ballot_sync = Intrinsic("eq_sync", _eq), Intrinsic("ballot_sync", _ballot)
match_any_sync = Intrinsic("match_any_sync", _match_any)
match_all_sync = Intrinsic("match_all_sync", _match_all)
activemask = Intrinsic("activemask", _activemask)
lanemask_lt = Intrinsic("lanemask_lt", _lanemask_lt)
