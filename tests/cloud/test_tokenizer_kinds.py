"""Tokenizers of all kinds: ids and texts equal `transformers`', and streams equal whole texts."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from aiinfra_labs.cloud.serving.engine import EngineConfig
from aiinfra_labs.cloud.serving.errors import LoadError, RequestError
from aiinfra_labs.cloud.serving.llm import LLM
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.tokenizer import FileTokenizer

CORPUS = [
    "the cache is full of the blocks, and the blocks are full of keys",
    "def read(path):\n    return open(path).read()\n",
    "naïve café — 缓存 已满 é",
] * 9
TEXTS = (
    *CORPUS[:3],
    "",
    " ",
    "  two  spaces ",
    "don't stop . now ?",
    "a<s>b</s>",
    "<s> the <pad></s>",
    "🙂 ü 你",
    "ﬁ Å",
    "<0x41>",
)
OWN = ["<unk>", "<s>", "</s>", "<pad>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def begun_with(begin, end=None):
    single = [begin, "$A", *([end] if end else [])]
    special = [(t, OWN.index(t)) for t in (begin, end) if t]
    return processors.TemplateProcessing(
        single=single, pair=[*single, "$B"], special_tokens=special
    )


def trained(tokenizer, trainer):
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def bpe_trainer(more=(), **options):
    return trainers.BpeTrainer(
        vocab_size=620, special_tokens=[*OWN, *more], show_progress=False, **options
    )


def byte_level():
    """As GPT-2, Llama 3 and Qwen2."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained(made, bpe_trainer(initial_alphabet=alphabet))
    made.post_processor = processors.Sequence([processors.ByteLevel(), begun_with("<s>")])
    made.add_tokens(["缓存 满", AddedToken("<think>", special=False)])  # spelled in characters
    return made


def byte_fallback():
    """As Llama 2, TinyLlama and Mistral: bytes only where a character has no token."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    found = json.loads(trained(made, bpe_trainer(BYTES, limit_alphabet=40)).to_str())
    found["added_tokens"] = [a for a in found["added_tokens"] if a["content"] in OWN]
    made = Tokenizer.from_str(json.dumps(found))
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.post_processor = begun_with("<s>")
    return made


def unigram():
    """As T5 and XLNet; an end token behind each text."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=OWN, unk_token="<unk>", show_progress=False
    )
    trained(made, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 2)]
    )
    return made


def word_piece():
    """As BERT: lower case, "##" within a word, a token at both ends."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trained(
        made, trainers.WordPieceTrainer(vocab_size=150, special_tokens=OWN, show_progress=False)
    )
    made.post_processor = begun_with("<s>", "</s>")
    return made


def word_end():
    """As the first GPT: "</w>" where a word ends."""
    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.BPEDecoder()
    return trained(made, bpe_trainer(end_of_word_suffix="</w>"))


def words():
    """Whole words, and no decoder."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return trained(made, trainers.WordLevelTrainer(special_tokens=OWN, show_progress=False))


KINDS = {f.__name__: f for f in (byte_level, byte_fallback, unigram, word_piece, word_end, words)}


def saved(folder, tokenizer, **config):
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    found = {"tokenizer_class": "PreTrainedTokenizerFast"} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(found))
    return FileTokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request, tmp_path_factory):
    """(ours, transformers') of one file."""
    folder = tmp_path_factory.mktemp(request.param)
    ours = saved(folder, KINDS[request.param]())
    return ours, AutoTokenizer.from_pretrained(folder)


def test_ids_and_texts_equal_transformers(kind):
    ours, theirs = kind
    for text in TEXTS:
        ids = theirs(text).input_ids
        assert ours.encode(text) == ids
        plain = theirs(text, add_special_tokens=False).input_ids
        assert ours.encode(text, add_special_tokens=False) == plain
        decoded = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids) == decoded


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_stream_gives_what_the_whole_gives(kind, data):
    """Any ids in any order, those of no token included: half characters, runs of stray bytes."""
    ours = kind[0]
    ids = data.draw(st.lists(st.integers(0, len(ours) + 2), max_size=30))
    stream = ours.stream()
    pieces = [stream.feed(id) for id in ids]
    assert "".join(pieces) + stream.finish() == ours.decode(ids)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_a_stream_of_a_text(kind, text):
    ours = kind[0]
    ids, stream = ours.encode(text), ours.stream()
    pieces = [stream.feed(id) for id in ids]
    assert "".join(pieces) + stream.finish() == ours.decode(ids)


