"""Text that every machine has: the source and the documentation of Python's own library. Unit 1.4.

Each file of the standard library, tests left out, is one document. Which documents are held out for
validation is decided by a hash of the file's name, so that it is the same on every machine; the
text itself differs a little from one version of Python to the next.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HELD_OUT = 20  # one document in so many validates
LEFT_OUT = ("site-packages", "test", "tests", "idle_test", "lib2to3", "pydoc_data", "__pycache__")
OF_THE_MACHINE = ("_sysconfigdata", "sitecustomize")  # how this Python was built: paths, no prose


class CorpusError(ValueError):
    """There is no text to train on."""


@dataclass(frozen=True)
class Document:
    """One text. name: its path below the library, with forward slashes."""

    name: str
    text: str

    @property
    def held_out(self) -> bool:
        """Whether it is kept for validation."""
        return hashlib.sha256(self.name.encode()).digest()[0] % HELD_OUT == 0


def documents(folder: Path | None = None) -> Iterator[Document]:
    """Every document, by name; of the standard library, or of another folder of .py files."""
    root = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    found = False
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if set(name.parts[:-1]) & set(LEFT_OUT) or name.name.startswith(OF_THE_MACHINE):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # a file of another encoding is no text to us
            continue
        if text.strip():
            found = True
            yield Document(name.as_posix(), text)
    if folder is None:
        yield from _topics()
    elif not found:
        raise CorpusError(
            f"{root.name} holds no Python file with text in it\n"
            "Why: a model learns from text, and there is none\n"
            "Try: a folder with .py files, or no folder for Python's own library"
        )


def _topics() -> Iterator[Document]:
    """The language reference that `help("if")` shows: prose, where the rest is code."""
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        yield Document(f"help/{name}", text.lstrip())


def described_corpus() -> str:
    """What the corpus is on this machine, in a few words."""
    return f"the standard library of Python {sys.version.split()[0]}"
