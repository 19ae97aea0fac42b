"""Answers to the exercises of unit 3.1: right ones that differ, and common mistakes."""

from __future__ import annotations

import math

import numpy as np

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 3.1.a the roof ----------------------------------------------------------------------------


@right("3.1.a")
def roof_by_min(peak_tflops, bandwidth_gb, intensity):
    return min(peak_tflops, bandwidth_gb * intensity / 1000)


@right("3.1.a")
def roof_by_ridge(peak, bandwidth, intensity):
    ridge = peak * 1e12 / (bandwidth * 1e9)
    if intensity >= ridge:
        return peak
    return peak * intensity / ridge


@right("3.1.a")
def roof_by_time(peak_tflops, bandwidth_gb, intensity):
    seconds = np.maximum(intensity / (peak_tflops * 1e12), 1 / (bandwidth_gb * 1e9))  # for a byte
    return intensity / seconds / 1e12


@wrong("3.1.a", "so the limit here is bandwidth x intensity")
def roof_in_mixed_units(peak_tflops, bandwidth_gb, intensity):
    return min(peak_tflops, bandwidth_gb * intensity)


@wrong("3.1.a", "so the limit here is peak")
def roof_by_memory_alone(peak_tflops, bandwidth_gb, intensity):
    return bandwidth_gb * intensity / 1000


@wrong("3.1.a", "memory decides below the ridge")
def roof_by_max(peak_tflops, bandwidth_gb, intensity):
    return max(peak_tflops, bandwidth_gb * intensity / 1000)


@wrong("3.1.a", "and where the two limits meet")
def roof_that_adds_the_times(peak_tflops, bandwidth_gb, intensity):
    return 1 / (1 / peak_tflops + 1000 / (bandwidth_gb * intensity))


@wrong("3.1.a", "TFLOP/s is 40.2")
def roof_of_bytes_for_each_operation(peak_tflops, bandwidth_gb, intensity):
    return min(peak_tflops, bandwidth_gb / intensity / 1000) if intensity else 0.0


@wrong("3.1.a", "None")
def roof_without_return(peak_tflops, bandwidth_gb, intensity):
    min(peak_tflops, bandwidth_gb * intensity / 1000)


# --- 3.1.b a peak ------------------------------------------------------------------------------


@right("3.1.b")
def peak_by_cases(figures, precision):
    if "sms" in figures:
        if precision == "fp16_tensor":
            fma = figures["sms"] * figures["tensor_fp16_per_sm"]
            clock = figures.get("tensor_clock", figures["clock"])
        else:
            fma, clock = figures["sms"] * figures["fp32_per_sm"], figures["clock"]
    else:
        lanes = figures["vector_bits"] / (32 if precision == "fp32" else 64)
        fma, clock = figures["cores"] * figures["fma_units"] * lanes, figures["clock"]
    return fma * 2 * clock * 1e6 / 1e12


@right("3.1.b")
def peak_in_gflops(figures, precision):
    bits = {"fp32": 32, "fp64": 64}.get(precision)
    name = {"fp32": "fp32_per_sm", "fp16_tensor": "tensor_fp16_per_sm"}.get(precision)
    lanes = figures.get("vector_bits", 0) // bits if bits else 0
    per_unit = figures[name] if "sms" in figures else figures["fma_units"] * lanes
    mhz = figures["clock"]
    if precision == "fp16_tensor" and "tensor_clock" in figures:
        mhz = figures["tensor_clock"]
    gflops = figures.get("sms", figures.get("cores")) * per_unit * mhz / 500
    return gflops / 1000


@wrong("3.1.b", "an fma is two operations, a product and a sum")
def peak_without_fma(figures, precision):
    return peak_by_cases(figures, precision) / 2


@wrong("3.1.b", "the tensor cores of this device run at a clock of their own")
def peak_at_one_clock(figures, precision):
    return peak_by_cases(
        {k: v for k, v in figures.items() if k != "tensor_clock"},
        precision,
    )


@wrong("3.1.b", "the 32 lanes of a warp are among them")
def peak_times_warp(figures, precision):
    return 32 * peak_by_cases(figures, precision)


