"""`profile` on a device: the launch runs as it is, and on the emulator beside it, on copies.

No GPU is here. Classes of Numba's shape stand in for its launches and its device arrays; that they
have this shape on a device is for `make bench-gpu` to show.
"""

import numpy as np
import pytest

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.beside import CheckBeside, ProfileBeside, host_copies
from aiinfra_labs.gpu.emulator.api.memory import DeviceArray


@cuda.jit
def double(a):
    i = cuda.grid(1)
    if i < a.size:
        a[i] = 2 * a[i]


class TheirArray:
    """Stands for a device array of Numba's."""

    def __init__(self, host):
        self.held = host.copy()
        self.size, self.dtype = host.size, host.dtype

    def copy_to_host(self):
        return self.held.copy()

    def copy_to_device(self, host):
        self.held[...] = host


class TheirLaunch:
    """Stands for `kernel[grid, block]` of Numba's; it triples, to tell its results from ours."""

    griddim, blockdim, sharedmem, dispatcher = (2, 1, 1), (32, 1, 1), 0, double

    def __call__(self, a):
        a.held *= 3


def test_results_are_the_devices_and_figures_the_emulators():
    array, original = TheirArray(np.arange(40.0)), TheirLaunch.__call__
    with ProfileBeside(TheirLaunch, TheirArray) as p:
        TheirLaunch()(array)
    np.testing.assert_array_equal(array.held, 3 * np.arange(40.0))
    # 40 float64: a whole warp of 8 sectors and one of 8 threads, 2 sectors
    assert (p.report.global_load_requests, p.report.global_load_sectors) == (2, 10)
    assert TheirLaunch.__call__ is original  # nothing stays patched


def test_only_the_programs_own_transfers_are_counted():
    array = TheirArray(np.arange(40.0))
    with ProfileBeside(TheirLaunch, TheirArray) as p:
        array.copy_to_device(np.ones(40))
        TheirLaunch()(array)  # the copy for the emulator is not the program's
        array.copy_to_host()
    assert (p.bytes_to_device, p.bytes_to_host) == (320, 320)
    array.copy_to_host()
    assert p.bytes_to_host == 320


def test_an_error_leaves_nothing_patched():
    original = TheirArray.copy_to_host
    with pytest.raises(ZeroDivisionError), ProfileBeside(TheirLaunch, TheirArray):
        raise ZeroDivisionError
    assert TheirArray.copy_to_host is original
    with cuda.profile() as p:
        double[1, 32](np.zeros(3))
    assert len(p.launches) == 1


def test_copies_share_nothing_with_the_arguments():
    host = np.arange(3.0)
    ours, (inner,), number = host_copies([host, (TheirArray(host),), 5])
    ours[0] = 9
    assert host[0] == 0 and isinstance(inner, DeviceArray) and number == 5


@cuda.jit
def pile_up(a):
    s = cuda.shared.array(0, np.float64)
    s[cuda.threadIdx.x] = 1
    a[0] += s[cuda.threadIdx.x]


class TheirRace(TheirLaunch):
    """Stands for a launch of a kernel with a race and dynamic shared memory."""

    dispatcher, sharedmem = pile_up, 256


def test_a_race_is_found_beside_the_device():
    array = TheirArray(np.arange(40.0))
    with CheckBeside(TheirRace, None, False) as c:
        TheirRace()(array)
    np.testing.assert_array_equal(array.held, 3 * np.arange(40.0))
    assert [(type(f), f.array) for f in c.findings] == [(cuda.GlobalMemoryRace, "a")]
    with pytest.raises(cuda.GlobalMemoryRace), CheckBeside(TheirRace):
        TheirRace()(array)
    TheirRace()(array)  # nothing stays patched


@pytest.mark.parametrize("check_outside", [True, False])
def test_profile_and_check_share_one_run_on_the_emulator(check_outside):
    check, profile = CheckBeside(TheirLaunch), ProfileBeside(TheirLaunch, TheirArray)
    outer, inner = (check, profile) if check_outside else (profile, check)
    array = TheirArray(np.arange(40.0))
    with outer, inner:
        TheirLaunch()(array)
    assert len(profile.launches) == check.launches == 1
    np.testing.assert_array_equal(array.held, 3 * np.arange(40.0))
    assert profile.bytes_to_host == 0
