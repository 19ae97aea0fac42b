"""Text while it is generated: bytes of tokens in, whole characters out. Unit 1.1.

A token of a byte-level vocabulary may end within a character: 它 is three bytes, and may come as
two tokens. Each token decoded by itself would show U+FFFD where nothing is wrong. So bytes that
begin a character are held back until the rest of it is there.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from .bpe import Tokenizer


class StreamDecoder:
    """Decodes one sequence, token by token. All that it gives, joined, is `Tokenizer.decode`."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, id: int) -> str:
        """The text that is whole with this token: often "", never half a character."""
        return self._decoder.decode(self._tokenizer.token_bytes(id))

    def finish(self) -> str:
        """What was held back, when no token follows: "", or U+FFFD for half a character."""
        return self._decoder.decode(b"", final=True)


def decode_stream(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Each piece of text that is not empty, as soon as its last token is there."""
    decoder = StreamDecoder(tokenizer)
    for id in ids:
        if text := decoder.feed(id):
            yield text
    if text := decoder.finish():
        yield text
