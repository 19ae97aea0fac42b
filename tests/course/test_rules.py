"""Each rule for notebooks finds what it is there to find, and nothing in a course without fault."""

import json

import pytest

from aiinfra_labs.course import rules
from aiinfra_labs.course.units import UNITS

NAME = "3-gpu/02-cuda-model.ipynb"


@pytest.fixture
def solution(course):
    return rules.read(course / "solutions" / NAME)


@pytest.fixture
def lab(course):
    return rules.read(course / "labs" / NAME)


@pytest.fixture
def page(course):
    return rules.read(course / "book" / NAME)


def test_a_course_without_fault(course, solution, lab, page):
    assert rules.pairs(course) == [(course / "solutions" / NAME, course / "labs" / NAME)]
    assert rules.leaks(course) == []
    assert rules.only_adds_lines(solution, lab) == []
    assert rules.graded(solution, {"1.1.z": 3}) == []
    assert rules.lab_structure(solution, UNITS["3.2"]) == []
    assert rules.page_structure(page, UNITS["3.2"]) == []
    for notebook in (solution, page):
        assert rules.magics(notebook) == rules.stored_outputs(notebook) == []
        assert rules.compared_cells(notebook) == 1


@pytest.mark.parametrize("place", ["cell", "spaced", "markdown", "output", "metadata", "cells"])
def test_a_planted_leak_is_found(course, edit, place):
    answer = "return secret + secret"
    with edit(course / "labs" / NAME) as notebook:
        if place == "cell":
            notebook["cells"][2]["source"] = f"def f():\n    {answer}"
        elif place == "spaced":
            notebook["cells"][2]["source"] = "return  secret+secret  # so"
        elif place == "markdown":
            notebook["cells"][0]["source"] = f"Answer: `{answer}`"
        elif place == "output":
            data = {"output_type": "stream", "name": "stdout", "text": ["x\n", answer]}
            notebook["cells"][2]["outputs"] = [data]
        elif place == "metadata":
            notebook["metadata"]["kept"] = {"deep": [{"er": answer}]}
        else:
            notebook["cells"][2]["metadata"]["note"] = answer
    assert any(answer in problem for problem in rules.leaks(course))


def test_a_whole_answer_in_another_lab_is_found(course, edit):
    other = course / "labs" / "3-gpu" / "03-coalescing.ipynb"
    answer = "    secret = x.copy()\n    return secret + secret + 0 * len(x)"
    with edit(course / "solutions" / NAME) as notebook:
        notebook["cells"][3]["source"] = f"### BEGIN SOLUTION\n{answer}\n### END SOLUTION"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": answer}
    other.write_text(json.dumps({"cells": [cell], "metadata": {}}))
    assert rules.leaks(course) == [f"03-coalescing.ipynb holds an answer of {NAME[6:]}"]


def test_a_line_that_is_given_on_purpose(course, edit):
    with edit(course / "labs" / NAME) as notebook:
        notebook["cells"][0]["source"] = "You will need `return secret + secret`."
    with edit(course / "solutions" / NAME) as notebook:
        notebook["metadata"]["aiinfra"]["given"] = ["return secret + secret"]
    assert rules.leaks(course) == []


@pytest.mark.parametrize("change", ["line", "cell", "stub", "dropped"])
def test_a_lab_that_is_more_or_less_than_its_solution(solution, lab, change):
    if change == "line":
        lab["cells"][3]["source"] += "\n    return 1"
    elif change == "cell":
        lab["cells"].append(lab["cells"][0])
    elif change == "stub":
        lab["cells"][3]["source"] = 'def double(x):\n    """Twice x."""'
    else:
        lab["cells"][2]["source"] = ""
    assert rules.only_adds_lines(solution, lab)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('check("1.1.z", double)\n3', "more than its check"),
        ('check("1.1.q", double)', "no exercise of this unit"),
        ("double", "is not checked"),
    ],
)
def test_what_is_graded(solution, source, problem):
    solution["cells"][4]["source"] = source
    assert any(problem in p for p in rules.graded(solution, {"1.1.z": 3}))


