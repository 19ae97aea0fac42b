"""What can go wrong when several processes work on one model. Unit 4.6."""

from __future__ import annotations

from aiinfra_labs import bounds


class ParallelError(bounds.ThreeParts, RuntimeError):
    """Something that a group of ranks cannot do, in three parts."""


class SplitError(ParallelError, ValueError):
    """A model, a batch or a group that cannot be divided as it was asked."""


class GroupError(ParallelError):
    """A group whose work ended early. All of its processes have ended.

    rank: the one at which it began, or None where no single one is known. traceback: what Python
    said there, if it said anything.
    """

    def __init__(
        self, what: str, why: str, try_: str, rank: int | None = None, traceback: str = ""
    ):
        super().__init__(what, why, try_)
        self.rank, self.traceback = rank, traceback


class Deadlock(ParallelError):
    """Every rank waits for a message that no rank will send."""
