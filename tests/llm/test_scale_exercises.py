"""The exercises of unit 1.6: right answers pass, wrong ones fail; the verdicts' figures hold."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

import planting
from aiinfra_labs.course import facts
from aiinfra_labs.course.checking import show, try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.registry import find
from aiinfra_labs.gpu.devices import device
from aiinfra_labs.llm.exercises.scale_budget import reported
from aiinfra_labs.llm.scale import shapes
from aiinfra_labs.llm.scale.cost import mfu
from aiinfra_labs.llm.scale.parameters import total
from pictures import a_right_answer_is_drawn
from planting import name_of

EXERCISES = ("1.6.a", "1.6.b", "1.6.c", "1.6.d")
FACTS = facts.load("llm")


planted = planting.planted("llm", "scale")


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=name_of)
def test_a_right_answer_gets_all_points_and_a_picture(exercise, answer):
    a_right_answer_is_drawn(exercise, answer)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize(
    "given",
    [None, "many", math.nan, [1, 2, 3], True, np.ones(3), (0, 0), (-1.0, 1.0), (math.inf, 1)],
    ids=str,
)
def test_what_is_no_answer_is_said_in_words(exercise, given):
    result = try_out(find(exercise), lambda *arguments: given)
    assert not result.passed and result.score == 0
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_), str(outcome)
        assert "Traceback" not in str(outcome) and "Error:" not in outcome.what


@pytest.mark.parametrize("kind", [np.float64, torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(kind):
    # float64: torch's own float32 could not tell 405,853,388,800 from its neighbours
    counts = try_out(find("1.6.a"), lambda c: kind(planted.parameters_by_shapes(c)))
    assert counts.passed, str(counts)
    days = try_out(find("1.6.d"), lambda *a: [kind(v) for v in planted.cost_by_hours(*a)])
    assert days.passed, str(days)


def test_show_draws_the_learners_own_numbers():
    assert "8,030,261,248 of 8,030,261,248" in repr(show("1.6.a", planted.parameters_by_shapes))
    assert "stage 1 on none of them" in repr(show("1.6.b", planted.bytes_by_table))
    assert "stage 3 from 16 GPUs on" in repr(show("1.6.b", planted.bytes_by_table))
    halves = repr(show("1.6.c", planted.split_half_and_half))
    assert "on 1.29e+09 parameters and 1.29e+09 tokens" in halves
    assert "GPT-3 4.608 M$, reported 4.6;" in repr(show("1.6.d", planted.cost_by_hours))


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("given", ["many", math.nan, (1.0, math.inf), [1, 2, 3]], ids=str)
def test_show_says_in_words_what_it_cannot_draw(exercise, given):
    said = str(show(exercise, lambda *arguments: given))
    assert "cannot be drawn" in said and "Why:" in said and "Try:" in said
    assert "Error" not in said


# --- the verdicts ---------------------------------------------------------------------------------


def verdicts():
    return {claim.id: claim for claim in all_claims() if claim.unit == "1.6"}


def test_every_claim_of_the_unit_has_a_verdict():
    assert {claim.id: claim.verdict for claim in verdicts().values()} == {
        "gpt3-cost": "corrected",
        "palm-cost": "corrected",
        "gpt4-cost": "corrected",
        "train-resources": "corrected",
    }


def test_the_verdict_on_gpt3_is_lambdas_own_arithmetic():
    said = verdicts()["gpt3-cost"].figure
    rate, years = FACTS["gpt3.lambda_rate"].value, FACTS["gpt3.lambda_years"].value
    hours = years * 365 * 24
    assert FACTS["gpt3.flops"].value / (rate * 1e12) / 3600 == pytest.approx(hours, rel=0.005)
    assert f"{FACTS['gpt3.lambda_cost'].value * 1e6 / hours:.2f} $" in said
    assert f"{rate / device('v100')['fp16_tensor']:.0%}".replace("%", " %") in said
    assert f"{total(shapes.shape('gpt3')) / 1e9:.1f} B" in said
    assert f"{FACTS['gpt3.index_cost'].value} M$" in said


def test_the_verdict_on_palm_is_hours_times_the_list_price():
    said = verdicts()["palm-cost"].figure
    hours, price = FACTS["palm.hours"].value, FACTS["tpu_v4.price"].value
    assert hours == 6144 * 1200 + 3072 * 336
    assert f"{hours * price / 1e6:.1f} M$" in said and f"{hours / 1e6:.2f} M" in said
    assert f"{total(shapes.shape('palm')) / 1e9:.2f} B" in said
    assert str(FACTS["palm.index_cost"].value) in said
    # The reported hours imply less than the MFU that the paper gives: they hold repeated steps.
    used = mfu(FACTS["palm.flops"].value, hours, FACTS["tpu_v4.peak"].value * 1e12)
    assert 0.25 < used < FACTS["palm.mfu"].value


def test_the_verdict_on_resources_is_what_was_published():
    said = verdicts()["train-resources"].figure
    a_day = 1000 * device("a100")["fp16_tensor"] * 1e12 * 0.4 * 86400
    assert f"{a_day * 365 / 6:.1e}".replace("e+", "e") in said
    assert f"{a_day * 365 / 2:.1e}".replace("e+", "e") in said
    for key, name in (
        ("bloom", "BLOOM"),
        ("llama-1-65b", "LLaMA 65B"),
        ("deepseek-v3", "DeepSeek-V3"),
        ("llama-3-405b", "Llama 3.1 405B"),
    ):
        gpus, hours = FACTS[f"{key}.gpus"].value, FACTS[f"{key}.hours"].value
        found = re.search(rf"{name} (?:up to )?([\d,]+) \w+, (\d+) days", said)
        assert int(found[1].replace(",", "")) == gpus
        assert int(found[2]) == round(hours / gpus / 24)


def test_what_was_reported_is_what_the_facts_say():
    have = reported()
    assert len(have) == 2
    (given, days, dollars), _ = have.values()
    assert given[0] == pytest.approx(174.6e9, rel=0.005) and dollars == 4.6e6
    assert days == pytest.approx(129.6, rel=0.001)
