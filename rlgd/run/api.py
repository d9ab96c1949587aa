"""Public ``train``, ``resume`` and ``load``: the training loop, its sinks, and the run directory."""

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rlgd.agents.base.agent import Agent
from rlgd.envs import make
from rlgd.errors import StorageFault
from rlgd.run import config_file, layout
from rlgd.run.changes import changed, differences
from rlgd.run.checkpoints.state import numbers
from rlgd.run.config import RunConfig
from rlgd.run.directory import create, open_to_write, record
from rlgd.run.sinks import Sink
from rlgd.run.stopping import Stopping
from rlgd.run.trainer import Run, TrainResult
from rlgd.system.signals import PollSignal
from rlgd.training import footprint
from rlgd.training.loop import initialize

log = logging.getLogger("rlgd")


_initialize = jax.jit(initialize, static_argnums=(1, 3))


def train(
    agent: Agent,
    env: Any,
    *,
    total_timesteps: int,
    seed: int = 0,
    run_dir: str | Path | None = None,
    eval_every: int | None = None,
    eval_episodes: int = 100,
    target_return: float | None = None,
    patience: int | None = None,
    min_gradient_norm: float | None = None,
    min_objective_change: float | None = None,
    max_seconds: float | None = None,
    backend: str = "auto",
    env_args: dict[str, Any] | None = None,
    max_episode_steps: int | None = None,
    vectorization: str = "auto",
    env_timeout: float | None = None,
    act_device: str = "auto",
    checkpoint_every: int | str = "60s",
    keep: int = 3,
    overwrite: bool = False,
    sinks: Sequence[Sink] = (),
) -> TrainResult:
    """Train an agent.

    Args:
        agent: for example ``PPO(ascent=Ascent("adam", learning_rate=1e-3))``.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returned.
        total_timesteps: environment steps; the run ends with the iteration that reaches them.
        seed: of everything random; the same seed gives the same bits on a CPU.
        run_dir: where to write configuration, curves, checkpoints and summary; None writes nothing.
        eval_every: evaluate after so many steps; None: only at the end, if the run is written, and 20 times if a
            criterion needs evaluations.
        eval_episodes: episodes of each evaluation of the greedy policy, in Gymnasium's own environment if it has one.
        target_return, patience, min_gradient_norm, min_objective_change, max_seconds: reasons to stop earlier, see
            ``rlgd.run.stopping.Stopping``; with ``patience`` the resulting policy is the one that was evaluated best.
        backend: "auto", "device" or "host".
        env_args: arguments for the environment.
        max_episode_steps: a time limit instead of the registered one.
        vectorization: how environments on the host are stepped: "auto", "native", "sync", "async" or "envpool".
        env_timeout: seconds that a step on the host may take, in worker processes.
        act_device: where the policy acts in environments on the host: "auto", "cpu" or "gpu".
        checkpoint_every: seconds between checkpoints, such as "60s", or steps, such as 100_000; they are written while
            training goes on, and change no bit of it.
        keep: how many of the newest checkpoints are kept; the best one, if there are evaluations, is kept apart.
        overwrite: replace what an earlier run wrote in ``run_dir``.
        sinks: take rows of metrics as training goes on.

    Raises:
        UsageError: before anything is compiled or written, for arguments that do not fit.
        EnvironmentFault: if the environment breaks; the state is saved.
        Diverged: if training leaves the finite numbers; the last finite state is saved.
        StorageFault: if in the end something could not be saved.
    """
    made = make(
        env,
        backend=backend,
        max_episode_steps=max_episode_steps,
        vectorization=vectorization,
        env_timeout=env_timeout,
        **(env_args or {}),
    )
    stopping = Stopping(target_return, patience, min_gradient_norm, min_objective_change, max_seconds)
    settings = RunConfig(
        agent, made, total_timesteps, seed, eval_every, eval_episodes, stopping, act_device, checkpoint_every, keep
    )
    return execute(settings, None if run_dir is None else Path(run_dir), overwrite, sinks)


