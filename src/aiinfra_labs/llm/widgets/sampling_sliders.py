"""The sampling sliders: temperature, top-k, top-p and min-p on a model's own logits. Unit 1.5.

All of it runs in the page (`sampling_sliders.js`), by the rules of `sampling.py`; a test holds the
two together. The logits of each prompt are stored in the widget, so it works on a static page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anywidget
import torch
import traitlets
from torch import Tensor

from aiinfra_labs.course.framing import framed, scripted

from ..sampling import Sampling, SamplingError

HERE = Path(__file__).parent
DECIMALS = 2  # of a stored logit: a page needs no more, and holds thousands of them


class SamplingSliders(anywidget.AnyWidget):
    """What a setting leaves of the next token's probabilities.

    `SamplingSliders({"def read(": logits}, words)`: logits float [V], and the text of each token.
    """

    _esm = scripted(HERE / "sampling_sliders.js")
    _css = framed(HERE / "sampling_sliders.css")

    prompts = traitlets.Dict(help="By prompt: its logits, the largest first, and texts.").tag(
        sync=True
    )
    prompt = traitlets.Unicode("", help="Which of them is shown.").tag(sync=True)
    temperature = traitlets.Float(1.0, min=0, max=3, help="0: the likeliest.").tag(sync=True)
    top_k = traitlets.Int(0, min=0, help="0: all.").tag(sync=True)
    top_p = traitlets.Float(1.0, min=0, max=1).tag(sync=True)
    min_p = traitlets.Float(0.0, min=0, max=1).tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)

    def __init__(
        self,
        logits: Mapping[str, Tensor],
        words: Sequence[str],
        shown: int = 20,
        **settings: float | str,
    ):
        if not logits:
            raise SamplingError(
                "sampling sliders without logits",
                "they move the probabilities of a prompt's next token",
                "SamplingSliders({prompt: logits}, words)",
            )
        prompts = {}
        for prompt, row in logits.items():
            rounded = row.double().round(decimals=DECIMALS)
            ordered, ids = rounded.sort(descending=True, stable=True)
            prompts[prompt] = {
                "logits": [round(x, DECIMALS) for x in ordered.tolist()],
                "words": [words[i] for i in ids[:shown].tolist()],
            }
        super().__init__(prompts=prompts, prompt=next(iter(prompts)), **settings)

    def probabilities(self) -> Tensor:
        """float64 [V], the likeliest first: what is shown now."""
        logits = torch.tensor([self.prompts[self.prompt]["logits"]], dtype=torch.float64)
        rule = Sampling(self.temperature, self.top_k or None, self.top_p, self.min_p)
        return rule(logits, torch.zeros(1, 1, dtype=torch.int64)).softmax(-1)[0]

    def __repr__(self) -> str:
        kept = int((self.probabilities() > 0).sum())
        setting = f"{self.prompt!r}: T = {self.temperature:g}"
        return f"SamplingSliders({setting}, {kept} tokens can be drawn)"
