"""Answers to the exercises of unit 1.1: right ones that differ, and common mistakes."""

from __future__ import annotations

import codecs
from collections import Counter

from planting import plot

RIGHT, WRONG, right, wrong = plot()


# --- 1.1.a the next merge ----------------------------------------------------------------------


@right("1.1.a")
def by_counter(words):
    counts = Counter()
    for word, often in words.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += often
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)


@right("1.1.a")
def by_sorting(words):
    counts = {}
    for word, often in words.items():
        for i in range(len(word) - 1):
            counts[word[i : i + 2]] = counts.get(word[i : i + 2], 0) + often
    if not counts:
        return None
    most = max(counts.values())
    return sorted(pair for pair, count in counts.items() if count == most)[0]


@wrong("1.1.a", "(3, 4) occurs 5 times")
def each_word_once(words):
    counts = Counter(pair for word in words for pair in zip(word, word[1:], strict=False))
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)


@wrong("1.1.a", "of equally frequent pairs the smaller one is taken")
def the_first_that_was_seen(words):
    counts = Counter()
    for word, often in words.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += often
    return max(counts, key=counts.get) if counts else None


@wrong("1.1.a", "of equally frequent pairs the smaller one is taken")
def the_larger_pair(words):
    counts = Counter()
    for word, often in words.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += often
    return max(counts, key=lambda pair: (counts[pair], pair), default=None)


@wrong("1.1.a", "no word has two tokens, so there is no pair")
def across_words(words):
    row = [token for word, often in words.items() for token in word * often]
    counts = Counter(zip(row, row[1:], strict=False))
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)


@wrong("1.1.a", "ValueError")
def without_an_end(words):
    counts = Counter()
    for word, often in words.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += often
    return min(counts, key=lambda pair: (-counts[pair], pair))


@wrong("1.1.a", "(1, 2) occurs 1 time;")
def a_pair_once_a_word(words):
    counts = Counter()
    for word, often in words.items():
        for pair in set(zip(word, word[1:], strict=False)):
            counts[pair] += often
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)


@wrong("1.1.a", "each a tuple of two ids")
def the_count(words):
    counts = Counter()
    for word, often in words.items():
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += often
    return max(counts.values(), default=None)


@wrong("1.1.a", "words, which was given to your function, has changed")
def using_up_the_words(words):
    counts = Counter()
    while words:
        word, often = words.popitem()
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += often
    return min(counts, key=lambda pair: (-counts[pair], pair), default=None)


@wrong("1.1.a", "the pair holds 1.0, a float")
def a_pair_of_floats(words):
    best = by_counter(words)
    return best and tuple(map(float, best))


# --- 1.1.b encode a word -----------------------------------------------------------------------


