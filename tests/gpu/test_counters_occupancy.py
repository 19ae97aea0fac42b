"""Theoretical occupancy: worked out by hand, and against NVIDIA's own calculator.

`cuda_occupancy.h` of the CUDA toolkit is the calculator. Its answers for the cases in `CALCULATED`
were taken from the header of CUDA 13.0; where a toolkit and a compiler are here, the header itself
is compiled and asked about many more.
"""

import ctypes
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.counters.occupancy import occupancy_of, registers_of
from aiinfra_labs.gpu.emulator.devices import device_profiles, sm_limits

CAPABILITIES = ("7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0")

# compute capability, threads a block, registers a thread, shared bytes a block, blocks an SM
CALCULATED = [
    ("7.0", 256, 32, 0, 8),
    ("7.0", 128, 40, 0, 12),
    ("7.0", 1024, 64, 0, 1),
    ("7.0", 1024, 65, 0, 0),
    ("7.0", 32, 24, 0, 32),
    ("7.0", 96, 168, 0, 4),
    ("7.0", 256, 32, 16384, 6),
    ("7.0", 256, 33, 49152, 2),
    ("7.0", 192, 72, 98304, 1),
    ("7.0", 170, 162, 27768, 2),
    ("7.5", 256, 32, 0, 4),
    ("7.5", 128, 40, 0, 8),
    ("7.5", 1024, 64, 0, 1),
    ("7.5", 1024, 65, 0, 0),
    ("7.5", 32, 24, 0, 16),
    ("7.5", 96, 168, 0, 4),
    ("7.5", 256, 32, 16384, 4),
    ("7.5", 256, 33, 32768, 2),
    ("7.5", 192, 72, 65536, 1),
    ("7.5", 97, 82, 3863, 5),
    ("8.0", 256, 32, 0, 8),
    ("8.0", 128, 40, 0, 12),
    ("8.0", 1024, 64, 0, 1),
    ("8.0", 1024, 65, 0, 0),
    ("8.0", 32, 24, 0, 32),
    ("8.0", 96, 168, 0, 4),
    ("8.0", 256, 32, 16384, 8),
    ("8.0", 256, 33, 83456, 1),
    ("8.0", 192, 72, 166912, 1),
    ("8.0", 540, 211, 14728, 0),
    ("8.6", 256, 32, 0, 6),
    ("8.6", 128, 40, 0, 12),
    ("8.6", 1024, 64, 0, 1),
    ("8.6", 1024, 65, 0, 0),
    ("8.6", 32, 24, 0, 16),
    ("8.6", 96, 168, 0, 4),
    ("8.6", 256, 32, 16384, 5),
    ("8.6", 256, 33, 50688, 1),
    ("8.6", 192, 72, 101376, 1),
    ("8.6", 516, 183, 12439, 0),
    ("8.9", 256, 32, 0, 6),
    ("8.9", 128, 40, 0, 12),
    ("8.9", 1024, 64, 0, 1),
    ("8.9", 1024, 65, 0, 0),
    ("8.9", 32, 24, 0, 24),
    ("8.9", 96, 168, 0, 4),
    ("8.9", 256, 32, 16384, 5),
    ("8.9", 256, 33, 50688, 1),
    ("8.9", 192, 72, 101376, 1),
    ("8.9", 247, 41, 15986, 5),
    ("9.0", 256, 32, 0, 8),
    ("9.0", 128, 40, 0, 12),
    ("9.0", 1024, 64, 0, 1),
    ("9.0", 1024, 65, 0, 0),
    ("9.0", 32, 24, 0, 32),
    ("9.0", 96, 168, 0, 4),
    ("9.0", 256, 32, 16384, 8),
    ("9.0", 256, 33, 116224, 1),
    ("9.0", 192, 72, 232448, 1),
    ("9.0", 62, 245, 27386, 4),
    ("10.0", 256, 32, 0, 8),
    ("10.0", 128, 40, 0, 12),
    ("10.0", 1024, 64, 0, 1),
    ("10.0", 1024, 65, 0, 0),
    ("10.0", 32, 24, 0, 32),
    ("10.0", 96, 168, 0, 4),
    ("10.0", 256, 32, 16384, 8),
    ("10.0", 256, 33, 116224, 1),
    ("10.0", 192, 72, 232448, 1),
    ("10.0", 432, 127, 19904, 1),
]


def blocks(capability, threads, registers, shared):
    """Blocks an SM; 0 where the launch is refused, as the calculator has it."""
    try:
        return occupancy_of(threads, registers, shared, capability).blocks_per_sm
    except cuda.LaunchError:
        return 0


