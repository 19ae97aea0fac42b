"""The exercises of unit 3.1: right answers pass, wrong ones fail; the verdicts' figures hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

import planting
from aiinfra_labs.course.checking import show, try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu.devices import device, devices
from aiinfra_labs.gpu.exercises import cpu_and_gpu_kernels as kernels
from aiinfra_labs.gpu.intensity import LLAMA_3_1_8B
from aiinfra_labs.gpu.roofline import roofline
from pictures import a_right_answer_is_drawn
from planting import name_of, reasons

EXERCISES = ("3.1.a", "3.1.b", "3.1.c", "3.1.d", "3.1.e")


planted = planting.planted("gpu", "cpu_and_gpu")


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=name_of)
def test_a_right_answer_gets_all_points_and_a_picture(exercise, answer):
    a_right_answer_is_drawn(exercise, answer)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize(
    "given", [None, "many", math.nan, [1, 2], True, np.ones(3)], ids=lambda v: type(v).__name__
)
def test_what_is_no_answer_is_said_in_words(exercise, given):
    result = try_out(find(exercise), lambda *arguments: given)
    assert not result.passed
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_), str(outcome)
        assert "Traceback" not in str(outcome) and "Error:" not in outcome.what


def test_numpys_numbers_are_numbers():
    for exercise, answer in planted.RIGHT:
        if exercise in ("3.1.a", "3.1.b"):
            result = try_out(find(exercise), lambda *a, f=answer: np.float64(f(*a)))
            assert result.passed, str(result)


def test_a_learner_who_changes_the_figures_is_told_so():
    def spoils(figures, precision):
        value = planted.peak_by_cases(figures, precision)
        figures.clear()
        return value

    result = try_out(find("3.1.b"), spoils)
    assert not result.passed and "figures, which was given to your function" in reasons(result)


def test_show_draws_the_learners_own_numbers():
    wrong = show("3.1.d", planted.warps_of_the_whole_device)
    assert "7145 warps with 4 bytes a lane" in repr(wrong)
    assert "all agree" in repr(show("3.1.b", planted.peak_by_cases))
    half = repr(show("3.1.b", planted.peak_without_fma))
    assert "differ by more than 1.3 %" in half
    assert "None at a context of 2,048" in repr(show("3.1.e", planted.batch_by_algebra))
    assert "horner: 8 operations/byte" in repr(show("3.1.c", planted.judge_with_fma_as_one))


# --- the exercises' own figures -------------------------------------------------------------------


def test_the_kernels_tell_wrong_counts_apart():
    reports = kernels.launches()
    assert {name: r.arithmetic_intensity for name, r in reports.items()} == {
        "vector_add": 1 / 12,
        "horner": 16,
        "every_eighth": 1 / 36,
        "smooth": 1,
    }
    # one kernel is bound by another thing on another device: else one answer would do for all
    bounds = {roofline(key).bound_by(16) for key in ("h100", "a100", "h200", "rtx4090")}
    assert bounds == {"memory", "compute"}


def test_the_batches_by_trial_are_those_by_algebra():
    m = LLAMA_3_1_8B
    for key in ("h100", "a100", "b200", "l4"):
        ridge = device(key).ridge("fp16_tensor")
        for context in (0, 1, 64, 200, 256, 500, 512, 2048):
            gain = 2 * m.weights - ridge * context * m.kv_bytes()
            exact = 2 * m.weights * ridge / gain if gain > 0 else math.inf
            found = kernels.batch_by_trial(ridge, m.weights, m.kv_bytes(), context)
            if exact < 20_000:
                assert found == math.ceil(exact)
            else:
                assert found is None


# --- the verdicts ---------------------------------------------------------------------------------


def verdicts():
    return {claim.id: claim for claim in all_claims() if "3.1" in claim.units}


def test_the_verdicts_figures_are_the_specifications():
    h100, pcie = device("h100"), device("h100_pcie")
    cpus = [d for d in devices().values() if d.kind == "cpu"]
    found = verdicts()
    assert set(found) == {
        "cpu-cores",
        "h100-cores",
        "flops",
        "bandwidth",
        "efficiency",
        "generations",
        "sm-132",
    }
    assert [c.verdict for c in found.values()].count("reproduced") == 2

    assert f"{h100.fp32_units:,}" in found["h100-cores"].figure
    assert f"{pcie.fp32_units:,}" in found["h100-cores"].figure
    assert f"{84 * 128:,}" in found["h100-cores"].figure

    peaks = sorted(d.peak() / 1e12 for d in cpus)
    flops = found["flops"].figure
    assert f"{peaks[0]:.1f}" in flops and f"{peaks[-1]:.1f}" in flops
    assert f"{device('xeon_8480').peak('bf16_matrix') / 1e12:.0f}" in flops
    for precision in ("fp16_tensor", "fp16_tensor_sparse"):
        assert f"{h100[precision]:,.0f}" in flops

    bandwidth = found["bandwidth"].figure
    assert all(f"{d.bandwidth / 1e9:.0f}" in bandwidth for d in cpus)
    ratios = sorted(h100.bandwidth / d.bandwidth for d in cpus)
    assert f"{ratios[0]:.0f} to {ratios[-1]:.0f}" in bandwidth
    assert f"{8 * 8 * 6400 / 1000} GB/s" in bandwidth  # 8 channels of 8 bytes

    watt = found["efficiency"].figure
    same = sorted(h100.per_watt() / d.per_watt() for d in cpus)
    crossed = sorted(h100.per_watt("fp16_tensor") / d.per_watt() for d in cpus)
    data = sorted((h100.bandwidth / h100["power"]) / (d.bandwidth / d["power"]) for d in cpus)
    assert f"{same[0]:.1f} to {same[-1]:.1f} times in FP32" in watt
    assert f"{crossed[0]:.0f} to {crossed[-1]:.0f} times" in watt
    assert f"{data[0]:.1f} to {data[-1]:.1f} in bytes/s" in watt

    cores = found["cpu-cores"].figure
    for key in ("epyc_9654", "xeon_6980p", "epyc_9965"):
        assert f"{device(key)['cores']}" in cores
    assert f"{max(d['l3'] for d in cpus)} MiB" in cores


def test_the_verdict_on_generations_is_the_data():
    said = verdicts()["generations"].figure
    for generation, name in enumerate(("Volta", "Turing", "Ampere", "Hopper", "Blackwell"), 1):
        found = [
            d.year
            for d in devices().values()
            if d.architecture == name and d.tensor_generation == generation
        ]
        assert f"{name}'s" in said and f"({min(found)})" in said
