"""A group of processes that work on one model: started, given work, watched, ended. Unit 4.6.

    with Group(4) as group:
        results = group.run(function, argument)     # function(worker, argument) on each

A collective waits until every rank takes part. So a rank that dies or raises leaves the others
waiting, for ever if nobody looks. The parent looks: it waits for answers and for deaths at once,
and at the first sign of either ends all processes and says which rank it was. A process whose
parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist

from .collectives import Comm, ProcessComm, Traffic
from .errors import GroupError, SplitError
from .grid import Comms, Grid

# A server that has imported torch once forks a worker in a moment; where there is none, each
# worker is a new Python, and imports torch itself. Neither is a copy of the caller: a notebook's
# kernel has threads and sockets that no copy survives.
HOW = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
_START = 120.0  # seconds until a group must be there, on a machine that is busy with other things
_PATIENCE = 1.0  # seconds for the first cause, once a rank has complained of a lost neighbour
_LOST = ("closed by peer", "reset by peer", "timed out", "broken pipe", "gloo", "nccl")


@dataclass
class Worker:
    """What a function that runs in a worker is given, first of all."""

    rank: int
    size: int
    comm: Comm  # all ranks
    device: torch.device
    kept: dict[str, Any] = field(default_factory=dict)  # what one call leaves for the next

    @property
    def traffic(self) -> Traffic:
        """What this rank has sent, in all of its groups."""
        return self.comm.traffic

    def join(self, groups: Sequence[Sequence[int]], by_hand: bool = False) -> Comm | None:
        """This rank's end of the group that it is in; every rank must ask for the same groups."""
        mine = None
        for ranks in groups:
            made = dist.new_group(list(ranks))
            if self.rank in ranks:
                mine = ProcessComm(ranks, made, self.traffic, by_hand)
        return mine

    def comms(self, grid: Grid) -> Comms:
        """This rank's place in a grid, made once."""
        if grid.size != self.size:
            raise SplitError(
                f"a grid of {grid.size} ranks, and a group of {self.size} processes",
                "each process has one place",
                f"tensor x data x pipeline = {self.size}",
            )
        if grid not in self.kept:
            self.kept[grid] = grid.comms(self.rank, self.join)
        return self.kept[grid]


# --- in the worker --------------------------------------------------------------------------------


