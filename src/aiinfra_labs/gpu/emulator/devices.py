"""The device that the emulator stands for, and its limits. Units 3.1, 3.2 and 3.7."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ..devices import device
from .errors import LaunchError


@dataclass(frozen=True)
class DeviceProfile:
    """A device's limits from `devices.toml`, its specified figures from `gpus.toml`."""

    key: str
    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    max_threads_per_block: int
    max_block_dim: tuple[int, int, int]
    max_grid_dim: tuple[int, int, int]
    warp_size: int
    shared_memory_per_block: int
    static_shared_memory_per_block: int
    registers_per_multiprocessor: int
    memory_bytes: int
    l2_bytes: int
    memory_bandwidth: float  # bytes/s
    clock: float  # Hz, boost
    peak_flops: dict[str, float]  # by precision, without tensor cores; operations/s

    # the names that Numba's device object has
    MAX_THREADS_PER_BLOCK = property(lambda self: self.max_threads_per_block)
    MULTIPROCESSOR_COUNT = property(lambda self: self.multiprocessors)
    WARP_SIZE = property(lambda self: self.warp_size)
    MAX_SHARED_MEMORY_PER_BLOCK = property(lambda self: self.static_shared_memory_per_block)
    id = property(lambda self: 0)


@dataclass(frozen=True)
class SMLimits:
    """What one multiprocessor of a compute capability holds, in bytes and counts."""

    max_warps: int
    max_blocks: int
    registers: int
    shared_memory: int
    shared_memory_per_block: int
    shared_memory_unit: int  # a block's shared memory is rounded up to it
    shared_memory_reserved: int  # of each block, for the system


_NOT_A_LIMIT = ("source", "as_of")


@cache
def _tables() -> dict[str, Any]:
    text = files("aiinfra_labs.gpu").joinpath("devices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def device_profiles() -> dict[str, DeviceProfile]:
    """Every device that can be stood for, by its short name."""
    profiles = {}
    for key, facts in _tables().items():
        if key == "compute_capability":
            continue
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in facts.items()
            if name not in _NOT_A_LIMIT
        }
        profiles[key] = DeviceProfile(key=key, **_specified(key), **values)
    return profiles


def _specified(key: str) -> dict[str, Any]:
    """What the maker publishes of a device, in bytes, Hz and operations/s."""
    maker = device(key)
    major, minor = str(maker.compute_capability).split(".")
    return {
        "name": maker.name,
        "compute_capability": (int(major), int(minor)),
        "multiprocessors": int(maker["sms"]),
        "l2_bytes": int(maker["l2"] * 2**20),
        "memory_bandwidth": maker.bandwidth,
        "clock": maker["clock"] * 1e6,
        "peak_flops": {precision: maker.peak(precision) for precision in ("fp16", "fp32", "fp64")},
    }


def sm_limits(compute_capability: str) -> SMLimits:
    """The limits of "8.6", say. Raises `LaunchError` for one that is not in `devices.toml`."""
    table = _tables()["compute_capability"]
    if compute_capability not in table:
        raise LaunchError(
            f"compute capability {compute_capability} is not known here",
            f"the tables have {', '.join(table)}",
            "use one of these",
        )
    facts = table[compute_capability].items()
    return SMLimits(**{name: value for name, value in facts if name not in _NOT_A_LIMIT})


_current = os.environ.get("AIINFRA_DEVICE", "h100")


def get_current_device() -> DeviceProfile:
    """The device that is stood for."""
    return _profile(_current)


def device_profile(key: str | None) -> DeviceProfile:
    """The profile of "a100", say; None: that of the device that is stood for."""
    return get_current_device() if key is None else _profile(key)


def select_device(key: str | int) -> DeviceProfile:
    """Stand for another device: "h100", "a100", "t4", ...; 0 keeps the current one."""
    global _current
    if key != 0:
        _current = _profile(str(key)).key
    return get_current_device()


def _profile(key: str) -> DeviceProfile:
    profiles = device_profiles()
    if key not in profiles:
        raise LaunchError(
            f"there is no device profile {key!r}",
            f"the emulator knows {', '.join(profiles)}",
            'use one of these, for example cuda.select_device("h100")',
        )
    return profiles[key]
