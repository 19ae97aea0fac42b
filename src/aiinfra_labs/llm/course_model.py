"""The course's own model: the recipe that trains it, and its files. Units 1.4 and 1.5; chapter 4.

    python -m aiinfra_labs.llm.course_model [--folder FOLDER] [--steps N]

It learns to continue Python code and its documentation, from the standard library alone. The run
can be killed at any time and started again: it goes on from its last checkpoint. The folder then
holds `model.safetensors` (float16), `config.json` in Llama's words, `tokenizer.json`, and
`card.json`, which says what it was trained on, for how long, and how well it does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aiinfra_labs import bounds

from . import bpe, checkpoint, record
from .chat import ASSISTANT, END, SYSTEM, USER
from .corpus import Document, described_corpus, documents
from .llama import Llama, LlamaConfig
from .training import Batches, Recipe, Step, evaluate, train

SPECIAL = (END, SYSTEM, USER, ASSISTANT, "<|prefix|>", "<|suffix|>", "<|middle|>", "<|pad|>")
VOCABULARY = 4096
MOST_IDS = 2**15  # that int16 has, from 0 on
CONFIG = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=1024,
)
# Most tokens are seen in windows of 512, which cost half as much as windows of 1,024; then the
# model gets used to the longer ones, as larger models do in a last phase of their training.
RECIPE = Recipe(
    steps=2400, batch=8, context=512, learning_rate=3e-3, warm_up=150, precision="bfloat16"
)
LONGER = Recipe(
    steps=120,
    batch=4,
    context=1024,
    learning_rate=3e-4,
    final_learning_rate=3e-5,
    warm_up=10,
    seed=1,
    precision="bfloat16",
)


def tokenizer_of(texts: Iterable[str]) -> bpe.Tokenizer:
    """The course's vocabulary: 8 special tokens, 256 bytes, and merges learned from `texts`."""
    return bpe.train(texts, VOCABULARY, SPECIAL)


def token_stream(tokenizer: bpe.Tokenizer, texts: Iterable[str]) -> torch.Tensor:
    """All texts as one row of ids, int16 [n], each closed by <|end|>.

    Raises `TokenizerError` for a vocabulary whose ids int16 cannot hold, or one without <|end|>.
    """
    if len(tokenizer) > MOST_IDS or END not in tokenizer.special:
        raise bpe.TokenizerError(
            f"a tokenizer of {len(tokenizer):,} tokens"
            f"{'' if END in tokenizer.special else ', without ' + END}",
            f"ids are kept as int16, and each text is closed by {END}",
            f"at most {MOST_IDS:,} tokens; bpe.train(texts, size, course_model.SPECIAL)",
        )
    end = tokenizer.special[END]
    ids: list[int] = []
    for text in bounds.texts("texts", texts, bpe.TokenizerError):
        ids += tokenizer.encode(text, special=False)
        ids.append(end)
    return torch.from_numpy(np.asarray(ids, np.int16))


def split(found: Iterable[Document]) -> tuple[list[str], list[str]]:
    """(texts to train on, texts held out)."""
    training: list[str] = []
    held_out: list[str] = []
    for document in found:
        (held_out if document.held_out else training).append(document.text)
    return training, held_out


def save_model(
    folder: Path | str, model: Llama, tokenizer: bpe.Tokenizer, card: dict[str, Any]
) -> None:
    """The four files. Weights become float16: half the bytes.

    A weight comes back wrong by 1 in 2,048 at most, or by 3e-8 where that is more. Raises
    `CheckpointError` for a weight that float16 cannot hold, 65,504 being its largest number.
    """
    folder = bounds.path("folder", folder, checkpoint.CheckpointError)
    weights = checkpoint.as_float16(model)
    words = {"tokenizer": _fingerprint(tokenizer)}
    checkpoint.save(folder / "model.safetensors", weights, words)
    family = model.config.family
    config = {"architectures": [f"{family.title()}ForCausalLM"], "model_type": family}
    config |= model.config.to_dict() | {"hidden_act": "silu", "torch_dtype": "float16"}
    config |= {"eos_token_id": tokenizer.special.get(END)}  # a server ends texts there
    for name, text in (("config.json", config), ("card.json", card)):
        (folder / name).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    tokenizer.save(folder / "tokenizer.json")


def load_model(folder: Path | str) -> tuple[Llama, bpe.Tokenizer]:
    """The model in float32 and its tokenizer, from a folder that `save_model` wrote.

    A `config.json` and weights that transformers saved for a Llama will do as well. Raises
    `CheckpointError` or `TokenizerError` for a file that is missing, is broken, does not fit, or
    describes another model than `llama.Llama` is.
    """
    folder = bounds.path("folder", folder, checkpoint.CheckpointError)
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise checkpoint.CheckpointError(
                f"{folder.name} has no {name}",
                "a model is its weights, the shape they have, and the tokenizer of its ids",
                "the folder that save_model wrote; `make model` trains the course's own",
            )
    tokenizer = bpe.Tokenizer.load(folder / "tokenizer.json")
    config = _config(folder / "config.json")
    _fit(len(tokenizer), config)
    model = Llama(config)
    tensors, state = checkpoint.load(folder / "model.safetensors")
    checkpoint.fill(model, tensors, "model.safetensors")
    if state.get("tokenizer", _fingerprint(tokenizer)) != _fingerprint(tokenizer):
        raise bpe.TokenizerError(
            "the tokenizer is another one than the model was trained with",
            "it has as many tokens, and they mean other words",
            "the tokenizer.json that was saved with this model",
        )
    return model.eval(), tokenizer


