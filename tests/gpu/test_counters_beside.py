"""On a device: the report that is made beside a launch. Here a class stands for Numba's launch."""

from types import SimpleNamespace

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.beside import ProfileBeside


def reverse(out):
    tile = cuda.shared.array(0, np.int32)
    i = cuda.threadIdx.x
    tile[i] = out[i]
    cuda.syncthreads()
    out[i] = tile[31 - i]


class Configured:
    """As Numba's `_LaunchConfiguration`: what it was given, and a call that launches."""

    griddim, blockdim, sharedmem = (1, 1, 1), (32, 1, 1), 128
    dispatcher = SimpleNamespace(
        py_func=reverse, get_regs_per_thread=lambda: {"(int32[:],)": 18}, __name__="reverse"
    )

    def __call__(self, out):
        out += 100  # what the device does


class Array:
    def copy_to_host(self): ...

    def copy_to_device(self): ...


@pytest.mark.emulator_only("`shared` is a stub of Numba's here")
def test_the_report_has_the_compilers_registers_and_the_dynamic_memory():
    out = np.arange(32, dtype=np.int32)
    with ProfileBeside(Configured, Array) as p:
        Configured()(out)
    assert out[0] == 100  # the device's result stays
    assert p.report.registers == 18
    assert p.report.shared_bytes == 128
    assert p.report.shared_load_wavefronts == 1
    assert "sm__warps_active.avg.pct_of_peak_sustained_active" in p.report.metrics
