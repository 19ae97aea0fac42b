"""Unit 1.7: what its benchmarks stored is what their code makes, and they run."""

import json
from dataclasses import asdict

import pytest

import by_path
from aiinfra_labs.course.measured import measured
from aiinfra_labs.llm.deepseek import balance_study, reasoner


@pytest.fixture
def benchmark_of(root):
    def load(name):
        return by_path.loaded(root / "benchmarks" / f"{name}.py")

    return load


def plain(value):
    return json.loads(json.dumps(value))


def test_the_stored_loads_are_of_this_recipe(benchmark_of):
    found, script = measured("experts")[0], benchmark_of("experts")
    assert found["config"] == plain(balance_study.CONFIG.to_dict())
    assert found["recipe"] == plain(asdict(script.RECIPE))
    assert {n: (w["alpha"], w["gamma"]) for n, w in found["ways"].items()} == {
        name: (way.alpha, way.gamma) for name, way in balance_study.WAYS.items()
    }
    every_token = found["every"] * found["recipe"]["batch"] * found["recipe"]["context"] * 6
    for way in found["ways"].values():
        run = way["runs"][0]
        assert all(sum(layer) == every_token for row in run["load"] for layer in row)
        for layer in run["held_out_load"]:
            assert sum(layer) == found["held_out_tokens"] * 6
        worst = [max(layer) * len(layer) / sum(layer) - 1 for layer in run["held_out_load"]]
        assert run["held_out_violation"] == pytest.approx(sum(worst) / 2, abs=1e-3)


def test_the_stored_rewards_are_of_this_recipe(benchmark_of):
    found, script = measured("reasoner")[0], benchmark_of("reasoner")
    assert found["warm_up"] == plain(asdict(script.WARM))
    assert found["reinforcement"] == plain(asdict(script.LEARN))
    assert list(found["ways"]) == list(script.WAYS)
    assert found["parameters"] == reasoner.new_model().parameter_count()


def test_the_stored_models_are_before_and_after():
    """On held-out questions, other ones than the benchmark asked."""
    before, after = (
        reasoner.evaluate(reasoner.load_stored(name), 6, count=200, seed=99)
        for name in ("before", "after")
    )
    assert before.sampled < 0.45 and after.sampled > 0.9
    assert before.length < 3.5 and after.length > 5.5


def test_the_benchmark_of_rewards_runs(benchmark_of, tmp_path, monkeypatch):
    script = benchmark_of("reasoner")
    for name in list(script.WAYS)[1:3]:
        monkeypatch.delitem(script.WAYS, name)
    out = tmp_path / "found.json"
    script.measure(True, 1, tmp_path, out)
    found = json.loads(out.read_text())
    assert [len(runs) for runs in found["ways"].values()] == [1, 1]
    assert len(found["ways"]["no examples"][0]["right"]) == 2
    assert (tmp_path / "reasoner_after.safetensors").is_file()
