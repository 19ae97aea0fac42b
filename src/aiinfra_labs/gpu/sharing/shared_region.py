"""What a container's processes have allocated on a GPU, in memory that they share. Unit 3.9.

HAMi-core keeps one such region for each container: the limit, and a slot for each process with the
bytes it holds. Every process maps the same file, so one sees what the others took. To reserve is to
look and to count under one lock: with the lock let go in between, two processes could both see the
last free megabyte.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from aiinfra_labs import bounds

MAGIC = 0x4149_4E46_5241_3339
SLOTS = 64  # processes of one container; HAMi-core has 1,024
_HEADER = struct.Struct("<QQ")  # magic, limit in bytes
_SLOT = struct.Struct("<qQ")  # process id (0: free), bytes held
_SIZE = _HEADER.size + SLOTS * _SLOT.size


class OutOfMemory(MemoryError):
    """CUDA_ERROR_OUT_OF_MEMORY, in three parts: an allocation would exceed a limit."""

    code = "CUDA_ERROR_OUT_OF_MEMORY"

    def __init__(self, what: str, why: str = "", try_: str = ""):
        self.what, self.why, self.try_ = what, why, try_
        super().__init__(what, why, try_)  # so that it can be made anew in another process

    def __str__(self) -> str:
        more = [f"{name}: {text}" for name, text in (("Why", self.why), ("Try", self.try_)) if text]
        return "\n".join([f"{self.code}: {self.what}", *more])


class SharedRegion:
    """A limit in bytes and what each process holds of it, in the file at `path`.

    `SharedRegion.create(path, limit)` makes it, `SharedRegion(path)` opens it in another process.
    """

    def __init__(self, path: str | Path):
        self.path = bounds.path("path", path)
        if not self.path.is_file() or self.path.stat().st_size < _SIZE:
            raise bounds.SettingError(
                f"{self.path} is no shared region",
                "there is no such file" if not self.path.is_file() else "it is too short for one",
                "SharedRegion.create(path, limit)",
            )
        self._file = open(self.path, "r+b")  # noqa: SIM115 - held as long as the mapping
        self._map = mmap.mmap(self._file.fileno(), _SIZE)
        self._threads = threading.Lock()
        self._inside: int | None = None  # the thread that has the lock
        self._late: list[int] = []  # bytes to give back when it lets go
        magic, _ = _HEADER.unpack_from(self._map, 0)
        if magic != MAGIC:
            self.close()
            raise bounds.SettingError(
                f"{self.path} is no shared region",
                "its first bytes are not those of one",
                "SharedRegion.create(path, limit)",
            )

    @classmethod
    def create(cls, path: str | Path, limit: int) -> SharedRegion:
        """A new region with nothing reserved. limit: bytes that all processes together may hold."""
        path = bounds.path("path", path)
        limit = bounds.whole("limit", limit, "bytes that may be held together", 1, 2**63 - 1)
        Path(path).write_bytes(_HEADER.pack(MAGIC, limit) + bytes(SLOTS * _SLOT.size))
        return cls(path)

    @property
    def limit(self) -> int:
        """Bytes that all processes together may hold."""
        return _HEADER.unpack_from(self._map, 0)[1]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """No other process and no other thread looks or counts within the block."""
        with self._threads:  # flock keeps processes apart, not the threads of one
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._inside = threading.get_ident()
            try:
                yield
            finally:
                while self._late:
                    self.add(-self._late.pop())
                self._inside = None
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def held(self) -> dict[int, int]:
        """Bytes by process id. Without the lock, the slots may be of different moments."""
        slots = (_SLOT.unpack_from(self._map, place) for place in self._places())
        return {pid: used for pid, used in slots if pid}

    @property
    def used(self) -> int:
        """Bytes that all processes hold."""
        return sum(self.held().values())

    def reserve(self, nbytes: int) -> None:
        """Count `nbytes` for this process. Raises `OutOfMemory` where the limit is exceeded.

        As in HAMi-core, a refusal first looks for processes that are gone, and clears their slots.
        Raises ValueError for a number below 0, which would give back what others hold.
        """
        nbytes = bounds.whole("nbytes", nbytes, "bytes that are asked for", 0)
        with self.lock():
            if self.used + nbytes > self.limit:
                self._clear_the_dead()
            used = self.used
            if used + nbytes > self.limit:
                raise OutOfMemory(
                    f"{nbytes:,} bytes asked for, {self.limit - used:,} of {self.limit:,} free",
                    f"processes under this limit: {len(self.held())}; together they hold "
                    f"{used:,} bytes",
                    "free an array, use a smaller batch, or ask for a higher limit",
                )
            self.add(nbytes)

    def release(self, nbytes: int) -> None:
        """This process has given `nbytes` back. Raises ValueError for less than 0."""
        nbytes = bounds.whole("nbytes", nbytes, "bytes that are given back", 0)
        if self._map.closed:  # an array that outlived the region
            return
        if self._inside == threading.get_ident():  # garbage was collected in the midst of a count
            self._late.append(nbytes)
            return
        with self.lock():
            self.add(-nbytes)

    def add(self, nbytes: int) -> None:
        """Count `nbytes` more (or fewer) for this process, whatever the limit. Under the lock."""
        pid, vacant = os.getpid(), None
        for place in self._places():
            owner, used = _SLOT.unpack_from(self._map, place)
            if owner == pid:
                _SLOT.pack_into(self._map, place, pid, max(0, used + nbytes))
                return
            if owner == 0 and vacant is None:
                vacant = place
        if vacant is None:
            raise OutOfMemory(
                f"{SLOTS} processes already use this region",
                "each process of a container has a slot in it",
                "end some of them",
            )
        _SLOT.pack_into(self._map, vacant, pid, max(0, nbytes))

    def close(self) -> None:
        """Unmap the file. What this process held stays counted until its slot is cleared."""
        self._map.close()
        self._file.close()

    def __enter__(self) -> SharedRegion:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _places(self) -> range:
        return range(_HEADER.size, _SIZE, _SLOT.size)

    def _clear_the_dead(self) -> None:
        for place in self._places():
            pid, _ = _SLOT.unpack_from(self._map, place)
            if pid and not _is_alive(pid):
                _SLOT.pack_into(self._map, place, 0, 0)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing: asks whether it could
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so alive
        return True
    return True
