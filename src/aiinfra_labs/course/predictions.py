"""`predict` before a figure is shown, `reveal` when it was measured: the two side by side.

On the site, where no kernel runs, `book/_site/static/predict.js` makes a box of the two outputs:
the reader types a guess, and sees the figure that the notebook measured beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import Any

from . import progress


@dataclass(frozen=True)
class Prediction:
    """What was predicted; `value` is None when it was skipped."""

    id: str
    value: Any
    question: str = ""

    def __str__(self) -> str:
        said = "skipped" if self.value is None else f"you predict {shown(self.value)}"
        return f"{self.question} {said}".strip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        box = f'<div class="aiinfra-predict" data-predict="{escape(self.id)}"'
        if self.value is not None:
            return f"{box}><p>{escape(str(self))}</p></div>"
        how = "In a notebook, write your number in place of the dots."
        asked = f"<p><b>Predict.</b> {escape(self.question)} <small>{how}</small></p>"
        return f'{box} data-question="{escape(self.question)}">{asked}</div>'


@dataclass(frozen=True)
class Comparison:
    """A prediction (None when there was none) and the measured figure, with its unit."""

    id: str
    predicted: Any
    measured: Any
    unit: str = ""

    @property
    def ratio(self) -> float | None:
        """Predicted over measured, where both are numbers and the figure is not 0."""
        try:
            return float(self.predicted) / float(self.measured)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            return None

    def _rows(self) -> list[tuple[str, str]]:
        predicted = "skipped" if self.predicted is None else self._figure(self.predicted)
        return [("Predicted", predicted), ("Measured", self._figure(self.measured))]

    def _figure(self, value: Any) -> str:
        return f"{shown(value)} {self.unit}".strip()

    def __str__(self) -> str:
        return ", ".join(f"{name.lower()}: {text}" for name, text in self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{name}</th>' for name, _ in self._rows())
        body = "".join(f"<td>{escape(text)}</td>" for _, text in self._rows())
        number = isinstance(self.measured, int | float) and not isinstance(self.measured, bool)
        return (
            f'<div class="aiinfra-reveal" data-predict="{escape(self.id)}" '
            f'data-measured="{escape(self._figure(self.measured))}" '
            f'data-kind="{"number" if number else "text"}">'
            f'<table style="color:inherit"><thead><tr>{head}</tr></thead>'
            f"<tbody><tr>{body}</tr></tbody></table></div>"
        )


def predict(id: str, value: Any = None, question: str = "") -> Prediction:
    """Keep a prediction under `id`. None, `...` or an empty string skips, and keeps nothing."""
    if value is None or value is ... or (isinstance(value, str) and not value.strip()):
        return Prediction(id, None, question)
    value = _plain(value)
    progress.current().predict(id, question, value)
    return Prediction(id, value, question)


def reveal(id: str, measured: Any, unit: str = "") -> Comparison:
    """Show the measured figure beside the last prediction kept under `id`, if there is one."""
    measured = _plain(measured)
    file = progress.current()
    predicted = file.prediction(id)
    if predicted is not None:
        file.measured(id, measured)
    return Comparison(id, predicted, measured, unit)


def shown(value: Any) -> str:
    """A figure as text: thousands apart, four significant digits of a fraction."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() and abs(value) < 1e15 else f"{value:,.4g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return str(value)


def _plain(value: Any) -> Any:
    """A value that JSON can hold: NumPy's scalars and arrays become Python's, others text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, tuple):
        value = list(value)
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value
