"""What unit 1.1 draws: text cut into tokens, and how merges cut it ever more coarsely. Unit 1.1.

A `Strip` is HTML, not a picture: the text in it can be read aloud, searched and copied, and its
Chinese needs no font of matplotlib's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from aiinfra_labs.course.drawing import NORMAL, SMALL, box, drawing, need, write

from ..bpe import Tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """<style>
.aiinfra-strip{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.35em .8em;
margin:.4em 0;align-items:start}
.aiinfra-strip>div{line-height:1.9}
.aiinfra-strip code{color:inherit;background:none;border:1px solid #7b7b7b88;border-radius:3px;
padding:.1em .18em;margin:0 2px 2px 0;font-size:.95em;line-height:1.35;display:inline-block;
white-space:pre}
.aiinfra-strip code:nth-of-type(even){background:#476cc333}
.aiinfra-strip code:nth-of-type(odd){background:#d17d1a33}
.aiinfra-strip code.special{background:#54a47566;font-weight:bold}
.aiinfra-strip code.bytes{font-size:.75em}
.aiinfra-strip small{opacity:.8;white-space:nowrap}
.text_html:has(> .aiinfra-strip){background:none!important;color:inherit!important}
@media(max-width:480px){.aiinfra-strip{grid-template-columns:minmax(0,1fr);gap:0}}
</style>"""
SPACES = {" ": "·", "\n": "↵", "\t": "→", "\r": "␍"}


@dataclass(frozen=True)
class Piece:
    """One token as a reader should see it. kind: "text", "bytes" (half a character), "special"."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Strip:
    """Rows of tokens, each with a name and how many there are."""

    rows: tuple[tuple[str, tuple[Piece, ...]], ...]

    def _repr_html_(self) -> str:
        cells = []
        for name, pieces in self.rows:
            tokens = "".join(
                f'<code class="{piece.kind}">{escape(piece.text)}</code>' for piece in pieces
            )
            count = f"{len(pieces)} token{'' if len(pieces) == 1 else 's'}"
            cells.append(f"<div>{escape(name)} <small>({count})</small></div><div>{tokens}</div>")
        return f'{STYLE}<div class="aiinfra-strip">{"".join(cells)}</div>'

    def __repr__(self) -> str:
        return "\n".join(
            f"{name} ({len(pieces)}): {'|'.join(piece.text for piece in pieces)}"
            for name, pieces in self.rows
        )


def pieces_of(tokenizer: Tokenizer, ids: Iterable[int]) -> tuple[Piece, ...]:
    """Each id as what it stands for: white space made visible, half a character as its bytes."""
    pieces = []
    for id in ids:
        data = tokenizer.token_bytes(id)
        if tokenizer.tokens[int(id)] in tokenizer.special:
            pieces.append(Piece(data.decode(), "special"))
            continue
        try:
            text = data.decode()
        except UnicodeDecodeError:
            pieces.append(Piece(data.hex(" ").upper(), "bytes"))
        else:
            pieces.append(Piece("".join(SPACES.get(c, c) for c in text)))
    return tuple(pieces)


def strip(
    tokenizers: Tokenizer | Mapping[str, Tokenizer], texts: str | Mapping[str, str] | Sequence[str]
) -> Strip:
    """Texts as tokens, a row for each tokenizer and text. Special tokens in them are ordinary."""
    named = {"": tokenizers} if isinstance(tokenizers, Tokenizer) else dict(tokenizers)
    if isinstance(texts, str):
        labelled = {"": texts}
    else:
        labelled = dict(texts) if isinstance(texts, Mapping) else {text: text for text in texts}
    rows = []
    for name, tokenizer in named.items():
        for label, text in labelled.items():
            ids = tokenizer.encode(text, special=False)
            title = ", ".join(part for part in (name, label) if part)
            rows.append((title, pieces_of(tokenizer, ids)))
    return Strip(tuple(rows))


def merge_steps(tokenizer: Tokenizer, words: Mapping[str, int], steps: int) -> Figure:
    """The words of a small corpus before any merge, and after each of the first `steps` merges.

    words: how often each occurs. tokenizer: trained on them. The token that a merge made is tinted
    in its row; beside it stands how often its pair occurred.
    """
    need(
        1 <= steps <= len(tokenizer.merges),
        f"{steps} steps of {len(tokenizer.merges)} merges",
        "each row is drawn after one merge more",
        "steps from 1 to the number of merges",
    )
    counts = [_occurrences(tokenizer, words, step) for step in range(1, steps + 1)]
    said = ", ".join(
        f"{step}. {a} + {b} ({count} times)"
        for step, ((a, b), count) in enumerate(zip(tokenizer.merges, counts, strict=False), 1)
    )
    told = ", ".join(f"{word} ({often} times)" for word, often in words.items())
    alt = f"The words {told}, cut into letters, and after each of {steps} merges: {said}."
    row, left = 7.0, 29.0
    width = (100 - left) / sum(len(word) + 1 for word in words)
    with drawing(alt, -row * (steps + 1), 7) as (fig, ax):
        write(ax, 0, 3.5, "merge", NORMAL, ha="left", weight="bold")
        x = left
        for word, often in words.items():
            write(ax, x + width * len(word) / 2, 3.5, f"{often} ×", NORMAL, weight="bold")
            x += (len(word) + 1) * width
        for step in range(steps + 1):
            cut = Tokenizer(tokenizer.merges[:step])
            y = -row * (step + 1) + 1
            label = "letters (bytes)"
            if step:
                a, b = tokenizer.merges[step - 1]
                label = f"{step}.  {a} + {b},  {counts[step - 1]} ×"
            write(ax, 0, y + row / 2 - 1, label, SMALL, ha="left")
            newest = "".join(tokenizer.merges[step - 1]) if step else None
            x = left
            for word in words:
                for id in cut.encode(word):
                    token = cut.tokens[id]
                    here = len(token) * width
                    colour = "C1" if token == newest else "C0" if len(token) > 1 else None
                    box(ax, x + 0.2, y, here - 0.4, row - 1.6, colour, token, SMALL)
                    x += here
                x += width
    return fig


def _occurrences(tokenizer: Tokenizer, words: Mapping[str, int], step: int) -> int:
    """How often the pair of merge number `step`, from 1, occurred when it was learned."""
    before = Tokenizer(tokenizer.merges[: step - 1])
    total = 0
    for word, often in words.items():
        tokens = [before.tokens[id] for id in before.encode(word)]
        pairs = list(zip(tokens, tokens[1:], strict=False))
        total += often * pairs.count(tokenizer.merges[step - 1])
    return total
