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
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import regex

# GPT-2's: contractions, a space with letters, with digits, with signs; runs of white space.
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

Pair = tuple[int, int]


class TokenizerError(ValueError):
    """A tokenizer that cannot do what it was asked, in three parts: what, why, what to try."""

    def __init__(self, what: str, why: str, try_: str):
        super().__init__(f"{what}\nWhy: {why}\nTry: {try_}")


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
    each merge, in the order in which they were learned.
    """

    def __init__(self, merges: Iterable[tuple[str, str]], special: Iterable[str] = ()):
        self.special = {token: i for i, token in enumerate(special)}
        characters = byte_characters()
        alphabet = sorted(characters)
        self.vocabulary: dict[str, int] = dict(self.special)
        for character in alphabet:
            self.vocabulary[character] = len(self.vocabulary)
        self.merges = [tuple(merge) for merge in merges]
        self.ranks: dict[Pair, int] = {}  # pair of ids -> place in the list of merges
        self._merged: dict[Pair, int] = {}  # pair of ids -> id
        for rank, (left, right) in enumerate(self.merges):
            token = left + right
            if token not in self.vocabulary:
                self.vocabulary[token] = len(self.vocabulary)
            pair = self.vocabulary[left], self.vocabulary[right]
            self.ranks[pair], self._merged[pair] = rank, self.vocabulary[token]
        self._byte_ids = [self.vocabulary[c] for c in characters]
        self._byte_of = {c: b for b, c in enumerate(characters)}
        self.tokens = {i: token for token, i in self.vocabulary.items()}
        longest_first = sorted(self.special, key=len, reverse=True)
        self._specials = regex.compile("|".join(map(regex.escape, longest_first)) or r"(?!)")
        self._word_ids: dict[str, list[int]] = {}  # words met before: text repeats itself

    def __len__(self) -> int:
        return len(self.vocabulary)

    # --- text to ids ------------------------------------------------------------------------------

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of a text. special: whether "<|end|>" in it is that token, or seven characters.

        Text that a user typed should be encoded with special=False: else it can end a turn.
        """
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
        for word in WORDS.findall(text):
            if word not in self._word_ids:
                self._word_ids[word] = self._merge([self._byte_ids[b] for b in word.encode()])
            yield from self._word_ids[word]

    def _merge(self, ids: list[int]) -> list[int]:
        """The pair that was learned first is merged first, until no pair was learned."""
        while len(ids) > 1:
            pairs = set(zip(ids, ids[1:], strict=False))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            ids = merge_pair(ids, best, self._merged[best])
        return ids

    # --- ids to text ------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Bytes that are no whole character show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        out = bytearray()
        for i in map(int, ids):
            token = self.tokens.get(i)
            if token is None:
                raise TokenizerError(
                    f"there is no token {i}",
                    f"this vocabulary has ids 0 to {len(self) - 1}",
                    "decode with the tokenizer that the ids were made with",
                )
            if token in self.special:
                out += token.encode()
            else:
                out += bytes(self._byte_of[character] for character in token)
        return bytes(out)

    # --- files ------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """As JSON: {"special": [...], "merges": ["Ġ t", ...]}."""
        merges = [" ".join(merge) for merge in self.merges]
        text = json.dumps({"special": list(self.special), "merges": merges}, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """A tokenizer that `save` wrote. Raises `TokenizerError` for a file that is none."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            merges = [tuple(merge.split(" ")) for merge in found["merges"]]
            return cls(merges, found["special"])
        except (ValueError, KeyError, TypeError) as error:
            raise TokenizerError(
                f"{path.name} holds no tokenizer: {type(error).__name__}: {error}",
                "a tokenizer is a JSON file with special tokens and merges",
                "train one and save it with Tokenizer.save",
            ) from None


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
    special = list(special)
    if vocabulary_size < 256 + len(special):
        raise TokenizerError(
            f"a vocabulary of {vocabulary_size}",
            f"256 bytes and {len(special)} special tokens are in it from the start",
            f"a vocabulary_size of {256 + len(special)} or more",
        )
    counts = Counter(word for text in texts for word in WORDS.findall(text))
    if not counts:
        raise TokenizerError(
            "there is no text to learn from",
            "merges are counted in words, and there is none",
            "give at least one text that is not empty",
        )
    start = Tokenizer([], special)
    names = dict(start.tokens)  # id -> token
    ids_of = dict(start.vocabulary)
    words = [[start._byte_ids[b] for b in word.encode()] for word in counts]
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
        pair_counts[pair] = 0
        for made in changed:
            heapq.heappush(queue, (-pair_counts[made], made))
    return Tokenizer(merges, special)
