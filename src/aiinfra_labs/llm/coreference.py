"""Sentences in which 它 (it) means one of the nouns, and what follows says which. Unit 1.3.

苹果 在 桌子 旁边 ， 它 很 甜 。   an apple is sweet, a table is not: 它 is 苹果
苹果 在 桌子 旁边 ， 它 很 结实 。 a table is solid, an apple is not: 它 is 桌子

Tokens are words. The first noun is meant as often as the second, and so is the nearer one: only
the adjective tells. Some pairs of nouns are held out, and so is the talk's own sentence.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from aiinfra_labs import bounds

IT = "它"
PAD = "□"
TALK = ("我", "喜欢", "吃", "苹果", "，", "它", "很", "甜", "。")
TALK_ENGLISH = ("I", "like", "eat", "apple", ",", "it", "very", "sweet", ".")  # word for word

# What may be said of which nouns. An adjective that fits both nouns of a sentence is not used. This
# table is all that decides: in the world a kitten may be 贵 (expensive), too; here it never is.
KINDS = {
    "fruit": (("苹果", "西瓜", "葡萄", "香蕉"), ("甜", "酸", "新鲜", "重")),
    "furniture": (("桌子", "椅子", "柜子", "书架"), ("结实", "旧", "平", "重", "宽")),
    "animal": (("小猫", "小狗", "兔子", "小鸟"), ("可爱", "饿", "困", "快")),
    "vehicle": (("汽车", "火车", "卡车", "自行车"), ("快", "贵", "重", "旧")),
    "clothing": (("衣服", "帽子", "毛衣", "鞋子"), ("暖和", "合身", "旧", "贵")),
}
FITS = {noun: frozenset(says) for nouns, says in KINDS.values() for noun in nouns}
NOUNS = tuple(FITS)
ADJECTIVES = tuple(sorted({word for says in FITS.values() for word in says}))

# A and B are the nouns, X is the adjective. In the last two, 它 comes before its noun.
PAIRS = (
    "A 在 B 旁边 ， 它 很 X 。",
    "A 和 B 都 在 那里 ， 它 很 X 。",
    "我 用 A 换 了 B ， 因为 它 很 X 。",
    "我 看见 A ， 没有 看见 B ， 但是 它 很 X 。",
    "我 买 了 A ， 也 买 了 B ， 它 很 X 。",
    "因为 它 很 X ， 我 用 A 换 了 B 。",
    "虽然 它 很 X ， A 还 在 B 旁边 。",
)
SINGLES = (
    "我 喜欢 吃 A ， 它 很 X 。",
    "我 看见 A ， 它 很 X 。",
    "我 喜欢 A ， 因为 它 很 X 。",
    "因为 它 很 X ， 我 买 了 A 。",
)
# Adjectives that are said of somebody else, before and after.
BEFORE = ("", "", "今天 很 冷 ， ", "我 很 饿 ， ", "他 很 快 ， ", "路 很 平 ， ")
AFTER = ("", "", "", " 我 很 困 。", " 他 很 可爱 。")


@dataclass(frozen=True)
class Sentence:
    """Words, where 它 stands, where its noun stands, and where the other noun, if there is one."""

    words: tuple[str, ...]
    it: int
    referent: int
    other: int | None = None

    @property
    def noun(self) -> str:
        """What 它 means."""
        return self.words[self.referent]

    def __str__(self) -> str:
        return "".join(self.words)


def held_out(a: str, b: str) -> bool:
    """Whether a pair of nouns, in either order, is kept for the test: every fourth is."""
    places = sorted((NOUNS.index(a), NOUNS.index(b)))
    return (5 * places[0] + 3 * places[1]) % 4 == 0


def pairs(test: bool) -> list[tuple[str, str]]:
    """The pairs of nouns of the training sentences, or of the test's: in both orders, each with an
    adjective that tells the first from the second."""
    found = [(a, b) for a, b in combinations(NOUNS, 2) if held_out(a, b) == test]
    found += [(b, a) for a, b in found]
    return [(a, b) for a, b in found if FITS[a] - FITS[b] and FITS[b] - FITS[a]]


def fill(template: str, a: str, x: str, b: str = "") -> Sentence:
    """A template with its nouns and adjective; a template with one noun has no b."""
    slots = template.split()
    words = tuple({"A": a, "B": b, "X": x}.get(slot, slot) for slot in slots)
    first, second = slots.index("A"), slots.index("B") if "B" in slots else None
    if second is None or x in FITS[a]:
        return Sentence(words, words.index(IT), first, second)
    return Sentence(words, words.index(IT), second, first)


def sentences(seed: int, test: bool = False) -> Iterator[Sentence]:
    """Without end. One training sentence in five has a single noun; none says that I like to eat
    apples and that they are sweet. The test's have two nouns, of pairs that are held out."""
    bounds.whole("seed", seed, "sentences are drawn from it", 0)
    rng = random.Random(seed)
    chosen = pairs(test)
    while True:
        before, after = rng.choice(BEFORE), rng.choice(AFTER)
        if not test and rng.random() < 0.2:
            shape = rng.choice(SINGLES)
            a = rng.choice(KINDS["fruit"][0] if "吃" in shape else NOUNS)
            x = rng.choice(sorted(FITS[a]))
            if (shape, a, x) != (SINGLES[0], "苹果", "甜"):  # the talk's
                yield fill(before + shape + after, a, x)
            continue
        a, b = rng.choice(chosen)
        # Toss for whose adjective it is: so neither order nor nearness tells.
        says = FITS[a] - FITS[b] if rng.random() < 0.5 else FITS[b] - FITS[a]
        yield fill(before + rng.choice(PAIRS) + after, a, rng.choice(sorted(says)), b)


def talk_sentence() -> Sentence:
    """我喜欢吃苹果，它很甜。 The full stop is ours: every training sentence ends with one."""
    return Sentence(TALK, TALK.index(IT), TALK.index("苹果"))


def vocabulary() -> list[str]:
    """All words of all sentences; the padding's is the first."""
    shapes = " ".join((*PAIRS, *SINGLES, *BEFORE, *AFTER))
    words = {*shapes.split(), *NOUNS, *ADJECTIVES} - {"A", "B", "X"}
    return [PAD, *sorted(words)]
