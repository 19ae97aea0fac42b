"""A chat template: from messages to one row of ids, in which no text can pass for a turn. Unit 1.1.

A model reads one row of tokens. Who speaks is marked by special tokens, which the training text
has and which no user can type:

    <|system|>Be brief.<|end|><|user|>Hello<|end|><|assistant|>

`render` gives that as text, and so does `TEMPLATE` in Jinja, as `transformers` keeps it. `encode`
gives it as ids, and puts the special tokens in by their ids: a content is encoded by itself, as
ordinary text, whatever it spells. For contents that spell no special token, both ways agree.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence

from aiinfra_labs import bounds

from .bpe import Tokenizer

END, SYSTEM, USER, ASSISTANT = "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

Message = Mapping[str, str]  # {"role": "user", "content": "Hello"}, as the OpenAI API has it


class ChatError(bounds.SettingError):
    """Messages that make no prompt, in three parts: what, why, what to try."""


def render(messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
    """The prompt as text: to read, and to see what goes wrong when it is encoded as a whole.

    Raises `ChatError` for no message, an unknown role, or a content that is no text.
    """
    turns = (f"{ROLES[role]}{content}{END}" for role, content in _checked(messages))
    return "".join(turns) + (ASSISTANT if add_generation_prompt else "")


def encode(
    tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = True
) -> list[int]:
    """The prompt as ids. add_generation_prompt: end with <|assistant|>, for the model to answer.

    Raises `ChatError` for no message, an unknown role, a content that is no text, or a tokenizer
    without the special tokens.
    """
    special = _specials(tokenizer)
    ids: list[int] = []
    for role, content in _checked(messages):
        ids += [special[ROLES[role]], *tokenizer.encode(content, special=False), special[END]]
    return ids + [special[ASSISTANT]] if add_generation_prompt else ids


def turns(tokenizer: Tokenizer, ids: Iterable[int]) -> list[tuple[str, str]]:
    """What a model sees in a row of ids: (role, content) of each turn, also of the open last one.

    Ids before the first role are a turn of the role "". It is the other direction of `encode`.
    Raises `ChatError` for a tokenizer without the special tokens, or for what is no row of ids.
    """
    _specials(tokenizer)
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise ChatError(
            f"{type(ids).__name__} was given where a row of ids was expected",
            "turns are marked by special tokens, which only ids can tell from text",
            "chat.encode(tokenizer, messages), or tokenizer.encode(text)",
        )
    names = {tokenizer.special[name]: role for role, name in ROLES.items()}
    end = tokenizer.special[END]
    found: list[tuple[str, list[int]]] = []
    open_turn = False
    for i in map(operator.index, ids):
        if i in names:
            found.append((names[i], []))
            open_turn = True
        elif i == end:
            open_turn = False
        else:
            if not open_turn:
                found.append(("", []))
                open_turn = True
            found[-1][1].append(i)
    return [(role, tokenizer.decode(content)) for role, content in found]


def _specials(tokenizer: Tokenizer) -> dict[str, int]:
    special = tokenizer.special
    if missing := [name for name in (END, *ROLES.values()) if name not in special]:
        raise ChatError(
            f"the tokenizer has no {missing[0]}",
            "the template marks turns with special tokens",
            "train it with special=(END, SYSTEM, USER, ASSISTANT)",
        )
    return special


def _checked(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """(role, content) of each message."""
    if isinstance(messages, (str, bytes, Mapping)) or not messages:
        raise ChatError(
            f"a conversation of {len(messages)} messages"
            if not messages
            else f"{type(messages).__name__} was given where a list of messages was expected",
            "a prompt is made of at least one message",
            '[{"role": "user", "content": "Hello"}]',
        )
    pairs = []
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if role not in ROLES:
            raise ChatError(
                f"message {number} has the role {role!r}",
                "each role has a special token that the model was trained with",
                f"one of {', '.join(ROLES)}",
            )
        if not isinstance(content, str):
            raise ChatError(
                f"message {number} has the content {content!r:.60}",
                "the template joins texts",
                "a str; of a list of parts, the text parts joined",
            )
        pairs.append((role, content))
    return pairs
