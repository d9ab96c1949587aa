"""What a resumed run may change, and what it changed."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rlgd import hyperparameters as hp
from rlgd.agents import agent_class
from rlgd.errors import UsageError
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig
from rlgd.run.config_content import reading
from rlgd.run.config_file import read_config, to_json, upgraded
from rlgd.run.settings import RunSettings

VERSION_OF = "version of "
UNCOMPARED = ("format_version", "chunk_length", "history")
MACHINE = "device"  # a run may be resumed on another one


class Change(NamedTuple):
    """A setting of a resumed run that has another value than before."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.now}"


def resumable(settings: Any) -> set[str]:
    """The fields of an agent, or of a run's settings, that a resumed run may change."""
    return {name for name, flat in hp.flat_fields(settings).items() if flat.field.metadata["resumable"]}


def differences(directory: Path, about: dict[str, Any], content: dict[str, Any]) -> list[Change]:
    """The settings that differ from those when a checkpoint was written.

    Args:
        directory: the run's.
        about: the configuration in the checkpoint, see ``Manifest``.
        content: the present configuration, in the same form.

    Raises:
        UsageError: if what decides shapes, programs or random numbers differs, naming each.
        StorageFault: if the configuration is damaged.
    """
    with reading(directory):
        agent = agent_class(content["agent"])()
        changes = _changes(about, content)
        # The environment may be another one, if it has the same spaces.
        free = {*resumable(RunSettings()), MACHINE, "env", "autoreset_mode"}
        free |= resumable(agent) if about.get("agent") == content["agent"] else set()
    fixed = [change for change in changes if change.name not in free and not change.name.startswith(VERSION_OF)]
    if fixed:
        listed = "; ".join(map(_compared, fixed))
        raise UsageError(f"the checkpoint in {directory} belongs to other settings: {listed}.")
    return changes


def _compared(change: Change) -> str:
    """A change as "checkpoint A, requested B"; of tables only the parts that differ."""
    name, before, now = change
    if isinstance(before, dict) and isinstance(now, dict):
        parts = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        before, now = ({key: table[key] for key in parts if key in table} for table in (before, now))
    return f"{name}: checkpoint {before}, requested {now}"


def other_settings(directory: Path, config: RunConfig) -> list[Change]:
    """What decides the result of a run and differs from ``config``; versions are not compared.

    Raises:
        StorageFault: if the configuration is damaged.
    """
    content = read_config(directory)
    with reading(directory):
        changes = _changes(content | {"numbers": {}}, to_json(config, cadence(config)) | {"numbers": {}})
    fields = hp.flat_fields(RunSettings())
    irrelevant = {MACHINE, *(name for name, flat in fields.items() if not flat.field.metadata["decides_result"])}
    return [change for change in changes if change.name not in irrelevant and not change.name.startswith(VERSION_OF)]


def _changes(about: Mapping[str, Any], content: Mapping[str, Any]) -> list[Change]:
    then, now = _flat(upgraded(about)), _flat(json.loads(json.dumps(content)))
    names = [name for name in {**then, **now} if name not in UNCOMPARED]
    return [Change(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the names of its flags."""
    parts = ("hyperparameters", "settings", "numbers")
    flat = {name: value for name, value in content.items() if name not in (*parts, "env", "spec")}
    for part in parts:
        flat |= content[part]
    flat |= {f"{VERSION_OF}{name}": number for name, number in flat.pop("versions").items()}
    flat |= {{"id": "env"}.get(name, name): value for name, value in content["env"].items()}
    return flat | {f"{name} space" if name in ("obs", "action") else name: v for name, v in content["spec"].items()}


def with_changes(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """The configuration with other values of what a resumed run may change.

    Raises:
        UsageError: for an unknown name, and for what decides shapes, programs or random numbers.
    """
    own = hp.flat_fields(config.settings)
    flat = {**hp.flat_fields(config.agent), **own}
    allowed = resumable(config.agent) | resumable(config.settings)
    fixed = {name: value for name, value in changes.items() if name in flat and name not in allowed}
    fixed = {name: value for name, value in fixed.items() if value != flat[name].value}
    if fixed:
        listed = "; ".join(f"{name}: checkpoint {flat[name].value}, requested {value}" for name, value in fixed.items())
        raise UsageError(
            f"settings that decide shapes, programs or the initial state cannot be changed in a resumed run: {listed}."
        )
    settings = hp.with_values(config.settings, {name: value for name, value in changes.items() if name in own})
    agent = hp.with_values(config.agent, {name: value for name, value in changes.items() if name not in own})
    env = config.env if settings.env == config.settings.env else settings.env.applied_to(config.env)
    return dataclasses.replace(config, agent=agent, env=env, settings=settings)
