"""The command `aiinfra`, and a lab on its own, away from the repository."""

import json
import os
import subprocess
import sys

import pytest

from aiinfra_labs.course import check, claims, cli, predict, progress, reveal


def test_progress_by_unit_and_by_skill(doubling, capsys):
    check("1.1.z", lambda x: x)
    assert cli.main(["progress"]) == 0
    out = capsys.readouterr().out
    assert "1.1.z" in out and "tried" in out and "1.5/3" in out
    assert "1.1 Tokens" in out and "Arithmetic" in out and "50%" in out
    check("1.1.z", lambda x: x * 2)
    cli.main(["progress"])
    out = capsys.readouterr().out
    assert "solved" in out and "3/3" in out and "100%" in out


def test_progress_for_a_machine(doubling, capsys):
    check("1.1.z", lambda x: x)
    check("1.1.z", lambda x: x * 2)
    predict("1.1.p", 4)
    reveal("1.1.p", 5)
    assert cli.main(["progress", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (made,) = [e for e in data["exercises"] if e["id"] == "1.1.z"]
    assert (made["best"], made["attempts"], made["hints"]) == (3, 2, 1)
    assert made["first"] <= made["solved"] == made["last"]
    (skill,) = [s for s in data["skills"] if s["name"] == "Arithmetic"]
    assert skill["share"] == 1 and skill["solved"] == 1
    assert data["predictions"] == {"1.1.p": {"predicted": 4, "measured": 5}}


def test_progress_of_one_who_has_not_begun(capsys):
    assert cli.main(["progress"]) == 0 and "0%" in capsys.readouterr().out


def test_an_exercise_that_is_gone_is_no_matter(capsys):
    progress.current().attempt("3.2.x", 9, 9, True)
    assert cli.main(["progress"]) == 0
    assert "3.2.x" not in capsys.readouterr().out


def test_more_points_than_there_are_now(doubling, capsys):
    progress.current().attempt("1.1.z", 9, 9, True)
    cli.main(["progress", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert next(s for s in data["skills"] if s["name"] == "Arithmetic")["share"] == 1


def test_claims(capsys):
    assert cli.main(["claims"]) == 0
    everything = capsys.readouterr().out
    assert "attention-coref" in everything and "60 claims" in everything
    assert cli.main(["claims", "--open"]) == 0
    assert "market" in capsys.readouterr().out


def test_claims_say_what_was_found(capsys):
    assert cli.main(["claims", "kv-80"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    (claim,) = [c for c in claims.all_claims() if c.id == "kv-80"]
    for part in (claim.text, claim.verdict, claim.figure, claim.how, claim.source):
        assert part in said
    assert "1 claim, 0 open" in said
    assert cli.main(["claims", "4.2", "--json"]) == 0
    (data,) = json.loads(capsys.readouterr().out)
    assert data["figure"] == claim.figure
    assert cli.main(["claims", "nothing"]) == 1
    assert "neither a unit nor the id of a claim" in capsys.readouterr().err


def test_claims_in_a_terminal_are_no_wider_than_a_screen(capsys):
    cli.main(["claims"])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "https://" not in line) <= 100


def test_no_command(capsys):
    with pytest.raises(SystemExit):
        cli.main([])
    assert "COMMAND" in capsys.readouterr().err


ALONE = """
from aiinfra_labs.course import card, check, predict, reveal
print(repr(check("3.2.a", 3)))
print(repr(card("3.2")))
predict("p", 3)
print(reveal("p", 4))
"""


def test_a_lab_on_its_own_away_from_the_repository(tmp_path, home, root):
    """The package is copied, as an installed one would lie, and nothing of the checkout is near."""
    import shutil

    site = tmp_path / "site"
    shutil.copytree(
        root / "src" / "aiinfra_labs",
        site / "aiinfra_labs",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    folder = tmp_path / "downloads"
    folder.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", "import aiinfra_labs; print(aiinfra_labs.__file__)\n" + ALONE],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(site))
    assert "an int cannot be called" in run.stdout and "Memory:" in run.stdout
    assert "predicted: 3, measured: 4" in run.stdout and (home / "progress.db").is_file()
    command = [sys.executable, "-m", "aiinfra_labs.course.cli", "work"]
    work = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True
    )
    assert work.returncode == 1 and b"labs/ was not found" in work.stderr
