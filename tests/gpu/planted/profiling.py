"""Answers to the exercises of unit 3.8: right ones that differ, and common mistakes."""

from __future__ import annotations

import math

import numpy as np

from aiinfra_labs.gpu import cuda
from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.8.a diagnose ------------------------------------------------------------------------------


@right("3.8.a")
def by_rules(report):
    lines = report.lines

    def worst(cost):
        return max(lines, key=lambda number: cost(lines[number]))

    def far(c):  # sectors of the requests that touch too many
        loads = c.global_load_sectors if c.sectors_per_load > 9 else 0
        return loads + (c.global_store_sectors if c.sectors_per_store > 9 else 0)

    line = worst(lambda c: c.flops_by_dtype["fp64"])
    if lines[line].flops_by_dtype["fp64"]:
        return "float64", line
    line = worst(lambda c: c.bank_conflicts)
    if lines[line].bank_conflicts:
        return "bank conflicts", line
    line = worst(lambda c: c.atomic_turns)
    if lines[line].turns_per_atomic > 4:
        return "contention", line
    line = worst(far)
    if far(lines[line]):
        return "strided", line
    if report.lanes_per_instruction < 24:
        return "divergence", worst(lambda c: c.divergent_branches)
    return "sound", None


@right("3.8.a")
def by_totals(report):
    found = []
    for number, c in report.lines.items():
        needed = max(1, c.global_load_requests + c.global_store_requests) * 9
        found.append((c.global_load_sectors + c.global_store_sectors - needed, "strided", number))
        found.append((c.fp64_add + c.fp64_mul + c.fp64_fma, "float64", number))
        found.append((c.bank_conflicts, "bank conflicts", number))
        found.append((c.atomic_turns - 2 * c.atomic_requests, "contention", number))
        if report.thread_instructions < 25 * report.warp_instructions:
            found.append((c.divergent_branches, "divergence", number))
    cost, fault, number = max(found)
    return (fault, number) if cost > 0 else ("sound", None)


@wrong("3.8.a", "the kernel is sound")
def any_parted_branch(report):
    fault, line = by_rules(report)
    if fault == "sound" and report.divergent_branches:
        return "divergence", max(report.lines, key=lambda n: report.lines[n].divergent_branches)
    return fault, line


@wrong("3.8.a", "the most is lost on line")
def by_sectors_a_request(report):
    fault, line = by_rules(report)
    if fault == "strided":
        lines = report.lines
        line = max(lines, key=lambda n: max(lines[n].sectors_per_load, lines[n].sectors_per_store))
    return fault, line


@wrong("3.8.a", "it said 'sound'; the fault is 'strided'")
def loads_alone(report):
    fault, line = by_rules(report)
    if fault == "strided" and not report.lines[line].global_load_sectors > 2048:
        return "sound", None
    return fault, line


@wrong("3.8.a", "it said 'strided', on line")
def more_than_four(report):
    fault, line = by_rules(report)
    if fault == "sound" and max(c.sectors_per_load for c in report.lines.values()) > 4:
        return "strided", max(report.lines, key=lambda n: report.lines[n].sectors_per_load)
    return fault, line


@wrong("3.8.a", "of 32 lanes")
def no_word_of_divergence(report):
    fault, line = by_rules(report)
    return ("sound", None) if fault == "divergence" else (fault, line)


@wrong("3.8.a", "the fault is 'bank conflicts'")
def conflicts_of_loads(report):
    if report.shared_store_bank_conflicts:
        return "sound", None
    return by_rules(report)


@wrong("3.8.a", "a diagnosis is a pair")
def the_word_alone(report):
    return by_rules(report)[0]


@wrong("3.8.a", "it returned nothing")
def printed(report):
    print(end=str(by_rules(report))[:0])


@wrong("3.8.a", "it named the fault 'uncoalesced'")
def another_word(report):
    fault, line = by_rules(report)
    return ("uncoalesced" if fault == "strided" else fault), line


