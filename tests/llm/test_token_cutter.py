"""The token cutter: it cuts as bpe.py does, and needs neither a kernel nor a mouse."""

import random
import unicodedata

import pytest

from aiinfra_labs.llm import bilingual, bpe
from aiinfra_labs.llm.bpe import Tokenizer, TokenizerError
from aiinfra_labs.llm.widgets.token_cutter import TokenCutter
from widget_pages import result


@pytest.fixture(scope="module")
def tokenizers():
    texts = bilingual.texts()
    return {
        "with Chinese": bpe.train(texts["English"] + texts["Chinese"], 1500),
        "without": bpe.train(texts["English"], 1000),
    }


def random_texts(count):
    rng = random.Random(4)
    pool = [
        *"ab 我它é😀'1½\n\t\u3000\u0085\ufeff\u200d\x1c ",
        "  ",
        "'s",
        "the ",
        "内核",
        "<|end|>",
    ]
    for _ in range(count):
        parts = rng.choices(pool, k=rng.randint(0, 25))
        parts += [chr(rng.choice([rng.randrange(0x3000), rng.randrange(0x1F000, 0x1FA00)]))]
        text = "".join(parts)
        yield "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs", "Co"))


def test_javascript_cuts_as_python_does(shown, tokenizers):
    page = shown(TokenCutter(tokenizers))
    for name, tokenizer in tokenizers.items():
        for count in (0, 100, len(tokenizer.merges)):
            cut = Tokenizer(tokenizer.merges[:count])
            texts = [*random_texts(120), "def f(x):\n    return x", "我喜欢吃苹果，它很甜"]
            got = page.evaluate(
                """([name, count, texts]) => {
                  const known = module.known(state.merges[name], count);
                  return texts.map((text) => module.encode(text, known).map(([, id]) => id));
                }""",
                [name, count, texts],
            )
            assert got == [cut.encode(text) for text in texts]
    assert page.evaluate("module.byteCharacters()") == list(bpe.byte_characters())


def test_it_says_and_shows_what_python_counts(shown, tokenizers):
    widget = TokenCutter(tokenizers, "内核 restarts: 它很甜", title="Cut it")
    page = shown(widget)
    assert result(page).startswith(f"{len(widget.ids)} tokens for 16 characters")
    assert page.locator(".ids").inner_text() == "ids: " + " ".join(map(str, widget.ids))
    assert page.locator(".tokens code").count() == len(widget.ids)
    assert page.locator(".tokens code").all_inner_texts()[0] == "内核"
    assert page.locator(".tokens code.bytes").count() > 0
    assert "vocabulary of 1,500" in result(page)


def test_the_slider_goes_from_bytes_to_all_merges_by_keyboard(shown, tokenizers):
    page = shown(TokenCutter(tokenizers, "the kernel 内核"))
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    assert "vocabulary of 256" in result(page) and result(page).startswith("17 tokens")
    seen = {result(page)}
    for _ in range(40):
        page.keyboard.press("ArrowRight")
        seen.add(result(page))
    assert "vocabulary of 1,500" in result(page) and len(seen) > 20
    assert slider.get_attribute("aria-valuetext") == "1,500 tokens"


def test_another_vocabulary_and_another_text(shown, tokenizers):
    page = shown(TokenCutter(tokenizers, "内核"))
    assert result(page).startswith("1 token for 2 characters")
    page.get_by_label("learned from").select_option("without")
    assert result(page).startswith("6 tokens") and "vocabulary of 1,000" in result(page)
    page.get_by_label("text", exact=True).fill("<b> the")
    assert page.evaluate("state.text") == "<b> the"
    assert page.locator(".tokens code").all_inner_texts()[-1] == "·the"
    page.get_by_label("text", exact=True).fill("")
    assert "type a text" in result(page) and page.locator(".tokens code").count() == 0


def test_python_moves_it_until_it_is_taken_away(shown, tokenizers):
    page = shown(TokenCutter(tokenizers, "内核"))
    page.evaluate("model.from_python('text', ' the')")
    assert result(page).startswith("1 token for 4")
    page.evaluate("stop(); model.from_python('text', '')")
    assert result(page).startswith("1 token for 4")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone(shown, tokenizers, theme):
    page = shown(TokenCutter(tokenizers, "我喜欢吃苹果，它很甜" * 20), width=390, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_one_vocabulary_needs_no_choice(shown, tokenizers):
    page = shown(TokenCutter({"one": tokenizers["without"]}, "a"))
    assert page.get_by_label("learned from").count() == 0 or not (
        page.get_by_label("learned from").is_visible()
    )


@pytest.mark.parametrize(
    ("given", "what"),
    [({}, "without a tokenizer"), ({"a": Tokenizer([], ["<|end|>"])}, "'a' has special tokens")],
)
def test_tokenizers_that_cannot_be_shown(given, what):
    with pytest.raises(TokenizerError, match=f"{what}.*\nWhy: .+\nTry: "):
        TokenCutter(given)