@wrong("3.1.b", "off by a power of ten: -3")
def peak_in_kilo(figures, precision):
    return peak_by_cases(figures, precision) / 1000


@wrong("3.1.b", "counts the lanes of a CPU's vectors")
def peak_of_bytes(figures, precision):
    if "sms" in figures:
        return peak_by_cases(figures, precision)
    lanes = figures["vector_bits"] / 8
    return figures["cores"] * figures["fma_units"] * lanes * 2 * figures["clock"] / 1e6


@wrong("3.1.b", "KeyError")
def peak_of_gpus_only(figures, precision):
    name = {"fp32": "fp32_per_sm", "fp16_tensor": "tensor_fp16_per_sm"}.get(precision)
    clock = figures.get("tensor_clock", 0) if "tensor" in precision else 0
    return figures["sms"] * figures[name] * 2 * (clock or figures["clock"]) / 1e6


# --- 3.1.c judge -------------------------------------------------------------------------------

OPERATIONS = "smsp__sass_thread_inst_executed_op_f{}_pred_on.sum"
READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"


def _flops(metrics, fma=2):
    add, mul = metrics[OPERATIONS.format("add")], metrics[OPERATIONS.format("mul")]
    return add + mul + fma * metrics[OPERATIONS.format("fma")]


@right("3.1.c")
def judge_by_ridge(metrics, peak_tflops, bandwidth_gb):
    intensity = _flops(metrics) / (metrics[READ] + metrics[WRITTEN])
    ridge = 1000 * peak_tflops / bandwidth_gb
    return intensity, "memory" if intensity < ridge else "compute"


@right("3.1.c")
def judge_by_time(metrics, peak_tflops, bandwidth_gb):
    flops, moved = _flops(metrics), sum(metrics[m] for m in metrics if m.startswith("dram__bytes"))
    arithmetic, memory = flops / (peak_tflops * 1e12), moved / (bandwidth_gb * 1e9)
    return [flops / moved, ("memory", "compute")[arithmetic >= memory]]


@wrong("3.1.c", "an fma was counted once")
def judge_with_fma_as_one(metrics, peak_tflops, bandwidth_gb):
    intensity = _flops(metrics, fma=1) / (metrics[READ] + metrics[WRITTEN])
    return intensity, "memory" if intensity < 1000 * peak_tflops / bandwidth_gb else "compute"


@wrong("3.1.c", "what is written crosses the bus, too")
def judge_by_reads(metrics, peak_tflops, bandwidth_gb):
    intensity = _flops(metrics) / metrics[READ]
    return intensity, "memory" if intensity < 1000 * peak_tflops / bandwidth_gb else "compute"


@wrong("3.1.c", "these are the bytes between threads and caches")
def judge_by_sectors(metrics, peak_tflops, bandwidth_gb):
    sectors = sum(
        metrics[f"l1tex__t_sectors_pipe_lsu_mem_global_op_{op}.sum"] for op in ("ld", "st")
    )
    intensity = _flops(metrics) / (32 * sectors)
    return intensity, "memory" if intensity < 1000 * peak_tflops / bandwidth_gb else "compute"


@wrong("3.1.c", 'expected "compute": 16 operations/byte, and the ridge is at 9.564')
def judge_by_the_h100(metrics, peak_tflops, bandwidth_gb):
    intensity = _flops(metrics) / (metrics[READ] + metrics[WRITTEN])
    return intensity, "memory" if intensity < 20 else "compute"


@wrong("3.1.c", 'expected "memory": 0.08333 operations/byte')
def judge_in_mixed_units(metrics, peak_tflops, bandwidth_gb):
    intensity = _flops(metrics) / (metrics[READ] + metrics[WRITTEN])
    return intensity, "memory" if intensity < peak_tflops / bandwidth_gb else "compute"


@wrong("3.1.c", "two things are asked for")
def judge_without_a_verdict(metrics, peak_tflops, bandwidth_gb):
    return _flops(metrics) / (metrics[READ] + metrics[WRITTEN])


