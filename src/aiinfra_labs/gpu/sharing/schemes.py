"""Four ways to give tenants a GPU, each with the same door: `run` a kernel. Unit 3.9.

A kernel of `work` microseconds on the whole GPU, whose blocks can use the share `fills` of its
multiprocessors, takes work x max(1, fills / s) on a share s of them. A time slice gives the whole
GPU, of which such a kernel leaves 1 - fills idle; a MIG instance gives its multiprocessors always.
Not in the model: the memory bandwidth and the caches that neighbours outside MIG share.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import simpy

from aiinfra_labs import bounds

from .core_limit import POLL_MS, WATCH_MS, CoreLimit
from .mig import board_of
from .planning import place_all
from .priority import BLOCKED_POLL_MS, OBSERVE_MS, Watched, observe
from .tenants import MS, Tenant
from .time_slicing import SLICE_US, SWITCH_US, TimeSlicedGpu, check_slices


class DoesNotFit(bounds.SettingError):
    """Tenants that have no place on one GPU together."""


@dataclass
class Memory:
    """Gigabytes of one GPU, of one MIG instance, or of one container's limit."""

    total: float
    used: float = 0.0

    def __post_init__(self) -> None:
        bounds.real("total", self.total, "gigabytes that there are", 0.0)
        bounds.real("used", self.used, "gigabytes that are taken", 0.0)

    def allocate(self, gb: float) -> bool:
        """True when there was room, and it is taken now. Raises ValueError for less than 0."""
        bounds.real("gb", gb, "gigabytes to take", 0.0)
        if self.used + gb > self.total + 1e-9:
            return False
        self.used += gb
        return True

    def free(self, gb: float) -> None:
        """Give gigabytes back. Raises ValueError for more than are taken, or less than 0."""
        bounds.real("gb", gb, "gigabytes that were taken", 0.0, self.used + 1e-9)
        self.used = max(0.0, self.used - gb)


def allocate_all(memories: Sequence[Memory], gb: float) -> bool:
    """Allocate in each of them (a container's limit, then the device), or in none."""
    for number, memory in enumerate(memories):
        if not memory.allocate(gb):
            for taken in memories[:number]:
                taken.free(gb)
            return False
    return True


class Machine(Protocol):
    """What a scheme makes of the GPUs in one simulation."""

    gpus: int

    def run(self, tenant: Tenant, work: int) -> Generator[simpy.Event, None, None]:
        """Run one kernel of `work` microseconds for the tenant."""

    def memories(self, tenant: Tenant) -> list[Memory]:
        """All that must have room when the tenant allocates."""

    def switching(self) -> int:
        """Microseconds that went to switches."""


class Exclusive:
    """A whole GPU for each tenant."""

    name = "exclusive"
    shares_faults = False

    def machine(self, env: simpy.Environment, tenants: Sequence[Tenant], gpu: str) -> Machine:
        """Each tenant's GPU is its own, and as many are used as there are tenants.

        gpu: the id of a board.
        """
        return _Apart(env, dict.fromkeys((t.name for t in tenants), 1.0), _whole(tenants, gpu), 0)


class Mig:
    """An instance for each tenant, of the profile that it names; all on one GPU."""

    name = "MIG"
    shares_faults = False

    def machine(self, env: simpy.Environment, tenants: Sequence[Tenant], gpu: str) -> Machine:
        """Instances of one GPU. Raises `DoesNotFit`, or `MigError` for a profile that it has not.

        gpu: the id of a board.
        """
        board = board_of(gpu)
        profiles = [board.profile(t.profile) for t in tenants]
        if place_all(board, [p.name for p in profiles]) is None:
            raise DoesNotFit(
                f"{', '.join(p.name for p in profiles)} do not fit on one {board.name}",
                "their memory slices overlap wherever they begin",
                "fewer tenants, or smaller profiles",
            )
        named = list(zip(tenants, profiles, strict=True))
        return _Apart(
            env,
            {t.name: p.sms / board.sms for t, p in named},
            {t.name: Memory(p.gb) for t, p in named},
            1,
        )


@dataclass(frozen=True)
class TimeSlicing:
    """All tenants take turns on one GPU, and its memory is for who comes first."""

    slice_us: int = SLICE_US
    switch_us: int = SWITCH_US
    name = "time slicing"
    shares_faults = True

    def __post_init__(self) -> None:
        check_slices(self.slice_us, self.switch_us)

    def machine(self, env: simpy.Environment, tenants: Sequence[Tenant], gpu: str) -> Machine:
        """One GPU whose memory and time all share.

        gpu: the id of a board.
        """
        return _Sliced(env, self, tenants, gpu)