@pytest.mark.parametrize(("capability", "threads", "registers", "shared", "expected"), CALCULATED)
def test_as_nvidias_calculator_has_it(capability, threads, registers, shared, expected):
    assert blocks(capability, threads, registers, shared) == expected


CALCULATOR = """
#include <cuda_occupancy.h>
extern "C" int blocks(int major, int minor, int warps, int regs, int smem, int optin, int reserved,
                      int threads, int registers, int shared) {
    cudaOccDeviceProp p = {};
    p.computeMajor = major; p.computeMinor = minor; p.maxThreadsPerBlock = 1024;
    p.maxThreadsPerMultiprocessor = 32 * warps; p.regsPerBlock = regs;
    p.regsPerMultiprocessor = regs; p.warpSize = 32; p.sharedMemPerBlock = 49152;
    p.sharedMemPerMultiprocessor = smem; p.numSms = 1; p.sharedMemPerBlockOptin = optin;
    p.reservedSharedMemPerBlock = reserved;
    cudaOccFuncAttributes f = {};
    f.maxThreadsPerBlock = 1024; f.numRegs = registers; f.sharedSizeBytes = 0;
    f.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN; f.maxDynamicSharedSizeBytes = shared;
    f.numBlockBarriers = 1;
    cudaOccDeviceState s = {};
    s.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult r = {};
    int error = cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &f, &s, threads, shared);
    return error ? -error : r.activeBlocksPerMultiprocessor;
}
"""


@pytest.fixture(scope="module")
def calculator(tmp_path_factory):
    headers = [
        p for p in Path("/usr/local").glob("cuda*/include") if (p / "cuda_occupancy.h").exists()
    ]
    if not headers or shutil.which("g++") is None:
        pytest.skip("no CUDA toolkit or no C++ compiler here")
    folder = tmp_path_factory.mktemp("calculator")
    source, library = folder / "calculator.cpp", folder / "calculator.so"
    source.write_text(CALCULATOR)
    command = ["g++", "-w", "-shared", "-fPIC", f"-I{headers[0]}", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    ask = ctypes.CDLL(str(library)).blocks

    def answer(capability, threads, registers, shared):
        sm = sm_limits(capability)
        numbers = map(int, capability.split("."))
        return ask(
            *numbers,
            sm.max_warps,
            sm.registers,
            sm.shared_memory,
            sm.shared_memory_per_block,
            sm.shared_memory_reserved,
            threads,
            registers,
            shared,
        )

    return answer


def test_as_the_header_of_the_toolkit_has_it(calculator):
    rng = random.Random(0)
    for _ in range(4000):
        capability = rng.choice(CAPABILITIES)
        limit = sm_limits(capability).shared_memory_per_block
        case = (
            capability,
            rng.choice([rng.randint(1, 1024), 32 * rng.randint(1, 32)]),
            rng.randint(1, 255),
            rng.choice([0, rng.randint(0, limit), rng.randint(0, 20_000)]),
        )
        assert blocks(*case) == calculator(*case), case


# --- by hand ----------------------------------------------------------------------------------


def test_registers_are_given_to_warps_in_units_of_256():
    # 33 registers x 32 lanes = 1056, rounded up to 1280: a partition of 16,384 holds 12 warps, the
    # SM 48, which are 6 blocks of 8 warps. With 32 registers it is 1024: 64 warps, 8 blocks.
    found = occupancy_of(256, 33, 0, "9.0")
    assert (found.blocks_per_sm, found.warps_per_sm, found.fraction) == (6, 48, 0.75)
    assert found.limited_by == ["registers"]
    full = occupancy_of(256, 32, 0, "9.0")
    assert (full.blocks_per_sm, full.fraction) == (8, 1.0)
    assert full.limited_by == ["warps", "registers"]


def test_a_kilobyte_of_each_block_is_the_systems_from_8_0_on():
    # a tile of 32 KB needs 33 KB: 228 // 33 = 6 blocks of 8 warps on an H100
    found = occupancy_of(256, 32, 32 * 1024, "h100")
    assert (found.blocks_per_sm, found.limited_by) == (6, ["shared memory"])
    # on a V100 nothing is taken: 96 // 32 = 3
    assert occupancy_of(256, 32, 32 * 1024, "v100").blocks_per_sm == 3


def test_small_blocks_run_out_of_places():
    # 32 blocks of one warp are 32 of the H100's 64 warps; an RTX 3090 places 16 of 48
    assert occupancy_of(32, 16, 0, "h100").fraction == 0.5
    assert occupancy_of(32, 16, 0, "rtx3090").fraction == pytest.approx(1 / 3)
    assert occupancy_of(32, 16, 0, "h100").limited_by == ["blocks"]


def test_a_block_takes_whole_warps():
    # 33 threads are 2 warps; 64 warps hold 32 such blocks: full of warps, half empty of threads
    found = occupancy_of(33, 16, 0, "h100")
    assert (found.warps_per_block, found.blocks_per_sm, found.fraction) == (2, 32, 1.0)


def test_without_the_registers_it_is_an_upper_bound_and_says_so():
    found = occupancy_of(256, device="h100")
    assert found.limits["registers"] is None
    assert found.fraction == 1.0
    assert "registers=" in str(found) and "registers=" in found._repr_html_()
    assert not occupancy_of(256, 32, device="h100").note


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    capability=st.sampled_from(CAPABILITIES),
    threads=st.integers(1, 1024),
    registers=st.integers(1, 64),
    shared=st.integers(0, 65536),
)
def test_more_of_anything_never_makes_room(capability, threads, registers, shared):
    before = blocks(capability, threads, registers, shared)
    assert blocks(capability, min(threads + 32, 1024), registers, shared) <= before
    assert blocks(capability, threads, registers + 1, shared) <= before
    limit = sm_limits(capability).shared_memory_per_block
    assert blocks(capability, threads, registers, min(shared + 128, limit)) <= before
    found = occupancy_of(threads, registers, shared, capability)
    assert found.blocks_per_sm >= 1 and 0 < found.fraction <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1025,), "1 to 1024"),
        ((0,), "1 to 1024"),
        ((256, 32, 300_000), "at most 232,448"),
        ((1024, 65), "65,536 registers"),
        # 25 warps x 80 x 32 = 64,000 registers would be enough, were the partitions not four
        ((800, 80), "65,536 registers"),
        ((32, 256), "255"),
        ((32, 0), "1 to 255"),
    ],
)
def test_what_no_launch_can_have_is_refused(arguments, message):
    with pytest.raises(cuda.LaunchError, match=message):
        occupancy_of(*arguments, device="h100")


