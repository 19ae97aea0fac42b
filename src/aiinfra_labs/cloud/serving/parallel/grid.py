"""Who works with whom when data, pipeline and tensor parallelism are mixed. Unit 4.6.

A rank has three coordinates. Ranks that differ in one of them alone form a group of that kind. The
order decides which groups lie close together: neighbouring ranks share a node, so the kind that
says most comes first. As in Megatron-LM that is tensor, then data, then pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .collectives import Alone, Comm
from .errors import SplitError

KINDS = ("tensor", "data", "pipeline")


@dataclass(frozen=True)
class Grid:
    """How many parts each kind makes. Rank = tensor + T x (data + D x pipeline)."""

    tensor: int = 1
    data: int = 1
    pipeline: int = 1

    def __post_init__(self) -> None:
        if min(self.tensor, self.data, self.pipeline) < 1:
            raise SplitError(
                f"a grid of {self.tensor} x {self.data} x {self.pipeline} ranks",
                "each kind of parallelism makes 1 part (none) or more",
                "whole numbers from 1",
            )

    @property
    def size(self) -> int:
        """Ranks of the grid."""
        return self.tensor * self.data * self.pipeline

    def place(self, rank: int) -> dict[str, int]:
        """A rank's coordinates by kind."""
        return {
            "tensor": rank % self.tensor,
            "data": rank // self.tensor % self.data,
            "pipeline": rank // (self.tensor * self.data),
        }

    def groups(self, kind: str) -> list[list[int]]:
        """All groups of a kind: ranks that differ in that coordinate alone, in its order."""
        found: dict[tuple, list[int]] = {}
        for rank in range(self.size):
            place = self.place(rank)
            del place[kind]
            found.setdefault(tuple(place.values()), []).append(rank)
        return list(found.values())

    def ends(self) -> list[list[int]]:
        """The first and the last stage of each pipeline: both have a tied embedding."""
        return [[group[0], group[-1]] for group in self.groups("pipeline")]

    def comms(self, rank: int, join: Callable[[Sequence[Sequence[int]]], Comm | None]) -> Comms:
        """A rank's ends of its groups. `join(groups)` gives its end of the one it is in, if any."""
        if not 0 <= rank < self.size:
            raise SplitError(
                f"rank {rank} in a grid of {self.size}",
                f"{self.tensor} x {self.data} x {self.pipeline} ranks have a place in it",
                f"a group of {self.size} processes",
            )
        found = {
            kind: join(self.groups(kind)) if getattr(self, kind) > 1 else None for kind in KINDS
        }
        ends = join(self.ends()) if self.pipeline > 1 else None
        return Comms(self, rank, *(found[kind] or Alone() for kind in KINDS), ends or Alone())


@dataclass(frozen=True)
class Comms:
    """One rank's place and its ends of the groups that it is in."""

    grid: Grid
    rank: int
    tensor: Comm
    data: Comm
    pipeline: Comm
    ends: Comm  # of first and last stage; of one rank where it is neither

    @property
    def is_first(self) -> bool:
        """Whether the rank is of the pipeline's first stage."""
        return self.pipeline.rank == 0

    @property
    def is_last(self) -> bool:
        """Whether the rank is of the pipeline's last stage."""
        return self.pipeline.rank == self.pipeline.size - 1
