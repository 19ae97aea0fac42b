"""A CUDA machine without a GPU: `numba.cuda`'s names on NumPy, with a profiler's figures.

Unit 3.2 shows it; the other units of chapter 3 build on it. It is read in five parts, each of
which says in which order, and is short enough for one sitting:

`translation` how a kernel becomes lane code, and of which types;
`lanes`       what runs it: masks, arithmetic, memory, the machine, a launch;
`api`         what a kernel may name: a shuffle is in `api/warp`, a barrier in `api/barriers`;
`counters`    the figures: a sector is counted in `counters/counting`, a bank conflict in
              `counters/banks`;
`checkers`    what is wrong: a race is found in `checkers/checking`, from `shadow` and `ordering`.

`devices` are the GPUs it can stand for, `errors` what it says when something fails.
"""

from .api import random
from .api.arguments import In, InOut, Out
from .api.arrays import const, local, shared
from .api.atomics import atomic
from .api.barriers import (
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
from .api.bits import brev, cbrt, clz, ffs, fma, popc, selp
from .api.fp16 import fp16
from .api.host import (
    Event,
    Stream,
    close,
    current_context,
    defer_cleanup,
    detect,
    device_array_like,
    event,
    gpus,
    is_available,
    list_devices,
    managed_array,
    mapped_array,
    mapped_array_like,
    pinned,
    pinned_array,
    pinned_array_like,
    stream,
    synchronize,
)
from .api.intrinsics import NOT_YET, blockDim, blockIdx, grid, gridDim, gridsize, laneid, threadIdx
from .api.memory import DeviceArray, device_array, to_device
from .api.reducing import Reduce
from .api.vectorizing import guvectorize, vectorize
from .api.vectors import VECTORS
from .api.warp import (
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
from .checkers.checking import Check, check
from .counters.occupancy import Occupancy, occupancy_of
from .counters.profiling import profile
from .counters.report import Report, compare
from .counters.roofline import estimate
from .counters.tracing import Access, trace
from .devices import (
    DeviceProfile,
    SMLimits,
    device_profiles,
    get_current_device,
    select_device,
    sm_limits,
)
from .errors import (
    Deadlock,
    DeviceMemoryError,
    DivergentBarrier,
    EmulatorError,
    GlobalMemoryRace,
    InactiveLane,
    LaunchError,
    NegativeIndex,
    OutOfBounds,
    Race,
    SharedMemoryRace,
    StepBudgetExceeded,
    UninitialisedRead,
    UnsupportedFeature,
)
from .lanes.dispatch import jit, step_budget
from .lanes.mask import WARP_SIZE as warpsize

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
    "Deadlock",
    "DeviceArray",
    "DeviceMemoryError",
    "DeviceProfile",
    "DivergentBarrier",
    "EmulatorError",
    "Event",
    "GlobalMemoryRace",
    "InactiveLane",
    "LaunchError",
    "NegativeIndex",
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
    "gpus",
    "list_devices",
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
    "SMLimits",
    "sm_limits",
    "step_budget",
    "stream",
    "synchronize",
    "threadIdx",
    "to_device",
    "trace",
    "warpsize",
    *VECTORS,
]
