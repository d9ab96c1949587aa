"""What a run directory holds: the resolved configuration with its history, and the summary."""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
import math
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

from rlgd import checkpoint, config, durable, spaces, tensorboard, training
from rlgd.agents import REGISTRY, make_agent
from rlgd.agents.common import Agent
from rlgd.data import Spec
from rlgd.envs import SUITES, DeviceEnv, Env, HostEnv, make
from rlgd.errors import StorageFault, UsageError, unknown
from rlgd.records import ROWS_PER_RUN
from rlgd.rollout import ACT_DEVICES, padded_limit, rollout_length
from rlgd.stopping import CRITERIA, EVALUATIONS, NEVER, Stopping

FORMAT_VERSION = 5
CONFIG, METRICS, SUMMARY, CHECKPOINTS, BEST = "config.json", "metrics.jsonl", "summary.json", "checkpoints", "best"
INTERRUPTED = "interrupted"  # the reason of a run that a signal ended
RESUMABLE = ("eval_every", "eval_episodes", "checkpoint_every", "keep")  # what decides no bit of the training
# Beside these a resumed run may have another length, another machine, and an environment with other arguments.
FREE = (*RESUMABLE, "total_timesteps", "act_device", "device", "env", "kwargs", "vectorization", "timeout")
VERSION_OF = "version of "
UNCOMPARED = ("format_version", "chunk_length", "history")
MAX_JSON = 2**24  # bytes of a file that is read at once
log = logging.getLogger("rlgd")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnasium", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run: with it, a run can be repeated and resumed."""

    agent: Agent
    env: Env
    total_timesteps: int
    seed: int = 0
    eval_every: int | None = None
    eval_episodes: int = 100
    stopping: Stopping = NEVER
    act_device: str = "auto"
    checkpoint_every: int | str = "60s"
    keep: int = 3

    def validate(self) -> None:
        """Check the agent, the numbers, and that the agent can act in the environment.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if not isinstance(self.agent, Agent):
            raise UsageError(f"agent is {self.agent!r}; expected an agent such as rlgd.agents.PPO().")
        least = {"total_timesteps": 1, "seed": 0, "eval_every": 1, "eval_episodes": 1, "keep": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if name == "eval_every" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value < 2**63:
                raise UsageError(f"{name} is {value!r}; allowed: a whole number from {low}.")
        self.agent.validate()
        self.stopping.validate()
        self.checkpoint_interval()
        self.agent.action_head(self.env.spec)
        if self.agent.whole_episodes:
            padded_limit(self.env.spec)
        if self.agent.normalize_obs and not spaces.num_features(self.env.spec.obs):
            raise UsageError(f"normalize_obs has no effect: the observations of {self.env.env_id} are images alone.")
        if self.act_device not in ACT_DEVICES:
            raise unknown("act_device", self.act_device, ACT_DEVICES)
        if self.act_device != "auto" and isinstance(self.env, DeviceEnv):
            raise UsageError(
                f"act_device is {self.act_device!r}, but {self.env.env_id} runs on the device, where its policy acts "
                "too; leave it out, or use backend 'host'."
            )

    def validate_evaluation(self) -> None:
        """Check that there are environments for evaluations beside those that train.

        Raises:
            UsageError: if they are one running vector environment.
        """
        if isinstance(self.env, HostEnv) and self.env.running and self.evaluate_every:
            raise UsageError(
                f"{self.env.env_id} is a running vector environment, which cannot be evaluated in while it trains; "
                "give its class or id, or leave eval_every and what needs evaluations out."
            )

    @property
    def agent_name(self) -> str:
        """The agent's name on the command line; for one that is not registered, its class's."""
        return agent_name(self.agent)

    def checkpoint_interval(self) -> tuple[float, None] | tuple[None, int]:
        """Seconds between checkpoints, or steps.

        Raises:
            UsageError: if ``checkpoint_every`` says neither.
        """
        text = str(self.checkpoint_every) if type(self.checkpoint_every) in (int, str) else ""
        try:
            if text.endswith("m"):  # minutes, or millions?
                raise ValueError
            if text.endswith("s") and 0 < (seconds := float(text[:-1])) < math.inf:
                return seconds, None
            if 0 < (steps := config.count(text)) < 2**63:
                return None, steps
        except (ValueError, OverflowError):
            pass
        given = self.checkpoint_every
        raise UsageError(f"checkpoint_every is {given!r}; allowed: seconds, such as 60s, or steps, such as 100000.")

    @functools.cached_property
    def chunk_length(self) -> int:
        """Iterations in a chunk."""
        return training.chunk_length(self.agent, self.env)

    @property
    def log_every(self) -> int:
        """Iterations in a row of the curves, for a few hundred rows a run."""
        return max(1, self.total_timesteps // (self.rows_an_iteration * ROWS_PER_RUN))

    @property
    def rows_an_iteration(self) -> int:
        """Environment steps of an iteration; where it takes whole episodes, at most."""
        return self.agent.num_envs * rollout_length(self.agent, self.env.spec)

    @property
    def evaluate_every(self) -> int | None:
        """Steps between evaluations: as asked for, or ``EVALUATIONS`` times a run where a criterion needs them."""
        if self.eval_every is None and self.stopping.evaluates:
            return max(1, self.total_timesteps // EVALUATIONS)
        return self.eval_every

    @property
    def evaluation_env(self) -> Env:
        """Gymnasium's own environment where the id is Gymnasium's, else the environment itself."""
        if isinstance(self.env, DeviceEnv) and self.env.env_id in gymnasium.registry:
            return HostEnv(self.env.env_id, self.env.max_episode_steps)
        return self.env

    def hyperparameters(self) -> dict[str, Any]:
        """What is compared between runs, as numbers and text; the seed is left out, so that seeds are averaged."""
        flat = config.to_dict(dataclasses.replace(self.agent, ascent=self.agent.ascent.resolved()))
        text = {name: "-".join(map(str, v)) if isinstance(v, list) else v for name, v in flat.items()}
        chosen = {"agent": self.agent_name, "env": self.env.env_id, "total_timesteps": self.total_timesteps}
        return chosen | {name: v for name, v in text.items() if v is not None and v != math.inf}

    def end(self) -> dict[str, Any]:
        """What ends the run."""
        return {"total_timesteps": self.total_timesteps} | config.to_dict(self.stopping)

    def changed(self) -> dict[str, Any]:
        """The hyper-parameters that are not the agent's defaults, as plain values."""
        default = config.to_dict(type(self.agent)())
        return {name: value for name, value in config.to_dict(self.agent).items() if value != default[name]}

    def group(self) -> str:
        """A name for all runs that differ from this one by their seed alone (or by what is measured)."""
        settings = " ".join(f"{k}={v}" for k, v in self.changed().items() if k != "measure_every")
        return f"{self.agent_name} {self.env.env_id} {self.total_timesteps} {settings}".strip()

    def to_json(self) -> dict[str, Any]:
        """The configuration with versions and device, ready for JSON."""
        return {
            "format_version": FORMAT_VERSION,
            "agent": self.agent_name,
            "hyperparameters": config.to_dict(self.agent),
            "env": _env_to_json(self.env),
            "spec": spaces.to_json(self.env.spec),
            "total_timesteps": self.total_timesteps,
            "seed": self.seed,
            "eval_every": self.eval_every,
            "eval_episodes": self.eval_episodes,
            "stopping": config.to_dict(self.stopping),
            "act_device": self.act_device,
            "checkpoint_every": self.checkpoint_every,
            "keep": self.keep,
            "chunk_length": self.chunk_length,
            "device": device_name(),
            "versions": versions(),
        }


