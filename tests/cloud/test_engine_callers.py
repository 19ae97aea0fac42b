"""Many callers of one engine: each gets all that is its own, and nobody waits for ever."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import pytest

from aiinfra_labs.cloud.serving.async_engine import AsyncEngine
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.errors import RequestError, ServingError
from aiinfra_labs.cloud.serving.llm import LLM
from aiinfra_labs.cloud.serving.sampling_params import SamplingParams
from aiinfra_labs.cloud.serving.turns import Turns
from aiinfra_labs.llm import page_model


def engine_of(llama, **changed):
    changed = {"num_blocks": 128, "block_size": 4, "attention": "torch"} | changed
    return Engine(llama[1], None, EngineConfig(**changed))


@pytest.fixture(scope="module")
def course():
    return LLM(page_model.folder(), EngineConfig(num_blocks=128, attention="torch"))


PROMPTS = ["def read(path):\n", "class Node:\n", "import os\n"]


@pytest.fixture(scope="module")
def texts(course):
    outputs = course.generate(PROMPTS, SamplingParams(max_tokens=16))
    return [output.outputs[0].text for output in outputs]


# --- one thread -----------------------------------------------------------------------------------


def test_streams_that_are_read_in_turns(course, texts):
    """Of one LLM, and of another one on the same engine."""
    other = LLM(course.engine)
    streams = [
        llm.stream(prompt, SamplingParams(max_tokens=16))
        for llm, prompt in zip((course, course, other), PROMPTS, strict=True)
    ]
    found = [""] * 3
    for pieces in zip_longest(*streams, fillvalue=""):
        found = [text + piece for text, piece in zip(found, pieces, strict=True)]
    assert found == texts and not course.engine.unfinished


def test_generate_within_a_stream(course, texts):
    text = ""
    for i, piece in enumerate(course.stream(PROMPTS[0], SamplingParams(max_tokens=16))):
        text += piece
        if i == 2:
            (inner,) = course.generate(PROMPTS[1], SamplingParams(max_tokens=16))
    assert text == texts[0] and inner.outputs[0].text == texts[1]


def test_what_ends_in_anothers_steps_is_returned_later(course, texts):
    """A request of the engine's own, ended by the steps of an LLM."""
    engine = course.engine
    engine.add_request(PROMPTS[0], SamplingParams(max_tokens=16), "mine", stream=True)
    course.generate(PROMPTS[1], SamplingParams(max_tokens=30))
    assert engine.unfinished == 1  # its last output is not taken
    outputs = engine.step()
    assert "".join(o.outputs[0].delta for o in outputs) == texts[0]
    assert outputs[-1].finished and not engine.unfinished


@pytest.mark.parametrize("how", ["close", "with", "forget", "leave a loop"])
def test_a_stream_that_nobody_reads_is_no_request(llama, how):
    engine = engine_of(llama)
    pieces = LLM(engine).stream([1, 2, 3], SamplingParams(max_tokens=100))
    assert engine.unfinished == 1
    if how == "close":
        pieces.close()
    elif how == "with":
        with pieces:
            pass
    elif how == "leave a loop":
        engine.tokenizer = None
        for _ in range(3):
            engine.step()
    del pieces
    gc.collect()
    assert not engine.unfinished and not engine.blocks.used


def test_a_stream_is_refused_when_it_is_asked_for(llama):
    llm = LLM(engine_of(llama))
    with pytest.raises(RequestError, match="empty"):
        llm.stream([])
    with pytest.raises(RequestError, match="a stream of 2 samples"):
        llm.stream([1], SamplingParams(1.0, n=2))
    assert not llm.engine.unfinished


# --- who aborts, and who is called ----------------------------------------------------------------


def test_an_observer_may_abort(llama):
    engine = engine_of(llama)
    engine.add_request([1, 2], SamplingParams(max_tokens=9), "x")
    engine.add_request([1, 3], SamplingParams(max_tokens=3), "y")
    engine.observers.append(lambda plan: engine.abort("x") if engine.steps == 3 else None)
    found = []
    while engine.unfinished:
        found += [o.request_id for o in engine.step()]
    assert found == ["y"] and not engine.blocks.used


def test_a_generate_whose_request_is_aborted_ends(llama):
    """By an observer; it would wait for ever for an answer that never comes."""
    engine = engine_of(llama)
    engine.observers.append(
        lambda plan: [engine.abort(n) for n in list(engine.requests)] if engine.steps == 3 else None
    )
    outputs = LLM(engine).generate([[1, 2], [3, 4]], SamplingParams(max_tokens=9))
    assert [o.outputs[0].finish_reason for o in outputs] == ["abort", "abort"]
    assert all(len(o.outputs[0].token_ids) == 3 for o in outputs)
    engine.steps = 0
    assert list(LLM(engine).stream([1, 2], SamplingParams(max_tokens=9))) == []


def test_an_aborted_beam_search_gives_its_beams(llama):
    engine = engine_of(llama)
    engine.add_request([1, 2], SamplingParams(beam_width=3, max_tokens=9), "x")
    for _ in range(3):
        engine.step()
    out = engine.abort("x")
    assert [len(o.token_ids) for o in out.outputs] == [3, 3, 3]
    assert all(o.finish_reason == "abort" for o in out.outputs)


def test_an_observer_that_fails_ends_no_request(llama):
    engine = engine_of(llama)
    engine.observers.append(lambda plan: 1 / 0)
    with pytest.warns(UserWarning, match="an observer of the engine failed"):
        outputs = LLM(engine).generate([[1, 2], [3, 4]], SamplingParams(max_tokens=3))
    assert [len(o.outputs[0].token_ids) for o in outputs] == [3, 3]


