"""The exercises of unit 1.1: what their requirements catch, and what `show` draws."""

from __future__ import annotations

import sys

import pytest

import planting
from aiinfra_labs.course import facts
from aiinfra_labs.course.checking import check, show, try_out
from aiinfra_labs.course.registry import find
from aiinfra_labs.llm import bilingual, bpe, chat
from aiinfra_labs.llm.drawings import tokens as drawings
from aiinfra_labs.llm.exercises import tokens, tokens_in_use

EXERCISES = ("1.1.a", "1.1.b", "1.1.c", "1.1.d")


planted = planting.planted("llm", "tokens")


def answer(name):
    return getattr(planted, name)


# --- requirements -------------------------------------------------------------------------------


def test_the_merges_of_the_check_are_those_of_tokenizers():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    hf = Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=296, initial_alphabet=alphabet, show_progress=False)
    hf.train_from_iterator([tokens.TEXT * 2], trainer)
    assert hf.get_vocab() == tokens._trained().vocabulary
    assert "苹果" in tokens.TEXT and len(tokens._trained()) == 296


@pytest.mark.parametrize(
    ("exercise", "given", "said"),
    [
        ("1.1.a", lambda words: "ab", "each a tuple of two ids"),
        ("1.1.a", lambda words: None, "expected (1, 2)"),
        ("1.1.a", lambda words: (1, 2, 3), "expected (1, 2)"),
        ("1.1.a", lambda words: [1, 2], "each a tuple of two ids"),
        ("1.1.b", lambda ids, merges: None, "result is None"),
        ("1.1.b", lambda ids, merges: "ab", "expected a list"),
        ("1.1.b", lambda ids, merges: ids.pop(), "IndexError"),
        ("1.1.c", lambda pieces: None, "it returned None, expected a generator"),
        ("1.1.c", lambda pieces: [], "0 texts for 0 pieces, expected 1"),
        ("1.1.c", lambda pieces: 5, "it returned 5, expected a generator"),
        ("1.1.c", lambda pieces: iter(str, 0), "texts for 0 pieces"),
        ("1.1.d", lambda messages, tokenizer: None, "expected a list of ids"),
        ("1.1.d", lambda messages, tokenizer: [10**9], "expected a list of ids"),
        ("1.1.d", lambda messages, tokenizer: ["<|user|>"], "expected a list of ids"),
        ("1.1.d", lambda messages, tokenizer: [], "the model sees the turns []"),
    ],
)
def test_what_is_said_of_no_answer_at_all(exercise, given, said):
    result = try_out(find(exercise), given)
    assert result.score == 0 and said in str(result)
    assert "Traceback" not in str(result)


def test_an_endless_stream_is_stopped():
    def for_ever(pieces):
        while True:
            yield ""

    result = try_out(find("1.1.c"), for_ever)
    assert not result.passed and "20 texts for 0 pieces" in str(result)


def test_a_check_under_its_id_is_recorded():
    assert check("1.1.d", answer("by_parts")).passed


# --- show ---------------------------------------------------------------------------------------


def test_show_marks_the_chosen_pair():
    assert "| 16 | your choice" in str(show("1.1.a", answer("by_counter")))
    assert "no pair of this text" in str(show("1.1.a", lambda words: 7))


def test_show_sets_wrong_tokens_beside_the_right_ones():
    text = str(show("1.1.b", answer("only_once")))
    assert "' that': yours (4): ·|t|h|at" in text and "' that': right (2): ·th|at" in text
    assert "yours" not in str(show("1.1.b", answer("by_rank")))
    assert "yours (1): 'x'" in str(show("1.1.b", lambda ids, merges: "x"))


def test_show_tells_what_came_with_each_piece():
    text = str(show("1.1.c", answer("by_codec")))
    assert "`88 E7` | `'很'` | `'a它很'`" in text and "\ufffd" not in text
    assert "nothing came" in str(show("1.1.c", answer("without_the_end")))


def test_show_draws_the_turns_that_the_model_sees():
    forged, safe = (
        str(show("1.1.d", answer(name))) for name in ("the_text_as_a_whole", "by_parts")
    )
    assert "turn 3, system" in forged and "turn 5, assistant" in forged
    assert "turn 3, assistant" in safe and "turn 4" not in safe
    assert "no list of ids" in str(show("1.1.d", answer("the_text_itself")))


