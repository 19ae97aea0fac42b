"""What `show` draws in unit 1.1: the learner's own pairs, tokens, texts and turns. Unit 1.1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aiinfra_labs.course.tables import Table, table
from aiinfra_labs.llm import chat
from aiinfra_labs.llm.bpe import Tokenizer, TokenizerError
from aiinfra_labs.llm.drawings.tokens import Piece, Strip, pieces_of

BYTES = Tokenizer([])  # the ids of single bytes
MOST = 6  # pairs shown


def pairs(counts: Counter[tuple[int, int]], chosen: Any) -> Table:
    """The most frequent pairs, and which of them was chosen."""
    ordered = sorted(counts, key=lambda pair: (-counts[pair], pair))[:MOST]
    if chosen in counts and chosen not in ordered:
        ordered.append(chosen)
    rows = [
        (
            f"({pair[0]}, {pair[1]})",
            " + ".join(f"`{BYTES.tokens[id]}`" for id in pair),
            counts[pair],
            "your choice" if pair == chosen else "",
        )
        for pair in ordered
    ]
    if chosen not in counts:
        rows.append((repr(chosen)[:40], "", "", "your choice: no pair of this text"))
    return table(("pair", "tokens", "occurs", ""), rows)


def words(tokenizer: Tokenizer, yours: Mapping[str, Any]) -> Strip:
    """Each word as the learner's tokens, and as the tokenizer's where they differ."""
    rows = []
    for word, ids in yours.items():
        right = tokenizer.encode(word)
        shown = repr(word)
        try:
            mine = pieces_of(tokenizer, ids)
        except (TokenizerError, TypeError):
            mine = (Piece(f"{ids!r:.60}"),)
        if list(ids) == right if isinstance(ids, list | tuple) else False:
            rows.append((f"{shown}: right", mine))
        else:
            rows += [(f"{shown}: yours", mine), (f"{shown}: right", pieces_of(tokenizer, right))]
    return Strip(tuple(rows))


def stream(pieces: Sequence[bytes], texts: Sequence[Any]) -> Table:
    """Each piece of bytes, the text that came with it, and all that was shown by then."""
    names = [f"`{piece.hex(' ').upper()}`" for piece in pieces] + ["the end"]
    rows, shown = [], ""
    for number in range(max(len(names), len(texts))):
        text = texts[number] if number < len(texts) else None
        shown += text if isinstance(text, str) else ""
        name = names[number] if number < len(names) else "(one text too many)"
        rows.append((name, "nothing came" if text is None else f"`{text!r}`", f"`{shown!r}`"))
    return table(("piece", "text", "shown so far"), rows)


def prompt(tokenizer: Tokenizer, ids: Any) -> Strip:
    """The turns that a model sees in the ids, a row each."""
    if not isinstance(ids, list | tuple) or not all(isinstance(i, int) for i in ids):
        return Strip((("no list of ids", (Piece(f"{ids!r:.60}"),)),))
    rows = [("the whole prompt", pieces_of(tokenizer, ids))]
    for number, (role, content) in enumerate(chat.turns(tokenizer, ids), 1):
        name = f"turn {number}, {role or 'no role'}"
        rows.append((name, pieces_of(tokenizer, tokenizer.encode(content, special=False))))
    return Strip(tuple(rows))
