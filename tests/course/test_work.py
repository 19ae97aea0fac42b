"""The learner's copy: filled, updated without loss, reset."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiinfra_labs.course import cli, work
from aiinfra_labs.course.merging import merge_notebooks, source
from aiinfra_labs.course.rules import read

NAME = "3-gpu/02-cuda-model.ipynb"


@pytest.fixture
def filled(course):
    work.fill(course / "work", course / "labs")
    return course / "work"


def cell(notebook, id):
    return next(c for c in notebook["cells"] if c["id"] == id)


def test_work_is_filled(course):
    lines = work.fill(course / "work", course / "labs")
    assert lines == [f"new: {NAME}", "new: AGENTS.md"]
    assert (course / "work" / NAME).read_bytes() == (course / "labs" / NAME).read_bytes()
    assert (course / "work" / "AGENTS.md").read_text() == "Be a tutor.\n"
    assert work.fill(course / "work", course / "labs") == []


def test_an_update_keeps_what_the_learner_wrote(course, filled, edit):
    with edit(filled / NAME) as mine:
        cell(mine, "double")["source"] = "def double(x):\n    return x * 2"
        cell(mine, "double")["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ""}]
        own = {"cell_type": "code", "id": "own", "metadata": {}, "source": "3", "outputs": []}
        mine["cells"].insert(2, own)
    with edit(course / "labs" / NAME) as lab:
        cell(lab, "title")["source"] = "# 3.2 A better title"
        cell(lab, "double")["source"] = "def double(x):\n    '''New words.'''"
        lab["cells"].append({"cell_type": "markdown", "id": "n", "metadata": {}, "source": "New"})
    assert work.fill(filled, course / "labs") == [f"updated, your cells kept: {NAME}"]
    merged = read(filled / NAME)
    assert source(cell(merged, "title")) == "# 3.2 A better title"
    assert source(cell(merged, "double")) == "def double(x):\n    return x * 2"
    assert cell(merged, "double")["outputs"]
    assert [c["id"] for c in merged["cells"]] == [
        "title", "card", "own", "sum", "double", "check", "n",
    ]  # fmt: skip
    assert work.fill(filled, course / "labs") == []


def test_what_the_learner_deleted_stays_deleted(course, filled, edit):
    with edit(filled / NAME) as mine:
        mine["cells"] = [c for c in mine["cells"] if c["id"] != "sum"]
    with edit(course / "labs" / NAME) as lab:
        cell(lab, "title")["source"] = "# 3.2 Other"
    work.fill(filled, course / "labs")
    assert "sum" not in [c["id"] for c in read(filled / NAME)["cells"]]
    (filled / NAME).unlink()
    assert work.fill(filled, course / "labs") == [] and not (filled / NAME).exists()


def test_a_notebook_that_cannot_be_read_is_left_alone(course, filled, edit):
    (filled / NAME).write_text('{"cells": "no')
    with edit(course / "labs" / NAME) as lab:
        cell(lab, "title")["source"] = "# 3.2 Other"
    (line,) = work.fill(filled, course / "labs")
    assert line.startswith("left alone") and (filled / NAME).read_text() == '{"cells": "no'


def test_a_copy_from_before_there_was_a_record(course, edit):
    (course / "work" / "3-gpu").mkdir(parents=True)
    lab = json.loads((course / "labs" / NAME).read_text())
    cell(lab, "double")["source"] = "mine"
    (course / "work" / NAME).write_text(json.dumps(lab))
    work.fill(course / "work", course / "labs")
    assert source(cell(read(course / "work" / NAME), "double")) == "mine"


def test_other_files_follow_unless_changed(course, filled):
    data = course / "labs" / "3-gpu" / "data.csv"
    data.write_text("1")
    work.fill(filled, course / "labs")
    data.write_text("2")
    assert work.fill(filled, course / "labs") == ["updated: 3-gpu/data.csv"]
    (filled / "3-gpu" / "data.csv").write_text("mine")
    data.write_text("3")
    assert "left alone" in work.fill(filled, course / "labs")[0]
    assert (filled / "3-gpu" / "data.csv").read_text() == "mine"


def test_a_lab_behind_a_link_is_updated_where_it_lies(course, filled, edit, tmp_path):
    elsewhere = tmp_path / "synced" / "lab.ipynb"  # a folder that another machine sees
    elsewhere.parent.mkdir()
    (filled / NAME).rename(elsewhere)
    (filled / NAME).symlink_to(elsewhere)
    elsewhere.chmod(0o640)
    with edit(course / "labs" / NAME) as lab:
        cell(lab, "title")["source"] = "# 3.2 A better title"
    work.fill(filled, course / "labs")
    assert (filled / NAME).is_symlink()
    assert source(cell(read(elsewhere), "title")) == "# 3.2 A better title"
    assert elsewhere.stat().st_mode & 0o777 == 0o640


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "lab.ipynb"
    path.write_text("mine")
    monkeypatch.setattr(work.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError):
        work.write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["lab.ipynb"] and path.read_text() == "mine"


def test_reset_brings_the_lab_back_and_keeps_the_old_one(course, filled, edit, monkeypatch, capsys):
    with edit(filled / NAME) as mine:
        cell(mine, "double")["source"] = "mine"
    monkeypatch.chdir(filled / "3-gpu")
    assert cli.main(["reset", "3.2"]) == 0
    assert (filled / NAME).read_bytes() == (course / "labs" / NAME).read_bytes()
    (old,) = (filled / "3-gpu").glob("02-cuda-model-kept-2*.ipynb")
    assert "mine" in old.read_text() and old.name in capsys.readouterr().out
    cli.main(["reset", "3.2"])
    assert len(list((filled / "3-gpu").glob("*-kept-*"))) == 2


def test_reset_away_from_the_course(course, filled, monkeypatch, tmp_path):
    moved = tmp_path / "elsewhere"
    filled.rename(moved)
    monkeypatch.setenv("AIINFRA_WORK", str(moved))
    (moved / NAME).unlink()
    path, old = work.reset("3.2")
    assert path == moved / NAME and path.is_file() and old is None


@pytest.mark.parametrize("unit", ["9.9", "3", "coalescing", ""])
def test_reset_of_no_unit(unit, capsys, course, filled, monkeypatch):
    monkeypatch.chdir(course)
    assert cli.main(["reset", unit]) == 1
    error = capsys.readouterr().err
    assert "there is no unit" in error and "Why:" in error and "Try:" in error


def test_reset_of_a_unit_without_a_lab(capsys, course, filled, monkeypatch):
    monkeypatch.chdir(course)
    assert cli.main(["reset", "4.9"]) == 1
    assert "the lab of unit 4.9 was not found" in capsys.readouterr().err


def test_reset_where_there_is_no_work(capsys, tmp_path, monkeypatch):
    somebodys = tmp_path / "work"
    somebodys.mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reset", "3.2"]) == 1
    assert list(somebodys.iterdir()) == []
    assert "no work/ folder was found" in capsys.readouterr().err
    monkeypatch.setenv("AIINFRA_WORK", str(tmp_path / "missing"))
    assert cli.main(["reset", "3.2"]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_the_command_fills_work(course, monkeypatch, capsys):
    monkeypatch.chdir(course)
    assert cli.main(["work"]) == 0 and (course / "work" / NAME).is_file()
    assert cli.main(["work"]) == 0 and "nothing is new" in capsys.readouterr().out
    assert cli.main(["work", "--labs", str(course / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err


# --- three versions into one -------------------------------------------------------------------

texts = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def books(draw, ids="123456"):
    """A notebook of some of a few cells, in any order, each with one of a few texts."""
    chosen = draw(st.lists(st.sampled_from(ids), unique=True))
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [code | {"id": id, "source": draw(texts)} for id in chosen]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def by_id(notebook):
    return {c["id"]: source(c) for c in notebook["cells"]}


@given(books(), books(), books())
def test_no_cell_that_the_learner_changed_or_added_is_lost(base, mine, new):
    merged = by_id(merge_notebooks(base, mine, new))
    for id, text in by_id(mine).items():
        if by_id(base).get(id) != text:
            assert merged[id] == text


@given(books(), books(), books())
def test_no_cell_stands_twice(base, mine, new):
    ids = [c["id"] for c in merge_notebooks(base, mine, new)["cells"]]
    assert len(ids) == len(set(ids))


@given(books(), books())
def test_who_changed_nothing_gets_the_new_lab(base, new):
    assert merge_notebooks(base, base, new)["cells"] == new["cells"]


@given(books(), books(), books())
def test_merging_again_changes_nothing(base, mine, new):
    once = merge_notebooks(base, mine, new)
    assert by_id(merge_notebooks(new, once, new)) == by_id(once)


@given(books(), books())
def test_nothing_new_leaves_the_learners_cells(base, mine):
    assert by_id(merge_notebooks(base, mine, base)) == by_id(mine)


@given(books(), books(), books())
def test_merging_changes_none_of_the_three(base, mine, new):
    before = copy.deepcopy((base, mine, new))
    merge_notebooks(base, mine, new)["cells"].append("x")
    assert (base, mine, new) == before


def test_a_cell_is_known_by_nbgraders_id():
    grade = {"nbgrader": {"grade_id": "double"}}
    old = {"id": "1", "cell_type": "code", "metadata": grade, "source": "stub", "outputs": []}
    base, mine, new = ({"cells": [old | {"id": i}], "metadata": {}} for i in "123")
    mine["cells"][0]["source"] = "mine"
    assert by_id(merge_notebooks(base, mine, new)) == {"2": "mine"}
