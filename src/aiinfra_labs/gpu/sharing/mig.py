"""MIG: the profiles of a board, where an instance may begin, and a board that is cut up. Unit 3.9.

A board has memory slices (8 on an A100 or H100) and compute slices (7). A GPU instance takes a run
of memory slices, and its profile names the few places where the run may begin. So free slices are
not enough: they must lie where an instance may stand.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from aiinfra_labs import bounds


class MigError(bounds.SettingError):
    """A request that a board cannot fulfil, in three parts."""


@dataclass(frozen=True)
class MigProfile:
    """A kind of instance: `3g.40gb` has 3 compute slices, 4 memory slices and may begin at 0 or 4.

    compute, memory: slices. gb: gigabytes, as named. sms: multiprocessors. starts: memory slices.
    """

    name: str
    compute: int
    memory: int
    gb: int
    sms: int
    starts: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("compute", "memory", "gb", "sms"):
            why = "an instance has at least one of each"
            bounds.whole(name, getattr(self, name), why, error=MigError)
        for start in self.starts:
            bounds.whole("a start", start, "the first memory slice", 0, error=MigError)

    def slices(self, start: int) -> range:
        """The memory slices that an instance takes which begins at `start`."""
        return range(start, start + self.memory)


@dataclass(frozen=True)
class Gpu:
    """A board as NVIDIA's tables describe it: its slices and its profiles, smallest first."""

    id: str
    name: str
    memory_slices: int
    compute_slices: int
    sms: int
    source: str
    as_of: str
    profiles: tuple[MigProfile, ...]

    def profile(self, name: str) -> MigProfile:
        """The profile `name`. Raises `MigError` for one that this board does not have."""
        for profile in self.profiles:
            if profile.name == name:
                return profile
        raise MigError(
            f"{self.name} has no profile {name!r}",
            "each board has its own: the number before the g is compute slices, then its memory",
            f"one of {', '.join(p.name for p in self.profiles)}",
        )


@cache
def gpus() -> dict[str, Gpu]:
    """The boards of `mig_profiles.toml` by id: `gpus()["h100-80gb"]`."""
    text = files(__package__).joinpath("mig_profiles.toml").read_text(encoding="utf-8")
    found = {}
    for id, board in tomllib.loads(text).items():
        profiles = tuple(
            MigProfile(**{**entry, "starts": tuple(entry["starts"])})
            for entry in board.pop("profiles")
        )
        board["as_of"] = board["as_of"].isoformat()
        found[id] = Gpu(id=id, profiles=profiles, **board)
    return found


def board_of(id: str) -> Gpu:
    """The board of an id. Raises `MigError` for one that is not in the data."""
    return gpus()[bounds.one_of("gpu", id, gpus(), "its profiles are not in the data", MigError)]


@dataclass(frozen=True, order=True)
class Instance:
    """A GPU instance on a board: its first memory slice and its profile."""

    start: int
    profile: MigProfile = field(compare=False)

    @property
    def slices(self) -> range:
        """The memory slices that it takes."""
        return self.profile.slices(self.start)

    def __str__(self) -> str:
        return f"{self.profile.name} at {self.start}:{self.profile.memory}"


def legal_starts(profile: MigProfile, taken: Iterable[int]) -> list[int]:
    """Where an instance of `profile` may begin, if the memory slices `taken` are in use."""
    used = set(taken)
    return [start for start in profile.starts if used.isdisjoint(profile.slices(start))]


def places_left(gpu: Gpu, taken: Iterable[int]) -> int:
    """How many (profile, start) pairs of the board are still legal: its room for manoeuvre."""
    used = set(taken)
    return sum(len(legal_starts(profile, used)) for profile in gpu.profiles)


