"""What all chapters share: checks, progress, predictions, lab cards, claims and facts.

The names that a notebook needs are exported here, each imported when it is first asked for, so
that `import aiinfra_labs.course` costs next to nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "check": "checking",
    "show": "checking",
    "hints": "hinting",
    "exercise": "registry",
    "Exercise": "registry",
    "Result": "results",
    "predict": "predictions",
    "reveal": "predictions",
    "card": "cards",
    "examine": "claims",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
