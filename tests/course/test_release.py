"""Labs are made from solutions, the same bytes each time, and a lab out of step is found."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from aiinfra_labs.course import release, rules
from aiinfra_labs.course.merging import source

NAME = "3-gpu/02-cuda-model.ipynb"


@pytest.fixture
def lab(course):
    return rules.read(course / "labs" / NAME)


def test_the_answer_is_gone_and_the_starter_stays(lab):
    cell = next(c for c in lab["cells"] if c["id"] == "double")
    expected = 'def double(x):\n    """Twice x."""\n    # Write your code here.'
    assert source(cell) == expected


def test_outputs_counts_and_instructors_cells_are_gone(lab):
    assert [c["id"] for c in lab["cells"]] == ["title", "card", "sum", "double", "check"]
    for cell in rules.code_cells(lab):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_the_metadata_keeps_the_card_and_no_version_of_python(lab):
    assert lab["metadata"]["aiinfra"]["card"]["minutes"] == 5
    assert "language_info" not in lab["metadata"]


def test_checks_are_locked(lab):
    cell = next(c for c in lab["cells"] if c["id"] == "check")
    assert cell["metadata"]["editable"] is False and cell["metadata"]["deletable"] is False


def test_the_same_solutions_give_the_same_bytes(course):
    before = (course / "labs" / NAME).read_bytes()
    release.write(course, course / "cards.toml")
    assert (course / "labs" / NAME).read_bytes() == before
    assert release.out_of_step(course, course / "cards.toml") == []


def test_running_the_solution_again_leaves_the_lab_as_it_is(course, edit):
    with edit(course / "solutions" / NAME) as notebook:
        notebook["metadata"]["language_info"]["version"] = "3.13.1"
        notebook["metadata"]["widgets"] = {"state": {}}
        for cell in rules.code_cells(notebook):
            cell["execution_count"] = 7
            cell["metadata"]["execution"] = {"iopub.execute_input": "2026-11-24T10:00:00"}
    assert release.out_of_step(course, course / "cards.toml") == []


@pytest.mark.parametrize("change", ["source", "missing", "extra", "card"])
def test_a_lab_out_of_step_is_found(course, edit, change):
    lab, solution = course / "labs" / NAME, course / "solutions" / NAME
    if change == "source":
        with edit(solution) as notebook:
            notebook["cells"][0]["source"] = "# 3.2 Another title"
    elif change == "missing":
        lab.unlink()
    elif change == "extra":
        shutil.copy(lab, lab.with_name("03-coalescing.ipynb"))
    else:
        with edit(solution) as notebook:
            notebook["metadata"]["aiinfra"]["card"]["minutes"] = 6
    assert release.out_of_step(course, course / "cards.toml")
    release.write(course, course / "cards.toml")
    assert release.out_of_step(course, course / "cards.toml") == []


@pytest.mark.parametrize(
    "text",
    [
        "### BEGIN SOLUTION\n1",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n1\n### END SOLUTION",
        "# BEGIN SOLUTION\n1\n# END SOLUTION",
    ],
)
def test_a_wrong_marker_makes_no_lab(course, edit, text):
    with edit(course / "solutions" / NAME) as notebook:
        notebook["cells"][3]["source"] = text
    with pytest.raises(release.ReleaseError):
        release.write(course, course / "cards.toml")


def test_an_answer_outside_a_solution_cell_makes_no_lab(course, edit):
    with edit(course / "solutions" / NAME) as notebook:
        del notebook["cells"][3]["metadata"]["nbgrader"]
    with pytest.raises(release.ReleaseError, match="solution cell"):
        release.write(course, course / "cards.toml")


def test_lines_listed_as_given_are_not_given_away(course, edit):
    with edit(course / "solutions" / NAME) as notebook:
        notebook["metadata"]["aiinfra"]["given"] = ["return secret + secret"]
    release.write(course, course / "cards.toml")
    assert "secret" not in (course / "labs" / NAME).read_text()


def test_the_command(course, capsys):
    assert release.main(["--root", str(course), "--check"]) == 1  # the package's own cards differ
    assert "cards.toml differs" in capsys.readouterr().out


def test_a_folder_without_solutions_loses_no_lab(course, capsys):
    shutil.rmtree(course / "solutions")
    before = (course / "labs" / NAME).read_bytes()
    with pytest.raises(release.ReleaseError, match="holds no notebook"):
        release.write(course, course / "cards.toml")
    assert (course / "labs" / NAME).read_bytes() == before
    assert (course / "cards.toml").read_text()


@pytest.mark.parametrize("whose", ["notes", "answers"])
def test_a_notebook_that_was_not_made_is_kept(course, edit, whose):
    path = course / "labs" / NAME
    if whose == "notes":
        path = path.with_name("my-notes.ipynb")
        path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    else:  # somebody worked in labs/ and not in work/
        with edit(path) as notebook:
            notebook["cells"][2]["execution_count"] = 1
    before = path.read_bytes()
    with pytest.raises(release.ReleaseError, match="was not made from a solution"):
        release.write(course, course / "cards.toml")
    assert path.read_bytes() == before


def test_another_folders_labs_leave_the_packages_cards(course, capsys):
    before = release.CARDS.read_bytes()
    assert release.main(["--root", str(course)]) == 1
    assert "no code of the course" in capsys.readouterr().err
    assert release.CARDS.read_bytes() == before


def test_nbgrader_itself_makes_the_same_lab(course):
    ours = rules.read(course / "labs" / NAME)
    shutil.rmtree(course / "labs")
    environment = os.environ | {"JUPYTER_PLATFORM_DIRS": "1", "HOME": str(course)}
    command = ["-m", "nbgrader", "generate_assignment", "3-gpu", "--no-db", "--force"]
    run = subprocess.run(
        [sys.executable, *command], cwd=course, capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    theirs = json.loads((course / "labs" / NAME).read_text())
    assert [source(c) for c in theirs["cells"]] == [source(c) for c in ours["cells"]]
    assert [c["metadata"] for c in theirs["cells"]] == [c["metadata"] for c in ours["cells"]]
