"""The specifications: complete, peaks as computed near those published, one source for all."""

import math
import re
from datetime import date

import pytest

from aiinfra_labs.course import facts
from aiinfra_labs.gpu.devices import DeviceError, device, devices
from aiinfra_labs.gpu.emulator import device_profiles

EVERY = devices()
GPUS = {key: d for key, d in EVERY.items() if d.kind == "gpu"}
CPUS = {key: d for key, d in EVERY.items() if d.kind == "cpu"}


def each_with(*names):
    """The GPUs whose maker publishes all of these figures."""
    return pytest.mark.parametrize(
        "key", [k for k, d in GPUS.items() if all(n in d for n in names)]
    )


def test_there_are_enough_and_each_figure_says_where_it_is_from():
    assert len(GPUS) >= 15 and len(CPUS) >= 2
    for d in EVERY.values():
        for figure in d.figures.values():
            assert figure.value > 0 and figure.unit, (d.key, figure)
            assert re.match(r"https://[\w.-]+/", figure.source), (d.key, figure)
            assert date(2026, 1, 1) <= figure.as_of <= date.today(), (d.key, figure)
            assert str(figure).endswith(figure.unit) and figure.source in figure.link


@each_with("clock", "fp32_per_sm", "fp32")
def test_the_peak_in_fp32_is_units_by_clock_by_two(key):
    assert GPUS[key].computed_peak("fp32") == pytest.approx(GPUS[key].peak("fp32"), rel=0.01)


@each_with("clock", "tensor_fp16_per_sm", "fp16_tensor")
def test_the_tensor_cores_peak_is_fma_by_clock_by_two(key):
    d = GPUS[key]
    # within 1.3 %: the L40S's data sheet takes another clock for its tensor cores
    assert d.computed_peak("fp16_tensor") == pytest.approx(d.peak("fp16_tensor"), rel=0.013)


@each_with("fp16_tensor_sparse")
def test_sparse_is_twice_dense(key):
    d = GPUS[key]
    assert d["fp16_tensor_sparse"] == pytest.approx(2 * d["fp16_tensor"], rel=0.015)


def test_most_peaks_can_be_computed():
    assert sum("clock" in d for d in GPUS.values()) >= 15
    assert sum("tensor_fp16_per_sm" in d for d in GPUS.values()) >= 12


def test_known_figures():
    h100 = device("h100")
    assert h100.fp32_units == 132 * 128 == 16_896
    assert h100.bandwidth == 3.35e12
    assert h100.ridge("fp32") == pytest.approx(19.97, abs=0.01)
    assert h100.ridge("fp16_tensor") == pytest.approx(295.3, abs=0.1)
    assert device("a100").fp32_units == 6_912
    # 84 SMs of 128 is the whole GA102, which no H100 has
    assert 84 * 128 == 10_752 not in {d.fp32_units for d in GPUS.values()}
    xeon, epyc = device("xeon_8480"), device("epyc_9654")
    assert xeon.bandwidth == 8 * 8 * 4.8e9 == 307.2e9
    assert epyc.bandwidth == 12 * 8 * 4.8e9 == 460.8e9
    assert xeon.peak("fp32") == 56 * 2 * 16 * 2 * 2.0e9
    assert epyc.peak("fp32") == pytest.approx(96 * 2 * 8 * 2 * 2.4e9)
    assert xeon.peak("fp64") == xeon.peak("fp32") / 2
    assert xeon.peak("bf16_matrix") == pytest.approx(114.7e12, rel=1e-3)
    assert h100.per_watt("fp16_tensor") == pytest.approx(989.4e12 / 700)


def test_tensor_cores_by_generation():
    generations = {(d.tensor_generation, d.architecture) for d in GPUS.values()}
    assert {(1, "Volta"), (2, "Turing"), (3, "Ampere"), (4, "Hopper"), (5, "Blackwell")} <= (
        generations
    )


def test_the_emulators_profiles_say_the_same():
    profiles = device_profiles()
    assert set(profiles) <= set(GPUS)
    for key, profile in profiles.items():
        d = GPUS[key]
        assert profile.name == d.name
        assert ".".join(map(str, profile.compute_capability)) == d.compute_capability
        assert profile.multiprocessors == d["sms"]
        assert math.isclose(profile.clock, d["clock"] * 1e6)
        assert math.isclose(profile.memory_bandwidth, d.bandwidth)
        assert profile.l2_bytes == d["l2"] * 2**20
        # 80 GB are five stacks of 16 GiB, on an H200 six of 24 less a rest
        assert d["memory"] * 1e9 <= profile.memory_bytes <= d["memory"] * 2**30
        for precision, peak in profile.peak_flops.items():
            assert math.isclose(peak, d.peak(precision)), (key, precision)


def test_the_facts_that_pages_quote_say_the_same():
    known, h100 = facts.load("gpu"), device("h100")
    assert known["h100.sm_count"].value == h100["sms"]
    assert known["h100.memory"].value == h100["memory"]
    assert known["h100.memory_bandwidth"].value * 1000 == h100["bandwidth"]


def test_what_is_not_there_is_said_with_what_is():
    with pytest.raises(DeviceError, match=r"no device 'h1000'\nWhy: .*h100") as error:
        device("h1000")
    assert error.value.try_
    with pytest.raises(DeviceError, match="in 'fp8_tensor'"):
        device("v100").peak("fp8_tensor")
    with pytest.raises(DeviceError, match=r"no peak of .*EPYC 9654 in 'bf16_matrix'\nWhy: .*fp32"):
        device("epyc_9654").peak("bf16_matrix")
    with pytest.raises(DeviceError, match="no fp32 rate|no figure 'clock'"):
        device("b200").computed_peak("fp32")


def test_precisions_are_those_that_have_a_peak():
    for d in EVERY.values():
        assert d.precisions()
        assert all(d.peak(p) > 0 for p in d.precisions())
    assert device("epyc_9654").precisions() == ["fp32", "fp64"]
    assert device("xeon_8480").precisions() == ["fp32", "fp64", "bf16_matrix"]
    assert "fp16_tensor" in device("h100").precisions()