def _work(
    rank: int, size: int, pipe: Connection, folder: str, backend: str, seconds: float
) -> None:
    """A worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent decides
    _end_with_the_parent(folder)
    try:
        worker = _join(rank, size, folder, backend, seconds)
        pipe.send_bytes(pickle.dumps(("ready", os.getpid())))
        while (order := _next(pipe)) is not None:
            pipe.send_bytes(_answer(worker, order))
        dist.destroy_process_group()
    except (EOFError, OSError):  # the parent is gone
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
    except BaseException as error:
        with contextlib.suppress(OSError):
            pipe.send_bytes(_report(error))


def _join(rank: int, size: int, folder: str, backend: str, seconds: float) -> Worker:
    torch.set_num_threads(1)  # the ranks share the cores; more threads would wait for each other
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    store = dist.FileStore(str(Path(folder, "ranks")), size)  # needs no port that is free
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
    )
    return Worker(rank, size, ProcessComm(range(size), None, Traffic()), device)


def _loopback() -> str:
    """The interface over which gloo speaks: it never leaves the machine."""
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def _end_with_the_parent(folder: str) -> None:
    """Watch the parent from a thread: a rank in a collective would never notice."""
    parent = mp.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        shutil.rmtree(folder, ignore_errors=True)  # the parent would have done it
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


def _next(pipe: Connection) -> bytes | None:
    order = pipe.recv_bytes()
    return order or None


def _answer(worker: Worker, order: bytes) -> bytes:
    try:
        function, args = pickle.loads(order)
        return cloudpickle.dumps(("done", function(worker, *args)))
    except BaseException as error:
        return _report(error)


def _report(error: BaseException) -> bytes:
    """An exception as text: its class may not exist in the parent."""
    said = getattr(error, "what", None) or str(error)
    lost = isinstance(error, RuntimeError) and any(word in said.lower() for word in _LOST)
    text = "".join(traceback.format_exception(error))
    advice = (getattr(error, "why", ""), getattr(error, "try_", ""))
    return pickle.dumps(("raised", (type(error).__name__, said, text, advice, lost)))


# --- in the parent --------------------------------------------------------------------------------


class Group:
    """`size` processes with a rank each. Use it in `with`, or `close` it.

    backend: "gloo" on CPUs, "nccl" with a GPU for each rank; by default nccl where there are as
    many GPUs. Only gloo has been run: no machine with several GPUs was at hand.
    timeout: seconds after which a call that has not ended is given up.
    Raises `GroupError` where a process cannot start or ends, and whatever it was doing is lost.
    """

    def __init__(self, size: int, backend: str | None = None, timeout: float = 120.0):
        if size < 1:
            raise GroupError(
                f"a group of {size} processes", "somebody must do the work", "1 process or more"
            )
        if backend is None:
            backend = "nccl" if torch.cuda.device_count() >= size > 1 else "gloo"
        self.size, self.backend, self.timeout = size, backend, timeout
        folder = tempfile.mkdtemp(prefix="aiinfra-group-")
        context = mp.get_context(HOW)
        if HOW == "forkserver":
            # torch.optim imports its _dynamo at the first step: once here, not once in each worker.
            context.set_forkserver_preload(["torch.distributed", "torch._dynamo"])
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._end = weakref.finalize(self, _end, self._processes, self._pipes, folder)
        try:
            for rank in range(size):
                mine, theirs = context.Pipe()
                process = context.Process(
                    target=_work,
                    args=(rank, size, theirs, folder, backend, timeout),
                    name=f"rank {rank} of {size}",
                    daemon=True,
                )
                process.start()
                theirs.close()  # so that the worker's death is seen as the end of the pipe
                self._processes.append(process)
                self._pipes.append(mine)
            self.pids: list[int] = self._collect("it started", max(_START, timeout))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether the processes can be given work: until `close`, or an error."""
        return self._end.alive

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """`function(worker, *args)` on every rank; what each returned, by rank.

        The function may be defined in a notebook. Raises `GroupError` where a rank dies, raises, or
        does not end in time, and ends the group; so does Ctrl-C.
        """
        return self.run_each(function, [args] * self.size)

    def run_each(self, function: Callable[..., Any], args: Sequence[Sequence[Any]]) -> list[Any]:
        """As `run`, with arguments for each rank."""
        if not self.is_alive:
            raise GroupError(
                "the group has ended, and can do no more work",
                "it was closed, or one of its ranks failed and took what the others held with it",
                f"a new one: Group({self.size})",
            )
        doing = f"it ran {getattr(function, '__name__', 'a function')}"
        try:
            for rank, given in enumerate(args):
                with contextlib.suppress(OSError):  # it is dead, which `_collect` will say
                    self._pipes[rank].send_bytes(cloudpickle.dumps((function, tuple(given))))
            return self._collect(doing, self.timeout)
        except BaseException:  # Ctrl-C, too: a rank in the middle of a call cannot be called again
            self._end()
            raise

    def close(self) -> None:
        """End all processes: those that wait for work at once, any other by force."""
        if not self.is_alive:
            return
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send_bytes(b"")
        deadline = time.monotonic() + 2
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
        self._end()

    def _collect(self, doing: str, seconds: float) -> list[Any]:
        """The answers of all ranks. Raises `GroupError` for the first that has none to give."""
        results: list[Any] = [None] * self.size
        waiting = set(range(self.size))
        complaints: dict[int, tuple[str, str, str, bool]] = {}
        deadline = time.monotonic() + seconds
        while waiting:
            if complaints:
                deadline = min(deadline, time.monotonic() + _PATIENCE)
            ends = {self._pipes[rank]: rank for rank in waiting - set(complaints)}
            sentinels = {process.sentinel: r for r, process in enumerate(self._processes)}
            ready = wait([*ends, *sentinels], max(0.0, deadline - time.monotonic()))
            for end in ready:
                if end not in ends:
                    continue
                rank = ends[end]
                try:
                    kind, value = pickle.loads(end.recv_bytes())
                except (EOFError, OSError):
                    raise self._died(rank, doing) from None
                if kind == "raised":
                    complaints[rank] = value
                else:
                    results[rank] = value
                    waiting.discard(rank)
            first = [r for r, (*_, lost) in complaints.items() if not lost]
            dead = [sentinels[s] for s in ready if s in sentinels]
            if first:
                raise self._raised(first[0], complaints[first[0]], doing)
            if dead:
                raise self._died(dead[0], doing)
            if not ready:
                if complaints:
                    rank = min(complaints)
                    raise self._raised(rank, complaints[rank], doing)
                raise self._late(waiting, doing, seconds)
        return results

    def _died(self, rank: int, doing: str) -> GroupError:
        process = self._processes[rank]
        process.join(_PATIENCE)
        code = process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        why = "the other ranks would have waited for it for ever; they were ended, too"
        try_ = "start a new group; if it happens again, look at the memory that a rank needs"
        if doing == "it started":
            why = "a group begins once all of its processes are there"
            try_ = 'in a script, start the group below: if __name__ == "__main__":'
        return GroupError(f"rank {rank} of {self.size} {how} while {doing}", why, try_, rank)

    def _raised(self, rank: int, found: tuple[Any, ...], doing: str) -> GroupError:
        kind, said, text, (why, try_), lost = found
        if lost and "timed out" in said.lower():
            return self._late({rank}, doing, self.timeout, text)
        return GroupError(
            f"rank {rank} of {self.size} raised {kind} while {doing}: {said}",
            f"{why}{'; ' if why else ''}the other ranks would have waited for it for ever; they "
            "were ended, too",
            try_ or "error.traceback holds its traceback; mend that, and start a new group",
            rank,
            text,
        )

    def _late(self, waiting: set[int], doing: str, seconds: float, text: str = "") -> GroupError:
        late = sorted(waiting)
        names = f"rank{'s' if len(late) > 1 else ''} {', '.join(map(str, late))} of {self.size}"
        return GroupError(
            f"{names} waited for {seconds:g} s, or worked, without an end, while {doing}",
            "a collective waits for every rank: one that takes no part, or fewer times, is enough",
            "see that all ranks make the same calls in the same order; or a longer timeout",
            late[0],
            text,
        )


def _end(processes: list[Any], pipes: list[Connection], folder: str) -> None:
    """Leave nothing behind, whatever state it is in. Called once."""
    for process in processes:
        if process.is_alive():
            process.kill()  # it may sit in a collective, where it hears nothing else
    for process in processes:
        process.join(5)
    for pipe in pipes:
        pipe.close()
    shutil.rmtree(folder, ignore_errors=True)
