"""The token cutter: type a text and see its tokens, under vocabularies of any size. Unit 1.1.

All of it runs in the page (`token_cutter.js`), by the rules of `bpe.py`; a test holds the two
together. The merges are stored in the widget, so it works on a static page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anywidget
import traitlets

from aiinfra_labs.course.framing import framed, scripted

from ..bpe import Tokenizer, TokenizerError

BYTES = 256
HERE = Path(__file__).parent


class TokenCutter(anywidget.AnyWidget):
    """A text cut into tokens, with a slider for how many merges are known.

    `TokenCutter({"with Chinese": one, "without": other}, "它很甜")`. The tokenizers have no special
    tokens: what is typed is ordinary text.
    """

    _esm = scripted(HERE / "token_cutter.js")
    _css = framed(HERE / "token_cutter.css")

    merges = traitlets.Dict(help='Merges by the vocabulary\'s name: ["Ġ t", ...].').tag(sync=True)
    vocabulary = traitlets.Unicode("", help="Which of them is used.").tag(sync=True)
    size = traitlets.Int(BYTES, min=BYTES, help="Tokens in it: 256 bytes and merges.").tag(
        sync=True
    )
    text = traitlets.Unicode("", help="What is cut.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)

    def __init__(
        self,
        tokenizers: Mapping[str, Tokenizer],
        text: str = "",
        size: int | None = None,
        title: str = "",
    ):
        if not tokenizers:
            raise TokenizerError(
                "a token cutter without a tokenizer",
                "text is cut by the merges of a vocabulary",
                'TokenCutter({"mine": tokenizer})',
            )
        if special := [name for name, each in tokenizers.items() if each.special]:
            raise TokenizerError(
                f"the tokenizer {special[0]!r} has special tokens",
                "what is typed is ordinary text, and their ids would shift all others",
                "Tokenizer(tokenizer.merges)",
            )
        first = next(iter(tokenizers))
        super().__init__(
            merges={name: [" ".join(m) for m in each.merges] for name, each in tokenizers.items()},
            vocabulary=first,
            size=size or BYTES + len(tokenizers[first].merges),
            text=text,
            title=title,
        )

    @property
    def ids(self) -> list[int]:
        """The ids of what is shown now."""
        merges = self.merges[self.vocabulary][: self.size - BYTES]
        return Tokenizer(tuple(merge.split(" ")) for merge in merges).encode(self.text)

    def __repr__(self) -> str:
        return f"TokenCutter({self.vocabulary}, {self.size:,} tokens: {self.text!r:.60})"
