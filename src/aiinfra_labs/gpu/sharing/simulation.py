"""The same tenants under each way of sharing a GPU: latency, use, throughput, failures. Unit 3.9.

A discrete-event simulation (SimPy). Each tenant serves its requests first come, first served, one
kernel after another; what a kernel waits for and how long it runs is the scheme's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import simpy

from aiinfra_labs import bounds

from .schemes import Machine, Scheme, allocate_all
from .tenants import Requests, Tenant, requests


@dataclass(frozen=True)
class Served:
    """What became of one tenant's requests.

    latencies: milliseconds [answered or still waiting], a request that is not answered counts with
    the time it has waited. completed, failed (no memory), unfinished: how many. work_ms: of the
    requests that were answered, as on a whole GPU.
    """

    tenant: Tenant
    latencies: np.ndarray
    completed: int
    failed: int
    unfinished: int
    work_ms: float
    seconds: float

    def percentile(self, p: float) -> float:
        """Milliseconds within which `p` percent were answered; infinite where nothing was.

        Raises ValueError for p outside 0 to 100.
        """
        bounds.real("p", p, "percent of the requests", 0.0, 100.0)
        return float(np.percentile(self.latencies, p)) if len(self.latencies) else float("inf")

    @property
    def mean(self) -> float:
        """Milliseconds to an answer, the mean; infinite where there was none."""
        return float(self.latencies.mean()) if len(self.latencies) else float("inf")

    @property
    def p50(self) -> float:
        """Milliseconds within which half were answered."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """Milliseconds within which 95 of 100 were answered."""
        return self.percentile(95)

    @property
    def p99(self) -> float:
        """Milliseconds within which 99 of 100 were answered."""
        return self.percentile(99)

    @property
    def throughput(self) -> float:
        """Requests answered a second."""
        return self.completed / self.seconds

    @property
    def keeps_its_promise(self) -> bool:
        """Nothing was promised, or no request failed and the p99 is within what was promised."""
        promised = self.tenant.slo_ms
        return promised is None or (not self.failed and self.p99 <= promised)


@dataclass(frozen=True)
class Outcome:
    """One simulation. gpus: how many were used. utilisation: the share of their multiprocessors'
    time in which kernels of answered requests ran. switching: the share lost to switches."""

    scheme: Scheme
    served: dict[str, Served]
    gpus: int
    utilisation: float
    switching: float

    def __getitem__(self, name: str) -> Served:
        return self.served[name]


def simulate(
    tenants: Sequence[Tenant],
    scheme: Scheme,
    seconds: float = 60.0,
    seed: int = 0,
    gpu: str = "h100-80gb",
) -> Outcome:
    """Let `tenants` share by `scheme` for `seconds`; the requests depend on `seed` alone.

    gpu: the id of a board. Raises ValueError for no tenant, for two of one name, for an unknown
    board, and where the scheme has no place for all of them.
    """
    bounds.whole("the number of tenants", len(tenants), "somebody is to be served")
    names = [tenant.name for tenant in tenants]
    if alike := sorted({name for name in names if names.count(name) > 1}):
        raise bounds.SettingError(
            f"{names.count(alike[0])} tenants have the name {alike[0]!r}",
            "results, memory and limits are kept by name, so they would be taken for one",
            "dataclasses.replace(tenant, name=...), a name for each",
        )
    bounds.real("seconds", seconds, "simulated; times are whole microseconds", 1e-6)
    env = simpy.Environment()
    machine = scheme.machine(env, tenants, gpu)
    logs = []
    for tenant in tenants:
        log = _Log(requests(tenant, seconds, seed))
        logs.append(log)
        env.process(_serve(env, tenant, machine, log))
    horizon = round(seconds * 1e6)
    env.run(until=horizon)
    served = {
        tenant.name: log.served(tenant, horizon) for tenant, log in zip(tenants, logs, strict=True)
    }
    useful = sum(s.work_ms * s.tenant.fills for s in served.values())
    return Outcome(
        scheme,
        served,
        machine.gpus,
        utilisation=useful / (1e3 * seconds * machine.gpus),
        switching=machine.switching() / (horizon * machine.gpus),
    )


class _Log:
    """When each request began its wait and when it was answered, in microseconds."""

    def __init__(self, asked: Requests):
        self.asked = asked
        self.waits: list[int] = []
        self.failed, self.work, self.now_serving = 0, 0, 0
        self.began: int | None = None  # when the request in service came

    def served(self, tenant: Tenant, horizon: int) -> Served:
        waiting = [] if self.began is None else [horizon - self.began]
        if not tenant.is_batch:
            later = self.asked.arrivals[self.now_serving + 1 :]
            waiting += (horizon - later).tolist()
        return Served(
            tenant,
            np.array(self.waits + waiting, np.float64) / 1e3,
            completed=len(self.waits),
            failed=self.failed,
            unfinished=len(waiting),
            work_ms=self.work / 1e3,
            seconds=horizon / 1e6,
        )


def _serve(
    env: simpy.Environment, tenant: Tenant, machine: Machine, log: _Log
) -> Generator[simpy.Event, None, None]:
    """One tenant's process: request after request."""
    memories = machine.memories(tenant)
    starts = allocate_all(memories, tenant.resident_gb)
    for number, (arrival, work) in enumerate(
        zip(log.asked.arrivals.tolist(), log.asked.works.tolist(), strict=True)
    ):
        log.now_serving = number - 1
        if env.now < arrival:
            yield env.timeout(arrival - env.now)
        log.now_serving = number
        if not (starts and allocate_all(memories, tenant.request_gb + tenant.leaks_gb)):
            log.failed += 1
            if tenant.is_batch:  # it ends; nobody asks again
                return
            continue
        log.began = env.now if tenant.is_batch else arrival
        for kernel in tenant.kernels(work):
            yield from machine.run(tenant, kernel)
        log.waits.append(env.now - log.began)
        log.work += work
        log.began = None
        for memory in memories:
            memory.free(tenant.request_gb)
    log.now_serving = len(log.asked.arrivals)
