"""``rlgd verify-resume``."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from rlgd.agents import agent_class
from rlgd.cli.flag_files import read_flags
from rlgd.cli.options import OutputOptions, flag, positional
from rlgd.cli.run_selection import newest
from rlgd.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Options(OutputOptions):
    """Train, kill the training at a random instant, resume it, and compare all bits.

    CONFIG is a config.json, or a TOML file of flags that names an agent.
    """

    source: str = positional("RUN|CONFIG", "a run's directory, or a file of flags", newest)
    env: str | None = flag(None, "the environment, where what the file says is not enough", "ID")
    total_timesteps: int | None = flag(None, "environment steps; the default is what the file says", count=True)


def run(options: Options) -> int:
    """Verify, and print the verdict."""
    path = Path(options.source, "config.json") if Path(options.source).is_dir() else Path(options.source)
    agent, total = _agent_and_steps(path, options)
    from rlgd.run.verify import verify_resume

    given = []
    for name, value in options.computing._asdict().items():
        flag_name = f"--{name.replace('_', '-')}"
        given += [flag_name] if value is True else [flag_name, value] if value else []

    def on_progress(what: str) -> None:
        if not (options.quiet or options.json):
            print(f"  {what}", file=sys.stderr, flush=True)

    verdict = verify_resume([agent, "--config", str(path), *given], total, options.env, on_progress, options.trust)
    print(json.dumps(dataclasses.asdict(verdict) | {"exact": verdict.exact}) if options.json else verdict.sentences())
    return 0 if verdict.exact else 1


def _agent_and_steps(path: Path, options: Options) -> tuple[str, int]:
    """What to train and for how long, from the file and the flags."""
    values, agent = read_flags(str(path))
    if agent is None:
        raise UsageError(f'{path} names no agent; add a line such as agent = "ppo".')
    total: Any = options.total_timesteps or values.get("total_timesteps")
    if total is None:
        from rlgd.run.settings import RunSettings

        total = RunSettings().total_timesteps
    if not isinstance(agent, str) or not isinstance(total, int):
        raise UsageError(f"{path} says agent {agent!r} and total_timesteps {total!r}; expected a name and a number.")
    agent_class(agent)  # a file may name only what the user trusts: below it is a command line's word
    return agent, total
