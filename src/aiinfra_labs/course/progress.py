"""What a learner has done, in one SQLite file: attempts, scores, hints, predictions.

It lies in the user's data folder (`AIINFRA_HOME` overrides). Several kernels may write at once.
Nothing that is wrong with the file stops the work: a damaged one is set aside under a dated name
and a new one begun; where nothing can be written, progress is kept in memory. Either is said in
one line.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

T = TypeVar("T")

_WAIT = 30.0  # seconds to wait for another process's write
_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS attempts (
  at REAL NOT NULL, exercise TEXT NOT NULL, score REAL NOT NULL, points REAL NOT NULL,
  passed INTEGER NOT NULL, hint INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS attempts_by_exercise ON attempts (exercise);
CREATE TABLE IF NOT EXISTS hinted (
  exercise TEXT NOT NULL, same TEXT NOT NULL, hint INTEGER NOT NULL,
  PRIMARY KEY (exercise, same));
CREATE TABLE IF NOT EXISTS predictions (
  at REAL NOT NULL, id TEXT NOT NULL, question TEXT NOT NULL, value TEXT, measured TEXT);
"""
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}


@dataclass(frozen=True)
class Record:
    """What is known of one exercise, for which `hints` hints were shown.

    Times are seconds since 1970; `solved` is None until then.
    """

    exercise: str
    attempts: int
    best: float
    points: float
    hints: int
    first: float
    last: float
    solved: float | None
    share: float  # the largest part of its points that an attempt got, 0 to 1

    def earned(self, points: float) -> float:
        """The points of the best attempt, of an exercise that now gives `points`.

        It may have given fewer at the time, or more: then they are whole ones.
        """
        if self.solved or points == self.points:
            return points if self.solved else self.best
        return math.floor(self.share * points + 1e-9)


def folder() -> Path:
    """`AIINFRA_HOME`, or the user's data folder of this system."""
    if named := os.environ.get("AIINFRA_HOME"):
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("aiinfra-labs", appauthor=False)


_open: dict[Path, Progress] = {}


def current() -> Progress:
    """The progress of this user; under nbgrader one in memory, for it is not the user's own."""
    grading = bool(os.environ.get("NBGRADER_EXECUTION"))
    path = folder() / (":memory:" if grading else "progress.db")
    if path not in _open:
        _open[path] = Progress(path)
        if grading:
            _open[path].keep_in_memory()
    return _open[path]


