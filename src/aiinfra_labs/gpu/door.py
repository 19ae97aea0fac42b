"""The door to CUDA: a device where there is one, the emulator where there is none. Unit 3.2.

`AIINFRA_CUDA=emulator` or `device` forces one. On a device the module is `numba.cuda` itself, with
`profile` and `check` added: both run the same launch on the emulator as well, on copies, so that
the figures are there, too.
"""

from __future__ import annotations

import ctypes.util
import functools
import os
from types import ModuleType

from . import emulator
from .emulator.api import intrinsics


@functools.cache
def choose_cuda() -> ModuleType:
    """The module that `from aiinfra_labs.gpu import cuda` gives."""
    wanted = os.environ.get("AIINFRA_CUDA", "")
    if wanted not in ("", "emulator", "device"):
        raise emulator.LaunchError(
            f"AIINFRA_CUDA is {wanted!r}",
            "it chooses where kernels run",
            "set it to emulator or device, or leave it out to take a device where there is one",
        )
    if wanted == "emulator" or (not wanted and not _driver_is_there()):
        return emulator
    module = _numba_cuda()
    if module is not None:
        return module
    if wanted == "device":
        raise emulator.LaunchError(
            "AIINFRA_CUDA=device, and no CUDA device can be used here",
            "Numba finds no GPU, or its driver does not answer",
            "leave AIINFRA_CUDA out to run on the emulator; `nvidia-smi` shows what is there",
        )
    return emulator


def where() -> str:
    """Two lines: where kernels run here, and what that means for the figures."""
    if choose_cuda() is emulator:
        forced = os.environ.get("AIINFRA_CUDA") == "emulator"
        reason = "AIINFRA_CUDA=emulator" if forced else "no GPU that can be used was found"
        return (
            f"Kernels run on the course's emulator ({reason}), as an {_model()} would run them.\n"
            "Results and counts are those of a GPU; times are not."
        )
    name = choose_cuda().get_current_device().name
    spoken = name.decode() if isinstance(name, bytes) else name
    return (
        f"Kernels run on a GPU: {spoken}.\n"
        f"check, show and cuda.profile count what they do on the emulator beside it, an {_model()}."
    )


def _model() -> str:
    return emulator.get_current_device().name


def _driver_is_there() -> bool:
    """Whether the CUDA driver's library is installed: cheap, and spares importing Numba."""
    return ctypes.util.find_library("cuda") is not None or os.path.exists("/usr/lib/wsl/lib")


def _numba_cuda() -> ModuleType | None:
    try:
        from numba import cuda

        if not cuda.is_available():
            return None
    except Exception:  # a broken driver raises many kinds of error: the emulator takes over
        return None
    from .beside import check_beside, profile_beside

    intrinsics.alias_module(cuda, emulator)
    cuda.profile, cuda.check = profile_beside(cuda), check_beside(cuda)
    for name in ("step_budget", "trace", "compare", "estimate", "occupancy_of"):
        setattr(cuda, name, getattr(emulator, name))
    return cuda