def agent_name(agent: Agent) -> str:
    """The name of an agent on the command line; of one that is not registered, its class's."""
    name = type(agent).__name__
    return next((key for key, (_, cls, _) in REGISTRY.items() if cls == name), name)


def device_name() -> str:
    """Where JAX computes, such as "cpu" or "gpu (NVIDIA H200)"."""
    device = jax.devices()[0]
    return device.platform if device.platform == "cpu" else f"{device.platform} ({device.device_kind})"


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {name: version(name) for name in ("rlgd", *PACKAGES)} | {"python": platform.python_version()}


def folder_name(env_id: str) -> str:
    """The name of an environment's folder."""
    return env_id.replace("/", "-").replace(":", "-")


def automatic(root: Path, env_id: str, agent_name: str, seed: int) -> Path:
    """``root/<env>/<agent>/<time>-seed<seed>``, with a suffix if that is taken."""
    parent = root / folder_name(env_id) / agent_name
    return timed(parent, f"-seed{seed}")


def names(parent: Path, suffix: str = "") -> Iterator[Path]:
    """``parent/<time><suffix>``, and then the same with a number behind it."""
    name = time.strftime("%Y%m%d-%H%M%S") + suffix
    yield parent / name
    yield from (parent / f"{name}-{number}" for number in itertools.count(2))


