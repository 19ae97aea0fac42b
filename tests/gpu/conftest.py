"""With AIINFRA_COMPILED=1, each kernel that a test launches with success is compiled by Numba.

So each construct that the emulator's tests accept is one that compiles for a GPU. A test whose
kernels only the emulator can run says so: `@pytest.mark.emulator_only("why")`.
"""

import os
import sys
from pathlib import Path

import pytest

from aiinfra_labs.gpu import compiled

sys.path.insert(0, str(Path(__file__).parent))  # for what tests share: pytest imports by path alone

_seen = set()  # what was compiled in this session


@pytest.fixture(autouse=True)
def compiled_too(request):
    """Compile the kernels of a test after it."""
    mark = request.node.get_closest_marker("emulator_only")
    if mark is not None or os.environ.get("AIINFRA_COMPILED") != "1" or compiled.missing():
        yield
        return
    with compiled.launches() as launched:
        yield
    for kernel, args in launched.kernels.values():
        if str(kernel.py_func.__module__).startswith("aiinfra_labs.gpu.emulator"):
            continue  # what stands for Numba's own reduce and vectorize
        key = compiled.key_of(kernel, args)
        if key not in _seen:
            compiled.compile_kernel(kernel, args, ptx=False)
            _seen.add(key)
