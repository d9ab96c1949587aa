"""How TensorBoard and tables describe a run: its hyper-parameters, and the group of runs it belongs to."""

import dataclasses
import math
from typing import Any

from rlgd import hyperparameters as hp
from rlgd.run.config import RunConfig, agent_name


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
    return chosen | {name: v for name, v in text.items() if v is not None and v != math.inf}


def group(config: RunConfig) -> str:
    """A name for all runs that differ from this one by their seed alone (or by what is measured)."""
    values = " ".join(f"{k}={v}" for k, v in hp.changed(config.agent).items() if k != "measure_every")
    if config.settings.init is not None:
        values = f"{values} init={config.settings.init}".strip()
    return f"{agent_name(config.agent)} {config.env.env_id} {config.settings.total_timesteps} {values}".strip()