def timed(parent: Path, suffix: str = "") -> Path:
    """Make the first of ``names`` that is not there.

    Raises:
        UsageError: if it cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for directory in names(parent, suffix):
            with contextlib.suppress(FileExistsError):
                directory.mkdir()  # so it is this process's, if several ask at once
                return directory
    except OSError as error:
        raise UsageError(f"{parent} cannot be written: {error.strerror}.") from error
    raise AssertionError


def create(directory: Path, settings: RunConfig, overwrite: bool) -> durable.Lock:
    """Make the directory and write the configuration; the right to write in it.

    Raises:
        UsageError: if it holds a run and ``overwrite`` is off, another process writes in it, or it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = durable.Lock(directory)
        try:
            _make_room(directory, overwrite)
            lock.sign()
            write_config(directory, settings, [])
        except BaseException:
            lock.release()
            raise
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"the run directory {str(directory)!r} cannot be written: {reason}.") from error
    return lock


def open_to_write(directory: Path) -> durable.Lock:
    """The right to write in the directory of a run.

    Raises:
        UsageError: if another process writes in it, or it cannot be written.
    """
    with writing(directory):
        lock = durable.Lock(directory)
        try:
            lock.sign()
        except OSError:
            lock.release()
            raise
    for name in (CHECKPOINTS, BEST, METRICS):
        if (directory / name).is_symlink():
            lock.release()
            raise UsageError(f"{directory / name} is a link; a run is written in its own directory alone.")
    return lock


def _make_room(directory: Path, overwrite: bool) -> None:
    """Remove the run that a directory holds, if that is wished; what is not a run's is not touched."""
    if (directory / CONFIG).exists():
        if not overwrite:
            raise UsageError(
                f"{directory} already holds a run; go on with it by `rlgd resume {directory}`, "
                "or replace it by --overwrite."
            )
        try:
            read_config(directory)
        except StorageFault as fault:
            raise UsageError(f"{fault} Remove it yourself, or name another directory.") from fault
        _remove_run(directory)
    for path in (directory / name for name in (METRICS, SUMMARY, CHECKPOINTS, BEST)):
        free = not path.is_symlink() and path.is_dir() and path.name in (CHECKPOINTS, BEST)
        if os.path.lexists(path) and not (free and not checkpoint.all_steps(path)):
            raise UsageError(f"{path} is in the way, and no run's; remove it, or name another directory.")


def _remove_run(directory: Path) -> None:
    """Remove what rlgd wrote, and nothing else; the configuration last, which makes it a run."""
    for folder in (directory / CHECKPOINTS, directory / BEST):
        if not folder.is_symlink():
            checkpoint.remove_unfinished(folder)
            checkpoint.keep_only(folder, ())
    for path in (*tensorboard.own_files(directory), *(directory / name for name in (METRICS, SUMMARY, CONFIG))):
        path.unlink(missing_ok=True)


