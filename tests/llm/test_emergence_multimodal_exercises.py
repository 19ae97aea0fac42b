"""The exercises of unit 1.8: right answers pass, wrong ones fail, each for its reason."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aiinfra_labs.course import figures
from aiinfra_labs.course.checking import show, try_out
from aiinfra_labs.course.registry import find

EXERCISES = ("1.8.a", "1.8.b", "1.8.c", "1.8.d", "1.8.e")


def _planted():
    path = Path(__file__).parent / "planted" / "emergence_multimodal.py"
    spec = importlib.util.spec_from_file_location("planted_emergence_multimodal", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


planted = _planted()


def _name(value):
    return getattr(value, "__name__", "") if not isinstance(value, str) else ""


def text(result):
    return "\n".join(
        f"{r.name}\n{r.input}\n{r.what}\n{r.why}\n{r.try_}"
        for r in result.requirements
        if not r.passed
    )


@pytest.mark.parametrize(("exercise", "answer"), planted.RIGHT, ids=_name)
def test_a_right_answer_gets_all_points_and_a_picture(exercise, answer):
    result = try_out(find(exercise), answer)
    assert result.passed and result.score == find(exercise).points, str(result)
    picture = show(exercise, answer)
    html = picture._repr_html_()
    assert html.count("<svg") == 1
    texts = re.findall(r"<g[^>]*scale\([^>]*>", html)  # black ones would not be seen in the dark
    assert texts and all("currentColor" in group for group in texts)
    assert set(re.findall(r"#[0-9a-f]{6}\b", html)) <= set(figures.PALETTE.values())
    assert len(repr(picture).split()) > 10


@pytest.mark.parametrize(("exercise", "answer", "reason"), planted.WRONG, ids=_name)
def test_a_wrong_answer_is_told_why(exercise, answer, reason):
    result = try_out(find(exercise), answer)
    assert not result.passed and reason in text(result), str(result)


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
