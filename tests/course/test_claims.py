"""Every claim of the talk is listed, and a verdict needs its figure, its way and its source."""

import pytest

from aiinfra_labs.course import claims, registry
from aiinfra_labs.course.claims import VERDICTS, ClaimError, examine
from aiinfra_labs.course.units import UNITS

TALK = """
attention-coref temperature arch-vs-phase gpt3-cost palm-cost gpt4-cost train-resources scale-leap
mla-75 moe-64 deepseek-lineage aime-79.8 humaneval-96.3 inference-90 emergence copilot-46-55 prices
dev-88000 productivity cases roi cpu-cores h100-cores flops bandwidth efficiency generations sm-132
hierarchy coalescing-90 shared-400 float4 ilp goals-80-70-60 nvprof mig-7 time-slice hami
sharing-choice stack-kpis train-infer-split kv-80 cont-batch spec-2-3 parallel-modes quant engines
lora-90 gateway autoscale kv-dist aibrix-kpis cloud-native rag-pipeline rag-vector agents monitoring
skills careers market
"""
IDS = TALK.split()
FOUND = {
    "verdict": "corrected",
    "figure": "19 times",
    "how": "measured",
    "source": "https://example.org",
}


@pytest.fixture(autouse=True)
def verdicts(monkeypatch):
    registry.all_exercises()
    monkeypatch.setattr(claims, "_verdicts", {})


def test_all_are_listed():
    assert [c.id for c in claims.all_claims()] == IDS


def test_each_has_a_page_a_text_and_units_of_the_map():
    for claim in claims.all_claims():
        assert claim.page.startswith("p") and claim.text.endswith(".") and len(claim.text) > 15
        assert claim.units and set(claim.units) <= set(UNITS)
        assert claim.is_open and claim.verdict == "open"


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_is_recorded(verdict):
    made = examine("shared-400", **FOUND | {"verdict": verdict})
    (claim,) = [c for c in claims.all_claims() if not c.is_open]
    assert claim == made and claim.verdict == verdict and claim.figure == "19 times"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"verdict": "true"}, "verdict 'true'"),
        ({"verdict": "open"}, "verdict 'open'"),
        ({"figure": " "}, "figure is empty"),
        ({"how": ""}, "how is empty"),
        ({"source": "a book"}, "source"),
    ],
)
def test_a_verdict_that_lacks_something(change, what):
    with pytest.raises(ClaimError, match=what):
        examine("shared-400", **FOUND | change)
    assert all(c.is_open for c in claims.all_claims())


def test_no_such_claim():
    with pytest.raises(ClaimError, match="no claim 'shared'"):
        examine("shared", **FOUND)


def test_the_table_shows_them_all():
    examine("shared-400", **FOUND)
    lines = claims.table_markdown().strip().splitlines()
    assert len(lines) == 2 + len(IDS)
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines)
    (found,) = [line for line in lines if "corrected" in line]
    assert "19 times (measured)" in found and "(https://example.org)" in found
    assert "p17 `shared-400`" in found
    assert sum("| open | open |" in line for line in lines) == len(IDS) - 1


def test_a_table_of_open_claims_has_no_column_for_what_was_found():
    lines = claims.table_markdown(claims.all_claims()[:2]).strip().splitlines()
    assert len(lines) == 4 and all(line.count("|") == 4 for line in lines)


def test_a_unit_that_stands_may_leave_nothing_open():
    problems = claims.unfinished(frozenset({"3.4"}), {"3.4": "The talk says shared-400."})
    assert problems == ["claim shared-400 is open, and unit 3.4 stands"]
    examine("shared-400", **FOUND)
    assert claims.unfinished(frozenset({"3.4"}), {"3.4": "The talk says shared-400."}) == []
    (problem,) = claims.unfinished(frozenset({"3.4"}), {"3.4": "Nothing."})
    assert "does not name claim shared-400" in problem


def test_units_that_do_not_stand_may_wait():
    assert claims.unfinished(frozenset(), {}) == []


def test_when_every_unit_stands_nothing_may_be_open():
    problems = claims.unfinished(frozenset(UNITS), {})
    assert sum("every unit stands" in p for p in problems) == len(IDS)