class Progress:
    """One progress file. Every call opens and closes it, so that processes wait for each other
    no longer than a write takes."""

    def __init__(self, path: Path):
        self.path = path
        self.memory: sqlite3.Connection | None = None

    def attempt(
        self,
        exercise: str,
        score: float,
        points: float,
        passed: bool,
        hints: Sequence[int] = (),
        same: str = "",
    ) -> int:
        """Keep an attempt. `hints` are the numbers, from 1, of the hints that would help now.

        Returns the one to show: the first that was not shown yet, else the last; 0 for none. An
        attempt that is the `same` as one before gets the hint that that one got.
        """

        def again(file: sqlite3.Connection) -> int:
            query = "SELECT hint FROM hinted WHERE exercise = ? AND same = ?"
            row = file.execute(query, [exercise, same]).fetchone() if same else None
            return row[0] if row and row[0] in hints else 0

        def keep(file: sqlite3.Connection) -> int:
            query = "SELECT DISTINCT hint FROM attempts WHERE exercise = ?"
            known = {hint for (hint,) in file.execute(query, [exercise])}
            new = (number for number in hints if number not in known)
            hint = again(file) or next(new, hints[-1] if hints else 0)
            if same and hint:
                row = [exercise, same, hint]
                file.execute("INSERT OR REPLACE INTO hinted VALUES (?, ?, ?)", row)
            row = [time.time(), exercise, score, points, passed, hint]
            file.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)", row)
            return hint

        return self._do(keep)

    def hints(self, exercise: str) -> list[int]:
        """The numbers of the hints that were given, in the order in which they were."""
        query = """SELECT hint FROM attempts WHERE exercise = ? AND hint > 0
                   GROUP BY hint ORDER BY min(rowid)"""
        return self._do(lambda file: [hint for (hint,) in file.execute(query, [exercise])])

    def records(self) -> dict[str, Record]:
        """What is known of each exercise that was attempted, by id."""
        query = """SELECT exercise, count(*), max(score), max(points),
                   count(DISTINCT nullif(hint, 0)), min(at), max(at),
                   min(CASE WHEN passed THEN at END), max(coalesce(score / nullif(points, 0), 0))
                   FROM attempts GROUP BY exercise"""
        rows = self._do(lambda file: file.execute(query).fetchall())
        return {row[0]: Record(*row) for row in rows}

    def predict(self, id: str, question: str, value: Any) -> None:
        """Keep a prediction: anything that JSON can hold."""
        row = [time.time(), id, question, json.dumps(value)]
        self._do(lambda file: file.execute("INSERT INTO predictions VALUES (?,?,?,?,NULL)", row))

    def prediction(self, id: str) -> Any:
        """The last prediction kept under `id`, or None."""
        query = "SELECT value FROM predictions WHERE id = ? ORDER BY rowid DESC LIMIT 1"
        row = self._do(lambda file: file.execute(query, [id]).fetchone())
        return None if row is None else json.loads(row[0])

    def measured(self, id: str, value: Any) -> None:
        """Keep beside the last prediction what was measured."""
        query = """UPDATE predictions SET measured = ? WHERE rowid =
                   (SELECT max(rowid) FROM predictions WHERE id = ?)"""
        self._do(lambda file: file.execute(query, [json.dumps(value), id]))

    def predictions(self) -> dict[str, tuple[Any, Any]]:
        """The last prediction of each id, with what was measured (None if it was not yet)."""
        query = "SELECT id, value, measured FROM predictions ORDER BY rowid"
        rows = self._do(lambda file: file.execute(query).fetchall())
        return {id: (json.loads(v), json.loads(m) if m else None) for id, v, m in rows}

    def _do(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do `action` in one transaction, on the file if it can be had and else in memory."""
        if self.memory is None:
            for _ in range(2):
                try:
                    with self._file() as file, _transaction(file):
                        return action(file)
                except (sqlite3.DatabaseError, OSError) as error:
                    problem = error
                    # Only the first byte of SQLite's code is the kind of error.
                    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    if kind not in _DAMAGED or not self._set_aside():
                        break
            self._go_on_in_memory(problem)
        with _transaction(self.memory):
            return action(self.memory)

    @contextlib.contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
        try:
            _prepare(file)
            yield file
        finally:
            file.close()

    def _set_aside(self) -> bool:
        """Rename a damaged file; False when it cannot be. Another process may have been first."""
        try:
            with _locked(self.path.with_suffix(".lock")):
                if not _is_damaged(self.path):
                    return True
                stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
                aside = self.path.with_name(f"progress-damaged-{stamp}.db")
                self.path.rename(aside)
                for tail in ("-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        Path(f"{self.path}{tail}").rename(f"{aside}{tail}")
                saved = self._take_over(aside)
        except OSError:
            return False
        _say(
            f"The progress file was damaged. It is kept as {aside}; a new one was begun, "
            f"with {saved} entries that could still be read."
        )
        return True

    def _take_over(self, damaged: Path) -> int:
        """Begin a new file with what can be read of a damaged one. Returns how many entries."""
        count = 0
        with contextlib.suppress(sqlite3.DatabaseError), self._file() as file:
            for table, columns in (("attempts", 6), ("predictions", 5)):
                marks = ", ".join("?" * columns)
                for row in _readable(damaged, table):
                    with contextlib.suppress(sqlite3.DatabaseError):
                        file.execute(f"INSERT INTO {table} VALUES ({marks})", row)
                        count += 1
        return count

    def keep_in_memory(self) -> None:
        """Read and write no file."""
        self.memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _prepare(self.memory)

    def _go_on_in_memory(self, error: Exception) -> None:
        _say(f"Progress cannot be written to {self.path} ({error}): kept until the kernel stops.")
        self.memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:  # what can be read is taken along
            uri = f"file:{quote(str(self.path))}?immutable=1"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as old:
                old.backup(self.memory)
            _prepare(self.memory)
        except sqlite3.Error:
            self.memory.close()
            self.keep_in_memory()


def _prepare(file: sqlite3.Connection) -> None:
    """Tables and write-ahead log, made by whichever process comes first."""
    if file.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
        return
    until = time.monotonic() + _WAIT
    while True:  # changing the journal's mode does not wait for other processes by itself
        try:
            file.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > until:
                raise
            time.sleep(0.02)
    with _transaction(file):
        for statement in _TABLES.split(";"):
            file.execute(statement)
        file.execute(f"PRAGMA user_version = {_VERSION}")


@contextlib.contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
    file.execute("COMMIT")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time, where the system has file locks."""
    with open(path, "w") as lock:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_damaged(path: Path) -> bool:
    """Whether SQLite itself finds fault with the file. A missing one is not damaged."""
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_WAIT)) as file:
            whole = file.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            file.execute("SELECT at, exercise, score, points, passed, hint FROM attempts LIMIT 1")
            file.execute("SELECT at, id, question, value, measured FROM predictions LIMIT 1")
            return not whole
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF in _DAMAGED
    except sqlite3.DatabaseError:
        return True


def _readable(path: Path, table: str) -> Iterator[tuple]:
    """The rows of a table, up to the first that cannot be read."""
    names = {"attempts": "at, exercise, score, points, passed, hint"}
    names["predictions"] = "at, id, question, value, measured"
    try:
        with contextlib.closing(sqlite3.connect(path)) as file:
            yield from file.execute(f"SELECT {names[table]} FROM {table} NOT INDEXED")
    except sqlite3.DatabaseError:
        return


def _say(line: str) -> None:
    # nbgrader takes anything on stderr for a failure of the cell.
    print(line, file=sys.stdout if os.environ.get("NBGRADER_EXECUTION") else sys.stderr)