def test_a_stream_does_not_wait_for_the_end(kind):
    """What can be read is given out: behind each token all but a few characters are there."""
    ours = kind[0]
    ids = ours.encode(CORPUS[0])
    stream, given_out = ours.stream(), 0
    for place, id in enumerate(ids):
        given_out += len(stream.feed(id))
        assert given_out >= len(ours.decode(ids[: place + 1])) - 1


def test_bytes_of_a_text_add_up(kind):
    """The bytes of the tokens between two others are those of the text between them."""
    ours = kind[0]
    tokens = ours.token_bytes()
    assert len(tokens) == len(ours)
    assert all(tokens[OWN.index(token)] is None for token in OWN)
    letters = ours.encode("the cache is full", add_special_tokens=False)
    text = b"".join(tokens[id] or b"" for id in letters).decode()
    assert text.strip() == ours.decode(letters).strip()


def test_bytes_of_byte_fallback_are_all_256(tmp_path):
    ours = saved(tmp_path, byte_fallback())
    assert {bytes((byte,)) for byte in range(256)} <= set(ours.token_bytes())


def test_what_a_file_cut_and_filled_up_in_training_is_served_whole(tmp_path):
    made = byte_level()
    made.enable_truncation(4)
    made.enable_padding(length=64)
    ours = saved(tmp_path, made)
    text = CORPUS[0]
    assert ours.encode(text) == AutoTokenizer.from_pretrained(tmp_path)(text).input_ids
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("begin", [True, False])
def test_the_file_says_what_begins_a_text(tmp_path, begin):
    """Not the config's add_bos_token: transformers 5 passes it over where tokenizer.json lies."""
    ours = saved(tmp_path, byte_level(), bos_token="<s>", add_bos_token=begin)
    ids = ours.encode("the cache")
    assert ids == AutoTokenizer.from_pretrained(tmp_path)("the cache").input_ids
    assert ids[0] == 1


def test_a_token_that_only_the_config_names_as_special(tmp_path):
    """It is no text, and one token wherever it is spelled."""
    made = byte_level()
    found = json.loads(made.to_str())
    found["added_tokens"] = [a for a in found["added_tokens"] if a["content"] != "</s>"]
    ours = saved(
        tmp_path,
        Tokenizer.from_str(json.dumps(found)),
        eos_token={"__type": "AddedToken", "content": "</s>"},  # as transformers writes them
        additional_special_tokens=["<tool>"],
    )
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("a</s>b", "a<tool>b"):
        ids = ours.encode(text)
        assert ids == theirs(text).input_ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True) == "ab"


@pytest.mark.parametrize("text", ["{", "\xff"])
def test_a_config_that_is_none(tmp_path, text):
    saved(tmp_path, words())
    (tmp_path / "tokenizer_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LoadError, match="tokenizer_config.json cannot be read"):
        FileTokenizer(tmp_path / "tokenizer.json")


def test_half_of_a_surrogate_pair(tmp_path):
    ours = saved(tmp_path, byte_level())
    with pytest.raises(RequestError, match="surrogate"):
        ours.encode("a\ud83db")


def test_holes_in_the_ids_are_rows_too(tmp_path):
    found = json.loads(words().to_str())
    found["model"]["vocab"]["cache"] = 500
    made = Tokenizer.from_str(json.dumps(found))
    ours = saved(tmp_path, made)
    assert len(ours) == 501 and len(ours.token_bytes()) == 501


def test_stray_bytes_end_no_answer(tmp_path):
    """A model that draws any bytes: each of four answers is its own ids, decoded."""
    ours = saved(tmp_path, byte_fallback())
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=len(ours), num_attention_heads=2, **shape)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    llm = LLM(tmp_path, EngineConfig(num_blocks=64))
    drawn = SamplingParams(max_tokens=60, temperature=1.0, seed=3, ignore_eos=True)
    answers = llm.generate(["the cache"] * 4, drawn)
    assert answers[0].prompt_token_ids == ours.encode("the cache")
    assert answers[0].prompt_token_ids[0] == 1
    for answer in answers:
        assert answer.outputs[0].text == ours.decode(answer.outputs[0].token_ids)
