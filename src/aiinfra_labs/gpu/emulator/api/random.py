"""Random numbers inside kernels: xoroshiro128+, with one generator a thread. Unit 3.7.

    states = cuda.random.create_xoroshiro128p_states(threads, seed=1)  # on the host
    x = cuda.random.xoroshiro128p_uniform_float32(states, i)           # in the kernel

Algorithm: Blackman and Vigna, "Scrambled linear pseudorandom number generators" (2018); the
sequences equal Numba's bit for bit. Each state starts 2**64 numbers after the one before it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..lanes.dispatch import jit
from .memory import DeviceArray, device_array

xoroshiro128p_dtype = np.dtype([("s0", np.uint64), ("s1", np.uint64)], align=True)
Words = tuple[np.ndarray, np.ndarray]  # s0, s1: uint64 [n]

JUMP = (0xBEAC0467EBA5FACB, 0xD86B048B86AA9922)  # the polynomial of 2**64 steps
TWO_PI_32, TWO_PI_64 = np.float32(2 * math.pi), np.float64(2 * math.pi)
TO_UNIT = 1.0 / (1 << 53)  # 53 bits to [0, 1)


# --- in a kernel -----------------------------------------------------------------------------


@jit(device=True)
def xoroshiro128p_next(states, index):
    """The next uint64 of generator `index`."""
    s0 = states[index]["s0"]
    s1 = states[index]["s1"]
    result = s0 + s1
    s1 ^= s0
    states[index]["s0"] = ((s0 << 55) | (s0 >> 9)) ^ s1 ^ (s1 << 14)
    states[index]["s1"] = (s1 << 36) | (s1 >> 28)
    return result


@jit(device=True)
def xoroshiro128p_uniform_float64(states, index):
    """The next float64 in [0, 1)."""
    return np.float64(xoroshiro128p_next(states, index) >> 11) * TO_UNIT


@jit(device=True)
def xoroshiro128p_uniform_float32(states, index):
    """The next float32 in [0, 1]: rounded from the float64 of [0, 1), as Numba does."""
    return np.float32(xoroshiro128p_uniform_float64(states, index))


@jit(device=True)
def xoroshiro128p_normal_float32(states, index):
    """The next float32 of the normal distribution (Box and Muller, of two uniform ones)."""
    u1 = xoroshiro128p_uniform_float32(states, index)
    u2 = xoroshiro128p_uniform_float32(states, index)
    return math.sqrt(np.float32(-2.0) * math.log(u1)) * math.cos(TWO_PI_32 * u2)


@jit(device=True)
def xoroshiro128p_normal_float64(states, index):
    """The next float64 of the normal distribution; from two uniform float32, as in Numba."""
    u1 = xoroshiro128p_uniform_float32(states, index)
    u2 = xoroshiro128p_uniform_float32(states, index)
    return math.sqrt(-2.0 * math.log(u1)) * math.cos(TWO_PI_64 * u2)


# --- on the host -----------------------------------------------------------------------------


def create_xoroshiro128p_states(
    n: int, seed: int, subsequence_start: int = 0, stream: Any = 0
) -> DeviceArray:
    """`n` generators in device memory; the first is `subsequence_start` jumps away from `seed`."""
    states = device_array(n, dtype=xoroshiro128p_dtype)
    init_xoroshiro128p_states(states, seed, subsequence_start, stream)
    return states


def init_xoroshiro128p_states(
    states: DeviceArray, seed: int, subsequence_start: int = 0, stream: Any = 0
) -> None:
    """Fill `states` with generators, each 2**64 numbers after the one before.

    A jump is linear over bits, so it is a matrix M of 128 x 128 bits. The states M^i s are made by
    doubling: M^k applied to the first k of them gives the next k.
    """
    host = np.zeros(states.shape, xoroshiro128p_dtype)
    word = np.array([_splitmix64(seed)], np.uint64)
    made: Words = (word, word)
    matrix = _jump_matrix()
    power = matrix
    for bit in range(int(subsequence_start).bit_length()):
        if subsequence_start >> bit & 1:
            made = _apply(power, made)
        power = _apply(power, power)
    power = matrix  # of as many jumps as states are made
    while made[0].size < host.size:
        more = _apply(power, made)
        made = np.concatenate([made[0], more[0]]), np.concatenate([made[1], more[1]])
        power = _apply(power, power)
    host["s0"], host["s1"] = made[0][: host.size], made[1][: host.size]
    states.copy_to_device(host)


def _splitmix64(seed: int) -> int:
    """A state's first word: small seeds come out as different as large ones."""
    full = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15) & full
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & full
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
    return z ^ (z >> 31)


def _jump_matrix() -> Words:
    """What a jump makes of each of the 128 single bits: its columns, uint64 [128] twice."""
    bits = np.uint64(1) << np.arange(64, dtype=np.uint64)
    none = np.zeros(64, np.uint64)
    s0, s1 = np.concatenate([bits, none]), np.concatenate([none, bits])
    sum0, sum1 = np.zeros(128, np.uint64), np.zeros(128, np.uint64)
    for word in JUMP:
        for bit in range(64):
            if word >> bit & 1:
                sum0, sum1 = sum0 ^ s0, sum1 ^ s1
            s1 = s1 ^ s0
            s0, s1 = _rotated(s0, 55) ^ s1 ^ (s1 << np.uint64(14)), _rotated(s1, 36)
    return sum0, sum1


def _rotated(word: np.ndarray, by: int) -> np.ndarray:
    return word << np.uint64(by) | word >> np.uint64(64 - by)


def _apply(matrix: Words, states: Words) -> Words:
    """The matrix times each state, over bits: the sum (xor) of the columns whose bit is set."""
    result = np.zeros_like(states[0]), np.zeros_like(states[0])
    for bit in range(128):
        chosen = -(states[bit // 64] >> np.uint64(bit % 64) & np.uint64(1))  # all ones, or none
        result = result[0] ^ (matrix[0][bit] & chosen), result[1] ^ (matrix[1][bit] & chosen)
    return result