def write_config(directory: Path, settings: RunConfig, history: list[dict[str, Any]]) -> None:
    """Write ``config.json``, with what was changed when the run was resumed."""
    _write_json(directory / CONFIG, settings.to_json() | {"history": history})


def write_summary(directory: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``.

    Raises:
        StorageFault: if it cannot be written.
    """
    try:
        _write_json(directory / SUMMARY, summary)
    except OSError as error:
        raise StorageFault(f"{directory / SUMMARY} cannot be written: {durable.why(error, directory)}") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    durable.replace(path, json.dumps(value, indent=2) + "\n")


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a run as plain values.

    Raises:
        UsageError: if there is none, or it is of another format.
    """
    return read_versioned(directory / CONFIG, "run", FORMAT_VERSION)


def read_versioned(path: Path, what: str, format_version: int) -> dict[str, Any]:
    """A JSON object that says its ``format_version``, which makes its directory a run, or ``what`` else.

    Raises:
        UsageError: if there is none, or it is of another format.
        StorageFault: if it is damaged.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(MAX_JSON))
    except OSError as error:
        raise UsageError(f"{path.parent} holds no {what}: {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise StorageFault(f"{path} is damaged: it is not JSON.") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != format_version:
        raise UsageError(f"{path} has format_version {found!r}; this rlgd reads {format_version}.")
    return content


def read_summary(directory: Path) -> dict[str, Any]:
    """The summary of a run; empty if it has none."""
    try:
        with (directory / SUMMARY).open(encoding="utf-8") as file:
            content = json.loads(file.read(MAX_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[None]:
    """What is missing in ``config.json``, or of another kind than it must be, is damage."""
    try:
        yield
    except UsageError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StorageFault(f"{directory / CONFIG} is damaged: {error!r}.") from error


def is_finished(directory: Path, steps: int) -> bool:
    """Whether a run ended at these steps by itself, and was evaluated: the summary is the last that is written."""
    summary = read_summary(directory)
    return summary.get("steps") == steps and summary.get("reason") in ("total_timesteps", *CRITERIA)


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """What the system does not let be written is a ``UsageError``: nothing is lost yet."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"the run directory {directory} cannot be written: {error.strerror}.") from error


def record(directory: Path, settings: RunConfig, steps: int, changes: list["Change"]) -> None:
    """Write the present configuration, with what was changed at which step.

    Raises:
        UsageError: if it cannot be written.
    """
    history = read_config(directory).get("history")
    history = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    if changes:
        named = {change.name: {"before": change.before, "now": change.now} for change in changes}
        entry = {"step": steps, "time": time.strftime("%Y-%m-%d %H:%M:%S"), "changes": named}
        # Killed before its next checkpoint, a run is changed at the same step again.
        history = [*(before for before in history if before.get("step") != steps), entry]
    with writing(directory):
        write_config(directory, settings, history)
        (directory / SUMMARY).unlink(missing_ok=True)  # it told of an earlier end


def read_agent(directory: Path) -> tuple[Agent, Spec]:
    """The agent of a run and what it knew of its environment."""
    content = read_config(directory)
    with _reading(directory):
        agent = config.from_dict(make_agent(content["agent"]), content["hyperparameters"])
        agent.validate()
        for name, (_, field, _, value) in config.flat_fields(agent).items():
            if np.ndim(value) and not field.metadata["static"]:
                raise TypeError(f"{name} is {value!r}")
        return agent, spaces.from_json(content["spec"])


def read_own(directory: Path) -> dict[str, Any]:
    """The configuration of a run but for agent and environment, by the fields of ``RunConfig``."""
    content = read_config(directory)
    names = ("total_timesteps", "seed", "eval_every", "eval_episodes", "act_device", "checkpoint_every", "keep")
    with _reading(directory):
        own = {name: content[name] for name in names}
        for name, value in own.items():
            if not isinstance(value, int | str | None):
                raise TypeError(f"{name} is {value!r}")
        for name, value in content["stopping"].items():
            if not isinstance(value, float | int | None):
                raise TypeError(f"{name} is {value!r}")
        own["stopping"] = Stopping(**content["stopping"])
        own["stopping"].validate()
        return own


def read(directory: Path, env: Any) -> RunConfig:
    """The configuration of a run, with ``env`` in place of the run's own if it is given.

    Raises:
        UsageError: if the environment cannot be made from its id alone.
        StorageFault: if the configuration is damaged.
    """
    agent, _ = read_agent(directory)
    own = read_own(directory)
    content = read_config(directory)
    with _reading(directory):
        stored = content["env"]
        env_id, limit, options = str(stored["id"]), stored["max_episode_steps"], _env_options(stored)
        chunk_length = content["chunk_length"]
        if not isinstance(chunk_length, int) or not 1 <= chunk_length <= training.MAX_CHUNK:
            raise ValueError(f"chunk_length is {chunk_length!r}")
    if env is None:
        if env_id not in gymnasium.registry and env_id.partition(":")[0] not in SUITES:
            raise UsageError(f"the run's environment {env_id!r} is not made from a file; name it: --env, or env=.")
        made = make(env_id, max_episode_steps=limit, **options)
    else:
        made = make(env, backend=options["backend"] if isinstance(env, str) else "auto")
    settings = RunConfig(agent, made, **own)
    settings.__dict__["chunk_length"] = chunk_length  # what was computed then, whatever is computed now
    return settings


def find_checkpoint(directory: Path, which: str | int | None) -> tuple[Path, checkpoint.Found]:
    """The folder of a checkpoint and what it says: "latest", "best", a step, or None for the run's result.

    Of the latest ones the newest that holds is taken; a step that is asked for holds, or is refused.

    Raises:
        UsageError: if there is none, or it belongs to another configuration.
        StorageFault: if it is damaged.
    """
    content = read_config(directory)
    if which is None:
        with _reading(directory):
            with_patience = content["stopping"]["patience"] is not None
        which = "best" if with_patience and checkpoint.all_steps(directory / BEST) else "latest"
    folder = directory / (BEST if which == "best" else CHECKPOINTS)
    there = checkpoint.all_steps(folder)
    if which == "latest":
        found = checkpoint.newest(folder)
        if found is None:
            raise UsageError(f"no complete checkpoint in {directory}{_incomplete(folder)}.")
        for damage in found.skipped:
            log.warning("%s; using that of step %s.", damage, f"{found.steps:,}")
    else:
        if which == "best" and not there:
            raise UsageError(f"{directory} has no checkpoint of an evaluation during training.")
        if which != "best" and (not str(which).isdecimal() or int(which) not in there):
            known = ", ".join(map(str, there)) or "none"
            raise UsageError(f"checkpoint is {which!r}; allowed: best, latest, or a step; there is {known}.")
        steps = max(there) if which == "best" else int(which)
        found = checkpoint.Found(steps, checkpoint.verified(folder, steps), ())
    differences(directory, found.manifest.about, content | {"numbers": checkpoint.numbers()})
    return folder, found


def _incomplete(folder: Path) -> str:
    number = len(checkpoint.incomplete(folder))
    return f"; found {number} incomplete, ignored" if number else ""


class Change(NamedTuple):
    """A setting that a resumed run has another value of."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.now}"


def differences(directory: Path, about: dict[str, Any], content: dict[str, Any]) -> list[Change]:
    """What is set otherwise than when a checkpoint was written.

    Args:
        directory: the run's.
        about: what the checkpoint says of itself.
        content: the same of the present configuration.

    Raises:
        UsageError: for what may not change, naming each: what decides shapes, programs, or random numbers.
        StorageFault: if the configuration is damaged.
    """
    with _reading(directory):
        agent = make_agent(content["agent"])
        free = {*changeable(agent), *FREE, *CRITERIA} if about.get("agent") == content["agent"] else {*FREE, *CRITERIA}
        changes = _changes(about, content)
    fixed = [change for change in changes if change.name not in free and not change.name.startswith(VERSION_OF)]
    if fixed:
        listed = "; ".join(f"{name}: checkpoint {before}, requested {now}" for name, before, now in fixed)
        raise UsageError(f"the checkpoint in {directory} belongs to other settings: {listed}.")
    return changes


def other_settings(directory: Path, settings: RunConfig) -> list[Change]:
    """What decides the result of a run, and is set otherwise in it than in ``settings``; versions are not compared.

    Raises:
        StorageFault: if the configuration is damaged.
    """
    content = read_config(directory)
    with _reading(directory):
        changes = _changes(content | {"numbers": {}}, settings.to_json() | {"numbers": {}})
    decides_nothing = {"device", "act_device", "checkpoint_every", "keep", "vectorization", "timeout"}
    return [
        change for change in changes if change.name not in decides_nothing and not change.name.startswith(VERSION_OF)
    ]


def _changes(about: dict[str, Any], content: dict[str, Any]) -> list[Change]:
    then, now = _flat(about), _flat(json.loads(json.dumps(content)))
    names = [name for name in {**then, **now} if name not in UNCOMPARED]
    return [Change(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the names of its flags."""
    parts = ("hyperparameters", "stopping", "numbers")
    flat = {name: value for name, value in content.items() if name not in (*parts, "env", "spec")}
    for part in parts:
        flat |= content[part]
    flat |= {f"{VERSION_OF}{name}": number for name, number in flat.pop("versions").items()}
    flat |= {{"id": "env"}.get(name, name): value for name, value in content["env"].items()}
    return flat | {f"{name} space" if name in ("obs", "action") else name: v for name, v in content["spec"].items()}


def changed(settings: RunConfig, total_timesteps: int | None, changes: dict[str, Any]) -> RunConfig:
    """The configuration with a new end, and other values of what may change in a resumed run.

    Raises:
        UsageError: for what decides shapes or programs.
    """
    flat, allowed = config.flat_fields(settings.agent), changeable(settings.agent)
    fixed = {name: value for name, value in changes.items() if name in flat and name not in allowed}
    fixed = {name: value for name, value in fixed.items() if value != flat[name].value}
    if fixed:
        listed = "; ".join(f"{name}: checkpoint {flat[name].value}, requested {value}" for name, value in fixed.items())
        raise UsageError(
            f"what decides shapes, programs or the beginning cannot be changed in a resumed run: {listed}."
        )
    length = settings.chunk_length
    criteria = {name: value for name, value in changes.items() if name in CRITERIA}
    own = {name: value for name, value in changes.items() if name in RESUMABLE}
    others = {name: value for name, value in changes.items() if name not in {*CRITERIA, *RESUMABLE}}
    settings = dataclasses.replace(
        settings,
        agent=config.with_values(settings.agent, others),
        total_timesteps=settings.total_timesteps if total_timesteps is None else total_timesteps,
        stopping=dataclasses.replace(settings.stopping, **criteria),
        **own,
    )
    settings.__dict__["chunk_length"] = length
    return settings


def changeable(agent: Agent) -> set[str]:
    """The hyper-parameters that may change in a resumed run: the traced ones, if not for the initialization alone."""
    fields = {name: flat.field.metadata for name, flat in config.flat_fields(agent).items()}
    return {name for name, about in fields.items() if not (about["static"] or about["only_in_init"])}


def _env_to_json(env: Env) -> dict[str, Any]:
    if isinstance(env, DeviceEnv):
        return {"id": env.env_id, "backend": "device", "max_episode_steps": env.max_episode_steps}
    return {
        "id": env.env_id,
        "backend": "host",
        "max_episode_steps": env.max_episode_steps,
        "kwargs": env.kwargs,
        "vectorization": env.vectorization,
        "timeout": env.timeout,
    }


def _env_options(stored: dict[str, Any]) -> dict[str, Any]:
    """What ``make`` is told of a run's environment beside its id and limit."""
    if stored["backend"] == "device":
        return {"backend": "device"}
    options = {"backend": "host", "vectorization": stored["vectorization"], "env_timeout": stored["timeout"]}
    return options | json.loads(stored["kwargs"])
