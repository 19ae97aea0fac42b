"""What is counted, and the Nsight Compute metric that each figure stands for. Unit 3.8.

`Counters` holds the sums of one source line or of a launch; `counting.py` says how they are found.

- `warp_instructions` and `thread_instructions` count operations of the source, not machine
  instructions: their ratio stands for the metric, their sizes do not.
- Floating-point operations are those of the source, by the type of the result. A compiler joins
  `a * b + c` into one fma: a profiler then sees fewer adds and products and more fmas, but
  `flops`, which takes an fma for two, is the same. A division and a square root are many machine
  instructions and are kept apart; the functions of `math` (exp, sin, ...) are not counted.
- Loads are those of the source: a compiler keeps an element that is read twice, with nothing
  written in between, in a register, also from one round of an unrolled loop to the next. So are
  branches: it makes a short one, such as `x if x > 0 else 0`, a select. The report's notes name the
  lines. Atomics are those of the source, too: ptxas joins the integers that a warp adds to one
  address which is the same for all threads, and sends one.
- A complex number is two, and each is loaded and stored on its own, as Numba's compiler does it.
- An operation with a literal counts as the machine's: see `literals`.
- A local array is counted as local memory. A compiler keeps a small one in registers when every
  index is a constant; then a profiler sees nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

NSIGHT = {
    "global_load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "global_load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "global_store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "global_store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "global_reduction_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_red.sum",
    "global_returning_atomic_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_atom.sum",
    "shared_load_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "shared_load_bank_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "shared_store_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum",
    "shared_store_bank_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
    "shared_load_requests": "smsp__inst_executed_op_shared_ld.sum",
    "shared_store_requests": "smsp__inst_executed_op_shared_st.sum",
    "shared_atomic_requests": "smsp__inst_executed_op_shared_atom.sum",
    "local_load_requests": "l1tex__t_requests_pipe_lsu_mem_local_op_ld.sum",
    "local_store_requests": "l1tex__t_requests_pipe_lsu_mem_local_op_st.sum",
    "divergent_branches": "smsp__sass_branch_targets_threads_divergent",
    "branch_efficiency": "smsp__sass_average_branch_targets_threads_uniform.pct",
    "lanes_per_instruction": "smsp__thread_inst_executed_per_inst_executed.ratio",
} | {
    f"{dtype}_{operation}": f"smsp__sass_thread_inst_executed_op_{letter}{operation}_pred_on.sum"
    for dtype, letter in (("fp16", "h"), ("fp32", "f"), ("fp64", "d"))
    for operation in ("add", "mul", "fma")
}


@dataclass
class Counters:
    """Sums over one launch, or over one source line of it."""

    global_load_requests: int = 0
    global_load_sectors: int = 0
    global_load_bytes: int = 0  # asked for by the threads, not moved
    global_store_requests: int = 0
    global_store_sectors: int = 0
    global_store_bytes: int = 0
    global_atomic_requests: int = 0
    global_atomic_sectors: int = 0
    global_atomic_turns: int = 0  # for each request, the most lanes that meet on one element
    global_reduction_requests: int = 0  # those of the atomics whose old value nobody reads
    shared_load_requests: int = 0
    shared_load_wavefronts: int = 0
    shared_load_bank_conflicts: int = 0
    shared_store_requests: int = 0
    shared_store_wavefronts: int = 0
    shared_store_bank_conflicts: int = 0
    shared_atomic_requests: int = 0
    shared_atomic_turns: int = 0
    local_load_requests: int = 0
    local_store_requests: int = 0
    shuffles: int = 0  # warp instructions: shfl_sync, shfl_up_sync, ...
    branches: int = 0
    divergent_branches: int = 0
    warp_instructions: int = 0
    thread_instructions: int = 0
    fp16_add: int = 0  # additions and subtractions
    fp16_mul: int = 0
    fp16_fma: int = 0
    fp32_add: int = 0
    fp32_mul: int = 0
    fp32_fma: int = 0
    fp64_add: int = 0
    fp64_mul: int = 0
    fp64_fma: int = 0
    divisions: int = 0  # of floating-point numbers
    square_roots: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counters)))

    @property
    def atomic_requests(self) -> int:
        """Warp instructions that are atomic operations, on global and on shared memory."""
        return self.global_atomic_requests + self.shared_atomic_requests

    @property
    def atomic_turns(self) -> int:
        """For each atomic request the most lanes that meet on one element, summed."""
        return self.global_atomic_turns + self.shared_atomic_turns

    @property
    def turns_per_atomic(self) -> float:
        """1 where each lane has an element of its own, 32 where a warp meets on one."""
        return _ratio(self.atomic_turns, self.atomic_requests)

    @property
    def global_returning_atomic_requests(self) -> int:
        """Atomics whose old value is read: a GPU must send it back."""
        return self.global_atomic_requests - self.global_reduction_requests

    @property
    def bank_conflicts(self) -> int:
        """Wavefronts beyond those that the bytes need, of shared loads and stores."""
        return self.shared_load_bank_conflicts + self.shared_store_bank_conflicts

    @property
    def wavefronts_per_shared_load(self) -> float:
        """1 without conflicts for elements of 4 bytes; 32 at worst."""
        return _ratio(self.shared_load_wavefronts, self.shared_load_requests)

    @property
    def wavefronts_per_shared_store(self) -> float:
        """1 without conflicts for elements of 4 bytes; 32 at worst."""
        return _ratio(self.shared_store_wavefronts, self.shared_store_requests)

    @property
    def branch_efficiency(self) -> float:
        """The share of branches at which a warp stays together, in percent."""
        return 100 * (1 - _ratio(self.divergent_branches, self.branches))

    @property
    def lanes_per_instruction(self) -> float:
        """Average active lanes of a warp instruction: 32 without divergence or partial warps."""
        return _ratio(self.thread_instructions, self.warp_instructions)

    @property
    def sectors_per_load(self) -> float:
        """4 for a coalesced float32 load, 32 at worst."""
        return _ratio(self.global_load_sectors, self.global_load_requests)

    @property
    def sectors_per_store(self) -> float:
        """4 for a coalesced float32 store, 32 at worst."""
        return _ratio(self.global_store_sectors, self.global_store_requests)

    @property
    def bytes_moved(self) -> int:
        """By loads and stores between the memory pipe and the caches: 32 bytes a sector."""
        return 32 * (self.global_load_sectors + self.global_store_sectors)

    @property
    def bytes_requested(self) -> int:
        """Bytes that threads ask for by loads and stores of global memory."""
        return self.global_load_bytes + self.global_store_bytes

    @property
    def flops_by_dtype(self) -> dict[str, int]:
        """Floating-point operations of each precision; an fma is two."""
        return {
            dtype: getattr(self, f"{dtype}_add")
            + getattr(self, f"{dtype}_mul")
            + 2 * getattr(self, f"{dtype}_fma")
            for dtype in ("fp16", "fp32", "fp64")
        }

    @property
    def flops(self) -> int:
        """Floating-point operations of every precision, divisions and square roots left out."""
        return sum(self.flops_by_dtype.values())

    @property
    def metrics(self) -> dict[str, float]:
        """The figures under their Nsight Compute names."""
        return {metric: getattr(self, name) for name, metric in NSIGHT.items()}

    def figures(self) -> dict[str, int]:
        """Every sum by its plain name."""
        return {f.name: getattr(self, f.name) for f in fields(Counters)} | {"flops": self.flops}


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
