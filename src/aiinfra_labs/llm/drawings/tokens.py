"""What unit 1.1 draws: text cut into tokens, merges one by one, a conversation as ids. Unit 1.1.

A `Strip` is HTML, not a picture: the text in it can be read aloud, searched and copied, and its
Chinese needs no font of matplotlib's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from aiinfra_labs.course.drawing import LARGE, box, drawing, need, write

from ..bpe import Tokenizer, merge_pair
from ..chat import END

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    """The words of a small corpus as letters, and after each of the first `steps` merges.

    words: how often each occurs. tokenizer: trained on them. Above each row stand the pair that was
    merged, how often each word brings it, and how many tokens the whole corpus has then.
    """
    need(
        1 <= steps <= len(tokenizer.merges),
        f"{steps} steps of {len(tokenizer.merges)} merges",
        "each row is drawn after one merge more",
        "steps from 1 to the number of merges",
    )
    cuts = [_cut(tokenizer, words, step) for step in range(steps + 1)]
    sizes = [sum(words[word] * len(tokens) for word, tokens in cut.items()) for cut in cuts]
    lines, told = ["each letter is a token"], []
    for step, (a, b) in enumerate(tokenizer.merges[:steps], 1):
        found = [
            words[word] * list(zip(tokens, tokens[1:], strict=False)).count((a, b))
            for word, tokens in cuts[step - 1].items()
        ]
        sum_of = " + ".join(str(often) for often in found if often)
        lines.append(f"{step}.  {a} + {b}:  {sum_of} = {sum(found)} times")
        told.append(f"{step}. {a} + {b} ({sum(found)} times), which leaves {sizes[step]} tokens")
    each = ", ".join(f"{word} ({often} times)" for word, often in words.items())
    alt = f"The words {each} are {sizes[0]} letters. After each of {steps} merges: "
    unit = 100 / (sum(len(word) + 1 for word in words) - 1)
    high, apart = 6.5, 14.5
    with drawing(alt + f"{'; '.join(told)}.", -apart * (steps + 1) - 5, 0) as (fig, ax):
        y = -3.0
        for step, cut in enumerate(cuts):
            write(ax, 0, y, lines[step], LARGE, ha="left", weight="bold")
            write(ax, 100, y, f"{sizes[step]} tokens", LARGE, ha="right")
            y -= high + 3
            if step == 0:
                _times(ax, y + high + 0.5, words, unit)
                y -= 5
            newest = "".join(tokenizer.merges[step - 1]) if step else None
            x = 0.0
            for tokens in cut.values():
                for token in tokens:
                    wide = len(token) * unit
                    colour = "C1" if token == newest else "C0" if len(token) > 1 else None
                    box(ax, x + 0.2, y, wide - 0.4, high, colour, token, LARGE)
                    x += wide
                x += unit
            y -= apart - high - 3
    return fig


def _times(ax: Axes, y: float, words: Mapping[str, int], unit: float) -> None:
    """How often each word occurs, above it; `unit` is the width of a letter."""
    x = 0.0
    for word, often in words.items():
        write(ax, x + unit * len(word) / 2, y - 2.5, f"{often} ×", LARGE)
        x += (len(word) + 1) * unit


def _cut(tokenizer: Tokenizer, words: Mapping[str, int], merges: int) -> dict[str, list[str]]:
    """Each word as its tokens, when so many merges have been learned."""
    known = Tokenizer(tokenizer.merges[:merges])
    return {word: [known.tokens[id] for id in known.encode(word)] for word in words}


def encode_steps(tokenizer: Tokenizer, word: str) -> Figure:
    """How a word is encoded, merge by merge.

    Under each border between two tokens stands the number of the merge that joins them, from 1, and
    a dash where there is none. The smallest number of a row is the merge that makes the next row.
    """
    row, known = [tokenizer.tokens[i] for i in Tokenizer([]).encode(word)], tokenizer.merges
    rows: list[tuple[list[str], list[int]]] = []
    while True:
        pairs = list(zip(row, row[1:], strict=False))
        rows.append((row, [known.index(p) + 1 if p in known else 0 for p in pairs]))
        found = [number for number in rows[-1][1] if number]
        if not found:
            break
        pair = known[min(found) - 1]
        number = tokenizer.vocabulary["".join(pair)]
        ids = merge_pair([tokenizer.vocabulary[t] for t in row], _ids(tokenizer, pair), number)
        row = [tokenizer.tokens[i] for i in ids]
    told = "; ".join(
        f"{' '.join(tokens)}, with merges {', '.join(str(n or '-') for n in numbers) or '-'}"
        for tokens, numbers in rows
    )
    unit, high, apart = 54 / len(word), 6.5, 14.0
    with drawing(f"{word} is encoded: {told}.", -apart * len(rows), 0) as (fig, ax):
        for line, (tokens, numbers) in enumerate(rows):
            y, x = -apart * line - high, 0.0
            first = min((n for n in numbers if n), default=0)
            for place, token in enumerate(tokens):
                wide = len(token) * unit
                box(
                    ax, x + 0.3, y, wide - 0.6, high, "C0" if len(token) > 1 else None, token, LARGE
                )
                x += wide
                if place < len(numbers):
                    if numbers[place] == first > 0:
                        box(ax, x - 2.2, y - 5.6, 4.4, 4.8, "C1")
                    write(ax, x, y - 3.2, numbers[place] or "–", LARGE)
            said = "no merge is left"
            if first:
                a, b = known[first - 1]
                said = f"merge {first} comes first: {a} + {b}"
            write(ax, 58, y + high / 2, said, LARGE, ha="left")
    return fig


def _ids(tokenizer: Tokenizer, pair: tuple[str, str]) -> tuple[int, int]:
    return tokenizer.vocabulary[pair[0]], tokenizer.vocabulary[pair[1]]


def prompt(tokenizer: Tokenizer, ids: Sequence[int], told: str, width: float = 100) -> Figure:
    """A row of tokens with the id of each below it, special tokens in green; it wraps as text does.

    told: the alt text's first sentence.
    """
    pieces = pieces_of(tokenizer, ids)
    places, x, line = [], 0.0, 0
    for piece in pieces:
        wide = 2.1 * len(piece.text) + 2.8
        if piece.kind == "special" and piece.text != END and x > 0:
            x, line = 0.0, line + 1
        elif x + wide > width:
            x, line = 4.0, line + 1
        places.append((x, line, wide))
        x += wide + 0.8
    named = ", ".join(f"{piece.text} {id}" for piece, id in zip(pieces, ids, strict=True))
    with drawing(f"{told} Tokens and ids: {named}.", -13.0 * (line + 1) + 1, 0) as (fig, ax):
        for (x, line, wide), piece, id in zip(places, pieces, ids, strict=True):
            y = -13.0 * line - 7
            colour = {"special": "C2", "bytes": "C1"}.get(piece.kind, "C0")
            box(ax, x, y, wide, 6.5, colour, piece.text, LARGE)
            write(ax, x + wide / 2, y - 2.6, id, LARGE)
    return fig
