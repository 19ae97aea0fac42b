"""How many blocks of KV cache there is room for: a share of the memory that is free. Unit 4.2.

vLLM takes 90 % of a GPU, which nobody else uses. A laptop's memory is everybody's, and what a cache
takes there the browser loses; so on a processor the share is a small one, and no more is taken than
the requests that may run at once can fill.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from .errors import ServingError
from .model import ModelConfig

SHARES = {"cpu": 0.1, "cuda": 0.9}  # of what is free


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free for this process, in bytes; None where nobody says.

    On a processor, what the system can give without swapping, within the limit of a container.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    found = [free for free in (_of_the_system(), _of_the_container()) if free is not None]
    return min(found, default=None)


def _of_the_system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:  # elsewhere: all of it, of which half may be others'
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _of_the_container() -> int | None:
    """Linux's control groups, version 2: a limit, less what is used."""
    group = Path("/sys/fs/cgroup")
    try:
        most = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - used)


def blocks_that_fit(
    shape: ModelConfig,
    block_size: int,
    max_sequences: int,
    itemsize: int,
    device: torch.device,
    share: float | None = None,
) -> int:
    """Blocks of keys and values for `share` of the free memory; None is that of `SHARES`.

    At most what `max_sequences` whole contexts fill. itemsize: bytes of one number. Raises
    `ServingError` where not even one context of 1 block has room.
    """
    share = SHARES.get(device.type, SHARES["cpu"]) if share is None else share
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ServingError(
            f"memory_share is {share!r}", "it is a share of the free memory", "0.1 for a tenth"
        )
    if block_size < 1 or max_sequences < 1:
        raise ServingError(
            f"blocks of {block_size} tokens, for {max_sequences} sequences",
            "the keys and values of every token need a place",
            "1 or more of each",
        )
    most = max_sequences * -(-shape.max_position_embeddings // block_size)
    free = free_bytes(device)
    if free is None:
        return min(512, most)
    tokens = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * itemsize
    fit = int(free * share) // (tokens * block_size)
    if fit < 1:
        raise ServingError(
            f"{share:.0%} of the free memory, {free / 2**20:,.0f} MiB, have no room for a block of "
            f"{tokens * block_size / 2**20:,.1f} MiB",
            "each running request keeps its keys and values there",
            "a larger memory_share, a smaller block_size, or other programs closed",
        )
    return min(fit, most)