def _config(file: Path) -> LlamaConfig:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise checkpoint.CheckpointError(
            f"{file.name} describes no model: {error}",
            "it holds the sizes of a Llama as JSON: vocab_size, hidden_size, ...",
            "the config.json that was saved with this model",
        ) from None
    try:
        return LlamaConfig.from_dict(found)
    except bounds.SettingError as error:
        raise checkpoint.CheckpointError(
            f"{file.name} describes no model of this course: {error.what}", error.why, error.try_
        ) from None


def _fit(tokens: int, config: LlamaConfig) -> None:
    if tokens != config.vocab_size:
        raise bpe.TokenizerError(
            f"the tokenizer has {tokens:,} tokens, and the model {config.vocab_size:,}",
            "each id needs a row of the model's embedding, and means what it meant in training",
            "the tokenizer.json that was saved with this model; to train one, a vocab_size that "
            "the corpus can fill",
        )


def _fingerprint(tokenizer: bpe.Tokenizer) -> str:
    """The same for the same ids: of special tokens and merges, in their order."""
    words = json.dumps([list(tokenizer.special), tokenizer.merges])
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def make(
    folder: Path,
    recipes: tuple[Recipe, ...] = (RECIPE, LONGER),
    config: LlamaConfig = CONFIG,
    every: int = 100,
) -> dict[str, Any]:
    """Train the model by each recipe in turn, or go on with it; returns its card.

    Each phase has a checkpoint of its own in `folder`, written every `every` steps. `runs.db` is
    MLflow's record of all of them.
    """
    training, held_out = split(documents())
    tokenizer = tokenizer_of(training)
    _fit(len(tokenizer), config)  # now, and not when the model is loaded after its training
    tokens, validation = token_stream(tokenizer, training), token_stream(tokenizer, held_out)
    for recipe in recipes:
        Batches(validation, recipe)  # too little text is noticed here, too
    torch.manual_seed(0)
    model = Llama(config)
    losses: list[float] = []
    start = time.process_time()
    for phase, recipe in enumerate(recipes, 1):
        file = folder / f"run-{phase}.safetensors"
        with record.run(folder / "runs.db", file.stem, asdict(recipe)) as note:
            _train(model, tokens, recipe, file, every, note)
        losses += checkpoint.load(file)[1]["losses"]  # those before a kill as well
    held_out_bytes = sum(len(text.encode()) for text in held_out)
    loss = evaluate(model, validation, recipes[-1].context, batch=4)
    card = {
        "date": datetime.now(UTC).date().isoformat(),
        "corpus": described_corpus(),
        "documents": {"training": len(training), "held_out": len(held_out)},
        "tokens": {"training": len(tokens), "held_out": len(validation)},
        "parameters": model.parameter_count(),
        "recipes": [asdict(recipe) for recipe in recipes],
        "seen_tokens": sum(recipe.steps * recipe.tokens_per_step for recipe in recipes),
        "processor_seconds_since_the_last_start": round(time.process_time() - start),
        "held_out_loss_nats_a_token": round(loss, 4),
        "held_out_bits_a_byte": round(loss * len(validation) / held_out_bytes / np.log(2), 4),
        "curve": [(step, round(loss, 4)) for step, loss in enumerate(losses) if step % 10 == 0],
    }
    save_model(folder, model, tokenizer, card)
    return card


def _train(
    model: Llama,
    tokens: torch.Tensor,
    recipe: Recipe,
    file: Path,
    every: int,
    note: Callable[[Step], None],
) -> None:
    """One phase, with a progress bar that begins where the checkpoint ends."""
    from tqdm.auto import tqdm

    steps = train(model, Batches(tokens, recipe), recipe, on_step=note, file=file, every=every)
    with tqdm(total=recipe.steps, unit="step") as bar:
        for step in steps:
            bar.n = step.number + 1
            bar.set_postfix(loss=f"{step.loss:.3f}")


def main() -> None:
    """The command: train the course's model, or go on with it, and print its card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("model"))
    parser.add_argument("--steps", type=int, help="of the first phase, to try it out")
    options = parser.parse_args()
    recipes = (RECIPE, LONGER)
    if options.steps:
        recipes = (replace(RECIPE, steps=options.steps), LONGER)
    card = make(options.folder, recipes)
    print(json.dumps({k: v for k, v in card.items() if k != "curve"}, indent=1))


if __name__ == "__main__":
    main()
