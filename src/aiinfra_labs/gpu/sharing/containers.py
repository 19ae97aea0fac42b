"""A container with a memory limit, as a real process that is told what to allocate. Unit 3.9.

    with Container(limit=region_of_the_container, device=region_of_the_gpu) as tenant:
        tenant.allocate(16 * MIB)

The process runs the course's `cuda` within `limited`, as a program in a pod runs CUDA under
HAMi-core: what it asks for is checked in its own process, against what all processes hold.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

from aiinfra_labs import bounds

from .shared_region import OutOfMemory, SharedRegion

MIB = 2**20


class Container:
    """A process under the limit of one region, or of two: its own, and the device's memory.

    limit: of this container; None leaves it out, as time slicing does. device: the GPU's memory,
    which every container of the GPU is given. Several processes may share one `limit`.
    """

    def __init__(self, limit: SharedRegion | None = None, device: SharedRegion | None = None):
        paths = [str(region.path) for region in (device, limit) if region is not None]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def allocate(self, nbytes: int) -> int:
        """A device array of `nbytes` in the container; its number.

        Raises `OutOfMemory` where a limit would be exceeded, and ValueError for a size below 0.
        """
        bounds.whole("nbytes", nbytes, "bytes of a device array", 0)
        return self._ask("allocate", nbytes)

    def free(self, number: int) -> None:
        """Free the array of a number that `allocate` gave. Raises ValueError for another one."""
        bounds.whole("number", number, "allocate gave it to an array")
        self._ask("free", number)

    def memory_info(self) -> tuple[int, int]:
        """(free, total) in bytes, as a program in the container is told."""
        free, total = self._ask("memory_info")
        return free, total

    def churn(self, rounds: int, most: int, seed: int) -> None:
        """Begin to allocate and free at random, `rounds` times, up to `most` bytes at once.

        Returns before it is done, so that two processes can race for one limit; `churned` waits.
        Raises ValueError for numbers below 0, or a `most` of none.
        """
        bounds.whole("rounds", rounds, "times that something is allocated or freed", 0)
        bounds.whole("most", most, "bytes of the largest array")
        bounds.whole("seed", seed, "sizes are drawn from it", 0)
        self._send("churn", rounds, most, seed)

    def churned(self) -> int:
        """How often `churn` was refused. All that it allocated is freed by then."""
        return self._answer()

    def kill(self) -> None:
        """End the process as a fault would: nothing is freed, nothing is said."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process; what it holds is freed."""
        if self._process.poll() is None:
            self._send("stop")
            self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # what was written to a process that had ended
            self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, *order: Any) -> Any:
        self._send(*order)
        return self._answer()

    def _send(self, *order: Any) -> None:
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        outcome, answer = json.loads(line)
        if outcome != "done":
            raise OutOfMemory(*answer) if outcome == "refused" else bounds.SettingError(*answer)
        return answer

    def _ended(self) -> ProcessLookupError:
        return ProcessLookupError(
            f"the container's process {self.pid} has ended\n"
            "Why: it was killed or closed, and what it held is no longer there\n"
            "Try: a new Container with the same regions"
        )


def serve(paths: list[str]) -> None:
    """The container's process: does what it is told, a line each, until it is told to stop.

    What goes wrong is answered, and the process goes on: one wrong order costs no other array.
    paths: of the regions, the outer one first.
    """
    from .memory_limit import limited

    arrays: dict[int, Any] = {}
    with ExitStack() as limits:
        for path in paths:
            limits.enter_context(limited(limits.enter_context(SharedRegion(path))))
        for line in sys.stdin:
            order, *args = json.loads(line)
            if order == "stop":
                break
            try:
                reply = ("done", ORDERS[order](arrays, *args))
            except OutOfMemory as refusal:
                reply = ("refused", (refusal.what, refusal.why, refusal.try_))
            except bounds.SettingError as mistake:
                reply = ("mistaken", (mistake.what, mistake.why, mistake.try_))
            except Exception as error:  # whatever it is, the others' arrays are kept
                what = f"{order} failed in the container: {type(error).__name__}: {error}"
                reply = ("mistaken", (what, "the order could not be carried out", "another one"))
            print(json.dumps(reply), flush=True)
        arrays.clear()


def _allocate(arrays: dict[int, Any], nbytes: int) -> int:
    from aiinfra_labs.gpu import cuda

    number = max(arrays, default=0) + 1
    arrays[number] = cuda.device_array(nbytes, "uint8")
    return number


def _free(arrays: dict[int, Any], number: int) -> None:
    if number not in arrays:
        raise bounds.SettingError(
            f"there is no array {number} in the container",
            f"it holds {', '.join(map(str, arrays)) or 'none'}",
            "a number that allocate gave and that was not freed",
        )
    del arrays[number]


def _memory_info(arrays: dict[int, Any]) -> tuple[int, int]:
    from aiinfra_labs.gpu import cuda

    return tuple(cuda.current_context().get_memory_info())


def _churn(arrays: dict[int, Any], rounds: int, most: int, seed: int) -> int:
    import numpy as np

    from aiinfra_labs.gpu import cuda

    rng, kept, refused = np.random.default_rng(seed), [], 0
    for _ in range(rounds):
        if kept and rng.random() < 0.5:
            kept.pop(int(rng.integers(len(kept))))
            continue
        try:
            kept.append(cuda.device_array(int(rng.integers(1, most + 1)), "uint8"))
        except OutOfMemory:
            refused += 1
    return refused


ORDERS = {"allocate": _allocate, "free": _free, "memory_info": _memory_info, "churn": _churn}

if __name__ == "__main__":
    serve(sys.argv[1:])
