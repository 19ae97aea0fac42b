"""The roofline estimate: by hand, from figures of published devices."""

import numpy as np
import pytest

from aiinfra_labs.course import facts
from aiinfra_labs.gpu import emulator as cuda
from aiinfra_labs.gpu.emulator.counters.report import Report
from aiinfra_labs.gpu.emulator.devices import device_profiles

BIG = {"grid": (132 * 8, 1, 1), "block": (256, 1, 1)}


def test_a_launch_that_moves_much_is_bound_by_dram():
    # 3.35 GB read on an H100 of 3.35 TB/s: 1 ms; 1e9 operations at 66.9 T/s are 15 us
    r = Report(**BIG, dram_bytes_read=3_350_000_000, fp32_add=10**9)
    e = r.estimate("h100")
    assert e.bound_by == "DRAM"
    assert e.seconds == pytest.approx(1e-3)
    assert e.parts["fp32 units"] == pytest.approx(1e9 / 66.9e12)
    assert e.intensity == pytest.approx(1 / 3.35)
    # the ridge: 66.9e12 / 3.35e12
    assert e.ridge == pytest.approx(19.97, abs=0.01)


def test_an_fma_is_two_operations():
    r = Report(**BIG, fp32_fma=669 * 10**9, dram_bytes_read=1000)
    e = r.estimate("h100")
    assert (e.bound_by, e.seconds) == ("fp32 units", pytest.approx(0.02))


def test_double_precision_is_slow_on_a_gaming_card():
    # 1.29e12 operations in fp64: 1 s on an RTX 4090, of which fp32 would take 1/64
    r = Report(**BIG, fp64_mul=1_290_000_000_000)
    assert r.estimate("rtx4090").seconds == pytest.approx(1)
    r = Report(**BIG, fp32_mul=1_290_000_000_000)
    assert r.estimate("rtx4090").seconds == pytest.approx(1 / 64, rel=0.01)


def test_shared_memory_gives_a_wavefront_a_clock():
    # 132 SMs x 1.98e9 wavefronts a second
    r = Report(**BIG, shared_load_wavefronts=132 * 1_980_000)
    e = r.estimate("h100")
    assert (e.bound_by, e.seconds) == ("shared memory", pytest.approx(1e-3))


def test_a_grid_of_one_block_has_one_sm():
    whole = Report(**BIG, fp32_mul=10**9).estimate("h100")
    alone = Report(grid=(1, 1, 1), block=(256, 1, 1), fp32_mul=10**9).estimate("h100")
    assert alone.seconds == pytest.approx(132 * whole.seconds)
    assert (alone.sms_used, whole.sms_used) == (1, 132)


def test_a_launch_that_does_nothing():
    e = Report(**BIG).estimate("h100")
    assert (e.seconds, e.bound_by, e.intensity) == (0, "nothing counted", None)


def test_it_says_that_it_is_a_model():
    e = Report(**BIG, dram_bytes_read=1000).estimate("a100")
    assert "model, not a measurement" in str(e) and "model, not a measurement" in e._repr_html_()
    assert "A100" in str(e) and "bound by" in str(e)


def test_of_a_real_launch():
    @cuda.jit
    def add(a, b, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = a[i] + b[i]

    n = 1 << 16
    arrays = [cuda.to_device(np.zeros(n, "f4")) for _ in range(3)]
    with cuda.profile() as p:
        add[n // 256, 256](*arrays)
    # 3 x 4 x 65536 bytes at 320 GB/s
    e = cuda.estimate(p.report, "t4")
    assert (e.bound_by, e.seconds) == ("DRAM", pytest.approx(12 * n / 320e9))


def test_the_profiles_agree_with_the_facts_that_the_pages_quote():
    h100, known = device_profiles()["h100"], facts.load("gpu")
    assert h100.multiprocessors == known["h100.sm_count"].value
    assert h100.memory_bandwidth == known["h100.memory_bandwidth"].value * 1e12
    assert h100.shared_memory_per_block == known["h100.shared_memory_per_block"].value * 1024


def test_the_peaks_follow_from_units_and_clocks():
    # fp32 units an SM: 64 on 7.0, 7.5 and 8.0, 128 after (CUDA C++ Programming Guide, arithmetic
    # throughput); an fma is two operations. Published figures are rounded to three digits.
    for profile in device_profiles().values():
        units = 64 if profile.compute_capability in ((7, 0), (7, 5), (8, 0)) else 128
        peak = profile.multiprocessors * units * 2 * profile.clock
        assert profile.peak_flops["fp32"] == pytest.approx(peak, rel=0.01), profile.key
