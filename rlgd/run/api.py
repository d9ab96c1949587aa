"""Public ``train`` and ``resume``."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlgd.agents import stored
from rlgd.agents.base.agent import Agent
from rlgd.envs import HostEnv
from rlgd.errors import StorageFault, UsageError
from rlgd.evaluation.policy import Policy
from rlgd.run import by_name, config_file, inheritance, resuming
from rlgd.run import changes as run_changes
from rlgd.run.cadence import Cadence, cadence
from rlgd.run.config import RunConfig
from rlgd.run.directory import create, open_to_write
from rlgd.run.disk_recording import DiskRecording
from rlgd.run.documentation import documented
from rlgd.run.recording import NoRecording, Recording
from rlgd.run.result import TrainResult
from rlgd.run.settings import RunSettings
from rlgd.run.sinks import registry
from rlgd.run.start import Start, beginning
from rlgd.run.trainer import Caller, Run
from rlgd.system import processes
from rlgd.system.lock import Lock
from rlgd.system.mesh import make_mesh
from rlgd.system.signals import PollSignal
from rlgd.training import footprint
from rlgd.training.placement import check_divides


@documented
def train(
    agent: Agent | str,
    env: Any,
    *,
    total_timesteps: int | None = None,
    seed: int = 0,
    auto: bool = False,
    init: Policy | str | Path | None = None,
    run_dir: str | Path | None = None,
    overwrite: bool = False,
    sinks: Sequence[Any] = (),
    progress: bool = False,
    **settings: Any,
) -> TrainResult:
    """Train an agent.

    With ``init`` it continues, in this environment, from where it was in another one with the same spaces; an
    ``rlgd.Policy`` will do. Environment steps, schedules and random numbers begin again, and so does what the policy
    does not have: the value function, unless ``init`` is a run.

    Args:
        agent: for example ``PPO(ascent=Ascent("adam", learning_rate=1e-3))``. Or its name, as for ``rlgd train``: then
            it has what was tuned for it in this environment, if there is a preset, ``total_timesteps`` included, and
            over that the hyper-parameters given here: ``rlgd.train("ppo", "CartPole-v1", learning_rate=1e-3)``.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returned.
        auto: choose what is not given by rule, from the environment's spaces, its time limit and a short play, as
            ``rlgd train --auto`` does; the agent is given by its name.
        run_dir: where to write configuration, curves, checkpoints and summary; None writes nothing.
        overwrite: replace what an earlier run wrote in ``run_dir``.
        sinks: see the run while it trains, and may end it: names of `rlgd list sinks` or ``module:Class``, classes, or
            objects with methods of ``rlgd.run.sinks.Sink``.
        progress: show a progress bar on standard error (plain lines where that is no terminal), as ``rlgd train`` does.
        settings: {settings}

    Raises:
        UsageError: before anything is compiled or written, for arguments that do not fit.
        EnvironmentFault: if the environment breaks; the state is saved.
        Diverged: if training leaves the finite numbers; the last finite state is saved.
        StorageFault: if in the end something could not be saved.
    """
    own, hyperparameters = by_name.split(agent, settings)
    chosen = RunSettings.of({"seed": seed, "init": inheritance.described(init), **own})
    made = chosen.env.make(env)
    if isinstance(agent, str):
        agent, default_steps = by_name.chosen(agent, made, hyperparameters, auto)
        chosen = dataclasses.replace(chosen, total_timesteps=default_steps)
    elif auto:
        raise UsageError(
            f"auto chooses hyper-parameters, which this {type(agent).__name__} has; give the agent's name."
        )
    if total_timesteps is not None:
        chosen = dataclasses.replace(chosen, total_timesteps=total_timesteps)
    config = RunConfig(agent, made, chosen, init=init if isinstance(init, Policy) else None)
    return execute(config, run_dir, overwrite, _shown(sinks, progress, chosen.total_timesteps))


def _shown(sinks: Sequence[Any], progress: bool, total_timesteps: int) -> Sequence[Any]:
    """The sinks of the caller, and a progress bar if it is wanted: in the first process alone."""
    if not (progress and processes.is_first()):
        return sinks
    from rlgd.run.sinks.console import Console

    return [*sinks, Console(total_timesteps)]


def execute(
    config: RunConfig,
    run_dir: str | Path | None = None,
    overwrite: bool = False,
    sinks: Sequence[Any] = (),
    poll_signal: PollSignal = lambda: None,
    metrics: bool = True,
) -> TrainResult:
    """Train a configuration; ``train`` with its arguments as one value.

    ``poll_signal`` is called after each chunk: the number of a signal ends the run. Without ``metrics`` the result has
    none, and a long run takes no memory for them.

    Raises:
        Interrupted: if a signal ended the run; the state is saved.
    """
    config = inheritance.read(_for_devices(config))
    seen_by = registry.made(registry.parts_of(sinks), run_dir is not None)
    pace, caller = cadence(config), Caller(seen_by, poll_signal, metrics)
    if processes.are_several():
        processes.check_same("the settings", config_file.digest(config, pace))
    if run_dir is None:
        return Run(config, pace, beginning(config), NoRecording(), caller).train()
    directory = Path(run_dir)
    lock = functools.partial(create, directory, config, pace, overwrite)
    with _writing(directory, lock, lambda: beginning(config), config, pace) as (start, recording):
        return Run(config, pace, start or beginning(config), recording, caller).train()


@contextlib.contextmanager
def _writing(
    directory: Path, lock: Callable[[], Lock], begin: Callable[[], Start], config: RunConfig, pace: Cadence
) -> Iterator[tuple[Start | None, Recording]]:
    """Where the run begins and where it is written, in the process that writes; None and nowhere in the others."""
    with contextlib.ExitStack() as held:

        def prepare() -> tuple[Start, Recording]:
            held.callback(lock().release)
            start = begin()
            return start, DiskRecording(directory, config, pace, start)

        yield processes.first_makes(prepare) or (None, NoRecording(directory))


def _for_devices(config: RunConfig) -> RunConfig:
    """The configuration as it trains here, checked before anything is written.

    Raises:
        UsageError: what was given, what is allowed; also for devices that are not there, or cannot share the
            environments.
    """
    config.validate()
    stored.use_own(config.agent)
    mesh = make_mesh(config.settings.devices)
    config = config.for_devices(1 if mesh is None else mesh.size)
    config.agent.validate()  # the climbers may be new
    footprint.check(config.agent, config.env)
    if mesh is not None:
        check_divides(config.agent, mesh.size, config.settings.shuffle)
    if processes.are_several() and isinstance(config.env, HostEnv) and config.env.running:
        raise UsageError(f"{config.env.env_id} is a running vector environment, of which each process would have all.")
    return config


def resume(
    run_dir: str | Path,
    *,
    agent: type[Agent] | None = None,
    env: Any = None,
    total_timesteps: int | None = None,
    sinks: Sequence[Any] = (),
    progress: bool = False,
    poll_signal: PollSignal = lambda: None,
    metrics: bool = True,
    **changes: Any,
) -> TrainResult:
    """Resume a run from its newest checkpoint, to its end or to a new ``total_timesteps``.

    On the device the result has the same bits as that of a run that was never stopped. On the host the learner's state
    is exact and the environments begin new episodes, with seeds derived from the run's seed and the step.
    With a new ``total_timesteps`` schedules stretch to the new end: the share of the run done is computed again.

    Args:
        run_dir: a directory that ``train`` wrote.
        agent: the class of an agent that is not rlgd's: a file alone imports no code.
        env: the environment, where its id alone does not say it; None takes the run's.
        total_timesteps: the new end; None keeps the run's.
        sinks, progress: as for ``train``.
        poll_signal, metrics: as for ``execute``.
        changes: traced hyper-parameters by flat name, such as ``learning_rate=1e-4``, and settings of the run that
            decide no bit of the training, such as ``eval_every``, or its rounding alone, such as ``devices``; they are
            recorded in ``config.json``. Also a network or an optimizer that was given as an object, to give it again.

    Raises:
        UsageError: if there is nothing to resume, a change is not possible, or another process writes the run.
        StorageFault: if every checkpoint is damaged.
    """
    directory = Path(run_dir)
    changes = config_file.use_parts(directory, agent, changes)
    new_end = {} if total_timesteps is None else {"total_timesteps": total_timesteps}
    config = run_changes.with_changes(config_file.read(directory, env), changes | new_end)
    config = _for_devices(config)
    shown = _shown(registry.made(registry.parts_of(sinks)), progress, config.settings.total_timesteps)
    caller = Caller(shown, poll_signal, metrics)
    has_changes = bool(changes or new_end)
    # A fault may come from another process that is writing; then the lock below says so.
    with contextlib.suppress(StorageFault):
        point = resuming.newest(directory)
        if (why := resuming.why_finished(directory, config, point, has_changes)) is not None:
            return resuming.finished(directory, config, point, why)
    pace = cadence(config)
    if processes.are_several():
        processes.check_same("the settings", config_file.digest(config, pace))
    lock = functools.partial(open_to_write, directory)
    begin = functools.partial(resuming.prepare_resume, directory, config, pace, has_changes)
    with _writing(directory, lock, begin, config, pace) as (prepared, recording):
        start = resuming.joined(directory, config, prepared)
        return Run(config, pace, start, recording, caller).train()
