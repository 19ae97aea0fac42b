"""The look that all widgets have in common: ground, frame, and colours in light and dark."""

from __future__ import annotations

from pathlib import Path


def framed(css: Path) -> str:
    """The style of one widget behind the common one, as anywidget's `_css` takes it."""
    common = Path(__file__).with_name("frame.css")
    return common.read_text(encoding="utf-8") + css.read_text(encoding="utf-8")