# --- 3.1.d warps -------------------------------------------------------------------------------


@right("3.1.d")
def warps_by_bytes(bandwidth_gb, latency_ns, sms, bytes_a_lane):
    under_way = bandwidth_gb * latency_ns  # GB/s x ns = bytes
    return math.ceil(under_way / sms / (32 * bytes_a_lane))


@right("3.1.d")
def warps_by_counting(bandwidth_gb, latency_ns, sms, bytes_a_lane):
    warps = 1
    while warps * sms * 32 * bytes_a_lane / (latency_ns * 1e-9) < bandwidth_gb * 1e9:
        warps += 1
    return warps


@wrong("3.1.d", "expected 55")
def warps_rounded_down(bandwidth_gb, latency_ns, sms, bytes_a_lane):
    return int(bandwidth_gb * latency_ns / sms / (32 * bytes_a_lane))


@wrong("3.1.d", "share them out: over SMs, over warps")
def warps_of_the_whole_device(bandwidth_gb, latency_ns, sms, bytes_a_lane):
    return math.ceil(bandwidth_gb * latency_ns / (32 * bytes_a_lane))


@wrong("3.1.d", "expected 55")
def threads_for_warps(bandwidth_gb, latency_ns, sms, bytes_a_lane):
    return math.ceil(bandwidth_gb * latency_ns / sms / bytes_a_lane)


@wrong("3.1.d", "needs fewer where each lane asks for more")
def warps_of_four_bytes(bandwidth_gb, latency_ns, sms, bytes_a_lane):
    return math.ceil(bandwidth_gb * latency_ns / sms / 128)


@wrong("3.1.d", "is no whole number")
def warps_as_a_float(bandwidth_gb, latency_ns, sms, bytes_a_lane):
    return float(np.ceil(bandwidth_gb * latency_ns / sms / (32 * bytes_a_lane)))


# --- 3.1.e batch -------------------------------------------------------------------------------


@right("3.1.e")
def batch_by_algebra(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    ridge = 1000 * peak_tflops / bandwidth_gb
    gain = 2 * weights - ridge * context * kv_bytes
    return math.ceil(2 * weights * ridge / gain) if gain > 0 else None


@right("3.1.e")
def batch_by_trial(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    for batch in range(1, 100_000):
        arithmetic = 2 * weights * batch / (peak_tflops * 1e12)
        memory = (2 * weights + batch * context * kv_bytes) / (bandwidth_gb * 1e9)
        if arithmetic >= memory:
            return batch
    return None


@wrong("3.1.e", "counts each sequence's own KV cache")
def batch_without_a_cache(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    return math.ceil(1000 * peak_tflops / bandwidth_gb)


@wrong("3.1.e", "counts each sequence's own KV cache")
def batch_with_a_shared_cache(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    ridge = 1000 * peak_tflops / bandwidth_gb
    return math.ceil(ridge * (2 * weights + context * kv_bytes) / (2 * weights))


@wrong("3.1.e", "return None when no batch reaches the ridge")
def batch_that_may_be_negative(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    ridge = 1000 * peak_tflops / bandwidth_gb
    return math.ceil(2 * weights * ridge / (2 * weights - ridge * context * kv_bytes))


@wrong("3.1.e", "expected 296")
def batch_of_one_operation_a_weight(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    ridge = 1000 * peak_tflops / bandwidth_gb
    gain = weights - ridge * context * kv_bytes
    return math.ceil(2 * weights * ridge / gain) if gain > 0 else None


@wrong("3.1.e", "rounded up")
def batch_rounded_down(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    ridge = 1000 * peak_tflops / bandwidth_gb
    gain = 2 * weights - ridge * context * kv_bytes
    return int(2 * weights * ridge / gain) if gain > 0 else None


@wrong("3.1.e", "a float")
def batch_as_a_float(peak_tflops, bandwidth_gb, weights, kv_bytes, context):
    batch = batch_by_algebra(peak_tflops, bandwidth_gb, weights, kv_bytes, context)
    return batch and float(batch)
