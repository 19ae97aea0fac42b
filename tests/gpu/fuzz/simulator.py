"""Numba's own simulator as a process that runs many kernels: `Simulator().run(program)`.

Numba decides at its import whether it simulates, so the simulator has a process of its own. The
two speak in pickles, each after its length.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import warnings
from typing import Any, BinaryIO


def _send(stream: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value)
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO) -> Any:
    header = stream.read(8)
    return pickle.loads(stream.read(struct.unpack("<Q", header)[0])) if len(header) == 8 else None


class Simulator:
    """The process, started at once."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        )

    def run(self, source: str, grid: tuple, block: tuple, arguments: list) -> list | str:
        """The arguments as the kernel leaves them, or what went wrong."""
        _send(self.process.stdin, (source, grid, block, arguments))
        return _receive(self.process.stdout)

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()


def _serve() -> None:
    from numba import cuda

    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    warnings.simplefilter("ignore")
    while (request := _receive(sys.stdin.buffer)) is not None:
        source, grid, block, arguments = request
        scope: dict[str, Any] = {"cuda": cuda}
        try:
            exec(compile(source, "<fuzzed>", "exec"), scope)
            scope["kernel"][grid, block](*arguments)
            _send(answers, arguments)
        except Exception as error:  # a kernel that plain Python cannot run is an answer, too
            _send(answers, f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    _serve()
