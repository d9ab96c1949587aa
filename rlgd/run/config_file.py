"""``config.json``: a run's settings on disk."""

import contextlib
import json
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlgd import hyperparameters as hp
from rlgd import spaces
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import SUITES, DeviceEnv, Env, make
from rlgd.errors import StorageFault, UsageError
from rlgd.run.config import RunConfig
from rlgd.run.layout import CONFIG
from rlgd.run.stopping import Stopping
from rlgd.spaces import Spec
from rlgd.system.files import read_versioned, write_json
from rlgd.system.machine import device_name
from rlgd.training import chunks

FORMAT_VERSION = 5
PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnasium", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {name: version(name) for name in ("rlgd", *PACKAGES)} | {"python": platform.python_version()}


def to_json(settings: RunConfig) -> dict[str, Any]:
    """The configuration with versions and device, ready for JSON."""
    return {
        "format_version": FORMAT_VERSION,
        "agent": settings.agent_name,
        "hyperparameters": hp.to_dict(settings.agent),
        "env": env_to_json(settings.env),
        "spec": spaces.to_json(settings.env.spec),
        "total_timesteps": settings.total_timesteps,
        "seed": settings.seed,
        "eval_every": settings.eval_every,
        "eval_episodes": settings.eval_episodes,
        "stopping": hp.to_dict(settings.stopping),
        "act_device": settings.act_device,
        "checkpoint_every": settings.checkpoint_every,
        "keep": settings.keep,
        "chunk_length": settings.chunk_length,
        "device": device_name(),
        "versions": versions(),
    }


def write_config(directory: Path, settings: RunConfig, history: list[dict[str, Any]]) -> None:
    """Write ``config.json``, with what was changed when the run was resumed."""
    write_json(directory / CONFIG, to_json(settings) | {"history": history})


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a run as plain values.

    Raises:
        UsageError: if there is none, or it is of another format.
    """
    return read_versioned(directory / CONFIG, "run", FORMAT_VERSION)


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """What is missing in ``config.json``, or of another kind than it must be, is damage."""
    try:
        yield
    except UsageError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StorageFault(f"{directory / CONFIG} is damaged: {error!r}.") from error


def read_agent(directory: Path) -> tuple[Agent, Spec]:
    """The agent of a run and what it knew of its environment."""
    content = read_config(directory)
    with reading(directory):
        agent = hp.from_dict(make_agent(content["agent"]), content["hyperparameters"])
        agent.validate()
        for name, (_, field, _, value) in hp.flat_fields(agent).items():
            if np.ndim(value) and not field.metadata["static"]:
                raise TypeError(f"{name} is {value!r}")
        return agent, spaces.from_json(content["spec"])


def read_own(directory: Path) -> dict[str, Any]:
    """The configuration of a run but for agent and environment, by the fields of ``RunConfig``."""
    content = read_config(directory)
    names = ("total_timesteps", "seed", "eval_every", "eval_episodes", "act_device", "checkpoint_every", "keep")
    with reading(directory):
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
    with reading(directory):
        stored = content["env"]
        env_id, limit, options = str(stored["id"]), stored["max_episode_steps"], _env_options(stored)
        chunk_length = content["chunk_length"]
        if not isinstance(chunk_length, int) or not 1 <= chunk_length <= chunks.MAX_CHUNK:
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


def env_to_json(env: Env) -> dict[str, Any]:
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
