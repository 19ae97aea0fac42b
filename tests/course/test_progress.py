"""The progress file: nothing is lost by two processes, and nothing stops the work."""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from aiinfra_labs.course import progress
from aiinfra_labs.course.progress import Progress

HINTS = (1, 2, 3)  # the numbers of those that would help

WRITER = """
import sys
from aiinfra_labs.course.progress import current
for i in range(int(sys.argv[2])):
    current().attempt(sys.argv[1], i, 100, i == 30)
    current().predict(f"{sys.argv[1]}-{i}", "how many?", i)
"""


def writers(count, rounds=40):
    started = [
        subprocess.Popen([sys.executable, "-c", WRITER, f"3.2.{i}", str(rounds)], stderr=-1)
        for i in range(count)
    ]
    return [process.communicate()[1].decode() for process in started]


def test_an_attempt_is_kept(home):
    file = progress.current()
    assert file.attempt("3.2.a", 1, 3, False, HINTS) == 1
    assert file.attempt("3.2.a", 2, 3, False, HINTS) == 2
    assert file.attempt("3.2.a", 3, 3, True) == 0
    assert file.attempt("3.2.a", 0, 3, False, HINTS) == 3
    record = Progress(home / "progress.db").records()["3.2.a"]
    assert (record.attempts, record.best, record.points, record.hints) == (4, 3, 3, 3)
    assert record.first <= record.solved <= record.last


def test_unsolved_has_no_time(home):
    progress.current().attempt("3.2.a", 1, 3, False)
    assert progress.current().records()["3.2.a"].solved is None


def test_the_folder_is_the_users_own_unless_named(monkeypatch, home):
    assert progress.folder() == home
    monkeypatch.delenv("AIINFRA_HOME")
    assert "aiinfra" in str(progress.folder())


def test_processes_at_once_lose_nothing(home):
    assert writers(6) == [""] * 6
    records = progress.current().records()
    assert {id: r.attempts for id, r in records.items()} == {f"3.2.{i}": 40 for i in range(6)}
    assert len(progress.current().predictions()) == 240


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"\x00" * 8192, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_damaged_file_is_set_aside(home, capsys, content):
    home.mkdir()
    (home / "progress.db").write_bytes(content)
    assert progress.current().attempt("3.2.a", 1, 3, False, HINTS) == 1
    assert progress.current().attempt("3.2.a", 1, 3, False, HINTS) == 2
    (aside,) = home.glob("progress-damaged-2*.db")
    assert aside.read_bytes() == content
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and str(aside) in lines[0] and "damaged" in lines[0]
    assert Progress(home / "progress.db").records()["3.2.a"].attempts == 2


def test_a_page_damaged_while_at_work(home, capsys):
    for i in range(200):
        progress.current().attempt(f"3.2.{i}", 1, 3, False)
    path = home / "progress.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    path.write_bytes(content)
    progress.current().attempt("3.2.a", 1, 3, True)
    assert progress.current().records()["3.2.a"].attempts == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(list(home.glob("progress-damaged-*"))) == 1


def test_what_can_be_read_of_a_damaged_file_is_taken_over(home, capsys):
    for i in range(300):
        progress.current().attempt(f"3.2.{i}", 1, 3, False)
    path = home / "progress.db"
    whole = path.read_bytes()
    kept = set()
    for page in range(4096, len(whole), 4096):
        path.write_bytes(whole[:page] + b"\xaa" * 4096 + whole[page + 4096 :])
        assert Progress(path).attempt("3.2.new", 1, 3, True) == 0
        kept.add(len(Progress(path).records()) - 1)
        path.unlink()
    assert len(list(home.glob("progress-damaged-*.db"))) > 1
    assert any(0 < count < 300 for count in kept), kept
    assert 300 in kept, "where only the index is damaged, every row can be read"


def test_another_programs_tables(home, capsys):
    home.mkdir()
    with sqlite3.connect(home / "progress.db") as other:
        other.execute("CREATE TABLE attempts (other)")
    other.close()
    progress.current().attempt("3.2.a", 1, 3, True)
    assert progress.current().records()["3.2.a"].attempts == 1
    assert len(list(home.glob("progress-damaged-*.db"))) == 1


