"""The MIG board: place and destroy instances by hand, and see what still fits. Unit 3.9.

All of it runs in the page (`mig_board.js`), by the rules of `gpu/sharing/mig.py`; a test holds the
two together. The tables of the boards are stored in the widget, from `mig_profiles.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from aiinfra_labs.course.framing import framed, scripted
from aiinfra_labs.gpu.sharing.mig import Board, Gpu, Instance, MigError, gpus

__all__ = ["MigBoard", "tables"]


def tables() -> dict[str, Any]:
    """Every board's slices and profiles as plain data: what the JavaScript works on."""
    return {gpu.id: _table(gpu) for gpu in gpus().values()}


def _table(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "memory_slices": gpu.memory_slices,
        "compute_slices": gpu.compute_slices,
        "profiles": [
            {"name": p.name, "compute": p.compute, "memory": p.memory, "starts": list(p.starts)}
            for p in gpu.profiles
        ],
    }


class MigBoard(anywidget.AnyWidget):
    """A board with its memory slices, to be filled by hand.

    `MigBoard("a100-40gb", [("1g.5gb", 6), ("2g.10gb", 0)])` begins with two instances. The whole
    state is in the traits below, so it works on a static page.
    """

    _esm = scripted(Path(__file__).parent / "mig_board.js")
    _css = framed(Path(__file__).parent / "mig_board.css")

    tables = traitlets.Dict(help="The boards by id: slices and profiles.").tag(sync=True)
    gpu = traitlets.Unicode("h100-80gb", help="Which board.").tag(sync=True)
    profile = traitlets.Unicode("", help="The profile to be placed next.").tag(sync=True)
    instances = traitlets.List(help="[profile, start] of each instance.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the board.").tag(sync=True)

    def __init__(
        self,
        gpu: str = "h100-80gb",
        instances: Iterable[tuple[str, int]] = (),
        profile: str = "",
        title: str = "",
    ):
        known = gpus()
        if gpu not in known:
            raise MigError(
                f"there is no board {gpu!r}",
                "the widget has the boards of mig_profiles.toml",
                f"one of {', '.join(known)}",
            )
        profile = known[gpu].profile(profile or known[gpu].profiles[0].name).name
        placed = [[name, start] for name, start in instances]
        super().__init__(tables=tables(), gpu=gpu, profile=profile, instances=placed, title=title)
        _ = self.board  # raises MigError for instances that cannot stand so

    @property
    def board(self) -> Board:
        """The board as it is drawn now."""
        gpu = gpus()[self.gpu]
        return Board(gpu, [Instance(start, gpu.profile(name)) for name, start in self.instances])

    def __repr__(self) -> str:
        return f"MigBoard({self.board!r})"
