"""A chat as one row of ids, by the template that a checkpoint was trained with. Unit 4.3.

The template is a text in Jinja: `chat_template.jinja` beside the tokenizer, or in an older folder
the key `chat_template` of tokenizer_config.json. It comes with a checkpoint from elsewhere, so that
it runs in Jinja's sandbox: it sees the messages and the names of the special tokens, and nothing of
this process. What it may use is what `transformers` gives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from .errors import LoadError, RequestError

Message = Mapping[str, Any]  # {"role": "user", "content": "Hello"}, as the OpenAI API has it


class ChatTemplate:
    """A template, or several by name: "default", and "tool_use" where tools are given.

    special: the special tokens that a template may name, such as {"bos_token": "<s>"}.
    """

    def __init__(self, templates: Mapping[str, str], special: Mapping[str, str]):
        self.templates, self.special = dict(templates), dict(special)
        self._compiled: dict[str, jinja2.Template] = {}

    @classmethod
    def of_folder(cls, folder: Path, config: Mapping[str, Any]) -> ChatTemplate:
        """The templates of a folder; config: its tokenizer_config.json. Raises `LoadError`."""
        found = config.get("chat_template") or {}
        if isinstance(found, str):
            found = {"default": found}
        elif isinstance(found, list):
            found = {one["name"]: one["template"] for one in found}
        files = {"default": folder / "chat_template.jinja"}
        more = folder / "additional_chat_templates"
        files |= {file.stem: file for file in sorted(more.glob("*.jinja"))}
        read = {name: _read(file) for name, file in files.items() if file.exists()}
        special = {}
        for name, token in config.items():
            if name.endswith("_token"):
                token = token.get("content") if isinstance(token, Mapping) else token
                if isinstance(token, str):
                    special[name] = token
        return cls(read or found, special)

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        **settings: Any,
    ) -> str:
        """The chat as text. As `apply_chat_template(..., tokenize=False)` of transformers.

        add_generation_prompt: end with what begins an answer. tools: functions, as the OpenAI API
        describes them. template: another one, or the name of one. settings: what else the template
        reads, such as enable_thinking. Raises `RequestError`.
        """
        _check(messages)
        source = self._chosen(template, tools)
        try:
            if source not in self._compiled:
                self._compiled[source] = _environment().from_string(source)
            return self._compiled[source].render(
                messages=_plain(messages),
                tools=None if tools is None else _plain(tools),
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.special | settings,
            )
        except Exception as error:  # a template may fail in any way
            raise RequestError(
                f"the chat template refuses these messages: {error}",
                "each model was trained on chats of one form, and its template holds to that",
                "roles in the order that the model knows, often user and assistant by turns",
            ) from None

    def _chosen(self, wanted: str | None, tools: Any) -> str:
        if wanted is None:
            wanted = "tool_use" if tools and "tool_use" in self.templates else "default"
        elif wanted not in self.templates:
            return wanted  # a template itself
        if wanted not in self.templates:
            raise RequestError(
                "this checkpoint has no chat template",
                "it was not trained on chats, or the file that says how they are written is "
                "missing, and a guess would be another model",
                "generate with a prompt, or chat(..., chat_template=...) with the one of its card",
            )
        return self.templates[wanted]


def chat_prompts(tokenizer: Any, messages: Any, **settings: Any) -> list[list[int]]:
    """Ids of one chat, or of each of several. tokenizer: a `FileTokenizer`, or another with
    `encode_chat`. Raises `RequestError`, with the number of the chat where there are several.
    """
    if not hasattr(tokenizer, "encode_chat"):
        raise RequestError(
            "a chat, and an engine whose tokenizer writes none",
            "turns are marked by the special tokens of one model",
            "an engine from a folder with tokenizer.json and its chat template",
        )
    one = not isinstance(messages, Sequence) or not messages or isinstance(messages[0], Mapping)
    if one:
        return [tokenizer.encode_chat(messages, **settings)]
    found = []
    for number, chat in enumerate(messages):
        try:
            found.append(tokenizer.encode_chat(chat, **settings))
        except RequestError as error:
            error.belongs_to(f"chat {number}")
            raise
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LoadError(
            f"{file.name} cannot be read: {error}",
            "it is the chat template, a text in UTF-8",
            "the file as it was saved",
        ) from None


def _check(messages: Any) -> None:
    right = isinstance(messages, Sequence) and not isinstance(messages, (str, bytes))
    wrong = [m for m in messages if not isinstance(m, Mapping) or "role" not in m] if right else []
    if not right or not messages or wrong:
        raise RequestError(
            f"the messages are {messages!r:.200}"
            if not wrong
            else f"a message is {wrong[0]!r:.200}",
            "a chat is a list of turns, each with who speaks and what is said",
            '[{"role": "user", "content": "Hello"}]',
        )


def _plain(value: Any) -> Any:
    """A copy in dicts, lists and scalars: what a template changes is not the caller's."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


# --- what a template can use ----------------------------------------------------------------------


class _Generation(jinja2.ext.Extension):
    """{% generation %}: marks what an assistant said, for training. Here its text alone counts."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return made


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is. Jinja's own filter writes <, > and & for a web page."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