def test_processes_that_find_it_damaged_at_once_lose_nothing(home):
    home.mkdir()
    (home / "progress.db").write_bytes(b"not a database" * 100)
    said = "".join(writers(4)).splitlines()
    records = progress.current().records()
    assert {id: r.attempts for id, r in records.items()} == {f"3.2.{i}": 40 for i in range(4)}
    assert len(list(home.glob("progress-damaged-*.db"))) == 1 and len(said) == 1


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIINFRA_HOME", str(tmp_path / "file" / "below"))
    for i in range(3):
        assert progress.current().attempt("3.2.a", i, 3, False, HINTS) == i + 1
    progress.current().predict("p", "?", 5)
    assert progress.current().records()["3.2.a"].best == 2
    assert progress.current().prediction("p") == 5
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "cannot be written" in lines[0]


READ_ONLY = """
import json, os, sys
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
from aiinfra_labs.course import progress
before = progress.current().records()["3.2.a"].attempts
progress.current().attempt("3.2.a", 1, 3, False)
progress.current().attempt("3.2.a", 1, 3, False)
print(json.dumps([before, progress.current().records()["3.2.a"].attempts]))
"""


def test_a_read_only_file_is_taken_along_in_memory(monkeypatch):
    # Outside pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        monkeypatch.setenv("AIINFRA_HOME", name)
        Progress(folder / "progress.db").attempt("3.2.a", 1, 3, False)
        (folder / "progress.db").chmod(0o444)
        folder.chmod(0o555)
        # The package is imported before the change of user: its folder may be closed to others.
        code = "import aiinfra_labs.course.progress, json, sqlite3, urllib.parse\n" + READ_ONLY
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        folder.chmod(0o755)
        assert json.loads(run.stdout) == [1, 3], run.stderr
        lines = run.stderr.splitlines()
        assert len(lines) == 1 and "cannot be written" in lines[0]
        assert Progress(folder / "progress.db").records()["3.2.a"].attempts == 1


def test_a_file_that_another_holds_is_waited_for(home):
    import threading

    progress.current().attempt("3.2.a", 1, 3, False, HINTS)
    holder = sqlite3.connect(home / "progress.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: holder.execute("COMMIT")).start()
    assert progress.current().attempt("3.2.a", 1, 3, False, HINTS) == 2
    holder.close()


def test_under_nbgrader_progress_is_kept_in_memory(home, tmp_path, monkeypatch, capsys):
    progress.current().attempt("3.2.a", 3, 3, True)
    before = (home / "progress.db").read_bytes()
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert progress.current().records() == {}, "nobody's own progress is read"
    progress.current().attempt("3.2.b", 1, 3, False)
    progress.current().predict("p", "?", 3)
    assert progress.current().records()["3.2.b"].best == 1
    assert (home / "progress.db").read_bytes() == before
    monkeypatch.delenv("NBGRADER_EXECUTION")
    assert list(progress.current().records()) == ["3.2.a"]
    assert capsys.readouterr() == ("", "")


def test_the_environment_of_a_test_is_its_own(home):
    assert os.environ["AIINFRA_HOME"] == str(home) and not home.exists()


def test_each_hint_is_shown_once_and_then_the_last():
    file = progress.current()
    shown = [file.attempt("3.2.a", 0, 3, False, hints) for hints in ((3, 4), (1, 2), (1, 2))]
    assert shown == [3, 1, 2]
    assert file.attempt("3.2.a", 2, 3, False, (3, 4)) == 4, "3 was shown before"
    assert file.attempt("3.2.a", 2, 3, False, (3, 4)) == 4
    assert file.attempt("3.2.a", 2, 3, False) == 0
    assert file.records()["3.2.a"].hints == 4


def test_a_solved_exercise_stays_whole_when_its_points_change():
    keep = progress.current()
    keep.attempt("3.2.a", 2, 3, False, ())
    assert keep.records()["3.2.a"].earned(6) == 4
    assert keep.records()["3.2.a"].earned(4) == 2, "points are whole"
    keep.attempt("3.2.a", 3, 3, True, ())
    keep.attempt("3.2.a", 1, 4, False, ())
    assert [keep.records()["3.2.a"].earned(points) for points in (2, 3, 4)] == [2, 3, 4]