def keeps_most_open(gpu: Gpu, profile: MigProfile, taken: Iterable[int]) -> int | None:
    """The legal start that leaves most (profile, start) pairs legal; the lowest of equals.

    NVIDIA documents that its driver chooses the place, and not by which rule. This rule gives the
    place of every instance in the examples of the MIG User Guide ("Instance Geometry", A100).
    """
    used = set(taken)
    starts = legal_starts(profile, used)
    if not starts:
        return None
    return max(starts, key=lambda s: (places_left(gpu, used | set(profile.slices(s))), -s))


class Board:
    """One GPU in MIG mode: instances are created on it and destroyed, and never moved."""

    def __init__(self, gpu: str | Gpu = "h100-80gb", instances: Iterable[Instance] = ()):
        self.gpu = gpu if isinstance(gpu, Gpu) else board_of(gpu)
        self.instances: dict[int, Instance] = {}
        self._next = 1
        for instance in instances:
            self.create(instance.profile.name, instance.start)

    @property
    def taken(self) -> set[int]:
        """Memory slices in use."""
        return {s for instance in self.instances.values() for s in instance.slices}

    @property
    def free(self) -> list[int]:
        """Memory slices that no instance has, in order."""
        return [s for s in range(self.gpu.memory_slices) if s not in self.taken]

    @property
    def compute_used(self) -> int:
        """Compute slices in use, of `gpu.compute_slices`."""
        return sum(instance.profile.compute for instance in self.instances.values())

    @property
    def sms_used(self) -> int:
        """Multiprocessors that the instances have, of `gpu.sms`."""
        return sum(instance.profile.sms for instance in self.instances.values())

    def starts(self, profile: str) -> list[int]:
        """Where an instance of the profile may begin now."""
        return legal_starts(self.gpu.profile(profile), self.taken)

    def create(self, profile: str, start: int | None = None) -> int:
        """A new instance, at `start` or where the driver would put it; returns its number.

        profile: its name. start: a memory slice. Raises `MigError` when no place is legal, and
        says whether slices lack or lie wrong.
        """
        wanted = self.gpu.profile(profile)
        legal = self.starts(profile)
        if not legal:
            raise self._no_place(wanted)
        if start is None:
            start = keeps_most_open(self.gpu, wanted, self.taken)
        elif start not in legal:
            raise MigError(
                f"{profile} cannot begin at {start}",
                f"its places are {_listed(wanted.starts)}, of which {_listed(legal)} "
                f"{'is' if len(legal) == 1 else 'are'} free",
                f"begin at {legal[0]}, or leave the start out",
            )
        number, self._next = self._next, self._next + 1
        self.instances[number] = Instance(start, wanted)
        return number

    def destroy(self, number: int) -> Instance:
        """Give an instance's slices back. What ran on it must have ended."""
        if number not in self.instances:
            raise MigError(
                f"there is no instance {number}",
                f"this board has {_listed(self.instances) or 'none'}",
                "take a number that create returned",
            )
        return self.instances.pop(number)

    def copy(self) -> Board:
        """The same board, to try something on: instances keep their numbers, and new ones get the
        same as here."""
        other = Board(self.gpu)
        other.instances, other._next = dict(self.instances), self._next
        return other

    def _no_place(self, wanted: MigProfile) -> MigError:
        free = self.free
        if len(free) < wanted.memory:
            return MigError(
                f"no room for {wanted.name}: it takes {wanted.memory} memory slices, "
                f"{len(free)} are free",
                f"in use: {'; '.join(map(str, sorted(self.instances.values())))}",
                "destroy an instance, or take a smaller profile",
            )
        return MigError(
            f"no place for {wanted.name}: {len(free)} memory slices are free ({_listed(free)}) "
            f"and it takes {wanted.memory}, but it may begin only at {_listed(wanted.starts)}",
            f"in use: {'; '.join(map(str, sorted(self.instances.values())))}. An instance cannot "
            "be moved",
            "create the large instances first, or destroy one that stands in the way and create "
            "it elsewhere",
        )

    def __repr__(self) -> str:
        inside = "; ".join(map(str, sorted(self.instances.values()))) or "empty"
        return f"Board({self.gpu.name}: {inside})"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
