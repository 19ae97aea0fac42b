"""On a device: profile or check a launch by running it on the emulator too, on copies. Unit 3.2.

A GPU gives no counters to a user without rights, and none by source line. So `cuda.profile()` and
`cuda.check()` on a device let the launch run as it is, and run the same kernel on the emulator
beside it, with copies of the arguments as they were before. The results stay the device's; figures
and findings are the emulator's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from .emulator.api import memory
from .emulator.checkers.checking import Check
from .emulator.counters.occupancy import registers_of
from .emulator.counters.profiling import Profile
from .emulator.lanes import dispatch
from .emulator.lanes.configuration import launch_shape
from .emulator.lanes.dispatch import Kernel, launch


def emulated(kernel: Any) -> Kernel:
    """The emulator's kernel for a `cuda.jit` object of the emulator or of Numba."""
    return kernel if isinstance(kernel, Kernel) else Kernel(kernel.py_func)


def host_copies(args: Sequence[Any]) -> list[Any]:
    """The arguments of a launch as host values, so that the emulator can work on its own."""
    return [_host_copy(a) for a in args]


def _host_copy(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_host_copy, value))
    if hasattr(value, "copy_to_host"):
        return memory.to_device(value.copy_to_host())
    return value.copy() if isinstance(value, np.ndarray) else value


_launching = False  # a launch is being run on both: one open profile or check sees to it for all


def on_both(original: Callable[..., Any]) -> Callable[..., Any]:
    """Numba's call of a launch, with the emulator's run of it beside."""

    def call(configured: Any, *args: Any) -> Any:
        global _launching
        if _launching:  # inside the call of another profile or check
            return original(configured, *args)
        _launching = True
        try:
            copies = host_copies(args)
            result = original(configured, *args)
        finally:
            _launching = False
        kernel = emulated(configured.dispatcher)
        shape = (tuple(configured.griddim), tuple(configured.blockdim), 0, configured.sharedmem)
        grid, block, shared = launch_shape(kernel.__name__, shape)
        launch(kernel, grid, block, copies, shared)
        for profile in dispatch._listeners:
            if isinstance(profile, ProfileBeside):
                profile.launches[-1].registers = registers_of(configured.dispatcher)
        return result

    return call


class ProfileBeside(Profile):
    """A `Profile` for Numba's own kernels.

    launch_class: Numba's `_LaunchConfiguration`, whose calls are the launches.
    array_class: Numba's device array, whose copies are the transfers.
    """

    def __init__(self, launch_class: type, array_class: type, kernel: Any = None):
        super().__init__(kernel)
        self.launch_class, self.array_class = launch_class, array_class
        self._patches = ExitStack()

    def __enter__(self) -> ProfileBeside:
        super().__enter__()
        memory._copy_listeners.remove(self._copied)  # the emulator's own copies are not transfers
        patches = (
            (self.launch_class, "__call__", on_both(self.launch_class.__call__)),
            (
                self.array_class,
                "copy_to_device",
                self._copying("to_device", self.array_class.copy_to_device),
            ),
            (
                self.array_class,
                "copy_to_host",
                self._copying("to_host", self.array_class.copy_to_host),
            ),
        )
        for target, name, replacement in patches:
            self._patches.enter_context(mock.patch.object(target, name, replacement))
        return self

    def __exit__(self, *exception: object) -> None:
        self._patches.close()
        memory._copy_listeners.append(self._copied)
        super().__exit__(*exception)

    def __getitem__(self, configuration: Any) -> Any:
        configured = self.kernel[configuration]

        def run(*args: Any) -> Any:
            with ProfileBeside(self.launch_class, self.array_class) as p:
                configured(*args)
            return p.report

        return run

    def _copying(self, direction: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def copy(array: Any, *args: Any, **kwargs: Any) -> Any:
            if not _launching:  # copying the arguments is ours, not the program's
                self._copied(direction, array.size * array.dtype.itemsize)
            return original(array, *args, **kwargs)

        return copy


def profile_beside(cuda: ModuleType) -> Callable[..., ProfileBeside]:
    """`cuda.profile` for Numba's module."""
    from numba.cuda.cudadrv.devicearray import DeviceNDArrayBase
    from numba.cuda.dispatcher import _LaunchConfiguration

    def profile(kernel: Any = None) -> ProfileBeside:
        """As the emulator's `profile`: the figures of launches, here run beside the device's."""
        return ProfileBeside(_LaunchConfiguration, DeviceNDArrayBase, kernel)

    return profile


class CheckBeside(Check):
    """A `Check` for Numba's own kernels. launch_class: Numba's `_LaunchConfiguration`."""

    def __init__(self, launch_class: type, *options: Any):
        super().__init__(*options)
        self._patch = mock.patch.object(launch_class, "__call__", on_both(launch_class.__call__))

    def __enter__(self) -> CheckBeside:
        super().__enter__()
        self._patch.start()
        return self

    def __exit__(self, *exception: Any) -> bool:
        self._patch.stop()
        return super().__exit__(*exception)


def check_beside(cuda: ModuleType) -> Callable[..., CheckBeside]:
    """`cuda.check` for Numba's module."""
    from numba.cuda.dispatcher import _LaunchConfiguration

    def check(
        kernel: Any = None, raise_: bool | None = None, schedule: str | None = None, seed: int = 0
    ) -> CheckBeside:
        """As the emulator's `check`: it watches launches that run beside the device's."""
        raise_ = kernel is None if raise_ is None else raise_
        return CheckBeside(_LaunchConfiguration, kernel, raise_, schedule, seed)

    return check
