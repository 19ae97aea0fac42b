"""Byte-level BPE against Hugging Face's `tokenizers`: the same merges, the same ids, any text."""

from __future__ import annotations

import json
import random
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Theirs
from tokenizers import models, pre_tokenizers, trainers

from aiinfra_labs.llm import bpe
from aiinfra_labs.llm.bpe import Tokenizer, TokenizerError, train
from aiinfra_labs.llm.corpus import documents
from aiinfra_labs.llm.streaming import StreamDecoder, decode_stream
from aiinfra_labs.llm.words import WORDS, words_of

CHINESE = (
    "我喜欢吃苹果，它很甜。苹果是一种水果，很甜的水果。大模型把文本切成词元，词元再变成向量。"
    "我们喜欢大模型，也喜欢苹果。注意力机制的核心是查询、键和值。"
)
EMOJI = "😀 😀😃 👩‍👩‍👧‍👦 e\u0301 é ﷽ ½ ²³ ٣٤٥ \u200b\u00a0\u3000 naïve café"
SPACES = "  a\n\n\n  b\t\t c   \r\n d  "
SPECIAL = ("<|end|>", "<|user|>", "<|end|>x")


def theirs(texts, size, special=()):
    tokenizer = Theirs(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges_of(tokenizer):
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


@pytest.fixture(scope="module")
def texts():
    """English, code, Chinese, emoji and white space: about 300 kB."""
    found = [d.text for d in documents() if d.name.startswith(("help/a", "help/s", "json/", "ast"))]
    return [*found, CHINESE * 3, EMOJI * 3, SPACES * 3]


@pytest.fixture(scope="module")
def both(texts):
    return train(texts, 2500, SPECIAL), theirs(texts, 2500, SPECIAL)


@pytest.fixture(scope="module")
def mine(both):
    return both[0]


# --- equal to tokenizers --------------------------------------------------------------------------


def test_the_same_merges_and_vocabulary(both):
    ours, hf = both
    assert ours.merges == merges_of(hf)
    assert ours.vocabulary == hf.get_vocab() and len(ours) == 2500


def test_the_same_ids_for_what_it_learned_from(both, texts):
    ours, hf = both
    assert [ours.encode(text) for text in texts] == [hf.encode(text).ids for text in texts]


words = st.sampled_from(
    [*"ab 我它é😀'1½\n\t\u3000", "  ", "'s", "def f(x):", "return ", "苹果", "<|end|>", "<|end|>x"]
)
mixed = st.lists(st.one_of(words, st.text(max_size=8)), max_size=30).map("".join)


def known(text):
    """Without characters that Unicode has assigned since `tokenizers` was built, and unassigned."""
    return "".join(c for c in text if unicodedata.category(c) != "Cn")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=mixed)
def test_the_same_ids_for_any_text(both, text):
    ours, hf = both
    text = known(text)
    assert ours.encode(text) == hf.encode(text).ids
    hf.encode_special_tokens = True
    try:
        assert ours.encode(text, special=False) == hf.encode(text).ids
    finally:
        hf.encode_special_tokens = False


def test_every_character_is_cut_off_as_tokenizers_does():
    """All 1.1 million code points; those assigned since Unicode 14 may be letters to one of us."""
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assigned = (c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs"))
    characters = [c for c in assigned if c.isprintable() or c.isspace() or ord(c) < 0x300]
    newer = []
    for start in range(0, len(characters), 2000):
        block = characters[start : start + 2000]
        text = "".join(f"a{c}1 {c} {c}!" for c in block)
        if bpe.WORDS.findall(text) != [text[a:b] for _, (a, b) in pre.pre_tokenize_str(text)]:
            newer.append(block)
    assert len(characters) > 100_000
    if unicodedata.unidata_version <= "15":
        assert newer == []


def test_what_later_versions_of_unicode_call_a_letter_is_none_to_either():
    """Unassigned for this Python: some of it is a letter to one of the two libraries."""
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False)
    later = [c for c in map(chr, range(0x40000)) if unicodedata.category(c) == "Cn"]
    assert len(later) > 100_000
    for start in range(0, len(later), 5000):
        text = "".join(f"a{c}1 " for c in later[start : start + 5000])
        words = [text[a:b] for _, (a, b) in pre.pre_tokenize_str(text)]
        assert words_of(text) == words == WORDS.findall(text), f"from U+{ord(later[start]):04X}"


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_text_is_cut_by_the_faster_pattern_alike(text):
    assert words_of(text) == WORDS.findall(text)


