"""`labs/` is what `solutions/` gives, less the answers; each lab runs unsolved."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from aiinfra_labs.course import progress, registry, release, rules
from aiinfra_labs.course.cards import make_card, of_notebook
from aiinfra_labs.course.merging import source
from aiinfra_labs.course.units import UNITS, repository

ROOT = repository()
LISTS = {"prerequisites": [], "skills": ["Arithmetic"]}
PAIRS = rules.pairs(ROOT)
NAMES = [path.relative_to(ROOT / "solutions").as_posix() for path, _ in PAIRS]
BY_NOTEBOOK = {unit.notebook: unit for unit in UNITS.values()}
each_pair = pytest.mark.parametrize(("solution", "lab"), PAIRS, ids=NAMES)


def exercises_of(unit):
    return {e.id: e.points for e in registry.all_exercises() if e.unit == unit.id}


def test_there_are_pairs_to_compare():
    assert PAIRS, "solutions/ holds no notebook"
    assert all(lab.is_file() for _, lab in PAIRS)


def test_every_notebook_is_on_the_course_map():
    assert set(NAMES) <= set(BY_NOTEBOOK)


def test_labs_are_in_step():
    assert release.out_of_step(ROOT) == [], "run `make labs`"


def test_no_answer_is_in_the_labs():
    assert rules.leaks(ROOT) == []


@each_pair
def test_solving_only_adds_lines(solution, lab):
    assert rules.only_adds_lines(rules.read(solution), rules.read(lab)) == []


@each_pair
def test_what_a_lab_must_have(solution, lab):
    notebook, unit = rules.read(solution), BY_NOTEBOOK["/".join(solution.parts[-2:])]
    assert rules.lab_structure(notebook, unit) == []
    assert rules.graded(notebook, exercises_of(unit)) == []
    assert rules.magics(notebook) == []
    assert 2 <= len(exercises_of(unit)) <= 5


@each_pair
def test_a_lab_runs_unsolved(solution, lab, run):
    done = run(lab).notebook
    assert rules.errors(done) == []
    checks = rules.checked(done)
    assert checks
    for cell, id, _ in checks:
        (output,) = cell["outputs"]
        text = "".join(output["data"]["text/plain"])
        assert f"{id} " in text and text.endswith("not attempted"), text
    assert progress.current().records() == {}


@each_pair
def test_a_solution_passes_and_its_card_is_true(solution, lab, run):
    result = run(solution)
    assert rules.errors(result.notebook) == []
    unit = BY_NOTEBOOK["/".join(solution.parts[-2:])]
    records = progress.current().records()
    assert {id: r.best for id, r in records.items()} == exercises_of(unit)
    assert all(r.attempts == 1 and r.solved for r in records.values())
    assert rules.card_lies(of_notebook(result.notebook), result.seconds, result.peak) == []
    print(f"{lab.name}: {result.seconds:.1f} s, {result.peak / 1e6:.0f} MB")


def test_a_card_that_lies_is_found(run, tmp_path):
    path = tmp_path / "lab.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("kept = bytearray(200_000_000)")]), path)
    done = run(path)
    assert done.peak > 200e6 and done.seconds > 0
    card = make_card("3.2", {"minutes": 5, "memory_mb": 190, "gpu": "optional"} | LISTS)
    assert "the card says 190" in rules.card_lies(card, done.seconds, done.peak)[0]
    assert "the card says 5 min" in rules.card_lies(card, 301, 0)[0]
    assert rules.card_lies(card, 299, 189_000_000) == []


@each_pair
def test_show_is_asked_only_where_there_is_a_drawing(solution, lab):
    for cell in rules.code_cells(rules.read(solution)):
        for id in re.findall(r'^show\("([^"]+)"', source(cell), re.MULTILINE):
            assert registry.find(id).shower is not None
