"""How TensorBoard, tables and names describe a run: its hyper-parameters, and the group of runs it belongs to."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rlgd import hyperparameters as hp
from rlgd.run.config import RunConfig, agent_name

# What a directory's name says first of its run, and how.
SHORT = {"learning_rate": "lr", "momentum": "momentum", "optimizer": ""}


def hyperparameters(config: RunConfig) -> dict[str, Any]:
    """What is compared between runs, as numbers and text; without the seed, so that seeds are averaged."""
    agent = config.agent
    flat = hp.to_dict(dataclasses.replace(agent, ascent=agent.ascent.resolved()))
    text = {name: "-".join(map(str, v)) if isinstance(v, list) else v for name, v in flat.items()}
    chosen = {
        "agent": agent_name(agent),
        "env": config.env.env_id,
        "total_timesteps": config.settings.total_timesteps,
    }
    given = {name: v for name, v in text.items() if v is not None and v != math.inf}
    return chosen | {"momentum": 0.0} | given  # an optimizer without momentum is compared with those that have it


def unused(config: RunConfig) -> set[str]:
    """The metrics that say nothing about a run: a setting that never changes, or what its settings leave out."""
    agent = config.agent
    flat, ascent = hp.to_dict(agent), agent.ascent.resolved()
    adds_up = ascent.rule.row.sums_gradients and bool(ascent.rule.momentum)
    idle = {
        "ascent/learning_rate": ascent.schedules.schedule == "constant",
        "ascent/momentum": not ascent.schedules.momentum_changes,
        "ascent/effective_step": not adds_up,
        "ascent/clipped": ascent.clipping.limit == math.inf,
        "ascent/cg_damping": True,
        "ascent/value_gradient_norm": flat.get("baseline", "value") != "value",
        "train/ent_coef": flat.get("ent_coef_schedule", "constant") == "constant",
        "train/clip_eps": flat.get("clip_eps_schedule", "constant") == "constant",
        "train/updates": flat.get("target_kl") is None,
    }
    return {name for name, is_idle in idle.items() if is_idle}


def short(config: RunConfig, preset: Mapping[str, Any] = {}) -> list[str]:
    """What is not the default of the agent or the preset, for the name of a directory: the most telling first."""
    changed = {name: value for name, value in hp.changed(config.agent).items() if preset.get(name) != value}
    telling = {name: changed.pop(name) for name in SHORT if name in changed}
    return [_short(name, value) for name, value in (telling | changed).items() if name != "measure_every"]


def _short(name: str, value: Any) -> str:
    label = SHORT.get(name, name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{label}{value:g}"
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{label}-{text}".lstrip("-")


def group(config: RunConfig) -> str:
    """A name for all runs that differ from this one by their seed alone (or by what is measured)."""
    values = " ".join(f"{k}={v}" for k, v in hp.changed(config.agent).items() if k != "measure_every")
    if config.settings.init is not None:
        values = f"{values} init={config.settings.init}".strip()
    return f"{agent_name(config.agent)} {config.env.env_id} {config.settings.total_timesteps} {values}".strip()
