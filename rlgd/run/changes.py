"""What may change when a run is resumed, and what did."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from rlgd import hyperparameters as hp
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError
from rlgd.run.config import RunConfig
from rlgd.run.config_file import read_config, reading, to_json
from rlgd.run.stopping import CRITERIA

RESUMABLE = ("eval_every", "eval_episodes", "checkpoint_every", "keep")  # what decides no bit of the training
# Beside these a resumed run may have another length, another machine, and an environment with other arguments.
FREE = (*RESUMABLE, "total_timesteps", "act_device", "device", "env", "kwargs", "vectorization", "timeout")
VERSION_OF = "version of "
UNCOMPARED = ("format_version", "chunk_length", "history")


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
    with reading(directory):
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
    with reading(directory):
        changes = _changes(content | {"numbers": {}}, to_json(settings) | {"numbers": {}})
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
    flat, allowed = hp.flat_fields(settings.agent), changeable(settings.agent)
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
        agent=hp.with_values(settings.agent, others),
        total_timesteps=settings.total_timesteps if total_timesteps is None else total_timesteps,
        stopping=dataclasses.replace(settings.stopping, **criteria),
        **own,
    )
    settings.__dict__["chunk_length"] = length
    return settings


def changeable(agent: Agent) -> set[str]:
    """The hyper-parameters that may change in a resumed run: the traced ones, if not for the initialization alone."""
    return {name for name, flat in hp.flat_fields(agent).items() if flat.field.metadata["resumable"]}
