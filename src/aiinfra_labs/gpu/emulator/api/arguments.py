"""How a host array travels to a kernel and back: `cuda.In(a)`, `cuda.Out(a)`, `cuda.InOut(a)`.

Unit 3.2. A host array that is passed as it is goes both ways, as with InOut.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DeviceMemoryError


class In:
    """Copied to the device, and not back."""

    def __init__(self, value: Any):
        if not isinstance(value, np.ndarray | np.void):
            raise DeviceMemoryError(
                f"cuda.{type(self).__name__} of a {type(value).__name__}",
                "it says which way a host array is copied",
                "pass a NumPy array; a device array is not copied at all",
            )
        self.value = value


class Out(In):
    """Copied back after the launch. What a device would leave undefined before, is copied, too."""


class InOut(Out):
    """Copied to the device, and back after the launch."""
