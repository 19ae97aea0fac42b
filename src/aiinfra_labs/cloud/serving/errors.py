"""What can be wrong with a request, a checkpoint or a setting. Units 4.2 to 4.6."""

from __future__ import annotations

from aiinfra_labs import bounds


class ServingError(bounds.SettingError):
    """Something that the engine cannot do, in three parts: what, why, what to try."""


class RequestError(ServingError):
    """A request that cannot be served. The engine and all other requests go on."""


class LoadError(ServingError):
    """A checkpoint that cannot be loaded. Nothing was built."""


def quoted(value: object, most: int = 80) -> str:
    """A value for a message: on one line, cut off where it is long, whatever its `repr` does."""
    try:
        text = repr(value)
    except Exception:  # an int of over 4,300 digits, or a class of the caller's
        return f"a {type(value).__name__}"
    text = text.replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 3]}..."
