"""The benchmark of the engine runs, and what is stored of it holds what chapter 4 promises."""

import importlib.util
import sys

import pytest

import by_path
from aiinfra_labs.course.measured import measured


@pytest.fixture
def benchmark(root, monkeypatch):
    folder = root / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return by_path.loaded(folder / "serving.py")


def test_the_systems_answer_alike(benchmark):
    """Both are greedy on the same weights: the same tokens, up to a tie that rounding decides."""
    ours = benchmark.measured("engine", 8, quick=True)
    theirs = benchmark.measured("transformers static", 4, quick=True)
    alike = [a == b for a, b in zip(ours["ids"], theirs["ids"], strict=True)]
    assert sum(alike) >= len(alike) - 1
    for found in (ours, theirs):
        assert 0 < found["first_token_seconds"]["mean"] < found["seconds"]
        assert found["new_tokens_a_second"] > 0 and found["peak_memory_mb"] > 0


def test_the_share_of_planning(benchmark, root):
    systems = sys.modules.get("serving_systems") or importlib.import_module("serving_systems")
    from aiinfra_labs.llm import page_model

    found = systems.planning(page_model.folder(), sequences=4, steps=3)
    assert 0 < found["plan"] < found["all_but_the_model"] < 1


def test_a_gguf_file_holds_the_weights(tmp_path, benchmark):
    pytest.importorskip("gguf")
    from aiinfra_labs.llm import page_model
    from serving_gguf import write

    assert write(page_model.folder()).stat().st_size > 4 * page_model.card()["parameters"]


def test_what_is_stored_is_what_was_promised(benchmark):
    """At least 3 times static batches, ahead of transformers' continuous ones, near llama.cpp."""
    found = measured("serving")[0]
    assert found["machine"]["threads"] and found["requests"]["count"] == 112
    systems = found["systems"]
    assert systems["transformers static"]["engine_is_times_as_fast"] >= 3
    assert systems["transformers continuous"]["engine_is_times_as_fast"] > 1
    assert systems["llama.cpp"]["engine_is_times_as_fast"] > 1 / 1.5
    assert found["planning"]["plan"] < 0.05
    assert found["planning"]["sequences"] == 256
    for one in systems.values():
        assert one["answers_equal_to_the_engines"] > 0.8
