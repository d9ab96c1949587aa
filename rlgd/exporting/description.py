"""What the file of an exported policy says of it, in JSON."""

import dataclasses
import json
import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlgd import __version__, spaces
from rlgd import hyperparameters as hp
from rlgd.agents.registry import name_of
from rlgd.evaluation.policy import Policy
from rlgd.exporting.interface import Interface
from rlgd.run.config_file import read_config
from rlgd.run.summary import read_summary

FORMAT_VERSION = 1


def describe(policy: Policy, interface: Interface) -> dict[str, Any]:
    """A policy, whatever run it is of: what it reads and returns, its spaces, its hyper-parameters, the versions."""
    return {
        "format_version": FORMAT_VERSION,
        "rlgd": __version__,
        "jax": version("jax"),
        "python": platform.python_version(),
        "agent": name_of(type(policy.agent)),
        "inputs": [dataclasses.asdict(port) for port in interface.inputs],
        "outputs": [dataclasses.asdict(port) for port in interface.outputs],
        "spaces": spaces.to_json(policy.spec),
        "hyperparameters": hp.to_dict(policy.agent),
    }


def strict_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every program reads: numbers that are not finite are text, such as "Infinity".

    Raises:
        TypeError: if it holds what JSON does not have.
    """

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: finite(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [finite(inner) for inner in value]
        return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def describe_run(directory: Path) -> dict[str, Any]:
    """How a policy was trained: its environment, its settings, its device, and what came of it."""
    content = read_config(directory)
    return {
        "environment": content["env"]["id"],
        "settings": content["settings"],
        "device": content["device"],
        "trained_with": content["versions"],
        "summary": read_summary(directory),
    }
