"""The newest checkpoint of a run, and resuming from it."""

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp

from rlgd.evaluation.policy import Policy
from rlgd.pytrees import LoopState
from rlgd.run import config_file, layout
from rlgd.run.cadence import Cadence
from rlgd.run.changes import differences
from rlgd.run.checkpoints.folder import VerifiedCheckpoint, all_steps, keep_only
from rlgd.run.checkpoints.manifest import Manifest
from rlgd.run.checkpoints.state import numbers, restore
from rlgd.run.config import RunConfig
from rlgd.run.counters import Counters, read_counters
from rlgd.run.directory import record
from rlgd.run.loading import find_checkpoint, load, shapes
from rlgd.run.result import TrainResult
from rlgd.run.start import Start
from rlgd.run.stopping import SINK, CriteriaState
from rlgd.run.summary import is_finished
from rlgd.system.processes import are_several, bytes_of_first, of_first
from rlgd.training.loop import initialize

log = logging.getLogger("rlgd")


class ResumePoint(NamedTuple):
    """The newest checkpoint of a run, and its counters."""

    checkpoint: VerifiedCheckpoint
    counters: Counters

    @property
    def steps(self) -> int:
        """Environment steps of the run so far."""
        return self.checkpoint.steps


def newest(directory: Path) -> ResumePoint:
    """The newest checkpoint of a run.

    Raises:
        UsageError: if there is none.
        StorageFault: if all of them are damaged.
    """
    _, found = find_checkpoint(directory, "latest")
    return ResumePoint(found, read_counters(found.manifest, found.steps))


def why_finished(directory: Path, config: RunConfig, point: ResumePoint, has_changes: bool) -> str | None:
    """Why nothing is left to do, in words; None if something is.

    ``has_changes``: whether the run is resumed with other settings.
    """
    if not is_finished(directory, point.steps):
        return None
    if point.steps >= config.settings.total_timesteps:
        return ""
    stop = point.counters.stop
    if stop is None or has_changes or point.counters.end != config.settings.ending():
        return None
    return f"stopped by {stop.criterion}; give it another value, or more total_timesteps"


def finished(directory: Path, config: RunConfig, point: ResumePoint, why: str) -> TrainResult:
    """The result of a run that has nothing left to do."""
    loop, counters = read_state(directory, config, point.steps), point.counters
    criteria = CriteriaState.from_dict(counters.criteria)
    if criteria.has_best and config.settings.stopping.patience is not None:
        policy = load(directory, "best")
    else:
        policy = Policy(config.agent, config.env.spec, loop.agent_state.actor)
    seconds = (counters.training_seconds, counters.compile_seconds)
    return TrainResult(policy, loop, {}, directory, "already complete", why, point.steps, *seconds, evaluation=None)


def read_state(directory: Path, config: RunConfig, steps: int) -> LoopState:
    """The training state of a checkpoint."""
    agent, env = config.agent.prepared(), config.env
    like = shapes(directory, lambda key: initialize(agent, env, key))
    return restore(directory / layout.CHECKPOINTS, steps, like)


def prepare_resume(directory: Path, config: RunConfig, cadence: Cadence, has_changes: bool) -> Start:
    """Prepare the directory for the rest of the run, and return where it begins.

    Drops best checkpoints newer than the one resumed from, and records what was changed.

    Raises:
        UsageError: if a change is not possible, or the directory cannot be written.
        StorageFault: if the checkpoint is damaged.
    """
    began_at, point = time.monotonic(), newest(directory)
    about, steps = point.checkpoint.manifest.about, point.steps
    content = config_file.to_json(config, cadence) | {"numbers": numbers()}
    changes = differences(directory, about, content)
    loop, counters = read_state(directory, config, steps), point.counters
    with layout.writing(directory):
        criteria = _drop_later_best(directory, steps, CriteriaState.from_dict(counters.criteria))
    counters = dataclasses.replace(counters, criteria=criteria.to_dict())
    asked = counters.stop is not None and counters.stop.criterion == SINK  # which says it again, if it still holds
    if has_changes or asked or counters.end != config.settings.ending():
        counters = dataclasses.replace(counters, stop=None)
    if config_file.upgraded(about)["settings"]["total_timesteps"] != config.settings.total_timesteps:
        loop = _stretched(loop, steps, config.settings.total_timesteps)
    for change in changes:
        log.info("changed at step %s: %s", f"{steps:,}", change)
    record(directory, config, cadence, steps, changes)
    return Start(began_at, loop, steps, counters, resumed=True)


def joined(directory: Path, config: RunConfig, start: Start | None) -> Start:
    """Where the rest of a run begins, in every process: as the first one says, which has prepared the directory.

    ``start`` is what ``prepare_resume`` gave there, and None in the others.
    """
    if not are_several():
        assert start is not None
        return start
    began_at = time.monotonic()
    said = b"" if start is None else json.dumps(dataclasses.asdict(start.counters)).encode()
    loop = None if start is None else start.loop
    numbers = (0.0,) * 4
    if start is not None:
        numbers = len(said), start.steps, float(start.loop.progress), float(start.loop.progress_per_step)
    size, steps, *progress = of_first(*numbers)
    counters = read_counters(Manifest({}, json.loads(bytes_of_first(said, int(size))), {}), int(steps))
    loop = read_state(directory, config, int(steps)) if loop is None else loop
    share, per_step = (jnp.asarray(number, loop.progress.dtype) for number in progress)
    loop = dataclasses.replace(loop, progress=share, progress_per_step=per_step)
    return Start(began_at, loop, int(steps), counters, resumed=True)


def _drop_later_best(directory: Path, steps: int, criteria: CriteriaState) -> CriteriaState:
    """Drop best checkpoints newer than the one resumed from; what the criteria know without a best one that is lost."""
    best = directory / layout.BEST
    known = all_steps(best)
    keep_only(best, {step for step in known if step <= steps})
    return criteria if criteria.best_step in known else CriteriaState(last_return=criteria.last_return)


def _stretched(loop: LoopState, steps: int, total_timesteps: int) -> LoopState:
    """The state with schedules that stretch to a new end."""
    share = steps / total_timesteps
    log.info("schedules stretch to the new end: %.0f%% of the run is done", 100 * share)
    return dataclasses.replace(
        loop,
        progress=jnp.asarray(share, loop.progress.dtype),
        progress_per_step=jnp.asarray(1 / total_timesteps, loop.progress.dtype),
    )