def test_a_device_that_is_not_known_is_named():
    with pytest.raises(cuda.LaunchError, match="gtx480"):
        occupancy_of(256, device="gtx480")
    with pytest.raises(cuda.LaunchError, match="compute capability 3.5"):
        occupancy_of(256, device="3.5")


def test_each_profile_agrees_with_its_compute_capability():
    for profile in device_profiles().values():
        sm = sm_limits(".".join(map(str, profile.compute_capability)))
        assert profile.shared_memory_per_block == sm.shared_memory_per_block, profile.key
        assert profile.registers_per_multiprocessor == sm.registers, profile.key


# --- of a launch ------------------------------------------------------------------------------


@cuda.jit
def with_a_tile(out):
    tile = cuda.shared.array((32, 33), "f4")
    more = cuda.shared.array(0, "f4")
    i = cuda.threadIdx.x
    tile[0, i] = i
    more[i] = i
    cuda.syncthreads()
    out[i] = tile[0, i] + more[i]


def test_a_report_knows_its_blocks_and_their_shared_memory():
    with cuda.profile() as p:
        with_a_tile[7, 32, 0, 2048](cuda.device_array(32, "f4"))
    # 32 x 33 x 4 = 4224 static and 2048 dynamic bytes
    assert p.report.shared_bytes == 4224 + 2048
    found = p.report.occupancy(registers=32, device="h100")
    # (6272 + 1024) rounded to 7296: 233472 // 7296 = 32 blocks of a warp, and 32 places
    assert (found.blocks_per_sm, found.limited_by) == (32, ["blocks", "shared memory"])
    assert p.report.registers is None


def test_the_occupancy_of_several_launches_is_refused():
    with cuda.profile() as p:
        for _ in range(2):
            with_a_tile[7, 32, 0, 2048](cuda.device_array(32, "f4"))
    with pytest.raises(cuda.EmulatorError, match="sum of several"):
        p.report.occupancy()


def test_the_metric_is_there_once_the_registers_are_known():
    with cuda.profile() as p:
        with_a_tile[7, 32, 0, 2048](cuda.device_array(32, "f4"))
    name = "sm__warps_active.avg.pct_of_peak_sustained_active"
    report = p.report
    assert name not in report.metrics
    report.registers = 40
    assert report.metrics[name] == 50.0  # 32 of 64 warps


def test_registers_come_from_a_kernel_that_numba_compiled():
    class Compiled:  # as numba.cuda's dispatcher answers
        def get_regs_per_thread(self):
            return {"(int64,)": 24, "(float64,)": 30}

    assert registers_of(Compiled()) == 30
    assert registers_of(with_a_tile) is None
