"""Chapter 3: GPU architecture and CUDA programming.

`from aiinfra_labs.gpu import cuda` is the one door of the course to CUDA (unit 3.2): Numba's
`cuda` where a GPU can be used, the course's emulator where none can; `where()` says which it is.
See `door.py`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "cuda":
        from .door import choose_cuda

        return choose_cuda()
    if name == "where":
        from .door import where

        return where
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
