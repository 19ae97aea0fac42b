"""Many prompts at once, or one text as it grows: vLLM's `LLM`. Unit 4.3.

llm = LLM("model")
for output in llm.generate(["def read(", "class Node:"], SamplingParams(max_tokens=40)):
    print(output.outputs[0].text)
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Row
from pathlib import Path

import torch

from .engine import Engine, EngineConfig
from .errors import RequestError
from .output import RequestOutput
from .sampling import SamplingParams
from .speculative import Proposer

Prompt = str | Row[int]


class LLM:
    """An engine, and a loop around it."""

    def __init__(
        self,
        model: Path | str | Engine,
        config: EngineConfig | None = None,
        proposer: Proposer | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        """model: a folder with a checkpoint, or an engine. Raises `LoadError`."""
        self.engine = (
            model
            if isinstance(model, Engine)
            else Engine.from_folder(model, config, proposer, dtype, device)
        )

    def generate(
        self,
        prompts: Prompt | Row[Prompt],
        params: SamplingParams | Row[SamplingParams] | None = None,
        progress: bool = False,
    ) -> list[RequestOutput]:
        """All answers, in the order of the prompts. params: one for all, or one for each.

        Raises `RequestError`, with the number of the prompt, before anything is computed. Requests
        that others have added to the same engine get on beside these.
        """
        if isinstance(prompts, str) or (len(prompts) and isinstance(prompts[0], int)):
            prompts = [prompts]  # type: ignore[list-item]
        settings = params if isinstance(params, (list, tuple)) else [params] * len(prompts)
        if len(settings) != len(prompts):
            raise RequestError(
                f"{len(prompts)} prompts and {len(settings)} settings",
                "each prompt has its own, or all have one",
                "one SamplingParams, or a list as long as the prompts",
            )
        names: list[str] = []
        for number, (prompt, setting) in enumerate(zip(prompts, settings, strict=True)):
            try:
                names.append(self.engine.add_request(prompt, setting))  # type: ignore[arg-type]
            except RequestError as error:
                for name in names:
                    self.engine.abort(name)
                error.args = (f"prompt {number}: {error.args[0]}",)
                raise
        done = self._run(names, progress)
        return [done[name] for name in names]

    def _run(self, names: list[str], progress: bool) -> dict[str, RequestOutput]:
        from tqdm.auto import tqdm

        done: dict[str, RequestOutput] = {}
        wanted = set(names)
        with tqdm(total=len(names), unit="request", disable=not progress) as bar:
            try:
                while wanted - done.keys():
                    for output in self.engine.step():
                        if output.request_id in wanted and output.finished:
                            done[output.request_id] = output
                            bar.update()
            except BaseException:  # Ctrl-C, or a model that fails: nothing is left in the engine
                for name in wanted - done.keys():
                    self.engine.abort(name)
                raise
        return done

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Iterator[str]:
        """The text of one prompt, piece by piece. A loop that is left ends the request."""
        name = self.engine.add_request(prompt, params, stream=True)
        return self._pieces(name)

    def _pieces(self, name: str) -> Iterator[str]:
        try:
            while name in self.engine.requests:
                for output in self.engine.step():
                    if output.request_id == name and output.outputs[0].delta:
                        yield output.outputs[0].delta
        finally:
            self.engine.abort(name)
