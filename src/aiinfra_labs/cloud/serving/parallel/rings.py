"""All-reduce, reduce-scatter and all-gather, by hand, from messages to one neighbour. Unit 4.6.

N ranks stand in a ring. A tensor is cut into N pieces, and in each step every rank sends one piece
to the next rank while it receives another from the previous one: all links are busy, none twice.
After N - 1 steps of adding, each rank has the sum of one piece; after N - 1 more of passing on,
each has all. A rank sends 2 (N - 1) pieces of 1/N: 2 (N - 1)/N times the tensor, which is the
least that is possible (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters
of workstations", 2009).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Ring(Protocol):
    """A place in a ring: `shift` sends to rank + 1 and returns what rank - 1 has sent."""

    rank: int
    size: int

    def shift(self, x: Tensor) -> Tensor:
        """Send x, [n], to rank + 1, and return what rank - 1 sent, which may be of any length."""


def reduce_scatter(x: Tensor, ring: Ring, add: Callable = torch.add) -> Tensor:
    """The sum over all ranks of this rank's piece. x: [n]; returns about [n / N].

    Piece r is what `torch.tensor_split(x, N)[r]` is, so n need not be a multiple of N.
    """
    pieces = list(x.tensor_split(ring.size))
    for step in range(ring.size - 1):
        give = (ring.rank - step - 1) % ring.size
        take = (give - 1) % ring.size
        pieces[take] = add(pieces[take], ring.shift(pieces[give]))
    return pieces[ring.rank]


def all_gather(piece: Tensor, ring: Ring) -> Tensor:
    """The pieces of all ranks, one behind the other. piece: [m], which may differ among ranks."""
    pieces = [piece] * ring.size
    for step in range(ring.size - 1):
        give = (ring.rank - step) % ring.size
        take = (give - 1) % ring.size
        pieces[take] = ring.shift(pieces[give])
    return torch.cat(pieces)


def all_reduce(x: Tensor, ring: Ring, add: Callable = torch.add) -> Tensor:
    """The sum over all ranks, the same to the bit on each. x: [n]; returns [n]."""
    return all_gather(reduce_scatter(x, ring, add), ring)
