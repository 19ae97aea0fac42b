"""The attention viewer: which word looks at which, by layer and head. Unit 1.3.

All of it runs in the page (`attention_viewer.js`) from the weights that are stored in the widget;
a test holds what it shows to Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from aiinfra_labs import bounds
from aiinfra_labs.course.framing import framed, scripted

HERE = Path(__file__).parent
DECIMALS = 4  # of a stored weight
MOST = 60_000  # weights: each is stored in the notebook


class AttentionViewerError(bounds.SettingError):
    """Weights that cannot be drawn, in three parts."""


def shown(share: float) -> str:
    """A share with two decimals; a half is rounded up, as the JavaScript does it."""
    return f"{share + 1e-9:.2f}"


class AttentionViewer(anywidget.AnyWidget):
    """Attention weights of one text, a map for each layer and head, and one word's row as lines.

    `AttentionViewer(weights, tokens)`: weights are [layers, heads, T, T], as a model gives them for
    one text; a row is what one token gives to each. `token` is the one whose row is drawn first.
    The whole state is in the traits, so it works on a static page.
    """

    _esm = scripted(HERE / "attention_viewer.js")
    _css = framed(HERE / "attention_viewer.css")

    tokens = traitlets.List(help="The text's tokens.").tag(sync=True)
    weights = traitlets.List(help="[layers][heads][T][T], rounded.").tag(sync=True)
    layer = traitlets.Int(0, min=0, help="Which layer, from 0.").tag(sync=True)
    head = traitlets.Int(0, min=0, help="Which head, from 0.").tag(sync=True)
    token = traitlets.Int(0, min=0, help="Whose row is drawn.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)

    def __init__(
        self,
        weights: Any,
        tokens: Sequence[str],
        layer: int = 0,
        head: int = 0,
        token: int = 0,
        title: str = "",
    ):
        table = _checked(weights, tokens)
        for name, value, count in zip(
            ("layer", "head", "token"), (layer, head, token), table.shape, strict=False
        ):
            if not 0 <= value < count:
                raise AttentionViewerError(
                    f"{name} = {value}, and there are {count}",
                    "layers, heads and tokens are numbered from 0",
                    f"0 to {count - 1}",
                )
        super().__init__(
            weights=np.round(table.astype(np.float64), DECIMALS).tolist(),
            tokens=[str(each) for each in tokens],
            layer=layer,
            head=head,
            token=token,
            title=title,
        )

    @property
    def row(self) -> np.ndarray:
        """What the chosen token gives to each, as drawn: float64 [T]."""
        return np.array(self.weights[self.layer][self.head][self.token])

    @property
    def sentence(self) -> str:
        """What the widget says of the row: its largest weight."""
        row = self.row
        at = int(row.argmax())
        return (
            f"layer {self.layer}, head {self.head}: {self.tokens[self.token]} → {self.tokens[at]} "
            f"{shown(row[at])}"
        )

    def __repr__(self) -> str:
        return f"AttentionViewer({self.sentence})"


def _checked(weights: Any, tokens: Sequence[str]) -> np.ndarray:
    """Weights as an array [layers, heads, T, T]."""
    table = np.asarray(weights.detach() if hasattr(weights, "detach") else weights)
    t = len(tokens)
    if table.ndim != 4 or table.shape[2:] != (t, t) or not table.size:
        raise AttentionViewerError(
            f"weights have the shape {table.shape}, for {t} tokens",
            "each layer and head has a weight for each pair of tokens of one text",
            "pass [layers, heads, T, T] of one text, without the batch's axis",
        )
    if table.dtype.kind != "f" or not np.isfinite(table).all():
        raise AttentionViewerError(
            f"weights are {table.dtype}, {int((~np.isfinite(table.astype(float))).sum())} of them "
            "not finite",
            "a weight is a number from 0 to 1",
            "pass what softmax gave",
        )
    if table.min() < 0 or table.max() > 1 + 1e-3:
        raise AttentionViewerError(
            f"weights from {table.min():.3g} to {table.max():.3g}",
            "the weights of a row are shares, from 0 to 1",
            "pass what softmax gave, not the scores",
        )
    if table.size > MOST:
        raise AttentionViewerError(
            f"{table.size:,} weights",
            f"a notebook keeps each; more than {MOST:,} make it slow",
            "a shorter text, or some of the layers",
        )
    return table
