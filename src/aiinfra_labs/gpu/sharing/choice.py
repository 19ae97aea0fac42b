"""Which way to share: the fewest GPUs on which every tenant's promise is kept. Unit 3.9.

An option is a scheme and a number of GPUs, over which the tenants are dealt. Whether it will do is
not a matter of taste: simulate it, and look at each p99, each failure, and who may run what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aiinfra_labs import bounds

from .schemes import DoesNotFit, Exclusive, Hami, Mig, Scheme, TimeSlicing
from .simulation import Served, simulate
from .tenants import Tenant

# From the easiest to set up to the dearest: of options with as many GPUs, the first is taken.
BY_EASE = (TimeSlicing(), Hami(), Mig())


@dataclass(frozen=True)
class Option:
    """A scheme on a number of GPUs."""

    scheme: Scheme
    gpus: int

    def __str__(self) -> str:
        return f"{self.scheme.name} on {self.gpus} GPU{'' if self.gpus == 1 else 's'}"


def options(tenants: Sequence[Tenant], most: int = 4) -> list[Option]:
    """Every scheme on 1 to `most` GPUs, cheapest first, and a GPU for each tenant.

    Raises ValueError where there is no tenant or no GPU.
    """
    bounds.whole("most", most, "GPUs to share")
    bounds.whole("the number of tenants", len(tenants), "somebody is to be served")
    shared = [
        Option(scheme, gpus) for gpus in range(1, min(most, len(tenants)) + 1) for scheme in BY_EASE
    ]
    return sorted([*shared, Option(Exclusive(), len(tenants))], key=lambda option: option.gpus)


def deal(tenants: Sequence[Tenant], gpus: int) -> list[list[Tenant]]:
    """The tenants of each GPU: dealt out in turn, as cards are. Raises ValueError for no GPU."""
    bounds.whole("gpus", gpus, "tenants are dealt out to them")
    return [list(tenants[first::gpus]) for first in range(gpus)]


def try_option(
    tenants: Sequence[Tenant], option: Option, seconds: float = 60.0, seed: int = 0
) -> dict[str, Served] | None:
    """What each tenant would get; None when the scheme has no place for them (MIG).

    seconds: simulated. Raises ValueError as `simulate` does, for a mistake in tenants or settings.
    """
    served: dict[str, Served] = {}
    for group in deal(tenants, option.gpus):
        if not group:  # more GPUs than tenants
            continue
        try:
            served |= simulate(group, option.scheme, seconds, seed).served
        except DoesNotFit:
            return None
    return served


def may_share(tenants: Iterable[Tenant], option: Option) -> bool:
    """An untrusted tenant may not stand where one's fault is another's."""
    return not (option.scheme.shares_faults and any(t.untrusted for t in tenants))


def keeps_promises(served: dict[str, Served] | None) -> bool:
    """Whether there is a place for all, and each tenant's p99 is what it was promised."""
    return served is not None and all(s.keeps_its_promise for s in served.values())


def cheapest(
    tenants: Sequence[Tenant],
    candidates: Sequence[Option],
    try_: Callable[[Sequence[Tenant], Option], dict[str, Served] | None] = try_option,
) -> Option | None:
    """The option of fewest GPUs that will do; of as many, the first listed; None if none will."""
    for option in sorted(candidates, key=lambda option: option.gpus):
        if may_share(tenants, option) and keeps_promises(try_(tenants, option)):
            return option
    return None
