"""The systems that `serving.py` compares, each as a function from requests to what came when.

All have the course's model in float32, take the likeliest token, ignore ends of text, and use the
same number of threads. A request is (prompt ids, new tokens); all are there from the beginning.
Each function returns one `Answer` a request; times are seconds since the first request was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from aiinfra_labs.cloud.serving.scheduler import Plan

Request = tuple[list[int], int]
clock = time.perf_counter  # seconds; `serving_processor.py` takes the processor's


@dataclass
class Answer:
    """New tokens, and when the first and the last were known."""

    ids: list[int]
    first: float
    last: float


def ours(
    folder: Path,
    requests: list[Request],
    slots: int,
    static: bool = False,
    attention: str = "auto",
) -> tuple[list[Answer], dict[str, float]]:
    """The course's engine. static: in static batches, to tell batching from the rest."""
    from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
    from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
    from aiinfra_labs.cloud.serving.scheduler import Scheduler, StaticScheduler

    tokens = sum(len(prompt) + new for prompt, new in requests)
    config = EngineConfig(
        num_blocks=min(tokens // 16 + len(requests), slots * 64),
        max_step_tokens=100_000 if static else 512,
        max_sequences=slots,
        attention=attention,
        scheduler=StaticScheduler if static else Scheduler,
    )
    engine = Engine.from_folder(folder, config)
    engine.add_request([8] * 40, SamplingParams(max_tokens=4, ignore_eos=True))
    while engine.unfinished:  # what is compiled is compiled before the clock runs
        engine.step()
    start = clock()
    answers = [Answer([], 0.0, 0.0) for _ in requests]
    asked = {}
    for number, (prompt, new) in enumerate(requests):
        params = SamplingParams(max_tokens=new, ignore_eos=True)
        asked[engine.add_request(prompt, params)] = number

    def note(plan: Plan) -> None:
        now = clock() - start
        for work in plan.work:
            if work.gives_logits or work.sequence.length:
                answer = answers[asked[work.sequence.request.id]]
                answer.first = answer.first or now
                answer.last = now

    engine.observers.append(note)
    while engine.unfinished:
        for output in engine.step():
            answers[asked[output.request_id]].ids = output.outputs[0].token_ids
    whole = clock() - start
    return answers, {"seconds": whole, "steps": engine.steps}


def ours_static(
    folder: Path, requests: list[Request], slots: int
) -> tuple[list[Answer], dict[str, float]]:
    """The course's engine with static batches."""
    return ours(folder, requests, slots, static=True)


def planning(folder: Path, sequences: int = 256, steps: int = 40) -> dict[str, float]:
    """What shares of a step go to the plan, and to all that is not the model: medians.

    So many sequences decode, each with a context of 64 to 319 tokens.
    """
    from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
    from aiinfra_labs.cloud.serving.sampling_params import SamplingParams

    config = EngineConfig(num_blocks=sequences * 24, max_step_tokens=4096, max_sequences=sequences)
    engine = Engine.from_folder(folder, config)
    chance = np.random.default_rng(0)
    for length in chance.integers(64, 320, sequences):
        prompt = chance.integers(8, 4096, length).tolist()
        engine.add_request(prompt, SamplingParams(max_tokens=steps + 60, ignore_eos=True))
    while engine.scheduler.waiting or any(s.missing > 1 for s in engine.scheduler.running):
        engine.step()
    spent = {"plan": 0.0, "model": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began = clock()
            found = function(*arguments)
            spent[name] = clock() - began
            return found

        return run

    engine.scheduler.schedule = timed("plan", engine.scheduler.schedule)  # type: ignore[method-assign]
    engine.runner.run = timed("model", engine.runner.run)  # type: ignore[method-assign]
    shares = []
    for _ in range(steps):
        began = clock()
        engine.step()
        whole = clock() - began
        shares.append((spent["plan"] / whole, 1 - spent["model"] / whole))
    plan, rest = np.median(shares, axis=0)
    return {"sequences": sequences, "plan": float(plan), "all_but_the_model": float(rest)}


def transformers_model(folder: Path) -> Any:
    """`transformers`' own model of the folder, which no token ends."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def transformers_static(
    folder: Path, requests: list[Request], slots: int
) -> tuple[list[Answer], dict[str, float]]:
    """`generate` on batches of `slots`, padded on the left; each goes on to its longest answer."""
    model = transformers_model(folder)
    one = torch.full((1, 40), 8)
    model.generate(one, attention_mask=torch.ones_like(one), max_new_tokens=4, do_sample=False)
    answers: list[Answer] = []
    start = clock()

    for first in range(0, len(requests), slots):
        batch = requests[first : first + slots]
        width = max(len(prompt) for prompt, _ in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, (prompt, _) in enumerate(batch):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        longest = max(new for _, new in batch)
        times: list[float] = []
        found = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=longest,
            do_sample=False,
            stopping_criteria=[_noting(times, start, len(batch))],
        )
        for row, (_, new) in enumerate(batch):
            new_ids = found[row, width : width + new].tolist()
            answers.append(Answer(new_ids, times[0], times[new - 1]))
    return answers, {"seconds": clock() - start}


def _noting(times: list[float], start: float, rows: int) -> Callable[..., torch.Tensor]:
    """A criterion that stops nothing, and notes when each step was done."""

    def criterion(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        times.append(clock() - start)
        return torch.zeros(rows, dtype=torch.bool)

    return criterion


def transformers_continuous(
    folder: Path, requests: list[Request], slots: int
) -> tuple[list[Answer], dict[str, float]]:
    """`transformers`' own continuous batching, as it chooses its cache and its budget."""
    from transformers import GenerationConfig

    model = transformers_model(folder)
    settings = GenerationConfig(
        max_new_tokens=8, do_sample=False, eos_token_id=-1, pad_token_id=0, use_cuda_graph=False
    )
    answers = [Answer([], 0.0, 0.0) for _ in requests]
    with model.continuous_batching_context_manager(generation_config=settings) as manager:
        manager.add_request([8] * 40, request_id="warm", max_new_tokens=4)
        while not (found := manager.get_result(timeout=60)) or not found.is_finished():
            pass
        start, wall = clock(), time.time()
        for number, (prompt, new) in enumerate(requests):
            manager.add_request(
                prompt, request_id=str(number), max_new_tokens=new, record_timestamps=True
            )
        done = 0
        while done < len(requests):
            found = manager.get_result(timeout=60)
            if found is None or not found.is_finished():
                continue
            if found.error:
                raise RuntimeError(found.error)
            done += 1
            times = list(found.timestamps)
            began = wall if times[0] > 1e9 else start  # whichever clock it notes
            answers[int(found.request_id)] = Answer(
                list(found.generated_tokens), times[0] - began, times[-1] - began
            )
        whole = clock() - start
    return answers, {"seconds": whole}


def llama_cpp(
    folder: Path, requests: list[Request], slots: int
) -> tuple[list[Answer], dict[str, float]]:
    """llama.cpp by its C interface: a loop as its own server has it, prompts before new tokens.

    A sequence that ends makes room in the next step, and up to 512 tokens go into one step.
    """
    import llama_cpp as c

    from serving_gguf import write

    file = write(folder)
    c.llama_backend_init()
    quiet = c.llama_log_callback(lambda *_: None)
    c.llama_log_set(quiet, None)
    settings = c.llama_model_default_params()
    model = c.llama_model_load_from_file(str(file).encode(), settings)
    wanted = c.llama_context_default_params()
    longest = max(len(prompt) + new for prompt, new in requests)
    wanted.n_ctx = slots * longest
    wanted.n_seq_max = slots
    wanted.n_batch = wanted.n_ubatch = 512
    wanted.n_threads = wanted.n_threads_batch = torch.get_num_threads()
    wanted.type_k = wanted.type_v = 0  # float32, as all others have it
    wanted.kv_unified = False  # faster here: with one cache, each sequence reads those of all
    context = c.llama_init_from_model(model, wanted)
    assert context, "llama.cpp made no context"
    memory = c.llama_get_memory(context)
    vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    batch = c.llama_batch_init(512, 0, 1)

    def run(tokens: list[tuple[int, int, int, bool]]) -> dict[int, int]:
        """(id, position, sequence, wanted) each: the likeliest next token of those wanted."""
        batch.n_tokens = len(tokens)
        for i, (id, position, sequence, asked) in enumerate(tokens):
            batch.token[i], batch.pos[i] = id, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = asked
        if failed := c.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode: {failed}")
        found = {}
        for i, (_, _, sequence, asked) in enumerate(tokens):
            if asked:
                row = np.ctypeslib.as_array(c.llama_get_logits_ith(context, i), (vocabulary,))
                found[sequence] = int(row.argmax())
        return found

    run([(8, i, 0, i == 39) for i in range(40)])
    c.llama_memory_seq_rm(memory, 0, -1, -1)
    answers = [Answer([], 0.0, 0.0) for _ in requests]
    waiting, idle = list(range(len(requests))), list(range(slots))
    running: dict[int, list[int]] = {}  # slot -> [request, tokens done]
    start = clock()
    while waiting or running:
        while waiting and idle:
            running[idle.pop(0)] = [waiting.pop(0), 0]
        tokens, room = [], 512
        ready = []
        for slot, (number, done) in sorted(running.items(), key=lambda r: -r[1][1]):
            prompt, answer = requests[number][0], answers[number]
            part = [answer.ids[-1]] if done >= len(prompt) else prompt[done : done + room]
            if not room:
                break
            last = done + len(part) >= len(prompt)
            tokens += [
                (id, done + i, slot, last and i == len(part) - 1) for i, id in enumerate(part)
            ]
            room -= len(part)
            running[slot][1] = done + len(part)
            if last:
                ready.append(slot)
        found = run(tokens)
        now = clock() - start
        for slot in ready:
            number = running[slot][0]
            answer = answers[number]
            answer.ids.append(found[slot])
            answer.first, answer.last = answer.first or now, now
            if len(answer.ids) == requests[number][1]:
                del running[slot]
                idle.append(slot)
                c.llama_memory_seq_rm(memory, slot, -1, -1)
    whole = clock() - start
    c.llama_batch_free(batch)
    c.llama_free(context)
    c.llama_model_free(model)
    return answers, {"seconds": whole}


SYSTEMS: dict[str, Callable[..., tuple[list[Answer], dict[str, float]]]] = {
    "transformers static": transformers_static,
    "transformers continuous": transformers_continuous,
    "llama.cpp": llama_cpp,
    "engine static": ours_static,
    "engine": ours,
}
