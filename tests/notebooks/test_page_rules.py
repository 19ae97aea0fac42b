"""What a page must be (CONTRIBUTING.md), page by page; `not_yet.py` lists what is still to do."""

import ast

import pytest

import planting
from aiinfra_labs.course import included, page_rules, registry, rules, streams
from aiinfra_labs.course.merging import source
from aiinfra_labs.course.page import problems
from aiinfra_labs.course.release import notebooks
from aiinfra_labs.course.units import STANDING, UNITS, repository, unit_of
from by_path import loaded

ROOT = repository()
NOT_YET = loaded(ROOT / "tests" / "notebooks" / "not_yet.py").NOT_YET
PAGES = page_rules.pages(ROOT)
NAMES = {f"{path.parent.name}/{path.stem}": path for path in PAGES}
each_page = pytest.mark.parametrize("name", NAMES)
STORED = [path for tree in ("book", "solutions") for path in notebooks(ROOT / tree)]
each_stored = pytest.mark.parametrize(
    "path", STORED, ids=[path.relative_to(ROOT).as_posix() for path in STORED]
)


def held(rule, name, found):
    """A page keeps to a rule, or is on the rule's list of those that do not yet."""
    if name in NOT_YET.get(rule, ()):
        assert found, f"{name} keeps to {rule} now: take it out of tests/notebooks/not_yet.py"
    else:
        assert found == []


def test_the_lists_name_pages_and_rules_that_are_there():
    measured = {"tall", "answers"}  # by tests/site, and below
    assert set(NOT_YET) <= set(page_rules.RULES) | measured
    assert set().union(*NOT_YET.values()) <= set(NAMES)


@pytest.mark.parametrize("rule", page_rules.RULES)
@each_page
def test_a_page_keeps_to_the_rule(rule, name):
    held(rule, name, page_rules.RULES[rule](page_rules.read(NAMES[name])))


def test_the_figures_of_each_page():
    print()
    for name, path in NAMES.items():
        figures = page_rules.figures_of(page_rules.read(path))
        print(f"{name}: {figures}")
        assert figures.words > 100 and figures.longest <= figures.visible


@each_stored
def test_source_is_as_it_is_and_what_is_printed_is_whole(path):
    assert problems(rules.read(path), path) == [], f"python -m aiinfra_labs.course.page {path}"


# --- a page gives no answer away -----------------------------------------------------------------


def own_functions(notebook):
    """What a page shows: its own functions and classes, and the source that it includes whole.

    From its definitions and its plain constants alone: the page is not run.
    """
    space, names = {"__name__": "page"}, {}
    for cell in rules.code_cells(notebook):
        try:
            nodes = ast.parse(source(cell)).body
        except SyntaxError:
            continue
        for node in nodes:
            plain = isinstance(node, ast.Assign) and not any(
                isinstance(part, ast.Call) for part in ast.walk(node)
            )
            if plain or isinstance(node, planting.KEPT):
                try:
                    planting._run(source(cell), [node], space)
                except Exception:  # it needs what the page computes: no answer by itself
                    continue
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    names[f"{cell.get('id')}: {node.name}"] = space[node.name]
    for cell in notebook["cells"]:
        if included.is_included(cell) and not {"only", "first", "last"} & set(cell["metadata"]):
            for name in cell["metadata"]["source"].split():
                module, _, last = name.rpartition(".")
                try:
                    names[name] = getattr(__import__(module, fromlist=[last]), last)
                except ModuleNotFoundError:  # a method: its class is a module's
                    continue
    return names


def fits(exercise, answer):
    """Whether a check would try it at all. The course's own counts, too: a learner can copy it."""
    objection = exercise.objection(answer)
    return objection is None or "is the course's own" in objection.what


@each_page
def test_a_page_passes_no_check_of_its_lab(name):
    path = NAMES[name]
    unit, found = unit_of(path), []
    functions = own_functions(rules.read(path))
    for exercise in registry.all_exercises():
        if exercise.unit != unit.id or exercise.kind == "value":
            continue
        for place, answer in functions.items():
            if fits(exercise, answer) and planting.try_out(exercise, answer).passed:
                found.append(f"{place} passes {exercise.id}")
    held("answers", name, found)


def test_an_answer_on_a_page_is_found():
    """A solution's own cells, taken for a page, pass the lab's checks."""
    unit = UNITS[min(STANDING & {"3.2", "3.4"})]
    notebook = rules.read(ROOT / "solutions" / unit.notebook)
    functions = own_functions(notebook)
    passed = set()
    for exercise in registry.all_exercises():
        if exercise.unit == unit.id:
            for answer in functions.values():
                if fits(exercise, answer) and planting.try_out(exercise, answer).passed:
                    passed.add(exercise.id)
    assert len(passed) > 2


def test_pieces_of_a_stream_are_found():
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "", "outputs": []}
    piece = {"output_type": "stream", "name": "stdout", "text": "a\n"}
    assert not streams.cut(cell | {"outputs": [piece]})
    notebook = {"cells": [cell | {"outputs": [piece, piece]}]}
    assert "in pieces" in problems(notebook, ROOT / "book" / "x.ipynb")[0]
