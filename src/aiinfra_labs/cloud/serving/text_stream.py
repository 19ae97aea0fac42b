"""The text of a sequence while its tokens come, equal to its decoding as a whole. Unit 4.3.

A token may hold a part of a character, or a part whose meaning the next token decides. Text that
was given out cannot be taken back, so that what may still change is held back. How long depends on
the decoder, and there are two cases.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Set

import tokenizers

# How a SentencePiece vocabulary spells a byte that is no token of its own characters.
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class ByteLevelStream:
    """For a byte-level vocabulary: each token is bytes, and bytes become text by UTF-8.

    tokens: the bytes of each id; None for those that a text leaves out.
    """

    def __init__(self, tokens: list[bytes | None]):
        self.tokens = tokens
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, id: int) -> str:
        """The text that is whole with this token: often "", never half a character."""
        token = self.tokens[id] if 0 <= id < len(self.tokens) else None
        return self.decoder.decode(token) if token else ""

    def finish(self) -> str:
        """What was held back: half a character is U+FFFD."""
        return self.decoder.decode(b"", final=True)


class WindowStream:
    """For any other decoder: the last tokens are decoded with and without the new one.

    One token before the new ones is enough context for the decoders of `tokenizers`: what stands
    between two tokens depends on these two. The exception is byte fallback. `<0xE4><0xBD><0xA0>` is
    a character, and with one byte that does not fit the whole run is decoded to U+FFFD. So a run of
    bytes is held back to its end.
    """

    def __init__(self, inner: tokenizers.Tokenizer, left_out: Set[int]):
        """left_out: the special tokens, which are no text."""
        self.inner, self.left_out = inner, left_out
        self.ids: list[int] = []  # all
        self.sent = 0  # characters given out
        self.window: list[int] = []  # from the last token whose text was given out
        self.before = ""  # the text of that part of the window which was given out

    def feed(self, id: int) -> str:
        """The text that no later token can change: often ""."""
        token = self.inner.id_to_token(id) if id >= 0 else None
        if token is None or id in self.left_out:
            return ""
        self.ids.append(id)
        self.window.append(id)
        if BYTE_TOKEN.fullmatch(token):
            return ""
        text = self.inner.decode(self.window, skip_special_tokens=True)
        if text.endswith("\ufffd") or not text.startswith(self.before):
            return ""
        new = text[len(self.before) :]
        if new:
            self.window, self.before = [id], self.inner.decode([id], skip_special_tokens=True)
            self.sent += len(new)
        return new

    def finish(self) -> str:
        """What was held back."""
        return self.inner.decode(self.ids, skip_special_tokens=True)[self.sent :]
