"""The recipe of the course's model, in small: made, killed, gone on with, loaded, and refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aiinfra_labs.llm import bpe, checkpoint, corpus, course_model, training
from aiinfra_labs.llm.checkpoint import CheckpointError
from aiinfra_labs.llm.corpus import Document
from aiinfra_labs.llm.llama import Llama, LlamaConfig
from aiinfra_labs.llm.training import Recipe

VOCABULARY = 300
CONFIG = LlamaConfig(VOCABULARY, 16, 24, 2, 4, 2, 32)
RECIPES = (
    Recipe(steps=6, batch=2, context=8, warm_up=2),
    Recipe(steps=3, batch=2, context=16, warm_up=1, seed=1),
)
TEXT = "def add(a, b):\n    return a + b\n" * 20


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Forty documents in place of Python's library, and a vocabulary that they can fill."""
    found = [Document(f"{n}.py", f"# {n}\n{TEXT}") for n in range(40)]
    monkeypatch.setattr(course_model, "documents", lambda: iter(found))
    monkeypatch.setattr(course_model, "VOCABULARY", VOCABULARY)


def make(folder, recipes=RECIPES, every=2):
    return course_model.make(folder, recipes, CONFIG, every)


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def made(kept, tmp_path_factory):
    """A folder with a model; made once, for no test changes it."""
    if "folder" not in kept:
        folder = tmp_path_factory.mktemp("made") / "model"
        kept["card"], kept["folder"] = make(folder), folder
    return kept["folder"]


@pytest.fixture
def copied(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "model")


def test_the_card_says_what_was_done(made, kept):
    card = json.loads((made / "card.json").read_text())
    assert card == json.loads(json.dumps(kept["card"]))
    assert card["seen_tokens"] == 6 * 16 + 3 * 32
    assert card["documents"] == {"training": 39, "held_out": 1}
    assert card["parameters"] == Llama(CONFIG).parameter_count()
    assert [step for step, _ in card["curve"]] == [0]
    assert card["curve"][0][1] == pytest.approx(5.7, abs=0.1)  # ln 300
    assert 0 < card["held_out_bits_a_byte"] < 20


def test_it_is_saved_and_loaded(made):
    model, tokenizer = course_model.load_model(made)
    assert len(tokenizer) == VOCABULARY and not model.training
    trained = checkpoint.load(made / "run-2.safetensors")[0]
    for name, weight in model.named_parameters():
        exact = trained[f"model.{name}"]
        assert torch.allclose(weight, exact, rtol=1 / 2048, atol=1e-7)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_transformers_loads_it(made):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32).eval()
    ours, _ = course_model.load_model(made)
    ids = torch.randint(VOCABULARY, (2, 20))
    with torch.no_grad():
        assert torch.allclose(ours(ids), theirs(ids).logits, atol=1e-5)


def test_mlflow_has_every_step(made):
    record = pytest.importorskip("aiinfra_labs.llm.record")
    losses = checkpoint.load(made / "run-1.safetensors")[1]["losses"]
    assert record.curve(made / "runs.db", "run-1") == list(enumerate(losses))
    assert len(record.curve(made / "runs.db", "run-2")) == 3


def test_killed_in_the_second_phase_it_goes_on_to_the_same_model(made, kept, tmp_path, monkeypatch):
    folder, taken = tmp_path / "model", []
    folder.mkdir()
    shutil.copy(made / "runs.db", folder)  # making its tables takes seconds
    step = training.take_step

    def dies(*given):
        if len(taken) == 8:  # the last but one
            raise KeyboardInterrupt
        taken.append(1)
        return step(*given)

    monkeypatch.setattr(training, "take_step", dies)
    with pytest.raises(KeyboardInterrupt):
        make(folder)
    assert not (folder / "model.safetensors").exists()
    monkeypatch.setattr(training, "take_step", step)
    card = make(folder)
    changing = ("processor_seconds_since_the_last_start",)
    assert {k: v for k, v in card.items() if k not in changing} == {
        k: v for k, v in kept["card"].items() if k not in changing
    }
    whole, again = (checkpoint.load(f / "model.safetensors")[0] for f in (made, folder))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


# --- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_missing_file(copied, name):
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=f"model has no {name}"):
        course_model.load_model(copied)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere has no tokenizer.json"):
        course_model.load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"vocab_size": 300}', '{"vocab_size": "x"}'])
def test_a_config_that_is_none(copied, content):
    (copied / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="config.json describes no model"):
        course_model.load_model(copied)


def test_a_config_of_another_shape(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match="has no tensor model.layers.2"):
        course_model.load_model(copied)


def test_a_cut_model(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="model.safetensors is no whole checkpoint"):
        course_model.load_model(copied)


def test_a_broken_tokenizer(copied):
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(bpe.TokenizerError, match="tokenizer.json"):
        course_model.load_model(copied)


@pytest.mark.parametrize(
    ("size", "said"), [(280, "has 280 tokens"), (VOCABULARY, "is another one")]
)
def test_a_tokenizer_of_another_model(copied, size, said):
    other = bpe.train([Path(__file__).read_text()], size, course_model.SPECIAL)
    other.save(copied / "tokenizer.json")
    with pytest.raises(bpe.TokenizerError, match=said):
        course_model.load_model(copied)


def test_a_vocabulary_that_the_corpus_cannot_fill_is_noticed_before_training(tmp_path):
    with pytest.raises(bpe.TokenizerError, match="and the model 5,000"):
        course_model.make(tmp_path / "model", RECIPES, replace(CONFIG, vocab_size=5000))
    assert not (tmp_path / "model").exists()


def test_an_empty_corpus_is_noticed_and_nothing_overwritten(copied, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(course_model, "documents", lambda: corpus.documents(tmp_path / "empty"))
    before = {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()}
    with pytest.raises(corpus.CorpusError):
        make(copied)
    assert {p.name: p.read_bytes() for p in copied.iterdir() if p.is_file()} == before


def test_a_training_that_fails_leaves_the_model(copied, monkeypatch):
    before = (copied / "model.safetensors").read_bytes()
    for path in copied.glob("run-*"):
        path.unlink()
    monkeypatch.setattr(Llama, "loss", lambda self, *given: self.lm_head.weight.sum() * torch.nan)
    with pytest.raises(training.TrainingError, match="step 0: the loss is nan"):
        make(copied)
    assert (copied / "model.safetensors").read_bytes() == before
    course_model.load_model(copied)


# --- the stream ----------------------------------------------------------------------------------


def test_documents_are_closed_by_end_and_hold_no_special_token():
    tokenizer = course_model.tokenizer_of([TEXT])
    tokens = course_model.token_stream(tokenizer, ["a <|end|>", "b"])
    end = tokenizer.special[course_model.END]
    assert tokens.dtype == torch.int16
    assert [i for i, id in enumerate(tokens.tolist()) if id == end] == [
        len(tokenizer.encode("a <|end|>", special=False)),
        len(tokens) - 1,
    ]


def test_held_out_documents_are_in_no_training_text():
    training_texts, held_out = course_model.split(course_model.documents())
    assert len(training_texts) == 39 and len(held_out) == 1
    assert not set(training_texts) & set(held_out)


def test_too_little_held_out_text_is_noticed_before_training(tmp_path):
    long = replace(RECIPES[1], context=2000)
    with pytest.raises(training.TrainingError, match="tokens, and a window is 2001"):
        make(tmp_path / "model", (RECIPES[0], long))
    assert not (tmp_path / "model").exists()
