"""The site shows what needs results when they are stored, and not before."""

import json

import pytest

from aiinfra_labs.course.published import NEEDS, has_results, is_left_out, needs, published


def cell(*tags, kind="markdown", **more):
    return {"cell_type": kind, "id": "-".join(tags) or "x", "metadata": {"tags": list(tags)},
            "source": "## On a GPU", **more}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    machine = {"device": "H100", "date": "2026-11-30"}
    found = {"machine": machine, "ladders": {"paged attention": {"steps": {}}}}
    (tmp_path / "gpu-h100.json").write_text(json.dumps(found))
    return tmp_path


def test_what_a_cell_needs():
    assert needs(cell()) == needs(cell("hide-input")) == []
    assert needs(cell(NEEDS)) == [""]
    assert needs(cell(f"{NEEDS}:paged attention", "hide-input")) == ["paged attention"]


def test_results_by_ladder_by_benchmark_and_any(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for name in ("", "paged attention", "gpu"):
        assert has_results(name, folder) and not has_results(name, empty)
    assert not has_results("transpose", folder) and not has_results("gpu_truth", folder)
    (empty / "gpu_truth-h100.json").write_text('{"machine": {"date": ""}}')
    assert has_results("gpu_truth", empty) and has_results("", empty)


def test_a_section_is_left_out_until_its_results_are_there(folder):
    cells = [cell(), cell(NEEDS), cell(f"{NEEDS}:transpose"),
             cell(f"{NEEDS}:transpose", kind="code", outputs=[])]  # fmt: skip
    assert [is_left_out(one, folder) for one in cells] == [False, False, True, True]
    shown = published({"cells": cells}, folder)["cells"]
    assert len(shown) == 4  # a warning of the build counts them
    assert [one["source"] for one in shown] == ["## On a GPU", "## On a GPU", "", ""]
    assert all(one["cell_type"] == "markdown" for one in shown)
    assert cells[2]["source"] == "## On a GPU"  # the notebook itself stays as it was


def test_what_is_printed_is_one_output(folder):
    piece = {"output_type": "stream", "name": "stdout", "text": "a\n"}
    shown = published({"cells": [cell(kind="code", outputs=[piece, piece])]}, folder)
    assert shown["cells"][0]["outputs"] == [{**piece, "text": "a\na\n"}]