@dataclass(frozen=True)
class Hami:
    """Time slices, a limit on each tenant's memory, and one on its kernel launches.

    monitor: whether HAMi's monitor looks after priorities, and lifts the limit on compute from a
    tenant that is alone. Without it the limits hold always (HAMi's policy `force`).
    """

    slice_us: int = SLICE_US
    switch_us: int = SWITCH_US
    monitor: bool = False
    name = "HAMi"
    shares_faults = True

    def __post_init__(self) -> None:
        check_slices(self.slice_us, self.switch_us)

    def machine(self, env: simpy.Environment, tenants: Sequence[Tenant], gpu: str) -> Machine:
        """One GPU whose time all share, with a limit on each tenant's memory and launches.

        gpu: the id of a board.
        """
        return _Limited(env, self, tenants, gpu)


SCHEMES = (Exclusive(), Mig(), TimeSlicing(), Hami())
Scheme = Exclusive | Mig | TimeSlicing | Hami


def _whole(tenants: Sequence[Tenant], gpu: str) -> dict[str, Memory]:
    return {t.name: Memory(board_of(gpu).profiles[-1].gb) for t in tenants}


class _Apart:
    """Each tenant has multiprocessors and memory of its own: nothing that one does is felt."""

    def __init__(
        self,
        env: simpy.Environment,
        shares: dict[str, float],
        memories: dict[str, Memory],
        on_gpus: int,
    ):
        self.env, self.shares, self._memories = env, shares, memories
        self.gpus = on_gpus or len(shares)

    def run(self, tenant: Tenant, work: int) -> Generator[simpy.Event, None, None]:
        slower = max(1.0, tenant.fills / self.shares[tenant.name])
        yield self.env.timeout(round(work * slower))

    def memories(self, tenant: Tenant) -> list[Memory]:
        return [self._memories[tenant.name]]

    def switching(self) -> int:
        return 0


class _Sliced:
    """One GPU, one memory, turns."""

    gpus = 1

    def __init__(
        self,
        env: simpy.Environment,
        scheme: TimeSlicing | Hami,
        tenants: Sequence[Tenant],
        gpu: str,
    ):
        self.env = env
        self.slices = TimeSlicedGpu(env, scheme.slice_us, scheme.switch_us)
        self.memory = Memory(board_of(gpu).profiles[-1].gb)

    def run(self, tenant: Tenant, work: int) -> Generator[simpy.Event, None, None]:
        yield from self.slices.run(tenant.name, work)

    def memories(self, tenant: Tenant) -> list[Memory]:
        return [self.memory]

    def switching(self) -> int:
        return self.slices.switching


class _Limited(_Sliced):
    """Turns, with a bucket of tokens before each launch and a limit on each tenant's memory."""

    def __init__(self, env: simpy.Environment, scheme: Hami, tenants: Sequence[Tenant], gpu: str):
        super().__init__(env, scheme, tenants, gpu)
        self.limits = {t.name: Memory(t.memory_gb) for t in tenants}
        sms = board_of(gpu).sms
        self.buckets = {t.name: CoreLimit(t.cores, sms) for t in tenants}
        for tenant in tenants:
            if self.buckets[tenant.name].enforced:
                env.process(self._watch(tenant.name))
        self.watched = {t.name: Watched(t.priority) for t in tenants}
        if scheme.monitor:
            env.process(self._observe())

    def run(self, tenant: Tenant, work: int) -> Generator[simpy.Event, None, None]:
        bucket, watched = self.buckets[tenant.name], self.watched[tenant.name]
        while watched.blocked:
            yield self.env.timeout(BLOCKED_POLL_MS * MS)
        watched.launch()
        if watched.limited:
            while not bucket.may_launch:
                yield self.env.timeout(POLL_MS * MS)
            bucket.launch(tenant.blocks)
        yield from super().run(tenant, work)

    def memories(self, tenant: Tenant) -> list[Memory]:
        return [self.limits[tenant.name], self.memory]

    def _observe(self) -> Generator[simpy.Event, None, None]:
        """Every 5 s, HAMi's monitor."""
        while True:
            yield self.env.timeout(OBSERVE_MS * MS)
            observe(list(self.watched.values()))

    def _watch(self, name: str) -> Generator[simpy.Event, None, None]:
        """Every 120 ms: how much of them did this tenant's kernels run?"""
        before = 0
        while True:
            yield self.env.timeout(WATCH_MS * MS)
            ran = self.slices.ran.get(name, 0)
            self.buckets[name].watch(round(100 * (ran - before) / (WATCH_MS * MS)))
            before = ran