def merged(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


@right("1.1.b")
def by_rank(ids, merges):
    rank = {pair: k for k, pair in enumerate(merges)}
    while len(ids) > 1:
        best = min(zip(ids, ids[1:], strict=False), key=lambda p: rank.get(p, len(rank)))
        if best not in rank:
            break
        ids = merged(ids, best, 256 + rank[best])
    return list(ids)


@right("1.1.b")
def merge_after_merge(ids, merges):
    """As they were learned, one after another: slower, and the same."""
    for k, pair in enumerate(merges):
        ids = merged(ids, pair, 256 + k)
    return list(ids)


@right("1.1.b")
def one_at_a_time(ids, merges):
    ids, rank = list(ids), {pair: k for k, pair in enumerate(merges)}
    while True:
        found = [(rank[p], i) for i, p in enumerate(zip(ids, ids[1:], strict=False)) if p in rank]
        if not found:
            return ids
        k, i = min(found)
        ids[i : i + 2] = [256 + k]


@wrong("1.1.b", "(98, 99) was learned first")
def from_left_to_right(ids, merges):
    rank, ids, i = {pair: k for k, pair in enumerate(merges)}, list(ids), 0
    while i + 1 < len(ids):
        if (ids[i], ids[i + 1]) in rank:
            ids[i : i + 2] = [256 + rank[ids[i], ids[i + 1]]]
            i = max(i - 1, 0)
        else:
            i += 1
    return ids


@wrong("1.1.b", "result has 2 elements, expected 1")
def only_once(ids, merges):
    rank = {pair: k for k, pair in enumerate(merges)}
    found = [p for p in zip(ids, ids[1:], strict=False) if p in rank]
    if not found:
        return list(ids)
    best = min(found, key=rank.get)
    return merged(ids, best, 256 + rank[best])


@wrong("1.1.b", "(98, 99) was learned first")
def the_last_learned_first(ids, merges):
    rank = {pair: k for k, pair in enumerate(merges)}
    while found := [p for p in zip(ids, ids[1:], strict=False) if p in rank]:
        best = max(found, key=rank.get)
        ids = merged(ids, best, 256 + rank[best])
    return list(ids)


@wrong("1.1.b", "ids, which was given to your function, has changed")
def in_place(ids, merges):
    rank = {pair: k for k, pair in enumerate(merges)}
    while found := [
        (rank[p], i) for i, p in enumerate(zip(ids, ids[1:], strict=False)) if p in rank
    ]:
        k, i = min(found)
        ids[i : i + 2] = [256 + k]
    return ids


@wrong("1.1.b", "[1, 1, 1]")
def the_last_pair_first(ids, merges):
    ids, rank = list(ids), {pair: k for k, pair in enumerate(merges)}
    while True:
        found = [(rank[p], -i) for i, p in enumerate(zip(ids, ids[1:], strict=False)) if p in rank]
        if not found:
            return ids
        k, i = min(found)
        ids[-i : -i + 2] = [256 + k]


@wrong("1.1.b", "ValueError")
def without_stopping(ids, merges):
    while len(ids) > 1:
        k = min(merges.index(p) for p in zip(ids, ids[1:], strict=False))
        ids = merged(ids, merges[k], 256 + k)
    return list(ids)


# --- 1.1.c text while it is generated ----------------------------------------------------------


@right("1.1.c")
def by_codec(pieces):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


@right("1.1.c")
def by_first_bytes(pieces):
    held = b""
    for piece in pieces:
        held += piece
        keep = 0
        for back in range(1, min(4, len(held) + 1)):
            byte = held[-back]
            if byte >= 0xC0:
                length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                keep = back if back < length and byte < 0xF5 else 0
                break
            if byte < 0x80:
                break
        whole, held = held[: len(held) - keep], held[len(held) - keep :]
        yield whole.decode("utf-8", errors="replace")
    yield held.decode("utf-8", errors="replace")


@right("1.1.c")
def by_error(pieces):
    held = b""
    for piece in pieces:
        held += piece
        text = ""
        while held:
            try:
                text, held = text + held.decode(), b""
            except UnicodeDecodeError as error:
                text += held[: error.start].decode()
                if error.reason == "unexpected end of data":
                    held = held[error.start :]
                    break
                text, held = text + "\ufffd", held[error.end :]
        yield text
    yield "\ufffd" if held else ""


@wrong("1.1.c", "before the rest of its last character was there")
def each_by_itself(pieces):
    for piece in pieces:
        yield piece.decode("utf-8", errors="replace")
    yield ""


@wrong("1.1.c", "bytes that are no character must show")
def ignoring(pieces):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


@wrong("1.1.c", "a reader sees nothing until it comes")
def all_at_the_end(pieces):
    texts = list(by_codec(pieces))
    yield from texts


@wrong("1.1.c", "expected a generator")
def one_text(pieces):
    return b"".join(pieces).decode("utf-8", errors="replace")


@wrong("1.1.c", "whoever reads it waits for one text with each token")
def only_what_is_not_empty(pieces):
    for text in by_codec(pieces):
        if text:
            yield text


@wrong("1.1.c", "UnicodeDecodeError")
def strict(pieces):
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


@wrong("1.1.c", "whoever reads it waits for one text with each token")
def without_the_end(pieces):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        yield decoder.decode(piece)


@wrong("1.1.c", "bytes that are no character must show")
def holding_what_is_broken(pieces):
    held = b""
    for piece in pieces:
        held += piece
        try:
            text, held = held.decode(), b""
        except UnicodeDecodeError:
            text = ""
        yield text
    yield ""


@wrong("1.1.c", "expected str only")
def in_bytes(pieces):
    yield from pieces
    yield b""


@wrong("1.1.c", "show a character with the piece that holds its last byte")
def one_piece_late(pieces):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    before = ""
    for piece in pieces:
        yield before
        before = decoder.decode(piece)
    yield before + decoder.decode(b"", final=True)


# --- 1.1.d a prompt that cannot be forged ------------------------------------------------------

ROLES = ("system", "user", "assistant")


@right("1.1.d")
def by_parts(messages, tokenizer):
    ids = []
    for message in messages:
        if message["role"] not in ROLES:
            raise ValueError(message["role"])
        ids.append(tokenizer.special[f"<|{message['role']}|>"])
        ids.extend(tokenizer.encode(message["content"], special=False))
        ids.append(tokenizer.special["<|end|>"])
    ids.append(tokenizer.special["<|assistant|>"])
    return ids


@right("1.1.d")
def by_a_table(messages, tokenizer):
    begin = {role: tokenizer.encode(f"<|{role}|>") for role in ROLES}
    end = tokenizer.encode("<|end|>")
    try:
        parts = [
            begin[m["role"]] + tokenizer.encode(m["content"], special=False) + end for m in messages
        ]
    except KeyError as error:
        raise ValueError(f"no role {error}") from None
    return tuple(sum(parts, []) + begin["assistant"])


def rendered(messages):
    turns = "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in messages)
    return turns + "<|assistant|>"


@wrong("1.1.d", "a turn begins and ends where its special token stands")
def the_text_as_a_whole(messages, tokenizer):
    if any(m["role"] not in ROLES for m in messages):
        raise ValueError("role")
    return tokenizer.encode(rendered(messages))


@wrong("1.1.d", "expected [('user', 'Hi'), ('assistant', '')]")
def all_of_it_ordinary(messages, tokenizer):
    return tokenizer.encode(rendered(messages), special=False)


@wrong("1.1.d", "the model should read what was written")
def removing_special_tokens(messages, tokenizer):
    clean = []
    for m in messages:
        content = m["content"]
        for name in tokenizer.special:
            content = content.replace(name, "")
        clean.append({"role": m["role"], "content": content})
    return by_parts(clean, tokenizer)


@wrong("1.1.d", "the turns ")
def without_the_assistants_turn(messages, tokenizer):
    return by_parts(messages, tokenizer)[:-1]


@wrong("1.1.d", "<|end|> and <|pad|> are tokens, and no roles")
def any_special_token_as_a_role(messages, tokenizer):
    ids = []
    for m in messages:
        if f"<|{m['role']}|>" not in tokenizer.special:
            raise ValueError(m["role"])
        ids.append(tokenizer.special[f"<|{m['role']}|>"])
        ids += tokenizer.encode(m["content"], special=False)
        ids.append(tokenizer.special["<|end|>"])
    return [*ids, tokenizer.special["<|assistant|>"]]


@wrong("1.1.d", "expected '<|user|>  a  <|end|><|assistant|>'")
def stripping_white_space(messages, tokenizer):
    stripped = [{"role": m["role"], "content": m["content"].strip()} for m in messages]
    return by_parts(stripped, tokenizer)


@wrong("1.1.d", "expected a list of ids")
def the_text_itself(messages, tokenizer):
    return rendered(messages)


@wrong("1.1.d", "the model sees the turns")
def roles_as_words(messages, tokenizer):
    ids = []
    for m in messages:
        ids += tokenizer.encode(m["role"] + ": " + m["content"], special=False)
        ids.append(tokenizer.special["<|end|>"])
    return [*ids, tokenizer.special["<|assistant|>"]]


@wrong("1.1.d", "encode each content by itself")
def byte_by_byte(messages, tokenizer):
    ids = []
    for m in messages:
        if m["role"] not in ROLES:
            raise ValueError(m["role"])
        ids.append(tokenizer.special[f"<|{m['role']}|>"])
        for character in m["content"]:
            ids += tokenizer.encode(character, special=False)
        ids.append(tokenizer.special["<|end|>"])
    return [*ids, tokenizer.special["<|assistant|>"]]


@wrong("1.1.b", "a float")
def ids_as_floats(ids, merges):
    return list(map(float, by_rank(ids, merges)))