@wrong("3.8.a", "where nothing is lost no line is to be changed")
def always_a_line(report):
    fault, line = by_rules(report)
    return fault, line or min(report.lines)


@wrong("3.8.a", "which is no line of it")
def counted_from_the_def(report):
    fault, line = by_rules(report)
    return fault, line and line - min(report.lines)


# --- 3.8.b rotate --------------------------------------------------------------------------------


@right("3.8.b")
@cuda.jit
def rotate_by_pairs(x, cos, sin, out):
    tokens, heads, dim = x.shape
    half = dim // 2
    for pair in range(cuda.grid(1), tokens * heads * half, cuda.gridsize(1)):
        d = pair % half
        head = pair // half % heads
        token = pair // half // heads
        a, b = x[token, head, d], x[token, head, d + half]
        c, s = cos[token, d], sin[token, d]
        out[token, head, d] = a * c - b * s
        out[token, head, d + half] = b * c + a * s


@right("3.8.b")
@cuda.jit
def rotate_by_blocks(x, cos, sin, out):
    half = x.shape[2] // 2
    row = cuda.blockIdx.x
    while row < x.shape[0] * x.shape[1]:
        token, head = row // x.shape[1], row % x.shape[1]
        d = cuda.threadIdx.x
        while d < half:
            first = x[token, head, d]
            second = x[token, head, d + half]
            c = cos[token, d]
            s = sin[token, d]
            out[token, head, d] = first * c - second * s
            out[token, head, d + half] = first * s + second * c
            d += cuda.blockDim.x
        row += cuda.gridDim.x


@wrong("3.8.b", "each load of a warp touches")
@cuda.jit
def rotate_a_head_a_thread(x, cos, sin, out):
    tokens, heads, dim = x.shape
    half = dim // 2
    for i in range(cuda.grid(1), tokens * heads, cuda.gridsize(1)):
        token, head = i // heads, i % heads
        for d in range(half):
            a, b = x[token, head, d], x[token, head, d + half]
            c, s = cos[token, d], sin[token, d]
            out[token, head, d] = a * c - b * s
            out[token, head, d + half] = b * c + a * s


@wrong("3.8.b", "each store of a warp touches 8 sectors")
@cuda.jit
def rotate_heads_first(x, cos, sin, out):
    tokens, heads, dim = x.shape
    half = dim // 2
    for pair in range(cuda.grid(1), tokens * heads * half, cuda.gridsize(1)):
        head = pair % heads
        d = pair // heads % half
        token = pair // heads // half
        a, b = x[token, head, d], x[token, head, d + half]
        c, s = cos[token, d], sin[token, d]
        out[token, head, d] = a * c - b * s
        out[token, head, d + half] = b * c + a * s


@wrong("3.8.b", "8 loads for each pair where 4 suffice")
@cuda.jit
def rotate_reading_twice(x, cos, sin, out):
    tokens, heads, dim = x.shape
    half = dim // 2
    for pair in range(cuda.grid(1), tokens * heads * half, cuda.gridsize(1)):
        d = pair % half
        head = pair // half % heads
        token = pair // half // heads
        out[token, head, d] = (
            x[token, head, d] * cos[token, d] - x[token, head, d + half] * sin[token, d]
        )
        out[token, head, d + half] = (
            x[token, head, d + half] * cos[token, d] + x[token, head, d] * sin[token, d]
        )


@wrong("3.8.b", "a pair that is not (d, d + half)")
@cuda.jit
def rotate_neighbours(x, cos, sin, out):
    tokens, heads, dim = x.shape
    half = dim // 2
    for pair in range(cuda.grid(1), tokens * heads * half, cuda.gridsize(1)):
        d = pair % half
        head = pair // half % heads
        token = pair // half // heads
        a, b = x[token, head, 2 * d], x[token, head, 2 * d + 1]
        c, s = cos[token, d], sin[token, d]
        out[token, head, 2 * d] = a * c - b * s
        out[token, head, 2 * d + 1] = b * c + a * s