def test_a_strip_is_text_for_every_reader():
    tokenizer = bpe.train(["<b> & </b> 它"], 262, ["<|end|>"])
    html = drawings.strip(tokenizer, {"a & b": "<b> & 它\n"})._repr_html_()
    assert "&lt;" in html and "a &amp; b" in html and "<b>" not in html and "↵" in html
    pieces = drawings.pieces_of(tokenizer, [0, *bpe.Tokenizer([], ["<|end|>"]).encode("它")])
    assert [(p.text, p.kind) for p in pieces] == [
        ("<|end|>", "special"),
        ("E5", "bytes"),
        ("AE", "bytes"),
        ("83", "bytes"),
    ]
    rows = drawings.strip({"one": tokenizer, "two": bpe.Tokenizer([])}, ["ab", "c"]).rows
    assert [name for name, _ in rows] == ["one, ab", "one, c", "two, ab", "two, c"]


def test_merge_steps_count_what_training_counted():
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    corpus = "\n".join(word for word, often in words.items() for _ in range(often))
    trained = bpe.train([corpus], 264)
    label = drawings.merge_steps(trained, words, 4).get_label()
    assert "are 79 letters" in label and "4. lo + w (7 times), which leaves 47 tokens" in label
    assert "1. e + s (9 times), which leaves 70 tokens; 2. es + t (9 times)" in label
    with pytest.raises(ValueError, match="9 steps of 8 merges\nWhy: .+\nTry: "):
        drawings.merge_steps(trained, words, 9)


def written(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_merge_steps_say_which_words_bring_a_pair():
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    corpus = "\n".join(word for word, often in words.items() for _ in range(often))
    texts = written(drawings.merge_steps(bpe.train([corpus], 264), words, 2))
    assert "1.  e + s:  6 + 3 = 9 times" in texts and "70 tokens" in texts
    assert texts.count("est") == 2 and texts.count("es") == 2


def test_encode_steps_do_what_encoding_does():
    tokenizer = bpe.Tokenizer([("b", "c"), ("a", "b"), ("bc", "d")])
    figure = drawings.encode_steps(tokenizer, "abcd")
    assert [tokenizer.tokens[i] for i in tokenizer.encode("abcd")] == ["a", "bcd"]
    label = figure.get_label()
    assert "a b c d, with merges 2, 1, -; a bc d, with merges -, 3; a bcd, with merges -." in label
    texts = written(figure)
    assert "merge 1 comes first: b + c" in texts and "merge 3 comes first: bc + d" in texts


def test_a_prompt_shows_each_token_with_its_id():
    tokenizer = bpe.train(["Hi there"], 262, [chat.END, *chat.ROLES.values()])
    ids = chat.encode(tokenizer, [{"role": "user", "content": "Hi it"}])
    figure = drawings.prompt(tokenizer, ids, "One message.")
    assert figure.get_label().startswith("One message. Tokens and ids: <|user|> 2, Hi 260")
    texts = written(figure)
    assert texts[1::2] == [str(id) for id in ids] and texts[-2:] == ["<|assistant|>", "3"]


# --- the texts, and the facts -------------------------------------------------------------------


def test_both_languages_say_the_same_and_nothing_is_measured_that_was_learned():
    texts = bilingual.texts()
    assert len(texts["English"]) == len(texts["Chinese"]) == len(bilingual.messages()) > 3000
    assert ("Line Height", "行高") in bilingual.messages()
    for pieces in texts.values():
        training, held_out = bilingual.split(pieces)
        assert len(training) + len(held_out) == len(pieces)
        assert 0.09 < len(held_out) / len(pieces) < 0.12
    assert sum("def " in piece for piece in texts["code"]) > 20


def test_texts_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(bilingual, "find_spec", lambda name: None)
    with pytest.raises(bilingual.BilingualError, match="not installed\nWhy: .+\nTry: pip install"):
        bilingual.texts()


def test_the_vocabularies_are_those_of_transformers_configurations():
    from transformers import DeepseekV3Config, GPT2Config

    known = facts.load("llm")
    assert known["vocabulary.gpt2"].value == GPT2Config().vocab_size
    assert known["hidden_size.gpt2"].value == GPT2Config().n_embd
    assert known["vocabulary.deepseek_v3"].value == DeepseekV3Config().vocab_size
    assert known["hidden_size.deepseek_v3"].value == DeepseekV3Config().hidden_size


def test_the_exercises_cost_no_torch():
    import subprocess

    probe = "import sys; from aiinfra_labs.llm.exercises import tokens_in_use; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "torch" not in run.stdout.split()
    assert tokens_in_use.chat_tokenizer().special["<|end|>"] == 0
