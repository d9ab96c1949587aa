"""Comet. Its own variables choose project and mode: COMET_PROJECT_NAME, COMET_START_ONLINE, COMET_OFFLINE_DIRECTORY."""

import os
from typing import Any

import comet_ml

from rlgd.run.sinks.services import PROJECT, About, Memory, Service

NOTHING_BESIDE = dict.fromkeys(  # what Comet would otherwise take from this process by itself
    ("log_code", "log_graph", "parse_args", "auto_param_logging", "auto_metric_logging", "auto_output_logging"), False
)


class Comet(Service):
    """An experiment of Comet, with its group and job type among the others, and tags.

    Args:
        options: of ``comet_ml.start``, in place of what follows from the run.
    """

    name = "comet"

    def _start(self, told: About, memory: Memory) -> None:
        beside = comet_ml.ExperimentConfig(name=told.name, tags=told.tags, display_summary_level=0, **NOTHING_BESIDE)
        defaults: dict[str, Any] = {
            "project": os.environ.get("COMET_PROJECT_NAME", PROJECT),
            "experiment_key": memory.id,
            "mode": "get" if memory.resumed else "create",
            "experiment_config": beside,
        }
        self._experiment = comet_ml.start(**defaults | self._options)
        self._experiment.log_parameters(told.values)
        self._experiment.log_others({"group": told.group, "job_type": told.job_type})

    def _log(self, values: dict[str, float], step: int) -> None:
        self._experiment.log_metrics(values, step=step)

    def _end(self, kept: dict[str, Any], status: str) -> None:
        self._experiment.log_others(kept | {"status": status})
        self._experiment.end()