def test_points_agree(solution):
    assert "graded with 4 points" in rules.graded(solution, {"1.1.z": 4})[0]
    del solution["cells"][4]["metadata"]["nbgrader"]
    assert "must be graded" in rules.graded(solution, {"1.1.z": 3})[0]


@pytest.mark.parametrize("magic", ["%time", "%%time\n", "  !ls", "%matplotlib inline\n"])
def test_magics_beside_a_check(solution, magic):
    for number in (2, 4):
        cell = solution["cells"][number]
        before, cell["source"] = cell["source"], f"{magic}\n{cell['source']}"
        assert rules.magics(solution)
        cell["source"] = before
    solution["cells"][1]["source"] = "%matplotlib inline"
    assert rules.magics(solution) == []


def test_what_was_not_run(solution):
    solution["cells"][2]["execution_count"] = None
    assert "sum was not run" in rules.stored_outputs(solution)[0]
    for cell in rules.code_cells(solution):
        cell["outputs"] = []
    assert "no cell has a stored output" in rules.stored_outputs(solution)


def test_stored_errors_and_lost_widgets(solution):
    error = {"output_type": "error", "ename": "E", "evalue": "no", "traceback": []}
    widget = {"output_type": "display_data", "data": {rules.WIDGET: {}}, "metadata": {}}
    solution["cells"][2]["outputs"] = [error, widget]
    problems = rules.stored_outputs(solution)
    assert "cell sum shows E: no" in problems and any("1 widgets" in p for p in problems)
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}}}
    solution["metadata"]["widgets"] = state
    assert not any("widgets" in p for p in rules.stored_outputs(solution))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("# 3.2 The", "# The", "must be the title"),
        ("element?", "element.", "question"),
        ("the cost of a token falls", "it falls", "cost of a token"),
        ("the time per output token", "others", "time per output token"),
        ("核函数", "so", "Chinese"),
    ],
)
def test_a_page_that_lacks_something(page, old, new, problem):
    text = "".join(page["cells"][0]["source"])
    assert old in text
    page["cells"][0]["source"] = text.replace(old, new)
    assert any(problem in p for p in rules.page_structure(page, UNITS["3.2"]))


def test_a_lab_without_a_card(solution):
    del solution["metadata"]["aiinfra"]["card"]
    assert "has no card" in rules.lab_structure(solution, UNITS["3.2"])[0]


def test_the_units_that_a_docstring_names(tmp_path):
    module = tmp_path / "module.py"
    module.write_text('"""Sectors. Units 3.2, 3.3 and 4.10 explain it; unit 1.1 too, not 9.9."""')
    assert rules.units_named(module) == {"3.2", "3.3", "4.10", "1.1"}


def test_links_both_ways(page, tmp_path):
    package = tmp_path / "src" / "aiinfra_labs"
    (package / "gpu" / "deep").mkdir(parents=True)
    (package / "gpu" / "__init__.py").write_text('"""Unit 3.2."""')
    (package / "gpu" / "door.py").write_text('"""The door. Unit 3.2."""')
    (package / "gpu" / "exercises").mkdir()
    (package / "gpu" / "exercises" / "one.py").write_text('"""Unit 3.2."""')
    assert rules.links_to_code([page], UNITS["3.2"], package) == []
    (package / "gpu" / "deep" / "one.py").write_text('"""One. Unit 3.2."""')
    (package / "gpu" / "other.py").write_text('"""Two. Unit 3.3."""')
    (problem,) = rules.links_to_code([page], UNITS["3.2"], package)
    assert "aiinfra_labs/gpu/deep/one.py" in problem
    assert rules.links_to_code([page], UNITS["3.3"], package)


def test_a_module_that_no_unit_explains(tmp_path):
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "lost.py").write_text('"""Nothing."""\nx = 1\n')
    (tmp_path / "gpu" / "wrong.py").write_text('"""Unit 3.77."""\nx = 1\n')
    problems = rules.unexplained(tmp_path)
    assert problems == [
        "the docstring of gpu/lost.py names no unit",
        "gpu/wrong.py names unit 3.77",
    ]
