"""``config.json``: the configuration of a run on disk."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlgd import hyperparameters as hp
from rlgd import spaces
from rlgd.agents import stored
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.envs.host.host_env import autoreset_mode_named
from rlgd.envs.registry import in_place, is_known
from rlgd.errors import UsageError
from rlgd.run.cadence import Cadence
from rlgd.run.config import RunConfig, agent_name
from rlgd.run.config_content import FORMAT_VERSION, in_present_format, read_content, reading
from rlgd.run.layout import CONFIG
from rlgd.run.settings import EnvSettings, RunSettings
from rlgd.spaces import Spec
from rlgd.system.files import write_json
from rlgd.system.machine import device_name
from rlgd.training import chunks

PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnasium", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """The versions of the packages that decide the numbers."""
    return {name: version(name) for name in ("rlgd", *PACKAGES)} | {"python": platform.python_version()}


def to_json(config: RunConfig, cadence: Cadence) -> dict[str, Any]:
    """The configuration with versions and device, ready for JSON."""
    env = config.env
    mode = None if isinstance(env, DeviceEnv) or env.autoreset_mode is None else env.autoreset_mode.name
    return {
        "format_version": FORMAT_VERSION,
        "agent": agent_name(config.agent),
        "hyperparameters": hp.to_dict(config.agent),
        "env": {"id": env.env_id, "autoreset_mode": mode},
        "settings": hp.to_dict(dataclasses.replace(config.settings, env=EnvSettings.of(env))),
        "spec": spaces.to_json(env.spec),
        "chunk_length": cadence.chunk_length,
        "device": device_name(),
        "versions": versions(),
    }


def digest(config: RunConfig, cadence: Cadence) -> bytes:
    """SHA-256 of everything that processes of one run must agree about."""
    content = to_json(config, cadence)
    for name in ("device", "versions"):
        del content[name]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of an earlier format, or with fewer settings, as this version writes it.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: if it is damaged.
    """
    return with_newer(in_present_format(content))


def with_newer(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the settings that it lacks: they are newer than it, and have their defaults."""
    return dict(content) | {
        "settings": hp.to_dict(RunSettings()) | content["settings"],
        "hyperparameters": stored.with_newer(content["agent"], content["hyperparameters"]),
    }


def write_config(directory: Path, config: RunConfig, cadence: Cadence, history: list[dict[str, Any]]) -> None:
    """Write ``config.json``, with what was changed when the run was resumed."""
    write_json(directory / CONFIG, to_json(config, cadence) | {"history": history})


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a run as plain values, in the present format.

    Raises:
        UsageError: if there is none, or its format is unknown.
        StorageFault: if it is damaged.
    """
    content = read_content(directory)
    with reading(directory):
        return with_newer(content)


def use_parts(directory: Path, agent: type[Agent] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Let the files of a run name the parts of users that are given again, see ``rlgd.agents.stored.use_parts``."""
    content = read_config(directory)
    return stored.use_parts(content["agent"], content["hyperparameters"], agent, given)


def read_agent(directory: Path) -> tuple[Agent, Spec]:
    """The agent of a run and what it knew of its environment."""
    content = read_config(directory)
    with reading(directory):
        return stored.read(content["agent"], content["hyperparameters"]), spaces.from_json(content["spec"])


def read_settings(directory: Path) -> RunSettings:
    """The settings of a run."""
    content = read_config(directory)
    with reading(directory):
        return _settings(content)


def read(directory: Path, env: Any) -> RunConfig:
    """The configuration of a run, with ``env`` in place of the run's own if it is given.

    Raises:
        UsageError: if the environment cannot be made from its id alone.
        StorageFault: if the configuration is damaged.
    """
    content = read_config(directory)
    with reading(directory):
        agent, settings = stored.read(content["agent"], content["hyperparameters"]), _settings(content)
        spaces.from_json(content["spec"])  # a damaged one is named here
        chunk_length = content["chunk_length"]
        if not 1 <= chunk_length <= chunks.MAX_CHUNK:
            raise ValueError(f"chunk_length is {chunk_length!r}")
        env_id, mode = content["env"]["id"], autoreset_mode_named(content["env"]["autoreset_mode"])
    if env is not None:
        own = settings.env
        made = in_place(env, own.backend, own.max_episode_steps, own.log_info)
    else:
        made = _made(env_id, settings.env)
        made = made if isinstance(made, DeviceEnv) else dataclasses.replace(made, autoreset_mode=mode)
    return RunConfig(agent, made, dataclasses.replace(settings, env=EnvSettings.of(made)), chunk_length)


def _settings(content: Mapping[str, Any]) -> RunSettings:
    settings = RunSettings.of(content["settings"])
    settings.validate()
    return settings


def _made(env_id: str, settings: EnvSettings) -> Env:
    """The environment of an id out of a file, which must not import a module."""
    if not is_known(env_id):
        module, colon, _ = env_id.partition(":")
        trust = f", or --trust {module.partition('.')[0]}" if colon else ""
        raise UsageError(
            f"the run's environment {env_id!r} cannot be made from a file; name it: --env, env= in Python{trust}."
        )
    if settings.backend == "device":  # the other settings are the host's
        settings = EnvSettings("device", settings.max_episode_steps, log_info=settings.log_info)
    return settings.make(env_id)
