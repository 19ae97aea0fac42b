"""Shared memory's banks: the wavefronts of a warp's request, and its bank conflicts. Unit 3.4.

Shared memory is 32 banks, each 4 bytes wide: word w lies in bank w % 32. In one pass, a wavefront,
each bank gives one word, to any number of lanes. So a request of 4-byte elements takes as many
wavefronts as the bank asked most has different words to give; elements of 1 or 2 bytes share words.
(CUDA C++ Programming Guide, compute capability 5.x, "Shared Memory".)

A wavefront returns 128 bytes, a register a lane. Elements of 8 bytes are therefore served half a
warp at a time, those of 16 bytes a quarter, each part by the rule above; and twice as many lanes at
a time when lanes n and n ^ 1, or n and n ^ 2, ask for one address throughout (NVIDIA developer
forum, topic 77228). Conflicts are the wavefronts beyond those that the words need anyhow.
"""

from __future__ import annotations

import numpy as np

from ..lanes.mask import WARP_SIZE

BANKS = 32
WORD = 4  # bytes
_known: dict[tuple, tuple[int, int]] = {}  # patterns of addresses met before, and what they cost
_KNOWN_LIMIT = 4096


def request_cost(
    addresses: np.ndarray,
    active: np.ndarray | None,
    itemsize: int,
    period: int = 1,
    aligned: bool = True,
) -> tuple[int, int]:
    """(wavefronts, conflicts) of the requests of some warps, each summed.

    addresses: int64 [W, 32], bytes; active: bool [W, 32], or None where every lane is.
    period: the warps of a block; blocks mostly ask in one pattern, which is worked out once.
    aligned: each address is a multiple of the element's size, or of 4.
    """
    if not aligned:
        return _cost(addresses, active, itemsize)
    blocks = (addresses >> 2).reshape(-1, period * WARP_SIZE)  # words
    blocks = blocks - blocks[:, :1]  # all moved by as many words conflict no more and no less
    lanes = None if active is None else active.reshape(blocks.shape)
    if (blocks != blocks[0]).any() or (lanes is not None and (lanes != lanes[0]).any()):
        return _cost(addresses, active, itemsize)
    first = None if active is None else active[:period]
    key = (blocks[0].tobytes(), None if first is None else first.tobytes(), itemsize)
    if key not in _known:
        if len(_known) >= _KNOWN_LIMIT:
            _known.clear()
        _known[key] = _cost(addresses[:period], first, itemsize)
    wavefronts, conflicts = _known[key]
    return wavefronts * len(blocks), conflicts * len(blocks)


def _cost(addresses: np.ndarray, active: np.ndarray | None, itemsize: int) -> tuple[int, int]:
    if active is None:
        active = np.ones(addresses.shape, bool)
    first, last = addresses // WORD, (addresses + itemsize - 1) // WORD
    spans = np.arange(int((last - first).max()) + 1)
    words = np.minimum(first[:, :, None] + spans, last[:, :, None])  # [W, 32, spans]
    words[~active] = -1
    if itemsize <= WORD:
        return _served(words, 1)
    parts = 2 if itemsize <= 2 * WORD else 4
    paired = _paired(addresses, active)
    a, b = _served(words[paired], parts // 2), _served(words[~paired], parts)
    return a[0] + b[0], a[1] + b[1]


def _paired(addresses: np.ndarray, active: np.ndarray) -> np.ndarray:
    """bool [W]: whether lanes n and n ^ 1, or n and n ^ 2, share an address wherever both ask."""

    def shared(distance: int) -> np.ndarray:
        other = np.arange(WARP_SIZE) ^ distance
        same = addresses == addresses[:, other]
        return (same | ~active | ~active[:, other]).all(axis=1)

    return shared(1) | shared(2)


def _served(words: np.ndarray, parts: int) -> tuple[int, int]:
    """(wavefronts, conflicts) of words [W, 32, spans], a warp served in so many parts.

    -1 asks for nothing.
    """
    if not words.size:
        return 0, 0
    rows = words.reshape(len(words) * parts, -1)
    ordered = np.sort(rows, axis=1)
    new = ordered >= 0
    new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]  # each word counts once
    part, place = np.nonzero(new)
    bank = ordered[part, place] % BANKS
    by_bank = np.bincount(part * BANKS + bank, minlength=len(rows) * BANKS).reshape(-1, BANKS)
    wavefronts = by_bank.max(axis=1)
    least = -(-by_bank.sum(axis=1) // BANKS)
    return int(wavefronts.sum()), int((wavefronts - least).sum())


def atomic_turns(addresses: np.ndarray, active: np.ndarray) -> int:
    """The most active lanes that meet on one address, for each warp, summed: how often an atomic
    operation must wait its turn. addresses: int64 [W, 32]; active: bool [W, 32]."""
    rows = active.any(axis=1)
    ordered = np.sort(np.where(active, addresses, -1)[rows], axis=1)
    if not ordered.size:
        return 0
    new = np.ones(ordered.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.flatnonzero(new)
    meeting = np.diff(np.r_[starts, ordered.size])
    meeting[ordered.reshape(-1)[starts] < 0] = 0  # lanes that take no part
    heads = np.searchsorted(starts, np.arange(len(ordered)) * WARP_SIZE)
    return int(np.maximum.reduceat(meeting, heads).sum())
