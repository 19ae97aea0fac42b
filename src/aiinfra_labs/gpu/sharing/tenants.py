"""Tenants of a GPU and the requests that they make, the same under every way of sharing. Unit 3.9.

Times are whole microseconds, so that a simulation has no rounding of its own. The work of a request
is the time that it takes alone on the whole GPU.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

MS = 1000  # microseconds


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

    @property
    def is_batch(self) -> bool:
        return self.rate == 0

    def kernels(self, work: int) -> list[int]:
        """The kernels of a request of `work` microseconds: the longest allowed, then the rest."""
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
    """What `tenant` asks for within `seconds`: by its name and the seed, whoever it shares with."""
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
