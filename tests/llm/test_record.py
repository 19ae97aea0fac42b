"""What is noted of a run is what MLflow reads, whole and once, however often it was killed."""

import os
import warnings

import pytest

from aiinfra_labs.llm import record
from aiinfra_labs.llm.training import Step

mlflow = pytest.importorskip("mlflow")

PARAMETERS = {"steps": 6, "betas": (0.9, 0.95), "precision": "float32"}
STEPS = [Step(n, 5.0 - n / 2, 1.0 + n, 0.1 * n) for n in range(6)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One file for all tests: making its tables takes seconds."""
    return tmp_path_factory.mktemp("record") / "runs.db"


def reader(store):
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}")


def found(store, name):
    client = reader(store)
    home = client.get_experiment_by_name(record.EXPERIMENT).experiment_id
    (run,) = (r for r in client.search_runs([home]) if r.info.run_name == name)
    return client, run


def test_mlflow_reads_what_was_noted(store):
    with record.run(store, "whole", PARAMETERS) as note:
        for step in STEPS:
            note(step)
    client, run = found(store, "whole")
    assert run.info.status == "FINISHED"
    assert run.data.params == {key: str(value) for key, value in PARAMETERS.items()}
    for metric, value in (("loss", 2.5), ("norm", 6.0), ("rate", 0.5)):
        history = client.get_metric_history(run.info.run_id, metric)
        assert [point.step for point in history] == list(range(6))
        assert history[-1].value == pytest.approx(value)
    assert record.curve(store, "whole") == [(s.number, s.loss) for s in STEPS]
    assert record.curve(store, "whole", "norm")[2] == (2, 3.0)


def test_a_run_goes_on_and_notes_no_step_twice(store):
    with pytest.raises(KeyboardInterrupt), record.run(store, "killed", PARAMETERS) as note:
        for step in STEPS[:4]:
            note(step)
        raise KeyboardInterrupt
    assert found(store, "killed")[1].info.status == "KILLED"
    with record.run(store, "killed", PARAMETERS) as note:
        for step in STEPS[2:]:  # its last checkpoint was of step 1
            note(step)
    client, run = found(store, "killed")
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(6))


def test_a_run_that_fails_says_so(store):
    with pytest.raises(RuntimeError), record.run(store, "failed", PARAMETERS):
        raise RuntimeError
    assert found(store, "failed")[1].info.status == "FAILED"


def test_other_parameters_need_another_name(store):
    with record.run(store, "one recipe", PARAMETERS) as note:
        note(STEPS[0])
    with (
        pytest.raises(ValueError, match="has other parameters: steps"),
        record.run(store, "one recipe", PARAMETERS | {"steps": 7}),
    ):
        pass
    assert record.curve(store, "one recipe") == [(0, 5.0)]


def test_a_run_or_a_file_that_is_not_there(store, tmp_path):
    with pytest.raises(ValueError, match="runs.db has no run 'x'"):
        record.curve(store, "x")
    with pytest.raises(ValueError, match="there is no none.db"):
        record.curve(tmp_path / "none.db", "x")
    assert list(tmp_path.glob("*.db")) == []


def test_nothing_is_reported_over_the_network(store):
    record.curve(store, "whole")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.telemetry.utils import is_telemetry_disabled
    assert is_telemetry_disabled()
