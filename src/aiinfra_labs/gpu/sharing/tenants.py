"""Tenants of a GPU and the requests that they make, the same under every way of sharing. Unit 3.9.

Times are whole microseconds, so that a simulation has no rounding of its own. The work of a request
is the time that it takes alone on the whole GPU.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from aiinfra_labs import bounds

MS = 1000  # microseconds
MOST_REQUESTS = 1_000_000  # of one tenant in one simulation


@dataclass(frozen=True)
class Tenant:
    """Who shares the GPU, what it asks for, and what it was promised and given.

    rate: requests a second, by a Poisson process; 0 for a batch job, whose next request comes when
        the last has ended. burst: requests that arrive together, so `rate / burst` times a second.
    work_ms: of a request, on average; `constant` or else exponentially distributed.
    kernel_ms: the longest kernel that a request is made of. blocks: of each kernel's grid.
    fills: the share of the GPU's multiprocessors that its kernels can use, above 0 up to 1.
    resident_gb, request_gb: memory that it holds all the time, and more while it serves a request.
    leaks_gb: what each request allocates and never frees.
    slo_ms: the p99 that it was promised; None for no promise. untrusted: may run any code.
    profile: its MIG profile. memory_gb, cores: its limits under HAMi, gigabytes and percent.
    priority: 0, or 1 to stand back (HAMi).
    """

    name: str
    rate: float
    work_ms: float
    kernel_ms: float = 5.0
    blocks: int = 10_000
    fills: float = 1.0
    constant: bool = False
    burst: int = 1
    resident_gb: float = 0.0
    request_gb: float = 0.0
    leaks_gb: float = 0.0
    slo_ms: float | None = None
    untrusted: bool = False
    profile: str = "1g.10gb"
    memory_gb: float = 10.0
    cores: int = 0
    priority: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise bounds.SettingError(
                f"a tenant's name is {self.name!r}",
                "results are told apart by it, and its requests are drawn from it",
                'a text such as "chat"',
            )
        who = f" of {self.name!r}"
        for name, least, why in (
            ("rate", 0.0, "requests a second; 0 for a batch job"),
            ("resident_gb", 0.0, "gigabytes that it holds all the time"),
            ("request_gb", 0.0, "gigabytes that it holds while it serves"),
            ("leaks_gb", 0.0, "gigabytes that it never frees"),
            ("memory_gb", 0.0, "its limit under HAMi, in gigabytes"),
        ):
            bounds.real(name + who, getattr(self, name), why, least)
        bounds.real("work_ms" + who, self.work_ms, "of a request, milliseconds", above=0.0)
        why = "the longest kernel, in milliseconds; times are whole microseconds"
        bounds.real("kernel_ms" + who, self.kernel_ms, why, 1 / MS)
        why = "the share of the multiprocessors that its kernels can use"
        bounds.real("fills" + who, self.fills, why, most=1.0, above=0.0)
        if self.slo_ms is not None:
            bounds.real("slo_ms" + who, self.slo_ms, "the p99 that it was promised", above=0.0)
        bounds.whole("blocks" + who, self.blocks, "of each kernel's grid")
        bounds.whole("burst" + who, self.burst, "requests that arrive together")
        bounds.whole("cores" + who, self.cores, "its limit under HAMi, in percent; 0: none", 0)
        bounds.whole("priority" + who, self.priority, "0, or 1 to stand back", 0, 1)

    @property
    def is_batch(self) -> bool:
        """Whether its next request comes when the last has ended: a rate of 0."""
        return self.rate == 0

    def kernels(self, work: int) -> list[int]:
        """The kernels of a request of `work` microseconds: the longest allowed, then the rest.

        Raises ValueError for work below 0, or that is no whole number.
        """
        bounds.whole("work", work, "microseconds", 0)
        longest = round(self.kernel_ms * MS)
        whole, rest = divmod(work, longest)
        return [longest] * whole + ([rest] if rest else [])


@dataclass(frozen=True)
class Requests:
    """A tenant's requests. arrivals, works: int64 [requests], microseconds; a batch job's are all
    there from the start."""

    arrivals: np.ndarray
    works: np.ndarray


def requests(tenant: Tenant, seconds: float, seed: int = 0) -> Requests:
    """What `tenant` asks for within `seconds`: by its name and the seed, whoever it shares with.

    Raises ValueError for no time, a negative seed, or more than `MOST_REQUESTS` requests.
    """
    bounds.real("seconds", seconds, "simulated; times are whole microseconds", 1e-6)
    bounds.whole("seed", seed, "requests are drawn from it", 0)
    expected = seconds * (1e3 / tenant.work_ms if tenant.is_batch else tenant.rate)
    if not expected <= MOST_REQUESTS:
        raise bounds.SettingError(
            f"about {expected:.3g} requests of {tenant.name!r} in {seconds:g} s",
            f"each is simulated, and more than {MOST_REQUESTS:,} take minutes",
            "fewer seconds, a lower rate, or longer requests",
        )
    rng = np.random.default_rng([seed, zlib.crc32(tenant.name.encode())])
    horizon = round(seconds * 1e6)
    if tenant.is_batch:
        count = int(np.ceil(seconds * 1e3 / tenant.work_ms)) + 1
        arrivals = np.zeros(count, np.int64)
    else:
        each = 1e6 * tenant.burst / tenant.rate  # microseconds between bursts
        bursts = rng.poisson(horizon / each)
        arrivals = np.sort(rng.integers(0, horizon, bursts)).repeat(tenant.burst)
    mean = tenant.work_ms * MS
    if tenant.constant:
        works = np.full(len(arrivals), mean)
    else:
        works = rng.exponential(mean, len(arrivals))
    return Requests(arrivals, np.maximum(1, np.round(works)).astype(np.int64))
