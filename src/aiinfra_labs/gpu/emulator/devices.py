"""The device that the emulator stands for, and its limits. Units 3.1 and 3.2."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from .errors import LaunchError


@dataclass(frozen=True)
class DeviceProfile:
    """Limits of a device (bytes and counts), read from `devices.toml`."""

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

    # the names that Numba's device object has
    MAX_THREADS_PER_BLOCK = property(lambda self: self.max_threads_per_block)
    MULTIPROCESSOR_COUNT = property(lambda self: self.multiprocessors)
    WARP_SIZE = property(lambda self: self.warp_size)
    MAX_SHARED_MEMORY_PER_BLOCK = property(lambda self: self.static_shared_memory_per_block)
    id = property(lambda self: 0)


@cache
def device_profiles() -> dict[str, DeviceProfile]:
    """Every device that can be stood for, by its short name."""
    text = files("aiinfra_labs.gpu").joinpath("devices.toml").read_text(encoding="utf-8")
    profiles = {}
    for key, facts in tomllib.loads(text).items():
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in facts.items()
            if name not in ("source", "as_of")
        }
        profiles[key] = DeviceProfile(key=key, **values)
    return profiles


_current = os.environ.get("AIINFRA_DEVICE", "h100")


def get_current_device() -> DeviceProfile:
    return _profile(_current)


def select_device(key: str | int) -> DeviceProfile:
    """Stand for another device: "h100", "a100", "rtx4090", "t4"; 0 keeps the current one."""
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
