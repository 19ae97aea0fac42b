"""HAMi's monitor: who may launch at all, and whose launches are limited. Unit 3.9.

The rule is that of HAMi's vGPUmonitor (`feedback.go`). A launch sets its container's `recent` to 2;
every 5 s the monitor takes one off, and a container that still has some is active. A container is
blocked while one of higher priority is active: its launches wait and look again every second. Its
limit on compute holds only while another one of its priority or a higher one is active.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiinfra_labs import bounds

OBSERVE_MS = 5000
BLOCKED_POLL_MS = 1000
RECENT = 2  # what a launch sets
HIGH, LOW = 0, 1


@dataclass
class Watched:
    """What the monitor knows of a container. recent: -1 while it is blocked."""

    priority: int = HIGH
    recent: int = 0
    limited: bool = True  # whether its limit on compute holds now

    def __post_init__(self) -> None:
        bounds.whole("priority", self.priority, "0 for high, 1 for low", HIGH, LOW)
        bounds.whole("recent", self.recent, "-1 while it is blocked", -1, RECENT)

    @property
    def blocked(self) -> bool:
        """Whether its launches wait for a container of higher priority."""
        return self.recent < 0

    def launch(self) -> None:
        """A kernel was launched."""
        self.recent = RECENT


def observe(containers: Sequence[Watched]) -> None:
    """One look of the monitor at the containers that share a GPU, every `OBSERVE_MS`."""
    active = {HIGH: 0, LOW: 0}
    for container in containers:
        if container.recent > 0:
            container.recent -= 1
            active[container.priority] += container.recent > 0
    for container in containers:
        higher = sum(active[priority] for priority in range(container.priority))
        if higher:
            container.recent = -1
        elif container.blocked:
            container.recent = 0
        container.limited = bool(higher) or active[container.priority] > 1
