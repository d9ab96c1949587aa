"""What a run directory holds: the resolved configuration, metrics as JSON lines, and the summary."""

import dataclasses
import functools
import json
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import jax

from rlgd import checkpoint, config, spaces, training
from rlgd.agents import REGISTRY, make_agent
from rlgd.agents.common import ActorCriticAgent, Agent
from rlgd.data import Spec
from rlgd.envs import SUITES, DeviceEnv, Env, HostEnv, make
from rlgd.errors import StorageFault, UsageError, unknown
from rlgd.records import ROWS_PER_RUN, Row
from rlgd.rollout import ACT_DEVICES, padded_limit
from rlgd.stopping import CRITERIA, EVALUATIONS, NEVER, Stopping

FORMAT_VERSION = 3
CONFIG, METRICS, SUMMARY, CHECKPOINTS, BEST = "config.json", "metrics.jsonl", "summary.json", "checkpoints", "best"
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

    def validate(self) -> None:
        """Check the agent, the numbers, and that the agent can act in the environment.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if not isinstance(self.agent, Agent):
            raise UsageError(f"agent is {self.agent!r}; expected an agent such as rlgd.agents.PPO().")
        least = {"total_timesteps": 1, "seed": 0, "eval_every": 1, "eval_episodes": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if name == "eval_every" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value < 2**63:
                raise UsageError(f"{name} is {value!r}; allowed: a whole number from {low}.")
        self.agent.validate()
        self.stopping.validate()
        spaces.action_head(self.env.spec.action, self.agent.squash)
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
        agent = self.agent
        length = agent.rollout_length if isinstance(agent, ActorCriticAgent) else padded_limit(self.env.spec)
        return agent.num_envs * length

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

    def group(self) -> str:
        """A name for all runs that differ from this one by their seed alone (or by what is measured)."""
        default = config.to_dict(type(self.agent)())
        changed = {k: v for k, v in config.to_dict(self.agent).items() if v != default[k] and k != "measure_every"}
        settings = " ".join(f"{name}={value}" for name, value in changed.items())
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


def automatic(root: Path, env_id: str, agent_name: str, seed: int) -> Path:
    """``root/<env>/<agent>/<time>-seed<seed>``, with a suffix if that is taken."""
    parent = root / env_id.replace("/", "-").replace(":", "-") / agent_name
    return timed(parent, f"-seed{seed}")


def timed(parent: Path, suffix: str = "") -> Path:
    """``parent/<time><suffix>``, with a number behind it if that is taken."""
    name = time.strftime("%Y%m%d-%H%M%S") + suffix
    names = [name, *(f"{name}-{n}" for n in range(2, 1000))]
    return next(parent / candidate for candidate in names if not (parent / candidate).exists())


def create(directory: Path, settings: RunConfig, overwrite: bool) -> Path:
    """Make the directory and write the configuration.

    Raises:
        UsageError: if it holds a run and ``overwrite`` is off, or cannot be made.
    """
    if (directory / CONFIG).exists():
        if not overwrite:
            raise UsageError(
                f"{directory} already holds a run; go on with it by `rlgd resume {directory}`, "
                "or replace it by --overwrite."
            )
        _remove_run(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_config(directory, settings)
    except OSError as error:
        raise UsageError(f"the run directory {directory} cannot be written: {error.strerror}.") from error
    return directory


def _remove_run(directory: Path) -> None:
    """Remove what rlgd wrote, and nothing else."""
    written = [directory / name for name in (CONFIG, METRICS, SUMMARY)]
    written += directory.glob("events.out.tfevents.*")
    folders = [directory / name for name in (CHECKPOINTS, BEST)]
    steps = [path for folder in folders if folder.is_dir() for path in folder.glob("*") if path.name.isdigit()]
    for step in steps:
        for path in sorted(step.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        step.rmdir()
    for path in written:
        path.unlink(missing_ok=True)


def write_config(directory: Path, settings: RunConfig) -> None:
    """Write ``config.json``."""
    _write_json(directory / CONFIG, settings.to_json())


def write_summary(directory: Path, summary: dict[str, Any]) -> None:
    """Write ``summary.json``.

    Raises:
        StorageFault: if it cannot be written.
    """
    try:
        _write_json(directory / SUMMARY, summary)
    except OSError as error:
        raise StorageFault(f"{directory / SUMMARY} could not be written: {error.strerror}.") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


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
        content = json.loads(path.read_text(encoding="utf-8"))
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
        return json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def read_agent(directory: Path) -> tuple[Agent, Spec]:
    """The agent of a run and what it knew of its environment."""
    content = read_config(directory)
    try:
        agent = config.from_dict(make_agent(content["agent"]), content["hyperparameters"])
        agent.validate()
        described = content["spec"]
        spec = spaces.from_json(described)
    except (KeyError, TypeError, AttributeError) as error:
        raise StorageFault(f"{directory / CONFIG} is damaged: {error!r}.") from error
    return agent, spec


def read(directory: Path, env: Any) -> RunConfig:
    """The configuration of a run, with ``env`` in place of the run's own if it is given.

    Raises:
        UsageError: if the environment cannot be made from its id alone.
    """
    agent, _ = read_agent(directory)
    content = read_config(directory)
    stored = content["env"]
    if env is None:
        if stored["id"] not in gymnasium.registry and stored["id"].partition(":")[0] not in SUITES:
            raise UsageError(
                f"the run's environment {stored['id']!r} is not made from a file; name it: --env, or env=."
            )
        made = make(stored["id"], max_episode_steps=stored["max_episode_steps"], **_env_options(stored))
    else:
        made = make(env, backend=stored["backend"] if isinstance(env, str) else "auto")
    settings = RunConfig(
        agent,
        made,
        content["total_timesteps"],
        content["seed"],
        content["eval_every"],
        content["eval_episodes"],
        _stopping(content, directory),
        content["act_device"],
    )
    settings.__dict__["chunk_length"] = content["chunk_length"]  # what was computed then, whatever is computed now
    return settings


def _stopping(content: dict[str, Any], directory: Path) -> Stopping:
    try:
        return Stopping(**content["stopping"])
    except (KeyError, TypeError) as error:
        raise StorageFault(f"{directory / CONFIG} is damaged: {error!r}.") from error


def find_checkpoint(directory: Path, which: str | int | None) -> tuple[Path, int]:
    """The folder and the step of a checkpoint: "latest", "best", a step, or None for the run's result.

    Raises:
        UsageError: if there is none.
    """
    if which is None:
        with_patience = _stopping(read_config(directory), directory).patience is not None
        which = "best" if with_patience and checkpoint.all_steps(directory / BEST) else "latest"
    folder = directory / (BEST if which == "best" else CHECKPOINTS)
    if which in ("best", "latest"):
        steps = checkpoint.latest_step(folder)
        if steps is None:
            why = " of an evaluation during training" if which == "best" else ""
            raise UsageError(f"{directory} has no complete checkpoint{why}.")
        return folder, steps
    there = checkpoint.all_steps(folder)
    if not str(which).isdigit() or int(which) not in there:
        known = ", ".join(map(str, there)) or "none"
        raise UsageError(f"checkpoint is {which!r}; allowed: best, latest, or a step; there is {known}.")
    return folder, int(which)


def changed(settings: RunConfig, total_timesteps: int | None, changes: dict[str, Any]) -> RunConfig:
    """The configuration with a new end, other traced hyper-parameters and other criteria to stop.

    Raises:
        UsageError: for a static hyper-parameter: it decides shapes or programs.
    """
    flat, allowed = config.flat_fields(settings.agent), changeable(settings.agent)
    for name in changes:
        if name in flat and name not in allowed:
            raise UsageError(f"{name} cannot be changed in a resumed run: it is {flat[name].value!r} and fixed.")
    length = settings.chunk_length
    criteria = {name: value for name, value in changes.items() if name in CRITERIA}
    agent = config.with_values(settings.agent, {k: v for k, v in changes.items() if k not in CRITERIA})
    settings = dataclasses.replace(
        settings,
        agent=agent,
        total_timesteps=settings.total_timesteps if total_timesteps is None else total_timesteps,
        stopping=dataclasses.replace(settings.stopping, **criteria),
    )
    settings.__dict__["chunk_length"] = length
    return settings


def changeable(agent: Agent) -> set[str]:
    """The hyper-parameters that may change in a resumed run: the traced ones."""
    return {name for name, flat in config.flat_fields(agent).items() if not flat.field.metadata["static"]}


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


class JsonLines:
    """Writes rows to ``metrics.jsonl``, one JSON object a line."""

    def __init__(self, directory: Path) -> None:
        self.file = (directory / METRICS).open("a", encoding="utf-8")

    def write(self, row: Row) -> None:
        """Add a row."""
        record = {"step": row.step, "seconds": row.seconds} | row.values
        self.file.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Close the file."""
        self.file.close()
