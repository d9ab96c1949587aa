"""``config.json`` as plain values. Reading them imports no JAX: ``rlgd runs`` lists many runs."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from rlgd.run.layout import CONFIG
from rlgd.system.reading import checked, damage_named, parse_json, read_versioned

FORMAT_VERSION, EARLIER = 6, (5,)


class EnvContent(TypedDict):
    """The environment in ``config.json``."""

    id: str
    autoreset_mode: str | None


class Content(TypedDict):
    """The types in ``config.json``. Values of settings are checked where they are read."""

    agent: str
    hyperparameters: dict[str, Any]
    env: EnvContent
    settings: dict[str, Any]
    spec: dict[str, Any]
    chunk_length: int
    device: str
    versions: dict[str, str]


def in_present_format(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of an earlier format as the present one has it; what it lacks is not filled in.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: if it is damaged.
    """
    new = dict(content)
    if content["format_version"] == 5:
        own = ("total_timesteps", "seed", "eval_every", "eval_episodes", "act_device", "checkpoint_every", "keep")
        settings = {name: new.pop(name) for name in own} | new.pop("stopping")
        env = dict(new["env"])
        new["env"] = {"id": env.pop("id"), "autoreset_mode": None}
        if "kwargs" in env:
            arguments = parse_json(env.pop("kwargs"), dict[str, Any])
            settings |= {"env_args": arguments or None, "env_timeout": env.pop("timeout")}
        new["settings"] = settings | env
    return new


def read_content(directory: Path) -> dict[str, Any]:
    """The configuration of a run, in the present format, with no more than the file has.

    Raises:
        UsageError: if there is none, or its format is unknown.
        StorageFault: if it is damaged.
    """
    content = read_versioned(directory / CONFIG, "run", FORMAT_VERSION, *EARLIER)
    with reading(directory):
        content = in_present_format(content)
        checked(content, Content)
        return content


def reading(directory: Path) -> contextlib.AbstractContextManager[None]:
    """Report what is missing in ``config.json``, or has the wrong type, as damage."""
    return damage_named(directory / CONFIG)
