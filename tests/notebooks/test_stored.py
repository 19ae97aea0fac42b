"""Every page and solution: what is stored is true (nbval), whole, and free of errors."""

import pytest

from aiinfra_labs.course import claims, rules
from aiinfra_labs.course.release import notebooks
from aiinfra_labs.course.units import STANDING, UNITS, repository, unit_of

ROOT = repository()
PACKAGE = ROOT / "src" / "aiinfra_labs"
STORED = [path for tree in ("book", "solutions") for path in notebooks(ROOT / tree)]
each_stored = pytest.mark.parametrize(
    "path", STORED, ids=[path.relative_to(ROOT).as_posix() for path in STORED]
)
STAND = [UNITS[id] for id in UNITS if id in STANDING]
PAGES = {unit: unit.pages(ROOT / "book") for unit in STAND}
each_page = pytest.mark.parametrize(
    ("unit", "path"),
    [(unit, path) for unit, paths in PAGES.items() for path in paths],
    ids=[f"{unit.id} {path.name}" for unit, paths in PAGES.items() for path in paths],
)
each_unit = pytest.mark.parametrize("unit", STAND, ids=[unit.id for unit in STAND])


def pages(unit):
    return [rules.read(path) for path in PAGES[unit]]


def test_there_are_notebooks():
    assert STORED and PAGES


def test_each_page_belongs_to_a_unit_that_stands():
    for path in (ROOT / "book").glob("*/*.ipynb"):
        unit = unit_of(path)
        assert unit is not None, f"{path.name} is a page of no unit of the course map"
        assert unit.id in STANDING, f"{path.name} stands, and {unit.notebook} does not"


def test_each_unit_stands_whole():
    for unit in STAND:
        assert (ROOT / "solutions" / unit.notebook).is_file(), f"unit {unit.id} has no lab"
    labs = {unit.notebook for unit in STAND}
    for path in notebooks(ROOT / "solutions"):
        assert "/".join(path.parts[-2:]) in labs, f"{path.name} has no page"


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
def test_page_structure(unit, path):
    assert rules.page_structure(rules.read(path), unit) == []


@each_unit
def test_the_pages_link_to_their_code(unit):
    assert rules.links_to_code(pages(unit), unit, PACKAGE) == []


def test_every_module_names_the_unit_that_explains_it():
    assert rules.unexplained(PACKAGE) == []


def test_no_claim_of_a_standing_unit_is_open():
    texts = {unit.id: "\n\n".join(map(rules.prose, pages(unit))) for unit in STAND}
    assert claims.unfinished(STANDING, texts) == []
