"""What one warp's access to memory costs: sectors, lines, bytes. Units 3.2 and 3.3.

The widget counts in JavaScript (`warp_access.js`); this is the same in NumPy, to check it by and
to count without a browser. A request is one memory instruction of a warp with an active lane. It
fetches whole sectors of 32 bytes, each once however many lanes want it; four make a cache line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LANES = 32
SECTOR = 32  # bytes
LINE = 128  # bytes
INACTIVE = -1  # the address of a lane that takes no part
PATTERNS = ("linear", "reversed", "broadcast", "permutation")


@dataclass(frozen=True)
class Cost:
    """One request's cost. `useful` of the `moved` bytes were asked for, each counted once."""

    requests: int
    sectors: int
    lines: int
    useful: int
    moved: int

    def __str__(self) -> str:
        # A half is rounded up, as in JavaScript; Python's own rounding would make 12.5 a 12.
        share = f" ({int(100 * self.useful / self.moved + 0.5)} %)" if self.moved else ""
        return f"sectors: {self.sectors}, useful bytes {self.useful} of {self.moved}{share}"


def addresses(
    pattern: str = "linear",
    itemsize: int = 4,
    stride: int = 1,
    offset: int = 0,
    lanes: int = LANES,
    seed: int = 1,
) -> np.ndarray:
    """The byte address that each lane touches, relative to the array's start: int64 [32].

    Lane i touches element offset + stride * i, or, by the pattern, the elements of the other lanes
    in reverse or in a seeded random order, or all lanes that of lane 0. Lanes from `lanes` on are
    inactive (-1).
    """
    place = np.arange(LANES)
    if pattern == "reversed":
        place = lanes - 1 - place
    elif pattern == "broadcast":
        place = np.zeros(LANES, np.int64)
    elif pattern == "permutation":
        place = _shuffled(lanes, seed)
    elif pattern != "linear":
        raise ValueError(
            f"there is no pattern {pattern!r}: a warp's lanes are laid out by name; "
            f"try one of {', '.join(PATTERNS)}"
        )
    element = offset + stride * place
    return np.where(np.arange(LANES) < lanes, element * itemsize, INACTIVE)


def sectors(addresses: np.ndarray, itemsize: int) -> int:
    """How many 32-byte sectors one request fetches.

    addresses: int [32], bytes; -1 for an inactive lane. itemsize: bytes that each lane touches.
    """
    return _distinct(addresses, itemsize, SECTOR)


def cost(addresses: np.ndarray, itemsize: int) -> Cost:
    """All figures of one request. The arguments are those of `sectors`."""
    fetched = sectors(addresses, itemsize)
    return Cost(
        requests=int((np.asarray(addresses) >= 0).any()),
        sectors=fetched,
        lines=_distinct(addresses, itemsize, LINE),
        useful=_distinct(addresses, itemsize, 1),
        moved=fetched * SECTOR,
    )


def _distinct(addresses: np.ndarray, itemsize: int, size: int) -> int:
    """Pieces of `size` bytes that the active lanes touch, with each byte of each item."""
    first = np.asarray(addresses, np.int64)
    first = first[first >= 0]
    within = np.arange(itemsize)
    return len(np.unique((first[:, None] + within) // size))


def _shuffled(lanes: int, seed: int) -> np.ndarray:
    """0 to lanes - 1 in a random order, then the rest as it is; the same in Python and JavaScript.

    Fisher and Yates's shuffle, with the 32-bit generator of *Numerical Recipes*.
    """
    place = np.arange(LANES)
    state = seed
    for i in range(lanes - 1, 0, -1):
        state = (1664525 * state + 1013904223) % 2**32
        j = state * (i + 1) >> 32  # the high bits: the low ones of such a generator repeat soon
        place[[i, j]] = place[[j, i]]
    return place