def test_merges_over_newer_letters_are_those_of_tokenizers():
    texts = ["a\u088fb a\u088fb a\u088fb \ua7ceq"]  # letters since Unicode 17
    theirs = Theirs(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=262, show_progress=False, initial_alphabet=alphabet)
    theirs.train_from_iterator(texts, trainer)
    merges = json.loads(theirs.to_str())["model"]["merges"]
    assert bpe.train(texts, 262).merges == [tuple(merge) for merge in merges]


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.text("ab c我", min_size=1, max_size=80), min_size=1, max_size=4),
    size=st.integers(256, 300),
)
def test_the_same_merges_where_many_pairs_tie(texts, size):
    ours, hf = train(texts, size), theirs(texts, size)
    assert ours.merges == merges_of(hf)
    for text in texts:
        assert ours.encode(text) == hf.encode(text).ids


def test_the_same_ids_for_merges_that_make_a_token_in_two_ways():
    """Then a pair that was learned earlier may appear late, and is merged at once."""
    rng = random.Random(0)
    twice = 0
    for _ in range(600):
        tokens, merges = list("abc"), []
        for _ in range(rng.randint(1, 25)):
            merge = rng.choice(tokens), rng.choice(tokens)
            if merge not in merges and len("".join(merge)) < 7:
                twice += "".join(merge) in tokens
                tokens.append("".join(merge))
                merges.append(merge)
        ours = Tokenizer(merges)
        hf = Theirs(models.BPE(vocab=ours.vocabulary, merges=merges))
        hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        for _ in range(10):
            text = "".join(rng.choices("abc", k=rng.randint(1, 40)))
            assert ours.encode(text) == hf.encode(text).ids, (merges, text)
    assert twice > 50
    merges = [("b", "c"), ("a", "bc"), ("a", "b"), ("abc", "ab"), ("ab", "c")]
    assert [Tokenizer(merges).tokens[i] for i in Tokenizer(merges).encode("abab")] == ["ab", "ab"]


# --- there and back -------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_comes_back(mine, text):
    for special in (True, False):
        ids = mine.encode(text, special=special)
        assert mine.decode(ids) == text
        assert mine.decode_bytes(ids) == text.encode()
        assert all(0 <= i < len(mine) for i in ids)


