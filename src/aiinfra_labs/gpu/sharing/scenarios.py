"""The tenants of the unit's page and lab: made up, round, and the same everywhere. Unit 3.9.

Nobody published them. They are chosen so that each trouble of sharing shows: a service that must be
quick, a batch job that always has work, bursts, a leak, tenants that do not trust each other.
"""

from __future__ import annotations

from dataclasses import replace

from .tenants import Tenant

CHAT = Tenant(
    "chat",
    rate=25,
    work_ms=6,
    kernel_ms=1,
    blocks=2_000,
    fills=0.3,
    resident_gb=16,
    request_gb=1,
    slo_ms=70,
    profile="2g.20gb",
    memory_gb=20,
    cores=40,
)
BATCH = Tenant(
    "batch",
    rate=0,
    work_ms=200,
    kernel_ms=10,
    blocks=100_000,
    resident_gb=20,
    request_gb=4,
    profile="3g.40gb",
    memory_gb=30,
    cores=30,
)
NOTEBOOK = Tenant(
    "notebook",
    rate=1,
    burst=4,
    work_ms=40,
    blocks=20_000,
    fills=0.5,
    resident_gb=4,
    request_gb=1,
    profile="2g.20gb",
    memory_gb=20,
    cores=20,
)
TRIO = (CHAT, BATCH, NOTEBOOK)

# A notebook that allocates with every cell and frees nothing.
LEAK = replace(NOTEBOOK, rate=4, burst=1, work_ms=10, request_gb=0, leaks_gb=1.0)


def service(number: int, **changes: object) -> Tenant:
    """One of many small services: 8 requests a second, a quarter of the GPU, a p99 of 150 ms.

    changes: settings of the `Tenant` that are other ones.
    """
    small = Tenant(
        f"service {number}",
        rate=8,
        work_ms=8,
        kernel_ms=1,
        blocks=20_000,
        fills=0.25,
        resident_gb=4,
        request_gb=1,
        slo_ms=150,
        profile="1g.10gb",
        memory_gb=6,
    )
    return replace(small, **changes)


SERVICES = tuple(service(number) for number in range(1, 5))

# The talk's three (p. 22). What makes each what it is: no trust; a neighbour; many, and idle.
BANK = tuple(replace(tenant, untrusted=True) for tenant in SERVICES)
INTERNET = (CHAT, BATCH)
CLASSROOM = tuple(
    Tenant(
        f"student {number}",
        rate=0.05,
        work_ms=300,
        blocks=20_000,
        fills=0.5,
        resident_gb=3,
        request_gb=0.5,
        slo_ms=5000,
        profile="1g.10gb",
        memory_gb=4,
    )
    for number in range(1, 17)
)
# The same class, in which one student's notebook leaks; nothing was promised to that one.
CLASSROOM_WITH_A_LEAK = (
    replace(CLASSROOM[0], rate=3, work_ms=20, leaks_gb=1.0, slo_ms=None),
    *CLASSROOM[1:],
)
