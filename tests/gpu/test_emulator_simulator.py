"""The emulator against Numba's own CUDA simulator: the same kernels, the same arrays."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from by_path import loaded

SCRIPT = Path(__file__).with_name("simulated_kernels.py")


@pytest.fixture(scope="module")
def ours():
    """The module of kernels, on the emulator."""
    return loaded(SCRIPT)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """What Numba's simulator leaves in the arrays, from a process of its own."""
    file = tmp_path_factory.mktemp("simulator") / "results.npz"
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(file)]
    subprocess.run(command, check=True, env=environment, timeout=900)
    with np.load(file) as arrays:
        return dict(arrays)


def test_every_kernel_leaves_what_numbas_simulator_leaves(ours, theirs):
    found = ours.results()
    assert found.keys() == theirs.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_the_simulator_is_the_one_that_ran(ours, theirs):
    """The two files of kernels are one; only the `cuda` behind them differs."""
    assert ours.cuda.__name__ == "aiinfra_labs.gpu.emulator"
    assert len(theirs) > 60
    assert any(array.any() for name, array in theirs.items() if name.startswith("one_axis"))