@given(ids=st.lists(st.integers(0, 2499), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_ids_are_decoded_at_once_and_one_by_one(mine, ids):
    text = mine.decode(ids)
    decoder = StreamDecoder(mine)
    pieces = [decoder.feed(i) for i in ids]
    assert "".join(pieces) + decoder.finish() == text == "".join(decode_stream(mine, ids))


def test_a_stream_holds_back_half_a_character_and_no_more():
    tokenizer = Tokenizer([])
    decoder = StreamDecoder(tokenizer)
    pieces = [decoder.feed(i) for i in tokenizer.encode("a它b")]
    assert pieces == ["a", "", "", "它", "b"] and decoder.finish() == ""
    decoder = StreamDecoder(tokenizer)
    assert [decoder.feed(i) for i in tokenizer.encode("它")[:2]] == ["", ""]
    assert decoder.finish() == "\ufffd"
    asked = []

    def ids():
        for i in tokenizer.encode("ab"):
            asked.append(i)
            yield i

    assert next(decode_stream(tokenizer, ids())) == "a" and len(asked) == 1


def test_without_a_merge_a_token_is_a_byte():
    tokenizer = Tokenizer([])
    assert len(tokenizer.encode("它")) == 3 and len(tokenizer.encode("it")) == 2
    assert len(tokenizer) == 256 and tokenizer.encode("") == [] and tokenizer.decode([]) == ""


def test_the_characters_of_bytes_are_gpt_2s():
    characters = bpe.byte_characters()
    assert len(set(characters)) == 256 and sorted(characters) == sorted(
        pre_tokenizers.ByteLevel.alphabet()
    )
    assert characters[ord(" ")] == "Ġ" and characters[ord("\n")] == "Ċ"


def test_a_smaller_vocabulary_is_a_beginning_of_a_larger_one(mine, texts):
    small = train(texts, 700, SPECIAL)
    assert small.merges == mine.merges[: len(small.merges)] and len(small) == 700


def test_it_stops_when_no_pair_is_left():
    assert len(train(["ab ab"], 5000)) < 262


def test_numbers_of_numpy_and_torch_are_ids(mine):
    ids = mine.encode("def f(x): return 它")
    assert mine.decode(np.asarray(ids, np.int16)) == mine.decode(ids)
    torch = pytest.importorskip("torch")
    assert mine.decode(torch.tensor(ids)) == mine.decode(ids)


# --- how it grows ---------------------------------------------------------------------------------


class Counted(dict):
    """A dict that counts how often it was asked."""

    asked = 0

    def __contains__(self, key):
        type(self).asked += 1
        return super().__contains__(key)


def test_a_long_word_takes_steps_in_proportion_to_its_length(mine):
    steps = []
    for length in (2_000, 20_000):
        tokenizer = Tokenizer(mine.merges, mine.special)
        tokenizer.ranks = Counted(tokenizer.ranks)
        Counted.asked = 0
        tokenizer.encode("".join(random.Random(1).choices("etaoinshr", k=length)))
        steps.append(Counted.asked)
    assert steps[1] < 11 * steps[0] and steps[1] < 3 * 20_000


def test_the_words_that_are_kept_are_bounded(mine, monkeypatch):
    monkeypatch.setattr(bpe, "WORDS_KEPT", 10)
    tokenizer = Tokenizer(mine.merges, mine.special)
    for i in range(50):
        tokenizer.encode(f"word{'x' * i} {'y' * 100}")
    assert len(tokenizer._word_ids) == 10
    assert max(map(len, tokenizer._word_ids)) <= bpe.WORD_KEPT


# --- special tokens -------------------------------------------------------------------------------


def test_special_tokens_come_first_and_the_longest_wins(mine):
    assert [mine.special[name] for name in SPECIAL] == [0, 1, 2]
    assert mine.encode("<|end|>x<|end|>") == [2, 0]
    assert mine.encode("a<|user|>") == [*mine.encode("a"), 1]
    assert mine.decode([1, 0]) == "<|user|><|end|>"


@settings(max_examples=300, deadline=None)
@given(text=mixed)
def test_ordinary_text_never_has_a_special_id(mine, text):
    assert not set(mine.encode(text, special=False)) & {0, 1, 2}


def test_no_special_token_can_be_made_by_merges():
    """`tokenizers` gives such a merge the special id; here it is refused."""
    hf = theirs(["end end end"], 270, ["end"])
    assert hf.get_vocab()["end"] == 0 and ("en", "d") in merges_of(hf)
    with pytest.raises(TokenizerError, match="'end' is one word"):
        train(["end end end"], 270, ["end"])
    with pytest.raises(TokenizerError, match="merge 2 is"):
        Tokenizer([("<", "|"), (">", "a"), ("<|", ">a")], ["<|>a"])
    with pytest.raises(TokenizerError, match="merge 0 is"):
        Tokenizer([("<|a|>", "b")], ["<|a|>"])


# --- files ----------------------------------------------------------------------------------------


def test_a_file_gives_the_same_tokenizer(mine, tmp_path, texts):
    mine.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.vocabulary == mine.vocabulary and again.merges == mine.merges
    assert [again.encode(text) for text in texts[-4:]] == [mine.encode(t) for t in texts[-4:]]
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_a_save_that_fails_leaves_the_file_as_it_was(mine, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    mine.save(path)
    before = path.read_text(encoding="utf-8")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(bpe.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        Tokenizer([]).save(path)
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"special": [], "merges": null}',
        '{"special": 5, "merges": []}',
        '{"special": [1], "merges": []}',
        '{"special": [""], "merges": []}',
        '{"special": ["end"], "merges": []}',
        '{"special": [], "merges": ["a"]}',
        '{"special": [], "merges": ["a b c"]}',
        '{"special": [], "merges": ["a bc"]}',
        '{"special": [], "merges": [["a", "b"]]}',
        '{"special": [], "merges": [7]}',
        '{"special": [], "merges": ["a "]}',
    ],
)
def test_a_file_that_holds_no_tokenizer(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TokenizerError, match="tokenizer.json holds no tokenizer") as error:
        Tokenizer.load(path)
    assert_three_parts(error.value)


def test_a_file_that_is_cut_off_or_damaged_is_refused_or_whole(mine, tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer(mine.merges[:40], mine.special).save(path)
    whole = path.read_bytes()
    rng = random.Random(3)
    for _ in range(300):
        data = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            Tokenizer.load(path)
        except TokenizerError as error:
            assert_three_parts(error)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TokenizerError, match="there is no none.json") as error:
        Tokenizer.load(tmp_path / "none.json")
    assert_three_parts(error.value)


# --- bad input ------------------------------------------------------------------------------------


def assert_three_parts(error):
    what, why, try_ = str(error).split("\n")
    assert what and why.startswith("Why: ") and try_.startswith("Try: ")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: train([], 300), "no text to learn from"),
        (lambda: train(["", ""], 300), "no text to learn from"),
        (lambda: train("a text", 300), "one text was given"),
        (lambda: train(["a"], 255), "a vocabulary of 255"),
        (lambda: train(["a"], 256, ["<|end|>"]), "a vocabulary of 256"),
        (lambda: train(["a\ud800"], 300), r"U\+D800, half of a surrogate pair"),
        (lambda: train(["a"], 300, ["<|a|>", "<|a|>"]), "the special tokens"),
        (lambda: train(["a"], 300, [""]), "the special tokens"),
        (lambda: Tokenizer([("a", "zz")]), "merge 0 is 'a' \\+ 'zz'"),
        (lambda: Tokenizer([("a", "b", "c")]), "merge 0 is"),
        (lambda: Tokenizer([]).encode("\udfff"), r"U\+DFFF"),
        (lambda: Tokenizer([]).encode(b"a"), "bytes was given"),
        (lambda: Tokenizer([]).encode(None), "NoneType was given"),
        (lambda: Tokenizer([]).decode([256]), "no token 256"),
        (lambda: Tokenizer([]).decode([-1]), "no token -1"),
        (lambda: Tokenizer([]).decode([True]), "no token True"),
        (lambda: Tokenizer([]).decode([1.5]), "no token 1.5"),
        (lambda: Tokenizer([]).decode(["a"]), "no token a"),
        (lambda: StreamDecoder(Tokenizer([])).feed(999), "no token 999"),
    ],
)
def test_bad_input(make, what):
    with pytest.raises(TokenizerError, match=what) as error:
        make()
    assert_three_parts(error.value)


def test_tokens_cost_no_torch():
    import subprocess

    probe = "import sys; from aiinfra_labs.llm import bpe, chat, streaming; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy"} & set(run.stdout.split())
