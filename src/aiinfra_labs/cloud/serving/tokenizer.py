"""Text to ids and back, for any checkpoint that has a tokenizer.json. Unit 4.3.

Unit 1.1 writes byte-level BPE by hand. A server meets other kinds, too, so that this one is the
`tokenizers` library's; for the course's own file both give the same ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import tokenizers

from aiinfra_labs.llm import bpe, chat

from .chat_template import ChatTemplate, Message
from .errors import LoadError, RequestError
from .text_stream import BYTE_TOKEN, ByteLevelStream, WindowStream

NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # the roles that a special token has


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text. add_special_tokens: with those that begin or end a text."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids, without special tokens."""

    def stream(self) -> TextStream:
        """What decodes one sequence, token by token."""

    def token_bytes(self) -> list[bytes | None]:
        """The bytes of each id; None for a special token."""


class TextStream(Protocol):
    """Text of one sequence, while its tokens come."""

    def feed(self, id: int) -> str:
        """The text that is certain with this token: often "", never half a character."""

    def finish(self) -> str:
        """What was held back, once no token follows."""


class FileTokenizer:
    """A tokenizer.json of Hugging Face's format, or of the course's, which has merges alone.

    The file says which tokens begin and end a text. Special tokens that only tokenizer_config.json
    beside it names are special as well, as in `transformers`.
    """

    def __init__(self, file: Path):
        self.own: bpe.Tokenizer | None = None  # the course's, where the file is one
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if "merges" in found:
                self.own = bpe.Tokenizer.load(file)
                self.inner = _of_merges(self.own)
            else:
                self.inner = tokenizers.Tokenizer.from_str(json.dumps(found))
        except Exception as error:  # the library raises Exception itself
            raise LoadError(
                f"{file.name} is no tokenizer: {str(error).splitlines()[0]}",
                "it is missing, cut off, or of another format",
                "the tokenizer.json that was saved with the model",
            ) from None
        # A file remembers how its training set was cut and filled up; a prompt is neither.
        self.inner.no_truncation()
        self.inner.no_padding()
        config = _config_beside(file)
        self.chat_template = ChatTemplate.of_folder(file.parent, config)
        known = {t.content for t in self.inner.get_added_tokens_decoder().values() if t.special}
        named = [t for t in _special_tokens(config) if t.content not in known]
        self.inner.add_special_tokens(named)

    def __len__(self) -> int:
        """One more than the highest id: the rows that an embedding needs, holes included."""
        return max(self.inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text. Special tokens are taken as such where the text spells them.

        add_special_tokens: with the tokens that the file sets before and behind a text, such as
        Llama's `<s>`. A chat template writes its own, and is encoded without. Raises
        `RequestError` for half of a surrogate pair, which is no text.
        """
        try:
            return self.inner.encode(text, add_special_tokens=add_special_tokens).ids
        except (TypeError, UnicodeEncodeError):
            half = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
            if half is None:
                raise
            raise RequestError(
                f"the text holds {text[half]!r} at {half}",
                "it is half of a surrogate pair, and no UTF-8 spells it",
                "text.encode('utf-16', 'surrogatepass').decode('utf-16'), which joins the halves",
            ) from None

    def encode_chat(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        **settings: Any,
    ) -> list[int]:
        """Ids of a chat by the checkpoint's template (`ChatTemplate.render`), or the course's.

        The template writes the begin token itself, where the model wants one. Raises
        `RequestError`.
        """
        if self.own is not None and template is None and not self.chat_template.templates:
            try:
                return chat.encode(self.own, messages, add_generation_prompt)
            except chat.ChatError as error:
                raise RequestError(*_parts(error)) from None
        text = self.chat_template.render(
            messages, add_generation_prompt, tools, template, **settings
        )
        return self.encode(text, add_special_tokens=False)

    def decode(self, ids: list[int]) -> str:
        """Text of ids, special tokens left out."""
        return self.inner.decode(ids, skip_special_tokens=True)

    def stream(self) -> TextStream:
        """Text of one sequence while its tokens come; in all, what `decode` gives."""
        if self._byte_level:
            return ByteLevelStream(self._tokens)
        return WindowStream(self.inner, self._special)

    def token_bytes(self) -> list[bytes | None]:
        """The bytes of each id within a text; None for special tokens.

        Where a vocabulary is not byte-level, the bytes are those of the text that a token adds
        between two others.
        """
        return list(self._tokens)

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self.inner.get_added_tokens_decoder()
        return frozenset(id for id, token in added.items() if token.special)

    @cached_property
    def _byte_level(self) -> bool:
        return isinstance(self.inner.decoder, tokenizers.decoders.ByteLevel)

    @cached_property
    def _tokens(self) -> list[bytes | None]:
        found: list[bytes | None] = []
        letters, between = _byte_letters(), self._between
        for id in range(len(self)):
            token = self.inner.id_to_token(id)
            if id in self._special or token is None:
                found.append(None)
            elif not self._byte_level:
                found.append(between(id, token))
            elif all(c in letters for c in token):
                found.append(bytes(letters[c] for c in token))
            else:  # an added token is spelled in characters
                found.append(token.encode())
        return found

    @cached_property
    def _between(self) -> Callable[[int, str], bytes | None]:
        """The bytes that a token adds between two others: (id, token) to bytes."""
        ordinary = (id for token, id in sorted(self.inner.get_vocab().items()) if token.isalpha())
        anchor = next((id for id in ordinary if id not in self._special), None)
        if anchor is None:
            return lambda id, token: None
        head = self.decode([anchor])
        tail = self.decode([anchor, anchor])[len(head) :]

        def added(id: int, token: str) -> bytes | None:
            if byte := BYTE_TOKEN.fullmatch(token):
                return bytes((int(byte[1], 16),))
            text = self.decode([anchor, id, anchor])
            fits = text.startswith(head) and text.endswith(tail)
            return text[len(head) : len(text) - len(tail)].encode() if fits else None

        return added


def _parts(error: Exception) -> list[str]:
    """What, why, what to try."""
    return re.split(r"\n(?:Why|Try): ", str(error), maxsplit=2)


def _config_beside(file: Path) -> dict[str, Any]:
    """tokenizer_config.json, or {} where there is none."""
    try:
        found = json.loads(file.with_name("tokenizer_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise LoadError(
            f"tokenizer_config.json cannot be read: {error}",
            "it says which tokens begin and end a text, and how a chat is written",
            "the file as it was saved, or none",
        ) from None
    return found if isinstance(found, dict) else {}


def _special_tokens(config: dict[str, Any]) -> list[tokenizers.AddedToken]:
    """The special tokens that a tokenizer_config.json names."""
    listed = config.get("added_tokens_decoder") or {}
    found = [
        t for _, t in sorted(listed.items(), key=lambda item: int(item[0])) if t.get("special")
    ]
    found += [config.get(f"{name}_token") for name in NAMED]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(name) or []
        found += more.values() if isinstance(more, dict) else more
    tokens = (t if isinstance(t, dict) else {"content": t} for t in found if t)
    options = ("content", "lstrip", "rstrip", "single_word", "normalized")
    return [
        tokenizers.AddedToken(**{k: v for k, v in t.items() if k in options}, special=True)
        for t in tokens
    ]


def _of_merges(own: bpe.Tokenizer) -> tokenizers.Tokenizer:
    """The library's tokenizer with the merges and the ids of unit 1.1's."""
    merges: list[Any] = [tuple(merge) for merge in own.merges]
    found = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=own.vocabulary, merges=merges))
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = tokenizers.decoders.ByteLevel()
    found.add_special_tokens(list(own.special))
    return found


def _byte_letters() -> dict[str, int]:
    """The letter that a byte-level vocabulary writes for each byte (GPT-2's table), inverted."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in shown}
    hidden = (byte for byte in range(256) if byte not in set(shown))
    return letters | {chr(256 + i): byte for i, byte in enumerate(hidden)}
