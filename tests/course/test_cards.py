"""A card says the five things a learner must know, in the repository and away from it."""

import tomllib

import pytest

from aiinfra_labs.course import card, cards
from aiinfra_labs.course.cards import CardError, make_card

GOOD = {
    "minutes": 45,
    "memory_mb": 400,
    "gpu": "optional",
    "prerequisites": ["unit 3.1"],
    "skills": ['CUDA "kernels"'],
}


def test_what_a_card_shows():
    made = make_card("3.2", GOOD)
    assert "Time: 45 minutes" in str(made) and "GPU: optional" in str(made)
    html = made._repr_html_()
    assert "&quot;kernels&quot;" in html and html.count('<th scope="row"') == 6


def test_a_card_leads_back_to_its_page(monkeypatch):
    monkeypatch.delenv("AIINFRA_SITE", raising=False)
    assert "Page: 3.2 The CUDA programming model (on the course's site)" in str(card("3.2"))
    assert "href" not in card("3.2")._repr_html_()
    monkeypatch.setenv("AIINFRA_SITE", "http://127.0.0.1:8000/")
    page = "http://127.0.0.1:8000/book/3-gpu/02-cuda-model.html"
    assert page in str(card("3.2")) and f'href="{page}"' in card("3.2")._repr_html_()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("minutes", "45"),
        ("minutes", 0),
        ("minutes", True),
        ("memory_mb", None),
        ("gpu", "yes"),
        ("prerequisites", "unit 3.1"),
        ("skills", None),
    ],
)
def test_a_card_that_lacks_something(key, value):
    with pytest.raises(CardError, match=key):
        make_card("3.2", GOOD | {key: value})


def test_cards_are_read_back_as_written():
    made = {"3.2": make_card("3.2", GOOD), "1.1": make_card("1.1", GOOD)}
    text = cards.cards_toml(made)
    read = {unit: make_card(unit, data) for unit, data in tomllib.loads(text).items()}
    assert read == made and list(read) == ["1.1", "3.2"]


def test_in_a_course_the_notebook_counts(course, monkeypatch, edit):
    monkeypatch.chdir(course / "solutions")
    assert card("3.2").minutes == 5
    with edit(course / "solutions/3-gpu/02-cuda-model.ipynb") as notebook:
        notebook["metadata"]["aiinfra"]["card"]["minutes"] = 7
    assert card("3.2").minutes == 7


def test_away_from_the_course_the_package_counts(monkeypatch):
    monkeypatch.setattr(cards, "repository", lambda: None)
    monkeypatch.setattr(cards, "load_cards", lambda: {"3.2": GOOD})
    assert card("3.2").minutes == 45
    with pytest.raises(CardError, match="unit 1.1 has no card"):
        card("1.1")


@pytest.mark.parametrize("unit", ["9.9", "", "3"])
def test_no_such_unit(unit):
    with pytest.raises(CardError, match="there is no unit"):
        card(unit)


def test_the_packages_cards_are_whole():
    for unit, data in cards.load_cards().items():
        assert make_card(unit, data).unit == unit
