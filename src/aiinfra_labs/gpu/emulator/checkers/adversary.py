"""A schedule that is against the kernel: warps run one by one, in a random order. Unit 3.4.

All threads together is one order of many, and a kind one: a missing barrier does no harm in it.
Here each warp of a block runs alone until it waits at a barrier; then another one that can go on is
drawn. Blocks come in a random order, too. CUDA allows every such order: a correct kernel gives the
same result under every seed, and a race soon gives a wrong one. Lanes of one warp still advance
together, so a race within a warp does not show in this way; where they wait for each other, they
run one by one. What runs them by turns is in `progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..counters.observing import Observer
from ..lanes.launching import Launch
from ..lanes.mask import WARP_SIZE
from .progress import by_turns

if TYPE_CHECKING:
    from ..lanes.protocol import Function


class Adversary:
    """Runs launches in orders drawn from `seed`."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def run(
        self,
        function: Function,
        launch: Launch,
        values: list[Any],
        observers: Sequence[Observer],
        anew: Callable[[], None],
    ) -> None:
        """Block by block; blocks that wait for each other run side by side."""
        by_turns(function, launch, values, observers, anew, self.seed, most=WARP_SIZE)
