"""The look that all widgets have in common: ground, frame, and colours in light and dark.

What scripts have in common stands once, too, in files named `frame_*.js`. A widget is stored in its
page with all that it needs, so the pieces are put in where a line of its script names them:

    // here stands frame_elements.js
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = re.compile(r"^ *// here stands (\w+\.js)\n", re.MULTILINE)


def framed(css: Path) -> str:
    """The style of one widget behind the common one, as anywidget's `_css` takes it."""
    common = Path(__file__).with_name("frame.css")
    return common.read_text(encoding="utf-8") + css.read_text(encoding="utf-8")


def scripted(js: Path) -> str:
    """The script of one widget with the pieces that it names, as anywidget's `_esm` takes it."""
    return HERE.sub(
        lambda line: Path(__file__).with_name(line[1]).read_text(encoding="utf-8"),
        js.read_text(encoding="utf-8"),
    )
