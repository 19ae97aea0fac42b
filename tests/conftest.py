"""What every test starts from: an empty progress folder of its own, and no window for figures."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The learner's data folder: empty, and gone after the test."""
    folder = tmp_path / "aiinfra-home"
    monkeypatch.setenv("AIINFRA_HOME", str(folder))
    for name in ("NBGRADER_EXECUTION", "AIINFRA_WORK"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def root():
    """The course's folder."""
    return Path(__file__).resolve().parent.parent
