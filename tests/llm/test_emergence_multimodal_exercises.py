"""The exercises of unit 1.8: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

import planting
from aiinfra_labs.course import facts
from aiinfra_labs.course.checking import show, try_out
from aiinfra_labs.course.claims import all_claims
from aiinfra_labs.course.measured import measured
from aiinfra_labs.course.registry import find
from aiinfra_labs.llm.drawings import emergence_multimodal as drawings
from aiinfra_labs.llm.scale import loss_curve
from aiinfra_labs.llm.scale.chinchilla import BESIROGLU
from pictures import a_right_answer_is_drawn
from planting import name_of

EXERCISES = ("1.8.a", "1.8.b", "1.8.c", "1.8.d", "1.8.e")


planted = planting.planted("llm", "emergence_multimodal")


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=name_of)
def test_a_right_answer_gets_all_points_and_a_picture(exercise, answer):
    a_right_answer_is_drawn(exercise, answer)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize(
    "given",
    [None, "many", [1, 2, 3], True, np.ones(3), torch.ones(2, 2), (torch.ones(2),) * 3],
    ids=str,
)
def test_what_is_no_answer_is_said_in_words(exercise, given):
    arguments = find(exercise).arguments
    answer = eval(f"lambda {', '.join(arguments)}: given", {"given": given})
    result = try_out(find(exercise), answer)
    assert not result.passed
    for outcome in result.requirements:
        assert outcome.passed or (outcome.what and outcome.why and outcome.try_), str(outcome)
        assert "Traceback" not in str(outcome) and "Error:" not in outcome.what
    said = str(show(exercise, answer))
    assert "Error" not in said and "Traceback" not in said
    assert said.startswith("Your ") or ("cannot be drawn" in said and "Why:" in said)


def test_show_draws_the_learners_own_run():
    exact = planted.rulers_by_tensors
    assert "exact match passes one half at" in repr(show("1.8.a", exact))
    causal = repr(show("1.8.e", planted.stream_causal))
    assert "78 pairs are seen, 0 of them ahead" in causal
    whole = repr(show("1.8.e", planted.stream_by_places))
    assert "84 pairs are seen, 6 of them ahead" in whole
    assert "9 predicts 7, 10 predicts 8" in whole
    one, other = (re.search(r"(\d+) of 360", repr(show("1.8.c", answer))) for answer in (
        planted.classes_by_normalize, planted.classes_of_one_prompt))  # fmt: skip
    assert one and other and one[1] != other[1]


# --- the verdicts ---------------------------------------------------------------------------------


def verdicts():
    return {claim.id: claim for claim in all_claims() if claim.unit == "1.8"}


def test_every_claim_of_the_unit_has_a_verdict():
    found = {claim.id: claim.verdict for claim in verdicts().values()}
    assert found == {"scale-leap": "corrected", "emergence": "corrected"}


def test_the_verdict_on_scale_is_what_the_laws_give():
    said = verdicts()["scale-leap"].figure
    losses = [BESIROGLU.loss(n, 15e12) for n in (1e9, 1e10, 1e11, 1e12)]
    for before, after in pairwise(losses):
        assert f"{before - after:.3f}" in said
    exponent = facts.load("llm")["kaplan.alpha_n"].value
    assert f"take {1 - 10**-exponent:.0%}".replace("%", " %") in said
    runs = measured("scaling")[0]["runs"]
    most = max(run["tokens"] for run in runs)
    chosen = [(run["parameters"], run["loss"]) for run in runs if run["tokens"] == most]
    power = loss_curve.fit(*zip(*chosen, strict=True))
    assert f"models {1 - 10**-power.exponent:.0%}".replace("%", " %") in said


def test_the_verdict_on_emergence_is_what_was_measured():
    said = verdicts()["emergence"].figure
    skills = measured("emergence")[0]["skills"]
    recall = drawings.by_size(skills["recall"]["runs"], "exact_match")
    nats = drawings.by_size(skills["recall"]["runs"], "nats")
    sizes = list(recall)
    for size in sizes[-2:]:
        assert f"{np.mean(recall[size]):.0%}".replace("%", " %") in said and f"{size:,}" in said
    means = [np.mean(values) for values in nats.values()]
    assert means == sorted(means, reverse=True)  # smoother: better at every size
    assert f"{means[0]:.2f} to {means[-1]:.2f} nats" in said
    addition = {(r["parameters"], r["seed"]): r for r in skills["addition"]["runs"]}
    assert addition[3660, 1]["exact_match"] > 0.3 > 0.01 > addition[14232, 0]["exact_match"]
    for key in ((3660, 1), (14232, 0)):
        assert f"{addition[key]['exact_match']:.0%}".replace("%", " %") in said
