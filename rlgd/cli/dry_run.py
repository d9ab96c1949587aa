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
    from rlgd.run.cadence import cadence
    from rlgd.system import ram
    from rlgd.system.mesh import make_mesh
    from rlgd.training.programs import programs_of

    flags = {"agent": agent, "env": config.env.env_id, **_flags(options)}
    rows = cadence(config).iteration_steps
    mesh = make_mesh(config.settings.devices, config.settings.shuffle)
    config = config.for_devices(config.settings.devices)
    programs = list(programs_of(config.agent, config.env, mesh, config.settings.overlap))
    free = ram.free_bytes()
    if options.json:
        memory = {"free_bytes": int(free) if math.isfinite(free) else None}
        compiled = [program._asdict() for program in programs]
        print(json.dumps({"flags": flags, "rows_per_iteration": rows, "programs": compiled, **memory}))
        return 0
    total = config.settings.total_timesteps
    least, most = ("at least ", "at most ") if config.agent.whole_episodes else ("", "")
    comments = [
        where(config),
        *([origin] if origin else []),
        f"{total:,} steps: {least}{-(-total // rows):,} iterations of {most}{rows:,}",
        *map(_sentence, programs),
        *([f"{free / 2**30:,.1f} GiB are free"] if math.isfinite(free) else []),
    ]
    print("\n".join(f"# {line}" for comment in comments for line in comment.splitlines()))
    print("\n".join(f"{name} = {_toml(value)}" for name, value in flags.items()))
    return 0


def _flags(options: OutputOptions) -> dict[str, Any]:
    """The flags of agent, run and computing by their names."""
    computing = {name for name, value in options.computing._asdict().items() if value}
    return {
        name: _plain(functools.reduce(getattr, flag.path, options))
        for name, flag in flags_of(options).items()
        if len(flag.path) > 1 or name in computing
    }


def _plain(value: Any) -> Any:
    """A value of a flag as JSON has it; a mapping as the command line has it, ``["key=value"]``."""
    if isinstance(value, Mapping):
        return [f"{key}={json.dumps(inner, ensure_ascii=False)}" for key, inner in value.items()]
    return list(value) if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # as TOML has it, infinity too
    # TOML has no null: None is written as on the command line.
    return json.dumps("None" if value is None else value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _sentence(program: "Program") -> str:
    memory = "" if program.memory_bytes is None else f", {program.memory_bytes / 2**20:,.1f} MiB while it runs"
    return f"program ({program.name}): compiled in {program.compile_seconds:.1f} s{memory}"
