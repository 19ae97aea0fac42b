"""HAMi's limit on compute: a bucket of tokens that kernel launches take from. Unit 3.9.

The rule is HAMi-core's (`multiprocess_utilization_watcher.c`), in its own figures. A launch takes
as many tokens as the grid has blocks, and may bring the bucket below nothing; while it is below,
launches wait and look again every 10 ms. Every 120 ms a watcher reads from NVML how busy the
container kept the GPU, moves its share up or down, and adds the share to the bucket.

Nothing here stops a kernel that runs: the limit holds on average, and only between launches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiinfra_labs import bounds

POLL_MS = 10  # how often a waiting launch looks again: TIME_TICK
WATCH_MS = 120  # how often the share is set anew: g_wait
FACTOR = 32  # the bucket holds this many times the threads that the GPU can hold at once
LEAST_DIFFERENCE = 5  # percent: below it the share moves as if it were this far off
DIVISOR = 2560
LARGEST = 2**63 - 1  # tokens


@dataclass
class CoreLimit:
    """One container's bucket. limit: percent of the GPU's time that it may keep the GPU busy."""

    limit: int
    sms: int = 132
    threads_per_sm: int = 2048
    tokens: int = 0
    share: int = 0
    capacity: int = field(init=False)

    def __post_init__(self) -> None:
        bounds.whole("limit", self.limit, "percent of the GPU's time; 0: none", 0)
        bounds.whole("tokens", self.tokens, "in the bucket; below nothing, launches wait", -LARGEST)
        bounds.whole("share", self.share, "tokens that are added each time", 0)
        bounds.whole("sms", self.sms, "multiprocessors of the GPU")
        bounds.whole("threads_per_sm", self.threads_per_sm, "threads that one holds at once")
        self.capacity = self.sms * self.threads_per_sm * FACTOR

    @property
    def enforced(self) -> bool:
        """A limit of 0 or of 100 and more is none."""
        return 0 < self.limit < 100

    @property
    def may_launch(self) -> bool:
        """Whether a kernel may start now: there is no limit, or the bucket is not below nothing."""
        return not self.enforced or self.tokens >= 0

    def launch(self, blocks: int) -> None:
        """A kernel of `blocks` blocks starts. Raises ValueError for a grid of none."""
        bounds.whole("blocks", blocks, "of the kernel's grid")
        if self.enforced:
            self.tokens -= blocks

    def watch(self, busy: int) -> None:
        """Set the share and fill the bucket. busy: percent of the last stretch, from NVML.

        A kernel counts where it ends, so that more than 100 may be read. Raises ValueError below 0.
        """
        bounds.whole("busy", busy, "percent of the time", 0)
        if not self.enforced:
            return
        if self.share == self.capacity and self.tokens < 0:
            self.capacity *= 2
            self.share = self.capacity
        self.share = self.next_share(busy)
        self.tokens = min(self.tokens + self.share, self.capacity)

    def next_share(self, busy: int) -> int:
        """The share after a stretch that was `busy` percent: up if it may do more, else down."""
        off = max(abs(self.limit - busy), LEAST_DIFFERENCE)
        step = self.sms * self.sms * self.threads_per_sm * off // DIVISOR
        if off > self.limit // 2:  # far off: larger steps
            step = step * off * 2 // (self.limit + 1)
        if busy <= self.limit:
            return min(self.share + step, self.capacity)
        return max(self.share - step, 0)