def test_a_step_within_a_step_is_refused(llama):
    engine, errors = engine_of(llama), []

    def observer(plan):
        try:
            engine.step()
        except ServingError as error:
            errors.append(str(error))

    engine.observers.append(observer)
    engine.add_request([1, 2], SamplingParams(max_tokens=2))
    (out,) = [o for _ in range(2) for o in engine.step()]
    assert len(out.outputs[0].token_ids) == 2
    assert len(errors) == 2 and errors[0].startswith("a step within a step\nWhy:")


def test_an_outbox_that_fails_ends_its_own_request(llama):
    engine = engine_of(llama)
    engine.add_request([1, 2], SamplingParams(max_tokens=50), stream=True, deliver=lambda o: 1 / 0)
    engine.add_request([3, 4], SamplingParams(max_tokens=4), "other")
    with pytest.warns(UserWarning, match="cannot be delivered"):
        done = [o.request_id for _ in range(5) for o in engine.step()]
    assert done == ["other"] and not engine.unfinished and not engine.blocks.used


# --- threads --------------------------------------------------------------------------------------


def test_threads_share_an_engine(llama):
    llm, params = LLM(engine_of(llama, num_blocks=400)), SamplingParams(max_tokens=12)
    prompts = {k: [[k, 2, i] for i in range(8)] for k in range(4)}
    with ThreadPoolExecutor(4) as pool:
        found = dict(
            zip(prompts, pool.map(lambda p: llm.generate(p, params), prompts.values()), strict=True)
        )
        streamed = list(pool.map(lambda k: len(list(llm.stream([k], params))), range(4)))
    assert streamed == [0] * 4  # there is no tokenizer, and so no text
    for k, outputs in found.items():
        alone = LLM(engine_of(llama)).generate(prompts[k], params)
        assert [o.outputs[0].token_ids for o in outputs] == [o.outputs[0].token_ids for o in alone]
    assert not llm.engine.unfinished and not llm.engine.blocks.used


def test_a_thread_that_fails_takes_its_own_requests_with_it(llama):
    llm, params = LLM(engine_of(llama)), SamplingParams(max_tokens=20)

    def work(k):
        try:
            prompts = [[k, 1], [k, 2], [] if k % 2 else [k]]
            return len(llm.generate(prompts, params))
        except RequestError:
            return "refused"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [3, "refused", 3, "refused"]
    assert not llm.engine.unfinished


def test_turns_are_given_in_the_order_of_asking():
    turns, order, ready = Turns(), [], threading.Semaphore(0)

    def wait(k):
        ready.release()
        with turns, turns:  # again, by who has it
            order.append(k)

    threads = [threading.Thread(target=wait, args=(k,)) for k in range(5)]
    with turns:
        for count, thread in enumerate(threads, 1):
            thread.start()
            ready.acquire()
            while len(turns._waiting) < count:
                pass
        assert not order
    [thread.join() for thread in threads]
    assert order == [0, 1, 2, 3, 4] and turns._owner is None


# --- async ----------------------------------------------------------------------------------------


def in_a_loop(what):
    with ThreadPoolExecutor(1) as thread:  # a browser's test may have left a loop in this one
        return thread.submit(lambda: asyncio.run(asyncio.wait_for(what(), 60))).result()


async def last_of(engine, prompt, **settings):
    return [out async for out in engine.generate(prompt, SamplingParams(**settings))][-1]


def test_an_async_caller_whose_request_is_aborted_ends(llama):
    async def everything():
        inner = engine_of(llama)
        inner.observers.append(lambda plan: inner.abort("0") if inner.steps == 3 else None)
        engine = AsyncEngine(inner)
        try:
            return await last_of(engine, [1, 2], max_tokens=50)
        finally:
            engine.close()

    assert in_a_loop(everything).outputs[0].finish_reason == "abort"


def test_callers_of_an_engine_that_is_closed_wait_no_longer(llama):
    """Those it serves, and those whom its thread has not seen yet."""

    async def everything():
        inner = engine_of(llama)
        engine = AsyncEngine(inner)
        tasks = [asyncio.create_task(last_of(engine, [1, k], max_tokens=90)) for k in range(3)]
        while len(inner.requests) < 3:
            await asyncio.sleep(0.001)
        with inner.turns:  # the thread waits for its turn, and sees nobody else
            late = [asyncio.create_task(last_of(engine, [2, k], max_tokens=9)) for k in range(3)]
            await asyncio.sleep(0.01)
            closing = threading.Thread(target=engine.close)
            closing.start()
            await asyncio.sleep(0.01)
        found = await asyncio.gather(*tasks, *late, return_exceptions=True)
        closing.join()
        return found, inner

    found, inner = in_a_loop(everything)
    assert all(isinstance(f, ServingError) and "closed" in str(f) for f in found)
    assert not inner.unfinished and not inner.blocks.used


def test_an_llm_beside_an_async_engine(llama):
    async def everything():
        inner = engine_of(llama)
        engine = AsyncEngine(inner)
        try:
            task = asyncio.create_task(last_of(engine, [1, 2], max_tokens=20))
            own = await asyncio.to_thread(
                LLM(inner).generate, [[1, 2]], SamplingParams(max_tokens=20)
            )
            return (await task).outputs[0].token_ids, own[0].outputs[0].token_ids
        finally:
            engine.close()

    one, other = in_a_loop(everything)
    assert one == other and len(one) == 20
