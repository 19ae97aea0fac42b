"""Paged attention for a CPU: one query at a time, over the blocks where they lie. Unit 4.2.

Gathering the blocks first, as PyTorch must, reads and writes all keys and values once more than
the attention itself reads them. This loop reads each once, for all query heads of its kv head.

Numba compiles it, and keeps what it compiled for later processes. Threads are Python's own, which
the loop lets run: Numba's `prange` would be shorter, but where it has neither TBB nor OpenMP, two
engines in two threads end the process, and after a fork its OpenMP does.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import torch
from numba.core import event

LEAST = 1 << 20  # bytes of keys and values for which one more thread is worth its while

# One for all layouts of the query, which is a part of a larger tensor unless it is one token: a
# second one would be compiled in the middle of the service.
SIGNATURE = (
    "void(float32[:, :, :], float32[:, :, :, ::1], float32[:, :, :, ::1], int64[::1], int64[::1],"
    " int64[::1], int64[::1], int32[:, ::1], float32[:, :, ::1], int64, int64)"
)


def decode_attention(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    tokens: np.ndarray,
    rows: np.ndarray,
    firsts: np.ndarray,
    ends: np.ndarray,
    block_table: np.ndarray,
    out: np.ndarray,
) -> None:
    """out[token] = softmax(query keys^T / sqrt(D)) values, for each of `tokens`.

    query, out: float32 [T, H, D]. keys, values: float32 [num_blocks, block_size, K, D].
    tokens, rows, firsts, ends: int64 [N]: which rows of `query`, whose, and the positions that
    each sees, from the first to before the end.
    block_table: int32 [S, max_blocks]. As many threads as PyTorch's.
    """
    loop, kv_heads = compiled(), keys.shape[2]
    table = np.ascontiguousarray(block_table, dtype=np.int32)
    given = (query, keys, values, tokens, rows, firsts, ends, table, out)
    items = len(tokens) * kv_heads  # a token and a kv head each
    seen = ends - firsts
    read = 8 * int(seen.sum()) * kv_heads * keys.shape[3]  # bytes
    parts = min(torch.get_num_threads(), items, 1 + read // LEAST)
    if parts == 1:
        loop(*given, 0, items)
        return
    # Parts of like work: an item's is what its token sees.
    work = np.cumsum(np.repeat(seen, kv_heads))
    cuts = np.searchsorted(work, work[-1] * np.arange(1, parts) / parts).tolist()
    first, *others = zip([0, *cuts], [*cuts, items], strict=True)
    pool = _pool(os.getpid(), parts - 1)
    waiting = [pool.submit(loop, *given, *part) for part in others]
    loop(*given, *first)
    for done in waiting:
        done.result()


@lru_cache(1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a parent do not live on in a forked child."""
    return ThreadPoolExecutor(threads, thread_name_prefix="attention")


# --- the loop, and how it is compiled -------------------------------------------------------------


def _loop(query, keys, values, tokens, rows, firsts, ends, block_table, out, first_item, last_item):
    heads, d = query.shape[1], query.shape[2]
    block_size, kv_heads = keys.shape[1], keys.shape[2]
    group = heads // kv_heads
    scale = np.float32(1 / math.sqrt(d))
    asks = np.empty((group, d), np.float32)
    mean = np.empty((group, d), np.float32)
    longest = 0
    for item in range(first_item, last_item):
        longest = max(longest, ends[item // kv_heads] - firsts[item // kv_heads])
    weights = np.empty((group, longest), np.float32)
    for item in range(first_item, last_item):
        n, kv_head = item // kv_heads, item % kv_heads
        token, row, seen_first, seen_end = tokens[n], rows[n], firsts[n], ends[n]
        first = kv_head * group  # of the query heads that share this kv head
        for g in range(group):
            for i in range(d):
                asks[g, i] = query[token, first + g, i] * scale
                mean[g, i] = 0
        seen = seen_end - seen_first
        first_block, end_block = seen_first // block_size, (seen_end + block_size - 1) // block_size
        for place in range(first_block, end_block):
            start, block = place * block_size, block_table[row, place]
            for t in range(max(0, seen_first - start), min(block_size, seen_end - start)):
                for g in range(group):
                    score = np.float32(0)
                    for i in range(d):
                        score += asks[g, i] * keys[block, t, kv_head, i]
                    weights[g, start + t - seen_first] = score
        for g in range(group):
            largest = weights[g, 0]
            for t in range(seen):
                largest = max(largest, weights[g, t])
            total = np.float32(0)
            for t in range(seen):
                weights[g, t] = math.exp(weights[g, t] - largest)
                total += weights[g, t]
            for t in range(seen):
                weights[g, t] /= total
        for place in range(first_block, end_block):
            start, block = place * block_size, block_table[row, place]
            for t in range(max(0, seen_first - start), min(block_size, seen_end - start)):
                for g in range(group):
                    weight = weights[g, start + t - seen_first]
                    for i in range(d):
                        mean[g, i] += weight * values[block, t, kv_head, i]
        for g in range(group):
            for i in range(d):
                out[token, first + g, i] = mean[g, i]


_lock = threading.Lock()
_compiled: list[Callable[..., None]] = []


def compiled() -> Callable[..., None]:
    """The loop as machine code: of an earlier process, or compiled now, which takes seconds."""
    if not _compiled:
        with _lock:
            if not _compiled:
                with event.install_listener("numba:compile", _Telling()):
                    _compiled.append(_compile())
    return _compiled[0]


def _compile() -> Callable[..., None]:
    options: dict[str, Any] = {"fastmath": True, "nogil": True}
    try:
        # Beside this file, or where that cannot be written in the user's own cache folder.
        return numba.njit(SIGNATURE, cache=True, **options)(_loop)
    except Exception as error:  # no such folder, a full disk, a file that was cut off, ...
        logging.getLogger(__name__).info("compiled code is not kept: %s", error)
        return numba.njit(SIGNATURE, **options)(_loop)


class _Telling(event.Listener):
    """Says once why nothing seems to happen."""

    def __init__(self) -> None:
        self.told = False

    def on_start(self, event: Any) -> None:
        if self.told:
            return
        self.told = True
        text = "compiling the attention loop for this processor: some seconds, and kept for later"
        logging.getLogger(__name__).info(text)
        if _somebody_reads():
            print(text, file=sys.stderr)

    def on_end(self, event: Any) -> None:
        pass


def _somebody_reads() -> bool:
    """Whether the error output is a terminal's or a notebook's.

    A notebook that is compared with its stored outputs has AIINFRA_QUIET set: what was compiled
    before must not change them.
    """
    if sys.stderr is None or os.environ.get("AIINFRA_QUIET"):
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return sys.stderr.isatty() or hasattr(shell, "kernel")


def _forked() -> None:
    """A child of a fork: the lock may be held by a thread that it does not have."""
    global _lock
    _lock = threading.Lock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
