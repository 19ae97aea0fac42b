"""Byte-level byte-pair encoding: from text to token ids and back. Unit 1.1.

Text is cut into words by GPT-2's pattern, each word becomes its UTF-8 bytes, and the most frequent
pair of neighbours becomes a new token, again and again (Sennrich et al., arXiv:1508.07909; Radford
et al., "Language Models are Unsupervised Multitask Learners", section 2.2). There is no unknown
character: whatever was never merged stays as bytes. Trained on the same text, it has the merges
and the ids of Hugging Face's `tokenizers` (`ByteLevel` and `BpeTrainer`).
"""

from __future__ import annotations

import functools
import heapq
import json
import operator
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import regex

from aiinfra_labs import bounds

from .words import WORDS, words_of

Pair = tuple[int, int]
__all__ = ["WORDS", "Tokenizer", "TokenizerError", "byte_characters", "merge_pair", "train"]
WORDS_KEPT, WORD_KEPT = 50_000, 64  # words that a tokenizer keeps, and characters of the longest
GONE = -1  # the right half of a merged pair


class TokenizerError(bounds.SettingError):
    """A tokenizer that cannot do what it was asked, in three parts: what, why, what to try."""


@functools.cache
def byte_characters() -> tuple[str, ...]:
    """A printable character for each byte 0 to 255, as GPT-2's vocabulary writes them.

    The 188 printable bytes of Latin-1 stand for themselves; the others become the characters from
    U+0100 on, in order: a space is "Ġ", a line feed "Ċ".
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return tuple(chr(b) if b in printable else chr(next(others)) for b in range(256))


class Tokenizer:
    """Merges, and the ids that follow from them.

    Ids: first the special tokens, then the 256 bytes in the order of their characters, then one for
    each merge, in the order in which they were learned. Raises `TokenizerError` for special tokens
    that text could be mistaken for, and for merges of what is no token.
    """

    def __init__(self, merges: Iterable[tuple[str, str]], special: Iterable[str] = ()):
        characters = byte_characters()
        self.special = {token: i for i, token in enumerate(_checked(special))}
        self.vocabulary: dict[str, int] = dict(self.special)
        for character in sorted(characters):
            self.vocabulary[character] = len(self.vocabulary)
        self.merges = [tuple(merge) for merge in merges]
        self.ranks: dict[Pair, int] = {}  # pair of ids -> place in the list of merges
        self._merged: dict[Pair, int] = {}  # pair of ids -> id
        for rank, merge in enumerate(self.merges):
            pair, token = self._pair(rank, merge)
            if token not in self.vocabulary:
                self.vocabulary[token] = len(self.vocabulary)
            self.ranks[pair], self._merged[pair] = rank, self.vocabulary[token]
        self._byte_ids = [self.vocabulary[c] for c in characters]
        self.tokens = {i: token for token, i in self.vocabulary.items()}
        byte_of = {c: b for b, c in enumerate(characters)}
        self._bytes = [
            token.encode() if token in self.special else bytes(byte_of[c] for c in token)
            for token in self.vocabulary
        ]
        longest_first = sorted(self.special, key=len, reverse=True)
        self._specials = regex.compile("|".join(map(regex.escape, longest_first)) or r"(?!)")
        self._word_ids: dict[str, list[int]] = {}  # words met before: text repeats itself

    def __len__(self) -> int:
        return len(self.vocabulary)

    def _pair(self, rank: int, merge: tuple[str, ...]) -> tuple[Pair, str]:
        """A merge as ids, and the token that it makes."""
        ids = [self.vocabulary.get(part) for part in merge]
        token = "".join(map(str, merge))
        if len(ids) != 2 or None in ids or token in self.special or set(merge) & set(self.special):
            raise TokenizerError(
                f"merge {rank} is {' + '.join(map(repr, merge))}",
                "a merge joins two tokens that are there before it, and neither is a special one",
                "the merges of one training run, in their order",
            )
        return (ids[0], ids[1]), token

    # --- text to ids ------------------------------------------------------------------------------

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of a text. special: whether "<|end|>" in it is that token, or seven characters.

        Text that a user typed should be encoded with special=False: else it can end a turn. Raises
        `TokenizerError` for half a surrogate pair, which is no character and has no bytes.
        """
        if not isinstance(text, str):
            raise TokenizerError(
                f"{type(text).__name__} was given to encode, and it takes str",
                "text is cut into words before it becomes bytes",
                'decode bytes first: data.decode("utf-8")',
            )
        if not special or not self.special:
            return list(self._ordinary(text))
        ids: list[int] = []
        end = 0
        for found in self._specials.finditer(text):
            ids.extend(self._ordinary(text[end : found.start()]))
            ids.append(self.special[found[0]])
            end = found.end()
        ids.extend(self._ordinary(text[end:]))
        return ids

    def _ordinary(self, text: str) -> Iterator[int]:
        for word in words_of(text):
            ids = self._word_ids.get(word)
            if ids is None:
                ids = self._merge([self._byte_ids[b] for b in _utf8(word)])
                if len(self._word_ids) < WORDS_KEPT and len(word) <= WORD_KEPT:
                    self._word_ids[word] = ids
            yield from ids

    def _merge(self, ids: list[int]) -> list[int]:
        """Merge the pair that was learned first, of several the leftmost, until none was learned.

        The pairs wait in a queue by rank, so that a word of n bytes takes n log n steps: a line of
        base64 is one word, and looking through it anew for each merge would take n^2.
        """
        count = len(ids)
        before, after = list(range(-1, count - 1)), list(range(1, count + 1))
        queue: list[tuple[int, int, Pair]] = []  # (rank, where its left half is, pair)

        def offer(left: int) -> None:
            if left >= 0 and after[left] < count:
                pair = ids[left], ids[after[left]]
                if pair in self.ranks:
                    heapq.heappush(queue, (self.ranks[pair], left, pair))

        for left in range(count):
            offer(left)
        while queue:
            _, left, pair = heapq.heappop(queue)
            right = after[left]
            if right == count or (ids[left], ids[right]) != pair:
                continue  # one of the two has gone into another token since
            ids[left], ids[right] = self._merged[pair], GONE
            after[left] = after[right]
            if after[left] < count:
                before[after[left]] = left
            offer(before[left])
            offer(left)
        return [i for i in ids if i != GONE]

    # --- ids to text ------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Bytes that are no whole character show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, which may end within a character. Raises `TokenizerError`."""
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
            raise TokenizerError(
                f"{type(ids).__name__} was given to decode, and it takes ids",
                "each token has a number, and its bytes are looked up by it",
                "decode(encode(text)); for one id, decode([id])",
            )
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token; a special one's are its name. Raises `TokenizerError`."""
        try:
            place = -1 if isinstance(id, bool) else operator.index(id)  # a mask is no row of ids
        except TypeError:
            place = -1
        if not 0 <= place < len(self._bytes):
            raise TokenizerError(
                f"there is no token {id}",
                f"this vocabulary has ids 0 to {len(self) - 1}",
                "decode with the tokenizer that the ids were made with",
            )
        return self._bytes[place]

    # --- files ------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """As JSON: {"special": [...], "merges": ["Ġ t", ...]}. The file is whole, or as it was."""
        path = bounds.path("path", path, TokenizerError)
        merges = [" ".join(merge) for merge in self.merges]
        text = json.dumps({"special": list(self.special), "merges": merges}, ensure_ascii=False)
        beside = path.with_name(path.name + ".part")
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, path)

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """A tokenizer that `save` wrote. Raises `TokenizerError` for a file that is none."""
        path = bounds.path("path", path, TokenizerError)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            merges = [tuple(merge.split(" ")) for merge in found["merges"]]
            return cls(merges, found["special"])
        except FileNotFoundError:
            raise TokenizerError(
                f"there is no {path.name}",
                "nothing was saved there",
                "train a tokenizer and save it with Tokenizer.save",
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TokenizerError(
                f"{path.name} holds no tokenizer: {type(error).__name__}: {_first_line(error)}",
                "a tokenizer is a JSON file with special tokens and merges",
                "train one and save it with Tokenizer.save",
            ) from None


def _checked(special: Iterable[str]) -> list[str]:
    """The special tokens, each of which text must not be able to spell by merges."""
    names = [special] if isinstance(special, str) else list(special)
    for name in names:
        if not isinstance(name, str) or not name or names.count(name) > 1:
            raise TokenizerError(
                f"the special tokens {names!r}",
                "each is a text of its own, once: its id is its place in the list",
                'names such as "<|end|>"',
            )
        if len(words_of(name)) == 1:
            raise TokenizerError(
                f"the special token {name!r} is one word",
                "text may hold that word, and merges that make it would give it the special id",
                f'signs and letters, which no merge joins: "<|{name.strip("<|>") or "end"}|>"',
            )
    return names


def _utf8(word: str) -> bytes:
    try:
        return word.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text holds U+{ord(word[error.start]):04X}, half of a surrogate pair",
            "it is no character, and UTF-8 has no bytes for it",
            'text.encode("utf-16", "surrogatepass").decode("utf-16") joins whole pairs',
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def merge_pair(ids: list[int], pair: Pair, new: int) -> list[int]:
    """`ids` with each occurrence of the pair, from the left, replaced by one id."""
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def train(texts: Iterable[str], vocabulary_size: int, special: Iterable[str] = ()) -> Tokenizer:
    """Learn merges until the vocabulary has `vocabulary_size` tokens, or no pair occurs.

    Words are counted once, and each merge touches only the words that hold the pair. The most
    frequent pair is next; of equally frequent ones, that of the smaller ids. Raises
    `TokenizerError` for texts without a character, or a size that the bytes alone exceed.
    """
    special = _checked(special)
    if isinstance(texts, str):
        raise TokenizerError(
            "one text was given where a list of texts was expected",
            "a str is a row of characters, and no pair is counted across two texts",
            "train([text], ...)",
        )
    texts = bounds.texts("texts", texts, TokenizerError)
    why = "ids are counted from 0 to one below it"
    bounds.whole("vocabulary_size", vocabulary_size, why, 0, error=TokenizerError)
    if vocabulary_size < 256 + len(special):
        raise TokenizerError(
            f"a vocabulary of {vocabulary_size}",
            f"256 bytes and {len(special)} special tokens are in it from the start",
            f"a vocabulary_size of {256 + len(special)} or more",
        )
    counts = Counter(word for text in texts for word in words_of(text))
    if not counts:
        raise TokenizerError(
            "there is no text to learn from",
            "merges are counted in words, and there is none",
            "give at least one text that is not empty",
        )
    start = Tokenizer([], special)
    names = dict(start.tokens)  # id -> token
    ids_of = dict(start.vocabulary)
    words = [[start._byte_ids[b] for b in _utf8(word)] for word in counts]
    often = list(counts.values())
    pair_counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> the words that may hold it
    for number, word in enumerate(words):
        for pair in zip(word, word[1:], strict=False):
            pair_counts[pair] += often[number]
            where[pair].add(number)
    queue = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(queue)
    merges: list[tuple[str, str]] = []
    while len(names) < vocabulary_size and queue:
        negative, pair = heapq.heappop(queue)
        count = pair_counts[pair]
        if count != -negative:  # it has changed since it was put there
            if count > 0:
                heapq.heappush(queue, (-count, pair))
            continue
        left, right = names[pair[0]], names[pair[1]]
        new = ids_of.setdefault(left + right, len(names))
        names[new] = left + right
        merges.append((left, right))
        changed: set[Pair] = set()
        for number in where.pop(pair):
            before = words[number]
            after = words[number] = merge_pair(before, pair, new)
            if len(after) == len(before):
                continue
            for old in zip(before, before[1:], strict=False):
                pair_counts[old] -= often[number]
            for made in zip(after, after[1:], strict=False):
                pair_counts[made] += often[number]
                if made[0] == new or made[1] == new:
                    where[made].add(number)
                    changed.add(made)
        for made in changed:
            heapq.heappush(queue, (-pair_counts[made], made))
    return Tokenizer(merges, special)
