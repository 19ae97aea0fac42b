"""`make test UNIT=3.3` runs what belongs to the unit, and nothing else."""

import subprocess

import pytest

from aiinfra_labs.course.units import STANDING, UNITS
from by_path import loaded


@pytest.fixture(scope="module")
def one_unit(root):
    return loaded(root / "tools" / "one_unit.py")


def test_the_files_of_a_unit(one_unit):
    names = {path.name for path in one_unit.files_of(UNITS["3.3"])}
    assert {"test_coalescing.py", "test_coalescing_exercises.py"} <= names
    assert "test_matmul.py" not in names and "test_fuzz.py" not in names


def test_each_unit_that_stands_has_tests_of_its_own(one_unit):
    for id in STANDING:
        assert one_unit.files_of(UNITS[id]), f"unit {id}: no test file is of its name or modules"


def test_its_exercises_notebooks_and_files_are_run(one_unit, root, monkeypatch):
    run = []

    def note(command, cwd):
        run.append(command)
        return subprocess.CompletedProcess(command, 5 if len(run) == 1 else 0)

    monkeypatch.setattr(one_unit.subprocess, "run", note)
    assert one_unit.main(["3.3", "-x"]) == 0  # 5, no test found, is no failure
    shared, own = run
    assert shared[-2:] == ["-k", "3.3 or 3-gpu/03-coalescing"]
    assert all((root / name).is_file() and name in shared for name in one_unit.SHARED)
    assert "-x" in shared and "-x" in own and any("test_coalescing.py" in part for part in own)
    monkeypatch.setattr(
        one_unit.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1)
    )
    assert one_unit.main(["3.3"]) == 1


def test_a_unit_that_is_not_on_the_map(one_unit, capsys):
    assert one_unit.main(["9.9"]) == 2 and one_unit.main([]) == 2
    said = capsys.readouterr().err
    assert "there is no unit 9.9" in said and "Why: " in said and "3.3" in said
