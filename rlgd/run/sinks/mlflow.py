"""MLflow. Its own variables choose the store and the experiment: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME."""

import os
import time
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from rlgd.run.sinks.services import PROJECT, About, Memory, Service

MAX_PARAMS = 100  # in a request
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(Service):
    """A run of MLflow, with the tags ``group``, ``job_type``, ``seed`` and ``tags``.

    MLflow lets no parameter change: a run that is resumed with other values keeps those that it began with.

    Args:
        experiment: its name; None: what ``MLFLOW_EXPERIMENT_NAME`` says, else "rlgd".
        tracking_uri: of the store; None: MLflow's own.
    """

    name = "mlflow"

    def __init__(self, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        super().__init__()
        self._experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        self._uri = tracking_uri

    def _start(self, told: About, memory: Memory) -> None:
        self._client = MlflowClient(self._uri)
        if memory.resumed:
            self._client.update_run(memory.id, status="RUNNING")
        else:
            tags = {"group": told.group, "job_type": told.job_type, "seed": told.values["seed"]}
            tags |= {"tags": ", ".join(told.tags)}
            memory.id = self._client.create_run(self._experiment_id(), tags=tags, run_name=told.name).info.run_id
            params = [Param(name, str(value)) for name, value in told.values.items()]
            for start in range(0, len(params), MAX_PARAMS):
                self._client.log_batch(memory.id, params=params[start : start + MAX_PARAMS])
        self._id = memory.id

    def _log(self, values: dict[str, float], step: int) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in values.items()])

    def _end(self, kept: dict[str, Any], status: str) -> None:
        self._log({name: value for name, value in kept.items() if not isinstance(value, str)}, kept["final/steps"])
        tags = [RunTag(name, value) for name, value in kept.items() if isinstance(value, str)]
        self._client.log_batch(self._id, tags=tags)
        self._client.set_terminated(self._id, STATUS[status])

    def _experiment_id(self) -> str:
        if (found := self._client.get_experiment_by_name(self._experiment)) is None:
            try:
                return self._client.create_experiment(self._experiment)
            except MlflowException:  # another process may have made it just now
                if (found := self._client.get_experiment_by_name(self._experiment)) is None:
                    raise
        return found.experiment_id
