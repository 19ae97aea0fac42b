"""What `show` draws for 3.6.d and 3.6.e: attention tile by tile, a pool of blocks. Unit 3.6."""

from __future__ import annotations

import numpy as np

from .thread_views import BLOCKS, INK, NOBODY, Picture, axes


def tiles(scores: np.ndarray, got: np.ndarray, expected: np.ndarray, tile: int) -> Picture:
    """One query: its scores, and what is known after each tile.

    scores: float [keys]. got, expected: float32 [tiles, 3], as (largest, total, output).
    """
    figure, (left, right) = axes(2, 10.5, 3.4)
    left.bar(range(len(scores)), scores, color=BLOCKS[0], edgecolor=INK, lw=0.4, label="score")
    for start in range(tile, len(scores), tile):
        left.axvline(start - 0.5, color=INK, lw=0.5, ls=":")
    ends = np.arange(len(got)) * tile + tile / 2 - 0.5
    left.plot(ends, got[:, 0], "o", color="#b03a00", label="largest so far, yours")
    left.set_xlabel(f"key; dotted: tiles of {tile}")
    left.legend(fontsize=8)
    with np.errstate(all="ignore"):
        mine, right_one = got[:, 2] / got[:, 1], expected[:, 2] / expected[:, 1]
    right.plot(right_one, "-", color=INK, label="output / total, one pass over all so far")
    right.plot(mine, "o", color="#b03a00", label="output / total, yours")
    right.set_xlabel("tile")
    right.legend(fontsize=8)
    agree = int(np.isclose(got, expected, rtol=1e-3).all(axis=1).sum())
    said = f"{agree} of {len(got)} tiles end with the right largest, total and output"
    right.set_title(said, fontsize=10)
    return Picture(figure, f"One query, {len(scores)} keys in tiles of {tile}: {said}.")


def pool(block_table: np.ndarray, contexts: np.ndarray, reads: np.ndarray) -> Picture:
    """The pool of blocks: whose token lies where, and how often kv head 0 of it was read.

    block_table: int32 [seqs, max_blocks]. contexts: int32 [seqs]. reads: int [num_blocks, places].
    """
    from matplotlib.patches import Rectangle

    blocks, size = reads.shape
    owner, token = np.full((2, blocks, size), -1)
    for seq, length in enumerate(contexts):
        for t in range(length):
            place = block_table[seq, t // size], t % size
            owner[place], token[place] = seq, t
    figure, (ax,) = axes(1, 8.5, 1.2 + 0.36 * blocks)
    for (block, place), seq in np.ndenumerate(owner):
        colour = BLOCKS[seq] if seq >= 0 else NOBODY
        look = {"facecolor": colour, "edgecolor": "#888888", "lw": 0.5}
        ax.add_patch(Rectangle((place - 0.5, block - 0.5), 1, 1, **look))
        whose = f"seq {seq}, token {token[block, place]}" if seq >= 0 else "free"
        times = f"{reads[block, place]} x" if reads[block, place] else "not read"
        ax.text(place, block, f"{whose}: {times}", ha="center", va="center", fontsize=8, color=INK)
    ax.set_xlim(-0.5, size - 0.5)
    ax.set_ylim(blocks - 0.5, -0.5)
    ax.set_yticks(range(blocks), [f"block {b}" for b in range(blocks)])
    ax.set_xticks(range(size), [f"place {p}" for p in range(size)])
    held = owner >= 0
    said = (
        f"{int((reads[held] == 1).sum())} of {int(held.sum())} tokens read once, "
        f"{int((reads[held] > 1).sum())} more often, "
        f"{int((reads[~held] > 0).sum())} free places read"
    )
    ax.set_title(f"kv head 0, how often each place was read: {said}", fontsize=10)
    return Picture(figure, f"The pool of {blocks} blocks of {size}, kv head 0: {said}.")


__all__ = ["Picture", "pool", "tiles"]
