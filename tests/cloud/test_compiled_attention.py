"""The compiled attention among threads, forks, and folders that cannot be written."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from test_paged_attention import case, in_one_piece

from aiinfra_labs.cloud.serving.attention import ATTENTIONS, attention_named, decode_loop
from aiinfra_labs.cloud.serving.attention.gathered import gathers_of
from aiinfra_labs.cloud.serving.errors import ServingError

MIXED = [(1, n) for n in (1, 700, 3, 90, 2, 17, 300)] + [(3, 40), (20, 20)]

ENGINES = """
import os, sys, threading
import torch
torch.set_num_threads(2)
from aiinfra_labs.cloud.serving.attention import decode_loop
from aiinfra_labs.cloud.serving.engine import Engine, EngineConfig
from aiinfra_labs.cloud.serving.model import CausalLM, ModelConfig
from aiinfra_labs.cloud.serving.sampling import SamplingParams

decode_loop.LEAST = 1  # threads for however little

def engine():
    torch.manual_seed(0)
    model = CausalLM(ModelConfig(97, 32, 48, 2, 4, 2, 8, 128)).eval().requires_grad_(False)
    return Engine(model, None, EngineConfig(num_blocks=200, block_size=4))

def answer(engine):
    for i in range(6):
        engine.add_request([1, 2, i], SamplingParams(max_tokens=60))
    found = {}
    while engine.unfinished:
        for output in engine.step():
            found[int(output.request_id) % 6] = output.outputs[0].token_ids
    return found
"""
TWO_THREADS = """
engines, found = [engine() for _ in range(2)], []
threads = [threading.Thread(target=lambda e=e: found.append(answer(e))) for e in engines]
[t.start() for t in threads]
[t.join() for t in threads]
assert found[0] == found[1] and len(found[0]) == 6
"""
FORK = """
used = engine()
expected = answer(used)
child = os.fork()
if not child:
    torch.set_num_threads(1)  # PyTorch's own threads stay with the parent
    os._exit(0 if answer(used) == expected else 3)
assert os.waitpid(child, 0)[1] == 0
assert answer(used) == expected
"""


def run(code, timeout=120, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_two_engines_in_two_threads(layer):
    run(ENGINES + TWO_THREADS, NUMBA_THREADING_LAYER=layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_after_use():
    """It ends, and answers as its parent: no thread is waited for that only the parent has."""
    run(ENGINES + FORK)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_number_of_threads_gives_the_same(monkeypatch, threads):
    monkeypatch.setattr(decode_loop, "LEAST", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    query, keys, values, layout = case(MIXED, 16)
    found = ATTENTIONS["compiled"](query, keys, values, layout)
    assert torch.allclose(found, in_one_piece(query, keys, values, layout), atol=1e-5)


def test_many_threads_at_once():
    query, keys, values, layout = case(MIXED, 16)
    expected = in_one_piece(query, keys, values, layout)
    found = []

    def attend():
        for _ in range(20):
            found.append(ATTENTIONS["compiled"](query, keys, values, layout))

    threads = [threading.Thread(target=attend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(torch.allclose(one, expected, atol=1e-5) for one in found)


COMPILED = """
import logging, numpy as np
logging.basicConfig(level=logging.INFO)
from aiinfra_labs.cloud.serving.attention import decode_loop
loop = decode_loop.compiled()
numbers = np.zeros(1, np.int64)
cache = np.ones((1, 2, 1, 4), np.float32)
for tokens in (1, 2):  # one token is laid out in another way than a part of many
    query = np.ones((tokens, 3, 4), np.float32)[:, :1]
    out = np.zeros((tokens, 1, 4), np.float32)
    seen = numbers, numbers + 1
    loop(query, cache, cache, numbers, numbers, *seen, np.zeros((1, 1), np.int32), out, 0, 1)
    assert (out[0] == 1).all()
assert len(loop.overloads) == 1
"""


def test_it_says_that_it_compiles_and_compiles_once(tmp_path):
    first = run(COMPILED, NUMBA_CACHE_DIR=str(tmp_path))
    assert "compiling the attention loop" in first.stderr
    assert list(tmp_path.rglob("*.nbi"))
    again = run(COMPILED, NUMBA_CACHE_DIR=str(tmp_path))
    assert "compiling" not in again.stderr


def in_a_notebook(code, **environment):
    """What a cell writes to its error output, in a kernel of its own."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client = NotebookClient(notebook, timeout=600, startup_timeout=600, kernel_name="python3")
    client.execute(env=environment)
    outputs = notebook.cells[0].outputs
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stderr")


def test_a_notebook_shows_that_it_compiles_the_first_time(tmp_path):
    code = COMPILED.replace("logging.basicConfig(level=logging.INFO)\n", "")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    quiet = environment | {"NUMBA_CACHE_DIR": str(tmp_path / "other"), "AIINFRA_QUIET": "1"}
    assert in_a_notebook(code, **environment).count("compiling the attention loop") == 1
    assert in_a_notebook(code, **environment) == ""
    assert in_a_notebook(code, **quiet) == ""


def test_what_is_kept_may_be_damaged(tmp_path):
    run(COMPILED, NUMBA_CACHE_DIR=str(tmp_path))
    for file in tmp_path.rglob("*.nb?"):
        file.write_bytes(file.read_bytes()[:40])
    run(COMPILED, NUMBA_CACHE_DIR=str(tmp_path))


def test_no_folder_can_be_written(tmp_path):
    """As in an image whose files belong to another user: it compiles, and keeps nothing."""
    (tmp_path / "file").write_text("")
    nowhere = "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
    done = run(nowhere + COMPILED)
    assert "compiled code is not kept" in done.stderr


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", torch.bfloat16), ("cpu", torch.float16), ("cuda", torch.float32)]
)
def test_what_the_loop_cannot_read_is_refused_at_once(device, dtype):
    with pytest.raises(ServingError, match="'compiled' for"):
        attention_named("compiled", torch.device(device), dtype)


def test_indices_and_masks_are_made_once_a_step():
    query, keys, values, layout = case(MIXED, 16)
    ATTENTIONS["torch"](query, keys, values, layout)
    made = gathers_of(layout, query.device, query.dtype)
    ATTENTIONS["torch"](query, keys, values, layout)  # as another layer
    assert gathers_of(layout, query.device, query.dtype) is made
    other = gathers_of(layout, query.device, torch.bfloat16)
    assert other is not made and other.groups[0].mask.dtype == torch.bfloat16
    tokens = np.concatenate([group.tokens.numpy() for group in made.groups])
    assert sorted(tokens) == [
        i for i, n in zip(layout.starts, layout.queries, strict=True) if n == 1
    ]
