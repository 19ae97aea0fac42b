"""What ranks say to each other, and how many bytes that is. Unit 4.6.

`Comm` is one rank's end of a group. Each of its operations is counted where it is called. What a
rank sends for a collective is known from the ring: N ranks and a tensor of n bytes make

    all-reduce          2 (N - 1)/N x n
    reduce-scatter        (N - 1)/N x n       n: the whole that is reduced
    all-gather            (N - 1)/N x n       n: the whole that is gathered

The base class does every collective by hand (`rings`), and counts the bytes of each message that
it really sends. `ProcessComm` hands them to torch.distributed, and counts by the formula.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from . import rings

OPERATIONS = {"sum": torch.add, "max": torch.maximum}


class Traffic:
    """Bytes that a rank has sent, and its calls, by kind ("all-reduce", "send", ...)."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    @property
    def bytes(self) -> int:
        """Bytes of all kinds together."""
        return sum(self.sent.values())

    def clear(self) -> None:
        """Count from 0 again."""
        self.sent.clear()
        self.calls.clear()


def wire_bytes(kind: str, whole: int, size: int) -> int:
    """Bytes that one of `size` ranks sends for a collective on `whole` bytes, by a ring."""
    times = {"all-reduce": 2, "reduce-scatter": 1, "all-gather": 1}[kind]
    return round(times * (size - 1) * whole / size)


class Comm(ABC):
    """One rank's end of a group of ranks. `rank` and `size` are those of the group."""

    def __init__(self, rank: int, size: int, traffic: Traffic):
        self.rank, self.size, self.traffic = rank, size, traffic
        self._kind = ""

    @abstractmethod
    def _send(self, x: Tensor, to: int) -> None:
        """Hand a tensor over; does not wait until it has arrived."""

    @abstractmethod
    def _receive(self, out: Tensor, source: int) -> None:
        """Wait for a tensor of out's shape and dtype, and fill `out`."""

    @abstractmethod
    def shift(self, x: Tensor) -> Tensor:
        """Send x, [n], to rank + 1, and return what rank - 1 sent, which may be of any length."""

    def send(self, x: Tensor, to: int) -> None:
        """Send to one rank of the group, and go on."""
        self.count(self._kind or "send", x.nbytes)
        self._send(x.contiguous(), to)

    def receive(self, out: Tensor, source: int) -> Tensor:
        """Fill `out` with what one rank sent, and return it."""
        self._receive(out, source)
        return out

    @abstractmethod
    def flush(self) -> None:
        """Wait until all that was sent has arrived."""

    def all_reduce(self, x: Tensor, operation: str = "sum") -> Tensor:
        """x becomes its sum (or maximum) over all ranks. Any shape; returns x."""
        with self.counted("all-reduce"):
            x.copy_(rings.all_reduce(x.flatten(), self, OPERATIONS[operation]).view_as(x))
        return x

    def reduce_scatter(self, x: Tensor) -> Tensor:
        """This rank's Nth of the sum. x: [N m]; returns [m]."""
        with self.counted("reduce-scatter"):
            return rings.reduce_scatter(x, self)

    def all_gather(self, x: Tensor) -> Tensor:
        """What all ranks have. x: [m], the same m on all; returns [N m]."""
        with self.counted("all-gather"):
            return rings.all_gather(x, self)

    @contextmanager
    def counted(self, kind: str) -> Iterator[None]:
        """Within the block, every message counts as part of one call of this kind."""
        self.traffic.calls[kind] += 1
        self._kind = kind
        try:
            yield
        finally:
            self._kind = ""

    def count(self, kind: str, sent: int) -> None:
        """Add `sent` bytes of a message: to the call that `counted` has begun, or as a call."""
        self.traffic.sent[kind] += sent
        self.traffic.calls[kind] += not self._kind


class Alone(Comm):
    """A group of one, in which nothing needs to be said."""

    def __init__(self) -> None:
        super().__init__(0, 1, Traffic())

    def all_reduce(self, x: Tensor, operation: str = "sum") -> Tensor:
        return x

    def reduce_scatter(self, x: Tensor) -> Tensor:
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        return x

    def shift(self, x: Tensor) -> Tensor:
        return x

    def flush(self) -> None:
        return

    def _send(self, x: Tensor, to: int) -> None:
        raise ValueError(f"a group of one has no rank {to}")

    def _receive(self, out: Tensor, source: int) -> None:
        raise ValueError(f"a group of one has no rank {source}")


class ProcessComm(Comm):
    """A group of processes, by torch.distributed: gloo on CPUs, nccl on GPUs.

    ranks: the group's, as torch.distributed counts all processes. by_hand: do the collectives from
    single messages (`rings`) instead of the backend's own.
    """

    def __init__(
        self,
        ranks: Sequence[int],
        group: dist.ProcessGroup | None,
        traffic: Traffic,
        by_hand: bool = False,
    ):
        super().__init__(list(ranks).index(dist.get_rank()), len(ranks), traffic)
        self.ranks, self.group, self.by_hand = list(ranks), group, by_hand
        self._under_way: list[tuple[dist.Work, Tensor]] = []

    def _send(self, x: Tensor, to: int) -> None:
        # A send ends when the other side receives. Waiting here, two ranks that send to each
        # other would wait for ever; and the tensor must live until then.
        self._under_way.append((dist.isend(x, self.ranks[to], self.group), x))

    def _receive(self, out: Tensor, source: int) -> None:
        dist.recv(out, self.ranks[source], self.group)

    def flush(self) -> None:
        for work, _ in self._under_way:
            work.wait()
        self._under_way.clear()

    def shift(self, x: Tensor) -> Tensor:
        to, source = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        lengths = torch.tensor([x.numel(), 0], device=x.device)
        self._send(lengths[:1], to)  # 8 bytes that are not counted
        self._receive(lengths[1:], source)
        self.send(x, to)
        out = self.receive(x.new_empty(int(lengths[1])), source)
        self.flush()
        return out

    def all_reduce(self, x: Tensor, operation: str = "sum") -> Tensor:
        if self.by_hand:
            return super().all_reduce(x, operation)
        self.count("all-reduce", wire_bytes("all-reduce", x.nbytes, self.size))
        kind = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}[operation]
        dist.all_reduce(x, kind, self.group)
        return x

    def reduce_scatter(self, x: Tensor) -> Tensor:
        if self.by_hand:
            return super().reduce_scatter(x)
        self.count("reduce-scatter", wire_bytes("reduce-scatter", x.nbytes, self.size))
        out = x.new_empty(x.numel() // self.size)
        dist.reduce_scatter(out, list(x.contiguous().chunk(self.size)), group=self.group)
        return out

    def all_gather(self, x: Tensor) -> Tensor:
        if self.by_hand:
            return super().all_gather(x)
        out = x.new_empty(self.size * x.numel())
        self.count("all-gather", wire_bytes("all-gather", out.nbytes, self.size))
        dist.all_gather(list(out.chunk(self.size)), x.contiguous(), group=self.group)
        return out
