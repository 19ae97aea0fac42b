"""A fact has unit, source and date, or is none."""

from datetime import date

import pytest

from aiinfra_labs.course import facts
from aiinfra_labs.course.facts import FactError
from aiinfra_labs.course.units import CHAPTERS

GOOD = """
[h100.bandwidth]
value = 3350
unit = "GB/s"
source = "https://example.org/h100"
as_of = 2026-11-24
"""


def test_a_fact():
    fact = facts.parse(GOOD)["h100.bandwidth"]
    assert (fact.value, fact.unit, fact.as_of) == (3350, "GB/s", date(2026, 11, 24))
    assert str(fact) == "3,350 GB/s"
    assert fact.citation == "https://example.org/h100, as of 2026-11-24"


def test_a_date_may_be_text():
    text = GOOD.replace("2026-11-24", '"2026-11-24"')
    assert facts.parse(text)["h100.bandwidth"].as_of == date(2026, 11, 24)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('unit = "GB/s"\n', "", "lacks unit"),
        ('source = "https://example.org/h100"\n', "", "lacks source"),
        ("as_of = 2026-11-24\n", "", "lacks as_of"),
        ("2026-11-24", '"last year"', "as_of = 'last year'"),
        ("2026-11-24", "2026", "as_of = 2026"),
        ("https://", "the book ", "source"),
        ('"GB/s"', "3", "unit = 3"),
        ("[h100.bandwidth]", "loose = 3\n[h100.bandwidth]", "outside a fact"),
    ],
)
def test_a_fact_that_lacks_something(old, new, what):
    assert old in GOOD
    with pytest.raises(FactError, match=what) as error:
        facts.parse(GOOD.replace(old, new))
    assert error.value.why and error.value.try_


def test_an_unknown_fact_lists_the_nearest():
    with pytest.raises(FactError, match=r"did you mean h100\.bandwidth"):
        facts.parse(GOOD)["h100.bandwith"]


@pytest.mark.parametrize("chapter", [c.name for c in CHAPTERS.values()])
def test_the_courses_own_facts_are_whole(chapter):
    facts.load(chapter)


def test_no_such_chapter():
    with pytest.raises(FactError, match="no chapter"):
        facts.load("gpus")
