"""A digit is shown, beeps are heard, a question is asked: what one stream must put together.

Unit 1.8. Three questions: which digit, how many beeps, and their sum. Only the text says which is
asked, only the image shows the digit, and only the sound has the beeps, so that no two of them
suffice. Ten of the fifty pairs of digit and beeps are never added up in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aiinfra_labs import bounds

from ..llama import LlamaConfig
from ..training import train_one_cycle
from .digits import NUMBERS, Images, load
from .patches import patchify
from .sound import BANDS, beeps, spectra
from .stream import OneStream, Segment
from .vision import PATCH

WORDS = (
    "<image>",
    "<sound>",
    "<text>",
    "which",
    "digit",
    "how",
    "many",
    "in",
    "all",
    "?",
    *NUMBERS,
)
IDS = {word: i for i, word in enumerate(WORDS)}
ASKED = ("which digit ?", "how many ?", "in all ?")  # the digit, the beeps, the sum
WHICH, HOW_MANY, IN_ALL = range(3)
MOST = 5  # beeps
MOST_ROWS = 2**16  # of a batch: each has an image and a recording
CONFIG = LlamaConfig(len(WORDS), 64, 176, 3, 4, 4, 128)
SIZES = {"image": PATCH * PATCH, "sound": BANDS}


def ids(text: str, rows: int) -> Tensor:
    """Words as ids, the same for each row of the batch: int64 [rows, n].

    Raises ValueError for a word that is not in `WORDS`, or no word at all.
    """
    bounds.whole("rows", rows, "of the batch", 0, MOST_ROWS)
    for word in text.split() or [""]:
        bounds.one_of("a word", word, WORDS, "each has a row of the model's table")
    return torch.tensor([IDS[word] for word in text.split()]).repeat(rows, 1)


def is_held_out(digit: Tensor, count: Tensor) -> Tensor:
    """One number of beeps for each digit: that sum is never asked for in training."""
    return (digit + count) % MOST == 0


@dataclass(frozen=True)
class Batch:
    """pixels: [B, 1, 8, 8]. spectra: [B, 32, 16]. digit, count, question: int64 [B]."""

    pixels: Tensor
    spectra: Tensor
    digit: Tensor
    count: Tensor
    question: Tensor

    @property
    def answer(self) -> Tensor:
        """The number that is asked for: int64 [B]."""
        both = torch.stack((self.digit, self.count, self.digit + self.count))
        return both.gather(0, self.question[None])[0]

    def where(self, chosen: Tensor) -> Batch:
        """The rows that are chosen: bool [B], or int64 numbers of rows."""
        return Batch(*(x[chosen] for x in vars(self).values()))

    def stream(self, answered: bool) -> list[Segment]:
        """The segments in order; with the answer behind them, to train on."""
        rows = len(self.digit)
        asked = torch.cat([ids(text, 1) for text in ASKED])[self.question]  # [B, 3]
        segments = [
            Segment("text", ids("<image>", rows)),
            Segment("image", patchify(self.pixels, PATCH)),
            Segment("text", ids("<sound>", rows)),
            Segment("sound", self.spectra),
            Segment("text", torch.cat((ids("<text>", rows), asked), dim=1)),
        ]
        if answered:
            answer = (IDS["zero"] + self.answer)[:, None]
            segments.append(Segment("text", answer, graded=True))
        return segments


def drawn(images: Images, rows: int, generator: torch.Generator) -> Batch:
    """Digits, beeps and questions, each as likely as any. rows: of the batch."""
    bounds.whole("rows", rows, "of the batch", 1, MOST_ROWS)
    digit = torch.randint(10, (rows,), generator=generator)
    count = torch.randint(1, MOST + 1, (rows,), generator=generator)
    question = torch.randint(len(ASKED), (rows,), generator=generator)
    pixels = images.pixels[images.draw(digit, generator)]
    return Batch(pixels, spectra(beeps(count, generator)), digit, count, question)


def training(rows: int, generator: torch.Generator) -> Batch:
    """Without the sums that are held out: those ask for the digit instead. rows: of the batch."""
    batch = drawn(load()[0], rows, generator)
    hidden = is_held_out(batch.digit, batch.count) & (batch.question == IN_ALL)
    return replace(batch, question=batch.question.masked_fill(hidden, WHICH))


def test(rows: int = 900) -> Batch:
    """Images and recordings that were never trained on; all sums, the held-out ones too.

    rows: of the batch. The same each time.
    """
    return drawn(load()[1], rows, torch.Generator().manual_seed(6))


def swapped(batch: Batch, kind: str) -> Batch:
    """The same questions with another row's image, sound or text: what was needed is now wrong.

    The digit, count or question that the answer is held to stays the old one.
    """
    order = torch.randperm(len(batch.digit), generator=torch.Generator().manual_seed(8))
    names = {"image": "pixels", "sound": "spectra", "text": "question"}
    name = names[bounds.one_of("kind", kind, names, "one of the three is taken from another row")]
    return replace(batch, **{name: getattr(batch, name)[order]})


def right(model: OneStream, batch: Batch, truth: Batch | None = None) -> Tensor:
    """Whether each answer is the right one of `truth`, by default the batch itself: bool [B]."""
    said = model.answer(batch.stream(answered=False))
    return said == IDS["zero"] + (truth or batch).answer


@dataclass(frozen=True)
class Lesson:
    """How the model is trained."""

    steps: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        bounds.whole("steps", self.steps, "a schedule has a beginning and an end", 2)
        bounds.whole("batch", self.batch, "questions of a step", 1, MOST_ROWS)
        bounds.real("learning_rate", self.learning_rate, "the highest of the run", above=0.0)
        bounds.whole("seed", self.seed, "weights and questions are drawn from it", 0)


def train(
    lesson: Lesson, on_step: Callable[[int, float], None] = lambda step, loss: None
) -> OneStream:
    """A model trained on the spot: minutes."""
    torch.manual_seed(lesson.seed)
    model = OneStream(CONFIG, SIZES)
    generator = torch.Generator().manual_seed(lesson.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lesson.learning_rate, weight_decay=0.05)

    def loss() -> Tensor:
        return model.loss(training(lesson.batch, generator).stream(answered=True))

    train_one_cycle(
        model, optimizer, loss, lesson.steps, lesson.learning_rate, clip=1.0, on_step=on_step
    )
    return model.eval()
