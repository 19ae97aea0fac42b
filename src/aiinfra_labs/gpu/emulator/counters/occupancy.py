"""How many warps of a kernel one multiprocessor can hold: theoretical occupancy. Unit 3.7.

The rules are those of NVIDIA's occupancy calculator (`cuda_occupancy.h` of the CUDA toolkit), with
the limits of each compute capability from `devices.toml`: a block is placed whole, and the first
resource to run out, of warps, blocks, registers and shared memory, decides. It assumes that the SM
gives shared memory as much room as it can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..devices import SMLimits, device_profile, sm_limits
from ..errors import LaunchError
from ..lanes.mask import WARP_SIZE
from .showing import ReportTable

REGISTER_UNIT = 256  # registers are given to a warp in this many
MAX_REGISTERS = 255  # a thread can name
PARTITIONS = 4  # of an SM, each with its part of the registers


_SPOKEN = {"blocks": "the most that an SM takes"}


@dataclass(frozen=True, repr=False)
class Occupancy:
    """limits: for each resource, the blocks of an SM that it allows; None where it is not known.

    registers: of a thread, as given; None: not known, and then the figures are upper bounds.
    """

    device: str
    threads_per_block: int
    registers: int | None
    shared: int
    max_warps: int
    limits: dict[str, int | None]

    @property
    def blocks_per_sm(self) -> int:
        """Blocks that an SM holds at once: the least of the limits."""
        return min(n for n in self.limits.values() if n is not None)

    @property
    def warps_per_block(self) -> int:
        """Warps of a block, the last one perhaps in part."""
        return -(-self.threads_per_block // WARP_SIZE)

    @property
    def warps_per_sm(self) -> int:
        """Warps that an SM holds at once."""
        return self.blocks_per_sm * self.warps_per_block

    @property
    def fraction(self) -> float:
        """Warps on the SM / warps that it could hold: 1.0 at best."""
        return self.warps_per_sm / self.max_warps

    @property
    def limited_by(self) -> list[str]:
        """The resources that allow no further block; none where the SM is full of warps."""
        least = self.blocks_per_sm
        return [name for name, n in self.limits.items() if n == least]

    @property
    def note(self) -> str:
        """What the figures leave open; empty where they are exact."""
        if self.registers is None:
            return (
                "this is the most it can be, for the registers of a thread are not known: pass "
                "registers=..., from kernel.get_regs_per_thread() on a GPU, or from ptxas -v"
            )
        return ""

    def _table(self) -> ReportTable:
        rows = [
            ("occupancy", f"{self.fraction:.1%}"),
            ("warps on an SM", f"{self.warps_per_sm} of {self.max_warps}"),
            ("blocks on an SM", str(self.blocks_per_sm)),
            ("limited by", ", ".join(self.limited_by)),
            ("threads a block", str(self.threads_per_block)),
            ("registers a thread", "?" if self.registers is None else str(self.registers)),
            ("shared bytes a block", f"{self.shared:,}"),
        ]
        rows += [
            (f"blocks, by {_SPOKEN.get(name, name)}", "?" if n is None else str(n))
            for name, n in self.limits.items()
        ]
        return ReportTable(rows, title=f"theoretical occupancy on {self.device}", note=self.note)

    def __str__(self) -> str:
        return self._table().text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table().html()


def occupancy_of(
    threads: int, registers: int | None = None, shared: int = 0, device: str | None = None
) -> Occupancy:
    """The occupancy of blocks of `threads` threads.

    registers: of a thread, or None. shared: bytes a block, static and dynamic. device: a profile
    ("h100") or a compute capability ("8.6"); by default the device that is stood for. Raises
    `LaunchError` for a block that no launch could have, and for what is no whole number.
    """
    name, sm = _named(device)
    if not _is_whole(threads) or not 1 <= threads <= 1024:
        raise LaunchError(
            f"a block of {threads!r:.40} threads",
            "a block has 1 to 1024 threads",
            "use fewer threads and more blocks",
        )
    if not _is_whole(shared) or shared < 0:
        raise LaunchError(
            f"{shared!r:.40} bytes of shared memory a block",
            "it is a number of bytes, static and dynamic together",
            "0 or more; the nbytes of the block's shared arrays",
        )
    if shared > sm.shared_memory_per_block:
        raise LaunchError(
            f"{shared:,} bytes of shared memory a block",
            f"{name} gives a block at most {sm.shared_memory_per_block:,} bytes",
            "keep a smaller tile in shared memory",
        )
    warps = -(-threads // WARP_SIZE)
    reserved = _up(shared + sm.shared_memory_reserved, sm.shared_memory_unit)
    limits: dict[str, int | None] = {
        "warps": sm.max_warps // warps,
        "blocks": sm.max_blocks,
        "registers": None if registers is None else _by_registers(sm, warps, registers),
        "shared memory": sm.shared_memory // reserved if reserved else None,
    }
    return Occupancy(name, threads, registers, shared, sm.max_warps, limits)


def _by_registers(sm: SMLimits, warps: int, registers: int) -> int:
    """Blocks for whose warps there are registers, in each of the SM's four partitions."""
    if not _is_whole(registers) or registers < 1:
        raise LaunchError(
            f"{registers!r:.40} registers a thread",
            "a thread has 1 to 255",
            "take the number that the compiler gives",
        )
    per_warp = _up(registers * WARP_SIZE, REGISTER_UNIT)
    # a launch is refused as if the warps of a block filled all partitions evenly
    if registers > MAX_REGISTERS or per_warp * _up(warps, PARTITIONS) > sm.registers:
        raise LaunchError(
            f"blocks of {warps} warps with {registers} registers a thread",
            f"an SM has {sm.registers:,} registers, and a thread can have {MAX_REGISTERS}",
            "use fewer threads a block, or limit the registers: cuda.jit(max_registers=...)",
        )
    return sm.registers // PARTITIONS // per_warp * PARTITIONS // warps


def _is_whole(number: Any) -> bool:
    return hasattr(number, "__index__") and not isinstance(number, bool)


def _named(device: str | None) -> tuple[str, SMLimits]:
    if device is not None and device.replace(".", "").isdigit():
        return f"compute capability {device}", sm_limits(device)
    profile = device_profile(device)
    return profile.name, sm_limits(".".join(map(str, profile.compute_capability)))


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def registers_of(kernel: Any) -> int | None:
    """Registers a thread of a kernel that Numba has compiled for a GPU; None for all others."""
    ask = getattr(kernel, "get_regs_per_thread", None)
    if ask is None:
        return None
    found = ask()
    return max(found.values(), default=None) if isinstance(found, dict) else found