@wrong("3.8.b", "nan marks an element that no thread wrote")
@cuda.jit
def rotate_one_pair_a_thread(x, cos, sin, out):
    tokens, heads, dim = x.shape
    half = dim // 2
    pair = cuda.grid(1)
    if pair < tokens * heads * half:
        d = pair % half
        head = pair // half % heads
        token = pair // half // heads
        a, b = x[token, head, d], x[token, head, d + half]
        c, s = cos[token, d], sin[token, d]
        out[token, head, d] = a * c - b * s
        out[token, head, d + half] = b * c + a * s


@wrong("3.8.b", "the input x was written to")
@cuda.jit
def rotate_in_place(x, cos, sin, out):
    tokens, heads, dim = x.shape
    half = dim // 2
    for pair in range(cuda.grid(1), tokens * heads * half, cuda.gridsize(1)):
        d = pair % half
        head = pair // half % heads
        token = pair // half // heads
        a, b = x[token, head, d], x[token, head, d + half]
        c, s = cos[token, d], sin[token, d]
        x[token, head, d] = a * c - b * s
        x[token, head, d + half] = b * c + a * s
        out[token, head, d] = x[token, head, d]
        out[token, head, d + half] = x[token, head, d + half]


# --- 3.8.c dequantise and GELU -------------------------------------------------------------------

ROOT, CUBE = np.float32(0.7978845608028654), np.float32(0.044715)
HALF, ONE, TWO = np.float32(0.5), np.float32(1), np.float32(2)


@right("3.8.c")
@cuda.jit
def gelu_by_constants(sums, scale, out):
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        v = scale * np.float32(sums[i])
        out[i] = HALF * v * (ONE + math.tanh(ROOT * (v + CUBE * v * v * v)))


@right("3.8.c")
@cuda.jit
def gelu_by_exp(quantised, scale, result):
    i = cuda.grid(1)
    while i < quantised.size:
        value = np.float32(quantised[i]) * scale
        inner = ROOT * value * (ONE + CUBE * value * value)
        result[i] = value - value / (ONE + math.exp(TWO * inner))
        i += cuda.gridsize(1)


@wrong("3.8.c", "float64 operations")
@cuda.jit
def gelu_with_literals(sums, scale, out):
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        v = scale * sums[i]
        out[i] = 0.5 * v * (1.0 + math.tanh(0.7978845608 * (v + 0.044715 * v * v * v)))


@wrong("3.8.c", "most of them on line")
@cuda.jit
def gelu_with_an_integer_scaled(sums, scale, out):
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        v = scale * sums[i]
        out[i] = HALF * v * (ONE + math.tanh(ROOT * (v + CUBE * v * v * v)))


@wrong("3.8.c", "2 for each element")
@cuda.jit
def gelu_with_one(sums, scale, out):
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        v = scale * np.float32(sums[i])
        out[i] = HALF * v * (1 + math.tanh(ROOT * (v + CUBE * v * v * v)))


@wrong("3.8.c", "float64 operations")
@cuda.jit
def gelu_cast_at_the_end(sums, scale, out):
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        v = scale * sums[i]
        out[i] = np.float32(0.5 * v * (1 + math.tanh(0.79788456 * (v + 0.044715 * v**3))))


@wrong("3.8.c", "nan marks an element that no thread wrote")
@cuda.jit
def gelu_once(sums, scale, out):
    i = cuda.grid(1)
    if i < sums.size:
        v = scale * np.float32(sums[i])
        out[i] = HALF * v * (ONE + math.tanh(ROOT * (v + CUBE * v * v * v)))


@wrong("3.8.c", "0.5 v (1 + tanh")
@cuda.jit
def gelu_without_the_cube(sums, scale, out):
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        v = scale * np.float32(sums[i])
        out[i] = HALF * v * (ONE + math.tanh(ROOT * v))


# --- 3.8.d SwiGLU --------------------------------------------------------------------------------


