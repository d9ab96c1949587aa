"""Weights & Biases. Its own variables choose project, entity and mode: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE."""

import os
from typing import Any

import wandb

from rlgd.run.sinks.services import PROJECT, About, Memory, Service


class WandB(Service):
    """A run of Weights & Biases, in the group of its study, or of the runs that differ by their seed.

    Args:
        options: of ``wandb.init``, in place of what follows from the run.
    """

    name = "wandb"

    def _start(self, told: About, memory: Memory) -> None:
        defaults: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "id": memory.id,
            "resume": "allow",
            "name": told.name,
            "group": told.group,
            "job_type": told.job_type,
            "tags": told.tags,
            "reinit": "create_new",  # the caller may have a run of their own
            "settings": wandb.Settings(console="off"),  # what is printed is not the run's
        }
        self._run = wandb.init(**defaults | self._options)
        self._run.config.update(told.values, allow_val_change=True)

    def _log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def _end(self, kept: dict[str, Any], status: str) -> None:
        self._run.summary.update(kept)
        self._run.finish(exit_code=int(status == "failed"))
