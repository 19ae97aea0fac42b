"""The same messages in English and in Chinese, to compare what they cost in tokens. Unit 1.1.

They are JupyterLab's own, with the Chinese translation that the course installs: short texts of a
user interface. That is little text, and of one kind. But both columns mean the same, and they are
the same on every machine. Beside them, Python code: the source of SimPy, which the course uses.
"""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

PACK = "jupyterlab_language_pack_zh_CN"
HELD_OUT = 10  # one piece in so many is kept for measuring


class BilingualError(RuntimeError):
    """The texts are not installed."""


def messages() -> list[tuple[str, str]]:
    """(English, Chinese) of each message that is translated, in the order of the files."""
    if find_spec(PACK) is None:
        raise BilingualError(
            "JupyterLab's Chinese translation is not installed\n"
            "Why: the Chinese text of unit 1.1 is in it\n"
            "Try: pip install jupyterlab-language-pack-zh-CN"
        )
    folder = files(PACK) / "locale" / "zh_CN" / "LC_MESSAGES"
    found: dict[str, str] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            for key, forms in json.loads(file.read_text(encoding="utf-8")).items():
                english = key.rpartition("\x04")[2]  # gettext writes "context\x04message"
                if key and forms[0] and forms[0] != english:
                    found.setdefault(english, forms[0])
    return list(found.items())


def code() -> list[str]:
    """Pieces of Python code: SimPy's modules, cut where two lines are empty."""
    import simpy

    folder = Path(simpy.__file__).parent
    paths = sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix())
    pieces = [piece for p in paths for piece in p.read_text(encoding="utf-8").split("\n\n\n")]
    return [piece for piece in pieces if piece.strip()]


def texts() -> dict[str, list[str]]:
    """Pieces of text, as "English", "Chinese" and "code"; the first two say the same."""
    english, chinese = zip(*messages(), strict=True)
    return {"English": list(english), "Chinese": list(chinese), "code": code()}


def split(pieces: list[str]) -> tuple[list[str], list[str]]:
    """(to train on, held out): every tenth piece is held out."""
    held_out = pieces[::HELD_OUT]
    return [piece for i, piece in enumerate(pieces) if i % HELD_OUT], held_out
