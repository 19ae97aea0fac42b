"""Text to ids and back, for any checkpoint that has a tokenizer.json. Unit 4.3.

Unit 1.1 writes byte-level BPE by hand. A server meets other kinds, too, so that this one is the
`tokenizers` library's; for the course's own file both give the same ids.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import tokenizers
from tokenizers.decoders import DecodeStream

from aiinfra_labs.llm import bpe

from .errors import LoadError


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...
    def stream(self) -> TextStream: ...
    def token_bytes(self) -> list[bytes | None]: ...


class TextStream(Protocol):
    """Text of one sequence, while its tokens come."""

    def feed(self, id: int) -> str: ...
    def finish(self) -> str: ...


class FileTokenizer:
    """A tokenizer.json of Hugging Face's format, or of the course's, which has merges alone."""

    def __init__(self, file: Path):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            self.inner = (
                _of_merges(bpe.Tokenizer.load(file))
                if "merges" in found
                else tokenizers.Tokenizer.from_str(json.dumps(found))
            )
        except Exception as error:  # the library raises Exception itself
            raise LoadError(
                f"{file.name} is no tokenizer: {str(error).splitlines()[0]}",
                "it is missing, cut off, or of another format",
                "the tokenizer.json that was saved with the model",
            ) from None

    def __len__(self) -> int:
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Special tokens are taken as such where the text spells them."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Text of ids, special tokens left out."""
        return self.inner.decode(ids, skip_special_tokens=True)

    def stream(self) -> TextStream:
        return _Stream(self.inner)

    def token_bytes(self) -> list[bytes | None]:
        """The bytes of each id of a byte-level vocabulary; None for special tokens."""
        special = {i for i, t in self.inner.get_added_tokens_decoder().items() if t.special}
        letters = _byte_letters()
        found: list[bytes | None] = []
        for id in range(len(self)):
            token = self.inner.id_to_token(id)
            if id in special or token is None or any(c not in letters for c in token):
                found.append(None)
            else:
                found.append(bytes(letters[c] for c in token))
        return found


def _of_merges(own: bpe.Tokenizer) -> tokenizers.Tokenizer:
    """The library's tokenizer with the merges and the ids of unit 1.1's."""
    merges: list[Any] = [tuple(merge) for merge in own.merges]
    found = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=own.vocabulary, merges=merges))
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = tokenizers.decoders.ByteLevel()
    found.add_special_tokens(list(own.special))
    return found


class _Stream:
    """The library's stream, and what it held back at the end."""

    def __init__(self, inner: tokenizers.Tokenizer):
        self.inner, self.ids, self.sent = inner, list[int](), 0
        self.decoder = DecodeStream(skip_special_tokens=True)

    def feed(self, id: int) -> str:
        """The text that is whole with this token: often "", never half a character."""
        self.ids.append(id)
        text = self.decoder.step(self.inner, id) or ""
        self.sent += len(text)
        return text

    def finish(self) -> str:
        return self.inner.decode(self.ids, skip_special_tokens=True)[self.sent :]


def _byte_letters() -> dict[str, int]:
    """The letter that a byte-level vocabulary writes for each byte (GPT-2's table), inverted."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in shown}
    hidden = (byte for byte in range(256) if byte not in set(shown))
    return letters | {chr(256 + i): byte for i, byte in enumerate(hidden)}
