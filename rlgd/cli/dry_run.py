"""``rlgd train --dry-run``: what would be trained, as a file of flags, and what it takes."""

import functools
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlgd.cli.options import OutputOptions, flags_of
from rlgd.cli.output import where

if TYPE_CHECKING:
    from rlgd.run.config import RunConfig
    from rlgd.training.programs import Program


def show(config: "RunConfig", agent: str, options: OutputOptions, origin: str | None) -> int:
    """Compile, and print everything about the run; returns the exit code.

    The text is a file of flags for ``--config``: what is no flag is a comment.
    """
    from rlgd.system import ram
    from rlgd.training.programs import training_program
    from rlgd.training.rollout import rollout_length

    flags = {"agent": agent, "env": config.env.env_id, **_flags(options)}
    rows = config.agent.num_envs * rollout_length(config.agent, config.env.spec)
    program, free = training_program(config.agent, config.env), ram.free_bytes()
    if options.json:
        memory = {"free_bytes": int(free) if math.isfinite(free) else None}
        print(json.dumps({"flags": flags, "rows_per_iteration": rows, "program": program._asdict(), **memory}))
        return 0
    iterations = -(-config.settings.total_timesteps // rows)
    comments = [
        where(config),
        *([origin] if origin else []),
        f"{config.settings.total_timesteps:,} steps: {iterations:,} iterations of {rows:,}"
        + (" or fewer" if config.agent.whole_episodes else ""),
        _sentence(program, free),
    ]
    print("\n".join(f"# {comment}" for comment in comments))
    print("\n".join(f"{name} = {_toml(value)}" for name, value in flags.items()))
    return 0


def _flags(options: OutputOptions) -> dict[str, Any]:
    """The flags of agent and run by their names, those at None left out: that is what a missing flag means."""
    values = {
        name: functools.reduce(getattr, flag.path, options)
        for name, flag in flags_of(options).items()
        if len(flag.path) > 1
    }
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None and not (isinstance(value, Mapping) and not value)
    }


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # as TOML has it, infinity too
    return json.dumps(value)


def _sentence(program: "Program", free: float) -> str:
    memory = "" if program.memory_bytes is None else f", {program.memory_bytes / 2**20:,.1f} MiB while it runs"
    room = f"; {free / 2**30:,.1f} GiB are free" if math.isfinite(free) else ""
    return f"program ({program.name}): compiled in {program.compile_seconds:.1f} s{memory}{room}"
