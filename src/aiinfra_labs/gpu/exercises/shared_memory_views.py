"""What `show` draws of a learner's shared memory: its banks, and what one warp left for another.

Unit 3.4. The accesses are those of the emulator's trace, of the first block that ran.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aiinfra_labs.course import figures
from aiinfra_labs.course.parts import CourseError
from aiinfra_labs.gpu.drawings import shared_memory as drawings
from aiinfra_labs.gpu.emulator import Access, trace

from .grading import launch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BANKS, WORD = 32, 4  # bytes


@dataclass(frozen=True)
class Drawing:
    """A figure in the page's style; in a terminal, its alt text."""

    figure: Figure

    def _repr_html_(self) -> str:
        return figures.to_html(self.figure)

    def __repr__(self) -> str:
        return self.figure.get_label()


def shared_accesses(kernel: Any, grid: Any, block: Any, *args: Any) -> list[Access]:
    """What one launch loads from and stores to arrays that the kernel made itself."""
    with trace() as t:
        launch(kernel, grid, block, *args)
    given = inspect.signature(kernel.py_func).parameters
    return [access for access in t.accesses if access.array not in given]


def wavefronts(addresses: np.ndarray) -> int:
    """How many words the bank asked most must give. addresses: int64 [32], bytes; -1 for none."""
    words = np.unique(addresses[addresses >= 0] // WORD)
    return int(np.bincount(words % BANKS, minlength=BANKS).max()) if len(words) else 0


def worst_requests(accesses: list[Access]) -> Drawing:
    """The store and the load of shared memory that take the most wavefronts, by bank."""
    requests = []
    for kind in ("store", "load"):
        rows = [
            (wavefronts(row), access.line, row)
            for access in accesses
            if access.kind == kind
            for row in access.addresses
        ]
        if rows:
            _, line, row = max(rows, key=lambda found: found[0])
            requests.append((f"a warp's {kind}, line {line}", row))
    if not requests:
        raise CourseError(
            "the kernel touches no shared memory: there are no banks to draw",
            "its threads have only what they loaded themselves",
            "tile = cuda.shared.array((32, 32), np.float32), and a store to it",
        )
    return Drawing(drawings.banks(*requests))


def handed_over(accesses: list[Access]) -> Drawing:
    """Which warp stored each word of a shared array first, and which others read it.

    accesses: of a launch of one block, to elements of 4 bytes.
    """
    touched: dict[str, list[tuple[int, int]]] = {"store": [], "load": [], "atomic": []}
    for access in accesses:
        warp, lane = np.nonzero(access.elements >= 0)
        words = access.elements[warp, lane]
        touched[access.kind] += zip(words.tolist(), warp.tolist(), strict=True)
    if not touched["store"]:
        raise CourseError(
            "the kernel stores nothing in shared memory",
            "there is nothing that one warp could hand to another",
            "store what the block needs in an array of cuda.shared.array first",
        )
    length = 1 + max(word for pairs in touched.values() for word, _ in pairs)
    writer, readers = [-1] * length, [set[int]() for _ in range(length)]
    for word, warp in touched["store"]:
        writer[word] = warp if writer[word] < 0 else writer[word]
    for word, warp in touched["load"]:
        readers[word].add(warp)
    return Drawing(drawings.handover(writer, readers))


def atomics_bars(rows: list[tuple[str, int, int]]) -> Drawing:
    """For each row its name, the atomic additions of the learner's kernel, and how many do."""
    said = "; ".join(f"{name}: {yours:,}, and {enough:,} do" for name, yours, enough in rows)
    fig, ax = figures.figure(alt=f"Atomic additions to bins. {said}.", height=1.9)
    for k, (_, yours, enough) in enumerate(rows):
        _bar(ax, k - 0.2, yours, "orange", "yours" if k == 0 else "")
        _bar(ax, k + 0.2, enough, "blue", "enough" if k == 0 else "")
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.set_xlim(0, 1.6 * max(max(row[1:]) for row in rows))
    ax.set_xlabel("atomic additions to bins")
    ax.invert_yaxis()
    ax.legend(loc="center right", frameon=False, labelcolor=figures.INK)
    return Drawing(fig)


def _bar(ax: Any, y: float, value: int, colour: str, label: str) -> None:
    ax.barh(y, value, 0.36, color=figures.PALETTE[colour], label=label)
    ax.text(value, y, f" {value:,}", va="center", color=figures.INK)
