"""What a tile costs and saves in a product of matrices, by formula. Unit 3.5.

C [M, N] = A [M, K] B [K, N] takes M N K multiply-adds. A block that computes BLOCK_M x BLOCK_N of C
loads BLOCK_M + BLOCK_N floats for each step along K, so that all blocks together load

    M N K (1 / BLOCK_M + 1 / BLOCK_N)

floats (Volkov and Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008).
Within a block the same holds of a thread's tile and shared memory. The kernels of this unit are
counted on the emulator and held to these formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT = 4  # bytes
WARP = 32


@dataclass(frozen=True)
class Tiling:
    """A block's tile of C, its step along K, a thread's tile of C, and how many buffers it has.

    Lengths are in elements. `staged`: whether the block's tiles stand in shared memory.
    """

    block_m: int
    block_n: int
    block_k: int
    thread_m: int = 1
    thread_n: int = 1
    buffers: int = 1
    staged: bool = True

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.block_m * self.block_n // (self.thread_m * self.thread_n)

    @property
    def shared_bytes(self) -> int:
        """Of a block, without padding."""
        floats = self.buffers * self.block_k * (self.block_m + self.block_n)
        return floats * FLOAT if self.staged else 0

    @property
    def sums(self) -> int:
        """Registers that a thread needs for its elements of C alone."""
        return self.thread_m * self.thread_n

    def grid(self, m: int, n: int) -> tuple[int, int]:
        """Blocks along x (columns of C) and y (rows) that cover C [m, n]."""
        return -(-n // self.block_n), -(-m // self.block_m)

    def fits(self, m: int, k: int, n: int) -> bool:
        """Whether the matrices are whole numbers of tiles."""
        return m % self.block_m == 0 and n % self.block_n == 0 and k % self.block_k == 0

    def global_bytes(self, m: int, n: int, k: int) -> int:
        """Bytes that all blocks load from global memory, for whole tiles.

        Where nothing is staged in shared memory, every thread loads for itself.
        """
        across = self.block_n if self.staged else self.thread_n
        down = self.block_m if self.staged else self.thread_m
        return (m * n * k // across + m * n * k // down) * FLOAT

    def intensity(self) -> float:
        """Operations for each byte loaded from global memory, an fma taken for two."""
        return 2 * 1024**3 / self.global_bytes(1024, 1024, 1024)

    def shared_loads(self) -> float:
        """Floats that a thread loads from shared memory for each multiply-add."""
        return (self.thread_m + self.thread_n) / (self.thread_m * self.thread_n)
