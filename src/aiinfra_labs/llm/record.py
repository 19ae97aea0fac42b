"""A training run's record in MLflow's format: one SQLite file beside the run. Unit 1.4.

    with record.run(folder / "runs.db", "small", asdict(recipe)) as note:
        for step in training.train(model, batches, recipe, on_step=note, file=file):
            ...

`mlflow ui --backend-store-uri sqlite:///runs.db` (of the whole `mlflow` package) draws it, and
anything else that speaks MLflow reads it. Nothing leaves the machine.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .training import Step

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "aiinfra-labs"


@contextmanager
def run(file: Path, name: str, parameters: dict[str, Any]) -> Iterator[Callable[[Step], None]]:
    """A run to note steps in: loss, norm of the gradients, learning rate.

    A run of this name that is in the file goes on: steps that it has are not noted twice, as when
    the training was killed after its last checkpoint. Whether it ended well is noted as well.
    Raises ValueError where that run had other parameters.
    """
    from mlflow.entities import Metric, Param

    client = _client(file)
    id, last = _begin(client, file, name)
    texts = {key: str(value) for key, value in parameters.items()}
    known = client.get_run(id).data.params
    if known and known != texts:
        other = sorted(k for k in known.keys() | texts if known.get(k) != texts.get(k))
        raise ValueError(
            f"the run {name!r} in {file.name} has other parameters: {', '.join(other)}\n"
            "Why: one run is one recipe, or its curve means nothing\n"
            "Try: another name for the run"
        )
    if not known:
        client.log_batch(id, params=[Param(key, text) for key, text in texts.items()])

    def note(step: Step) -> None:
        if step.number <= last:
            return
        now = int(time.time() * 1000)
        values = {"loss": step.loss, "norm": step.norm, "rate": step.rate}
        client.log_batch(id, [Metric(k, v, now, step.number) for k, v in values.items()])

    try:
        yield note
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | GeneratorExit)
        client.set_terminated(id, "KILLED" if stopped else "FAILED")
        raise
    client.set_terminated(id, "FINISHED")


def curve(file: Path, name: str, metric: str = "loss") -> list[tuple[int, float]]:
    """(step, value) of a run, by step. Raises ValueError for a run that is not in the file."""
    client = _client(file, new=False)
    found = _find(client, name)
    if found is None:
        raise ValueError(
            f"{file.name} has no run {name!r}\nWhy: none of that name was noted there\n"
            "Try: the name that it was begun with"
        )
    history = client.get_metric_history(found.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)


def _begin(client: MlflowClient, file: Path, name: str) -> tuple[str, int]:
    """(id of the run, the last step that it has, or -1)."""
    found = _find(client, name)
    if found is not None:
        id = found.info.run_id
        client.update_run(id, status="RUNNING")
        return id, max((p.step for p in client.get_metric_history(id, "loss")), default=-1)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    home = experiment.experiment_id if experiment else _new_experiment(client, file)
    return client.create_run(home, run_name=name).info.run_id, -1


def _new_experiment(client: MlflowClient, file: Path) -> str:
    place = file.with_suffix(".artifacts").resolve().as_uri()
    return client.create_experiment(EXPERIMENT, artifact_location=place)


def _find(client: MlflowClient, name: str) -> Any:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    runs = client.search_runs([experiment.experiment_id])
    return next((run for run in runs if run.info.run_name == name), None)


def _client(file: Path, new: bool = True) -> MlflowClient:
    """Opens or makes the file. MLflow's own reports of use over the network are turned off."""
    if not new and not file.exists():
        raise ValueError(f"there is no {file.name}\nWhy: no run was noted there\nTry: train first")
    file.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=f"sqlite:///{file.resolve()}")
