"""Exercises are found by their place, and a definition that cannot hold is refused."""

import pytest

from aiinfra_labs.course import registry
from aiinfra_labs.course.units import (
    CHAPTERS,
    STANDING,
    UNITS,
    Unit,
    repository,
    unit_of,
    work_folder,
)


def body(function, require):
    """Nothing is asked."""


@pytest.mark.parametrize(
    "change",
    [
        {"id": "6.1.a"},
        {"id": "3.2"},
        {"id": "3.2.ab"},
        {"points": 0},
        {"title": ""},
        {"skill": ""},
        {"kind": "method"},
        {"hints": "one string"},
        {"arguments": "x"},
    ],
)
def test_a_definition_that_cannot_hold(define, change):
    with pytest.raises(ValueError, match="exercise"):
        define(body, **change)


def test_an_id_belongs_to_one_exercise(define):
    def other(function, require):
        """Another."""

    define(body)
    define(body)  # a module that is loaded again defines the same
    with pytest.raises(ValueError, match="defined twice"):
        define(other)


def test_exercises_are_in_the_courses_order(define):
    own = ("4.10.z", "4.9.z", "4.9.y")
    for id in own:
        define(body, id=id)
    ids = [e.id for e in registry.all_exercises()]
    assert [id for id in ids if id in own] == ["4.9.y", "4.9.z", "4.10.z"]


def test_an_exercise_knows_its_unit_and_its_words(define):
    made = define(body, id="4.10.a")
    assert made.unit == "4.10" and made.__doc__ == "Nothing is asked."


def test_the_course_map():
    assert len(UNITS) == 8 + 3 + 9 + 11 + 4
    assert UNITS["3.2"].notebook == "3-gpu/02-cuda-model.ipynb"
    for id, unit in UNITS.items():
        assert isinstance(unit, Unit) and unit.chapter is CHAPTERS[id[0]]
        assert int(unit.stem[:2]) == int(id.split(".")[1])


def test_the_units_that_stand_are_those_with_a_page(root):
    pages = {path.relative_to(root / "book").as_posix() for path in root.glob("book/*/*.ipynb")}
    assert {UNITS[id].notebook for id in STANDING} <= pages


def test_a_unit_has_its_first_page_and_those_with_a_word_more(tmp_path):
    unit = UNITS["1.7"]
    names = ["07-deepseek", "07-deepseek-moe", "07-deepseek-grpo", "07-deep", "08-emergence"]
    for name in names:
        path = tmp_path / "book" / "1-llm" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [path.stem for path in unit.pages(tmp_path / "book")] == [names[0], names[2], names[1]]
    lines = [f"      - file: book/1-llm/{name}\n" for name in names]
    (tmp_path / "_toc.yml").write_text("parts:\n" + "".join(lines))
    assert [path.stem for path in unit.pages(tmp_path / "book")] == names[:3]
    (tmp_path / "book/1-llm/07-deepseek.ipynb").unlink()
    assert [path.stem for path in unit.pages(tmp_path / "book")] == names[1:3]


def test_a_page_knows_its_unit():
    assert unit_of("book/1-llm/07-deepseek.ipynb") is UNITS["1.7"]
    assert unit_of("book/1-llm/07-deepseek-moe.ipynb") is UNITS["1.7"]
    assert unit_of("book/1-llm/07-deepseekers.ipynb") is None
    assert unit_of("book/3-gpu/07-deepseek.ipynb") is None
    assert unit_of("book/claims.ipynb") is None


def test_the_courses_folder_is_found_from_below(root, monkeypatch, tmp_path):
    assert repository(root / "src" / "aiinfra_labs") == root
    (tmp_path / "nbgrader_config.py").write_text("")
    (tmp_path / "deep").mkdir()
    assert repository(tmp_path / "deep") == tmp_path.resolve()


def test_the_work_folder_is_found_from_within_and_from_beside(tmp_path, monkeypatch):
    (tmp_path / "work" / ".released").mkdir(parents=True)
    (tmp_path / "work" / "3-gpu").mkdir()
    for place in (tmp_path, tmp_path / "work", tmp_path / "work" / "3-gpu"):
        assert work_folder(place) == (tmp_path / "work").resolve()
    monkeypatch.setenv("AIINFRA_WORK", "/named")
    assert str(work_folder(tmp_path)) == "/named"
