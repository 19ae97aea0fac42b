"""The occupancy explorer: a block's resources by hand, and what of an SM it fills. Unit 3.7.

All of it runs in the page (`occupancy.js`), by the rules of the emulator's calculator; a test holds
the two together. The limits of each device's SM are stored in the widget.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from aiinfra_labs.course.framing import framed, scripted
from aiinfra_labs.gpu.emulator import (
    LaunchError,
    Occupancy,
    device_profiles,
    occupancy_of,
    sm_limits,
)

__all__ = ["OccupancyExplorer", "tables"]


def tables() -> dict[str, Any]:
    """Each device's name and the limits of its SM: what the JavaScript works on."""
    found = {}
    for key, profile in device_profiles().items():
        capability = ".".join(map(str, profile.compute_capability))
        found[key] = {"name": profile.name, **asdict(sm_limits(capability))}
    return found


class OccupancyExplorer(anywidget.AnyWidget):
    """Occupancy of a block on a device, to be changed by hand; on a static page, too."""

    _esm = scripted(Path(__file__).parent / "occupancy.js")
    _css = framed(Path(__file__).parent / "occupancy.css")

    device = traitlets.Enum(tuple(device_profiles()), "h100", help="Whose SM.").tag(sync=True)
    threads = traitlets.Int(256, min=1, max=1024, help="Of a block.").tag(sync=True)
    registers = traitlets.Int(32, min=1, max=255, help="Of a thread.").tag(sync=True)
    shared = traitlets.Int(0, min=0, help="Bytes of shared memory, of a block.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)
    devices = traitlets.Dict(help="The limits of each device's SM.").tag(sync=True)

    def __init__(self, **settings: Any):
        super().__init__(devices=tables(), **settings)

    @traitlets.validate("shared")
    def _within_a_block(self, proposal: Any) -> int:
        return min(proposal["value"], tables()[self.device]["shared_memory_per_block"])

    @property
    def occupancy(self) -> Occupancy:
        """The calculator's answer for what is shown. Raises LaunchError for a block refused."""
        return occupancy_of(self.threads, self.registers, self.shared, self.device)

    def __repr__(self) -> str:
        block = (
            f"{self.device}, {self.threads} threads, {self.registers} registers, {self.shared} B"
        )
        try:
            return f"OccupancyExplorer({block}: {self.occupancy.fraction:.1%})"
        except LaunchError:
            return f"OccupancyExplorer({block}: cannot be launched)"