@cuda.jit
def fused(gate, up, out):
    i = cuda.grid(1)
    if i < out.size:
        g = gate[i]
        out[i] = g / (ONE + math.exp(-g)) * up[i]


@cuda.jit
def fused_striding(gate, up, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        g = gate[i]
        out[i] = g * up[i] / (ONE + math.exp(-g))


@cuda.jit
def in_place(gate, up):
    i = cuda.grid(1)
    if i < up.size:
        g = gate[i]
        up[i] = g / (ONE + math.exp(-g)) * up[i]


@cuda.jit
def silu(gate, out):
    i = cuda.grid(1)
    if i < out.size:
        g = gate[i]
        out[i] = g / (ONE + math.exp(-g))


@cuda.jit
def times(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] * b[i]


@cuda.jit
def reading_the_gate_twice(gate, up, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = gate[i] / (ONE + math.exp(-gate[i])) * up[i]


@right("3.8.d")
def swiglu_fused(gate, up):
    d_gate, d_up = cuda.to_device(gate), cuda.to_device(up)
    d_out = cuda.device_array_like(d_gate)
    fused[-(-gate.size // 256), 256](d_gate, d_up, d_out)
    return d_out.copy_to_host()


@right("3.8.d")
def swiglu_striding(gate, up):
    d_gate, d_up = cuda.to_device(gate), cuda.to_device(up)
    d_out = cuda.device_array(gate.shape, gate.dtype)
    fused_striding[4, 128](d_gate, d_up, d_out)
    result = np.empty_like(gate)
    d_out.copy_to_host(result)
    return result


@right("3.8.d")
def swiglu_into_up(gate, up):
    d_gate, d_up = cuda.to_device(gate), cuda.to_device(up)
    in_place[-(-gate.size // 128), 128](d_gate, d_up)
    return d_up.copy_to_host()


@wrong("3.8.d", "2 launches: silu, times")
def swiglu_in_two(gate, up):
    d_gate, d_up = cuda.to_device(gate), cuda.to_device(up)
    d_between = cuda.device_array_like(d_gate)
    d_out = cuda.device_array_like(d_gate)
    blocks = -(-gate.size // 256)
    silu[blocks, 256](d_gate, d_between)
    times[blocks, 256](d_between, d_up, d_out)
    return d_out.copy_to_host()


@wrong("3.8.d", "49,152 bytes to the device where 32,768 suffice")
def swiglu_on_host_arrays(gate, up):
    out = np.empty_like(gate)
    fused[-(-gate.size // 256), 256](gate, up, out)
    return out


@wrong("3.8.d", "49,152 bytes to the device where 32,768 suffice")
def swiglu_copying_zeros(gate, up):
    d_gate, d_up = cuda.to_device(gate), cuda.to_device(up)
    d_out = cuda.to_device(np.zeros_like(gate))
    fused[-(-gate.size // 256), 256](d_gate, d_up, d_out)
    return d_out.copy_to_host()


@wrong("3.8.d", "65,536 bytes on the device where 49,152 suffice")
def swiglu_reading_twice(gate, up):
    d_gate, d_up = cuda.to_device(gate), cuda.to_device(up)
    d_out = cuda.device_array_like(d_gate)
    reading_the_gate_twice[-(-gate.size // 256), 256](d_gate, d_up, d_out)
    return d_out.copy_to_host()


@wrong("3.8.d", "0 launches: none")
def swiglu_on_the_host(gate, up):
    return gate / (1 + np.exp(-gate)) * up


@wrong("3.8.d", "it returned a device array")
def swiglu_left_on_the_device(gate, up):
    d_gate, d_up = cuda.to_device(gate), cuda.to_device(up)
    d_out = cuda.device_array_like(d_gate)
    fused[-(-gate.size // 256), 256](d_gate, d_up, d_out)
    return d_out


@wrong("3.8.d", "silu(g) = g / (1 + exp(-g))")
def swiglu_the_wrong_way_round(gate, up):
    return swiglu_fused(up, gate)
