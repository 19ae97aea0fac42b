"""A CUDA machine without a GPU: `numba.cuda`'s names on NumPy, with a profiler's figures.

Unit 3.2 shows it; the other units of chapter 3 build on it. Where to find what:

How a kernel becomes lane code: `source`, `names`, `translator`, `expressions`, `calling`. Its
types: `promotion`, `values`, `inference`, `signatures`.

What runs it: `mask`, `arithmetic`, `memory`, `views`, `loops`, `launching`, `machine`,
`configuration`, `passing`, `dispatch`.

What a kernel may call: `intrinsics` (grid, threadIdx), `arrays` (shared, local), `barriers`,
`atomics`, `warp` (shuffles, votes), `bits`, `functions`, `fp16`, `random`, `methods`, `vectors`.

The figures: `observing`, `counting` (requests, sectors), `banks` (shared memory), `cache` (DRAM),
`figures`, `report`, `showing`, `profiling`, `tracing`; then `occupancy` and `roofline`.

The checkers: `checking`, `shadow` (who touched what), `ordering` (what a barrier puts in order),
`fresh` (what nobody wrote), `findings` (the words), `adversary` (another order of warps).
"""

from . import random
from .arguments import In, InOut, Out
from .arrays import const, local, shared
from .atomics import atomic
from .barriers import (
    cg,
    nanosleep,
    syncthreads,
    syncthreads_and,
    syncthreads_count,
    syncthreads_or,
    syncwarp,
    threadfence,
    threadfence_block,
    threadfence_system,
)
from .bits import brev, cbrt, clz, ffs, fma, popc, selp
from .checking import Check, check
from .devices import DeviceProfile, device_profiles, get_current_device, select_device
from .dispatch import jit, step_budget
from .errors import (
    DeviceMemoryError,
    DivergentBarrier,
    EmulatorError,
    GlobalMemoryRace,
    InactiveLane,
    LaunchError,
    OutOfBounds,
    Race,
    SharedMemoryRace,
    StepBudgetExceeded,
    UninitialisedRead,
    UnsupportedFeature,
)
from .fp16 import fp16
from .host import (
    Event,
    Stream,
    close,
    current_context,
    defer_cleanup,
    detect,
    device_array_like,
    event,
    is_available,
    managed_array,
    mapped_array,
    mapped_array_like,
    pinned,
    pinned_array,
    pinned_array_like,
    stream,
    synchronize,
)
from .intrinsics import NOT_YET, blockDim, blockIdx, grid, gridDim, gridsize, laneid, threadIdx
from .mask import WARP_SIZE as warpsize
from .memory import DeviceArray, device_array, to_device
from .occupancy import Occupancy, occupancy_of
from .profiling import profile
from .reducing import Reduce
from .report import Report, compare
from .roofline import estimate
from .tracing import Access, trace
from .vectorizing import guvectorize, vectorize
from .vectors import VECTORS
from .warp import (
    activemask,
    all_sync,
    any_sync,
    ballot_sync,
    eq_sync,
    lanemask_lt,
    match_all_sync,
    match_any_sync,
    shfl_down_sync,
    shfl_sync,
    shfl_up_sync,
    shfl_xor_sync,
)

reduce = Reduce
globals().update(VECTORS)  # float32x4, float4, ...


def __getattr__(name: str) -> object:
    if name in NOT_YET:
        raise AttributeError(f"this version of the emulator does not have cuda.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "const",
    "local",
    "shared",
    "atomic",
    "cg",
    "nanosleep",
    "syncthreads",
    "syncthreads_and",
    "syncthreads_count",
    "syncthreads_or",
    "syncwarp",
    "threadfence",
    "threadfence_block",
    "threadfence_system",
    "brev",
    "cbrt",
    "clz",
    "ffs",
    "fma",
    "popc",
    "selp",
    "activemask",
    "all_sync",
    "any_sync",
    "ballot_sync",
    "eq_sync",
    "lanemask_lt",
    "match_all_sync",
    "match_any_sync",
    "shfl_down_sync",
    "shfl_sync",
    "shfl_up_sync",
    "shfl_xor_sync",
    "Access",
    "Check",
    "DeviceArray",
    "DeviceMemoryError",
    "DeviceProfile",
    "DivergentBarrier",
    "EmulatorError",
    "Event",
    "GlobalMemoryRace",
    "InactiveLane",
    "LaunchError",
    "Occupancy",
    "OutOfBounds",
    "Race",
    "Report",
    "SharedMemoryRace",
    "StepBudgetExceeded",
    "Stream",
    "UninitialisedRead",
    "UnsupportedFeature",
    "blockDim",
    "blockIdx",
    "check",
    "close",
    "compare",
    "current_context",
    "defer_cleanup",
    "detect",
    "device_array",
    "device_array_like",
    "device_profiles",
    "estimate",
    "event",
    "get_current_device",
    "grid",
    "gridDim",
    "gridsize",
    "is_available",
    "jit",
    "laneid",
    "managed_array",
    "mapped_array",
    "mapped_array_like",
    "fp16",
    "Reduce",
    "reduce",
    "guvectorize",
    "vectorize",
    "random",
    "In",
    "InOut",
    "Out",
    "pinned",
    "pinned_array",
    "pinned_array_like",
    "occupancy_of",
    "profile",
    "select_device",
    "step_budget",
    "stream",
    "synchronize",
    "threadIdx",
    "to_device",
    "trace",
    "warpsize",
    *VECTORS,
]
