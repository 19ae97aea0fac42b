"""Many prompts at once, or one text as it grows: vLLM's `LLM`. Unit 4.3.

llm = LLM("model")
for output in llm.generate(["def read(", "class Node:"], SamplingParams(max_tokens=40)):
    print(output.outputs[0].text)

Each request has an outbox, into which the engine puts its outputs whoever steps it. So several
streams, calls from several threads, and a call within a loop over a stream may share one engine:
each steps it while its own outbox is empty, and all get on with every step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Row
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .chat_template import Message, chat_prompts
from .engine import Engine, EngineConfig
from .errors import RequestError, ServingError, quoted
from .output import RequestOutput
from .sampling_params import SamplingParams
from .speculative import Proposer

Prompt = str | Row[int]
VLLM_NAMES = {  # vLLM's name of a setting: EngineConfig's
    "max_num_seqs": "max_sequences",
    "max_num_batched_tokens": "max_step_tokens",
    "block_size": "block_size",
    "num_gpu_blocks_override": "num_blocks",
    "gpu_memory_utilization": "memory_share",
    "enable_prefix_caching": "prefix_caching",
    "enable_chunked_prefill": "chunked_prefill",
    "seed": "seed",
}


class LLM:
    """An engine, and a loop around it."""

    def __init__(
        self,
        model: Path | str | Engine,
        config: EngineConfig | None = None,
        proposer: Proposer | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str = "cpu",
        **settings: Any,
    ):
        """model: a folder with a checkpoint, or an engine. settings: of the engine, by vLLM's names
        (`VLLM_NAMES`) or by those of `EngineConfig`. Raises `LoadError` and `ServingError`.
        """
        if isinstance(model, Engine):
            if config or proposer or settings:
                raise ServingError(
                    f"an engine, and settings for one: {', '.join(settings) or 'config, proposer'}",
                    "it was built with its own",
                    "the folder of the checkpoint in its place, or no settings",
                )
            self.engine = model
        else:
            # Without a number of blocks, as many as the free memory has room for.
            config = _configured(config or EngineConfig(num_blocks=None), settings)
            self.engine = Engine.from_folder(model, config, proposer, _dtype(dtype), device)

    def generate(
        self,
        prompts: Prompt | Row[Prompt],
        params: SamplingParams | Row[SamplingParams] | None = None,
        progress: bool = False,
    ) -> list[RequestOutput]:
        """All answers, in the order of the prompts. params: one for all, or one for each; without
        any, the model's recommended ones.

        Raises `RequestError`, with the number of the prompt, before anything is computed. Where an
        answer fails later, its finish_reason is "error" and the others are whole; raises
        `ServingError` if all fail.
        """
        prompts = _listed(prompts)
        settings = params if isinstance(params, (list, tuple)) else [params] * len(prompts)
        if len(settings) != len(prompts):
            raise RequestError(
                f"{len(prompts)} prompts and {len(settings)} settings",
                "each prompt has its own, or all have one",
                "one SamplingParams, or a list as long as the prompts",
            )
        outbox: deque[RequestOutput] = deque()
        names: list[str] = []
        done: dict[str, RequestOutput] = {}
        try:
            for number, (prompt, setting) in enumerate(zip(prompts, settings, strict=True)):
                try:
                    name = self.engine.add_request(prompt, setting, deliver=outbox.append)
                except ServingError as error:
                    error.belongs_to(f"prompt {number}")
                    raise
                names.append(name)
            self._run(len(names), outbox, done, progress)
        finally:  # also Ctrl-C, or a model that fails: nothing is left in the engine
            for name in names:
                if name not in done:
                    self.engine.abort(name)
        outputs = [done[name] for name in names]
        if outputs and all(output.error for output in outputs):
            raise ServingError(*parts(outputs[0].error or ""))
        return outputs

    def chat(
        self,
        messages: Row[Message] | Row[Row[Message]],
        params: SamplingParams | Row[SamplingParams] | None = None,
        progress: bool = False,
        add_generation_prompt: bool = True,
        tools: Row[dict[str, Any]] | None = None,
        chat_template: str | None = None,
        **template_settings: Any,
    ) -> list[RequestOutput]:
        """Answers to one chat, or to several: lists of {"role": ..., "content": ...}.

        They are written as the checkpoint's chat template says (`chat_template`). The other
        arguments are `generate`'s. Raises `RequestError` before anything is computed.
        """
        prompts = chat_prompts(
            self.engine.tokenizer,
            messages,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            template=chat_template,
            **template_settings,
        )
        return self.generate(prompts, params, progress)

    def _run(
        self,
        count: int,
        outbox: deque[RequestOutput],
        done: dict[str, RequestOutput],
        progress: bool,
    ) -> None:
        from tqdm.auto import tqdm

        with tqdm(total=count, unit="request", disable=not progress) as bar:
            while len(done) < count:
                output = _next(self.engine, outbox)
                if output.finished:
                    done[output.request_id] = output
                    bar.update()

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> Stream:
        """The text of one prompt, piece by piece. A loop that is left ends the request.

        Raises `RequestError` at once; while it is read, `ServingError` if the answer fails.
        """
        if params is not None and isinstance(params, SamplingParams) and params.n > 1:
            raise RequestError(
                f"a stream of {params.n} samples",
                "its pieces are those of one text",
                "n=1, or engine.add_request(..., stream=True) and engine.step()",
            )
        return Stream(self.engine, prompt, params)


class Stream(Iterator[str]):
    """The pieces of one text. `close`, the end of a `with`, or nobody who holds it any more: all
    end its request."""

    def __init__(self, engine: Engine, prompt: Prompt, params: SamplingParams | None):
        self.engine = engine
        self.outbox: deque[RequestOutput] = deque()
        self.name: str | None = None
        self.name = engine.add_request(prompt, params, stream=True, deliver=self.outbox.append)

    def __next__(self) -> str:
        while self.name is not None:
            try:
                output = _next(self.engine, self.outbox)
            except BaseException:
                self.close()
                raise
            if output.finished:
                self.name = None
            if output.error:
                raise ServingError(*parts(output.error))
            if output.outputs and output.outputs[0].delta:
                return output.outputs[0].delta
        raise StopIteration

    def close(self) -> None:
        """End the request, if it goes on; what it has not given out is dropped."""
        name, self.name = self.name, None
        if name is not None:
            self.engine.abort(name)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "name", None) is not None:  # in the middle of anything: nobody may wait
            self.engine.abandon(self.name)  # type: ignore[arg-type]


def _next(engine: Engine, outbox: deque[RequestOutput]) -> RequestOutput:
    """What lies in the outbox; while nothing does, the engine is stepped."""
    while not outbox:
        with engine.turns:  # another thread may have stepped while this one waited
            if not outbox:
                engine.run_step()
    return outbox.popleft()


def _listed(prompts: Any) -> Row[Prompt]:
    """One prompt, or several: as a list."""
    if isinstance(prompts, str):
        return [prompts]
    if hasattr(prompts, "tolist"):  # a tensor or an array: of ids, or of rows of them
        prompts = prompts.tolist()
    if not isinstance(prompts, Row) or isinstance(prompts, (bytes, bytearray)):
        raise RequestError(
            f"the prompts are {quoted(prompts)}",
            "each is a text, or a list of ids",
            "a list of them",
        )
    one = len(prompts) and all(
        hasattr(id, "__index__") and not hasattr(id, "__len__") for id in prompts
    )
    return [prompts] if one else prompts


def _configured(config: EngineConfig, settings: dict[str, Any]) -> EngineConfig:
    """The configuration with settings by name. Raises `ServingError` for a name it has not."""
    known = set(config.__dataclass_fields__)
    for name in settings:
        if VLLM_NAMES.get(name, name) not in known:
            raise ServingError(
                f"LLM has no setting {quoted(name)}",
                "the engine could not keep to it",
                f"one of {', '.join(dict.fromkeys((*VLLM_NAMES, *sorted(known))))}",
            )
    return replace(config, **{VLLM_NAMES.get(name, name): v for name, v in settings.items()})


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    """ "bfloat16" as vLLM writes it, or torch.bfloat16."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ServingError(
            f"dtype is {quoted(dtype)}",
            "weights are kept as floating-point numbers",
            '"float32", "bfloat16" or "float16"',
        )
    return found


def parts(message: str) -> tuple[str, str, str]:
    """The three parts of an error that an answer brought with it."""
    what, _, rest = message.partition("\nWhy: ")
    why, _, try_ = rest.partition("\nTry: ")
    return (
        what,
        why or "something that belongs to this request alone failed in a step",
        try_ or "the request without its own code, such as a logits processor",
    )