def execute(
    settings: RunConfig,
    run_dir: Path | None = None,
    overwrite: bool = False,
    sinks: Sequence[Sink] = (),
    poll_signal: PollSignal = lambda: None,
    metrics: bool = True,
) -> TrainResult:
    """Train as ``settings`` say; ``train`` with its arguments as one value.

    ``poll_signal`` is called after each chunk: the number of a signal ends the run. Without ``metrics`` the result has
    none, and a long run takes no memory for them.

    Raises:
        Interrupted: then; the state is saved.
    """
    settings.validate()
    if run_dir is not None or settings.evaluate_every:
        settings.validate_evaluation()
    footprint.check(settings.agent, settings.env)
    lock = None if run_dir is None else create(run_dir, settings, overwrite)
    try:
        run = Run(settings, run_dir, sinks, poll_signal, metrics)
        key = jax.random.key(settings.seed)
        return run.train(_initialize(settings.agent.prepared(), settings.env, key, settings.total_timesteps))
    finally:
        if lock is not None:
            lock.release()


def resume(
    run_dir: str | Path,
    *,
    env: Any = None,
    total_timesteps: int | None = None,
    sinks: Sequence[Sink] = (),
    poll_signal: PollSignal = lambda: None,
    metrics: bool = True,
    **changes: Any,
) -> TrainResult:
    """Go on with a run from its newest checkpoint, to its end or to a new ``total_timesteps``.

    On the device the result is the same to the bit as that of a run that was never stopped. On the host the learner's
    state is exact and the environments begin new episodes, with seeds derived from the run's seed and the step.
    With a new ``total_timesteps`` schedules stretch to the new end: the share of the run done is counted anew.

    Args:
        run_dir: a directory that ``train`` wrote.
        env: the environment, where its id alone does not say it; None takes the run's.
        total_timesteps: the new end; None keeps the run's.
        sinks: as for ``train``.
        poll_signal, metrics: as for ``execute``.
        changes: traced hyper-parameters by flat name, such as ``learning_rate=1e-4``, criteria to stop, ``eval_every``,
            ``eval_episodes``, ``checkpoint_every`` and ``keep``; they are recorded in ``config.json``.

    Raises:
        UsageError: if there is nothing to resume, a change is not possible, or another process writes the run.
        StorageFault: if every checkpoint is damaged.
    """
    directory = Path(run_dir)
    settings = changed(config_file.read(directory, env), total_timesteps, changes)
    settings.validate()
    footprint.check(settings.agent, settings.env)
    asked_anew = total_timesteps is not None or bool(changes)
    with contextlib.suppress(StorageFault):  # which may be another process that is writing: the lock will tell
        run = Run(settings, directory, sinks, poll_signal, metrics)
        found = run.look_up()
        if (why := run.why_finished(found.steps, asked_anew)) is not None:
            return run.complete(run.read(found), why)
    lock = open_to_write(directory)
    try:
        return _go_on(Run(settings, directory, sinks, poll_signal, metrics), asked_anew)
    finally:
        lock.release()


def _go_on(run: "Run", asked_anew: bool) -> TrainResult:
    settings, directory = run.settings, run.directory
    assert directory is not None
    found = run.look_up()
    changes = differences(directory, found.manifest.about, config_file.to_json(settings) | {"numbers": numbers()})
    loop = run.read(found)
    with layout.writing(directory):
        run.forget_later_best()
    if asked_anew or run.counters.end != settings.end():
        run.stop = None
    if found.manifest.about["total_timesteps"] != settings.total_timesteps:
        share = found.steps / settings.total_timesteps
        log.info("schedules stretch to the new end: %.0f%% of the run is done", 100 * share)
        loop = dataclasses.replace(
            loop,
            progress=jnp.asarray(share, loop.progress.dtype),
            progress_per_step=jnp.asarray(1 / settings.total_timesteps, loop.progress.dtype),
        )
    for change in changes:
        log.info("changed at step %s: %s", f"{found.steps:,}", change)
    record(directory, settings, found.steps, changes)
    return run.train(loop)
