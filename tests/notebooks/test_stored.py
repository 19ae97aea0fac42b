"""Every page and solution: what is stored is true (nbval), whole, and free of errors."""

import pytest

from aiinfra_labs.course import claims, rules
from aiinfra_labs.course.release import notebooks
from aiinfra_labs.course.units import STANDING, UNITS, repository

ROOT = repository()
PACKAGE = ROOT / "src" / "aiinfra_labs"
STORED = [path for tree in ("book", "solutions") for path in notebooks(ROOT / tree)]
each_stored = pytest.mark.parametrize(
    "path", STORED, ids=[path.relative_to(ROOT).as_posix() for path in STORED]
)
PAGES = [UNITS[id] for id in UNITS if id in STANDING]
each_page = pytest.mark.parametrize("unit", PAGES, ids=[unit.id for unit in PAGES])


def page(unit):
    return rules.read(ROOT / "book" / unit.notebook)


def test_there_are_notebooks():
    assert STORED and PAGES


def test_each_unit_stands_whole():
    for unit in PAGES:
        assert (ROOT / "solutions" / unit.notebook).is_file(), f"unit {unit.id} has no lab"
    pages = {unit.notebook for unit in PAGES}
    for path in notebooks(ROOT / "solutions"):
        assert "/".join(path.parts[-2:]) in pages, f"{path.name} has no page"


@each_stored
def test_nbval(path, nbval):
    ran = nbval(path)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


def test_nbval_finds_a_stored_output_that_is_not_true(tmp_path, nbval):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    cells = []
    for tagged in (False, True):
        stored = new_output("execute_result", {"text/plain": "3"}, execution_count=1)
        tags = [rules.COMPARED] if tagged else []
        cells.append(
            new_code_cell("1 + 1", outputs=[stored], execution_count=1, metadata={"tags": tags})
        )
    for cell, code in zip(cells, (0, 1), strict=True):
        path = tmp_path / f"one{code}.ipynb"
        nbformat.write(new_notebook(cells=[cell]), path)
        assert nbval(path).returncode == code


def test_each_notebook_has_a_compared_cell():
    counts = {p.relative_to(ROOT).as_posix(): rules.compared_cells(rules.read(p)) for p in STORED}
    print()
    for name, count in counts.items():
        print(f"{name:50} {count:3} compared")
    print(f"{'all':50} {sum(counts.values()):3} compared")
    assert counts and all(counts.values()), counts


@each_stored
def test_outputs_are_stored(path):
    assert rules.stored_outputs(rules.read(path)) == []


@each_stored
def test_no_magic_beside_what_is_checked(path):
    assert rules.magics(rules.read(path)) == []


@each_page
def test_page_structure(unit):
    assert rules.page_structure(page(unit), unit) == []


@each_page
def test_a_page_links_to_its_code(unit):
    assert rules.links_to_code(page(unit), unit, PACKAGE) == []


def test_every_module_names_the_unit_that_explains_it():
    assert rules.unexplained(PACKAGE) == []


def test_no_claim_of_a_standing_unit_is_open():
    texts = {unit.id: rules.prose(page(unit)) for unit in PAGES}
    assert claims.unfinished(STANDING, texts) == []
