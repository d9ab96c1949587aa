"""``rlgd verify-resume``."""

import dataclasses
import json
import sys
from pathlib import Path

from rlgd.cli.config_files import read_config
from rlgd.cli.flags import Flags, counts, doc, output_flags, parse, take_first
from rlgd.cli.train import train_flags
from rlgd.errors import UsageError


def verify_resume(argv: list[str]) -> int:
    """``rlgd verify-resume``."""
    flags: Flags = {
        "env": doc(str | None, "the environment, where what the file says is not enough", None),
        "total_timesteps": doc(counts() | None, "environment steps; by default what the file says", None),
        **output_flags(),
    }
    about = "Train, be killed at a random instant, resume, and compare all bits. A file is a config.json or TOML."
    source, argv = take_first("verify-resume", "RUN|CONFIG", argv, flags, about)
    path = Path(source, "config.json") if Path(source).is_dir() else Path(source)
    options = parse(f"rlgd verify-resume {source}", flags, argv, about)
    values, agent = read_config(str(path))
    if agent is None:
        raise UsageError(f'{path} names no agent; add a line such as agent = "ppo".')
    from rlgd.run.verify import verify_resume as run_verify

    total = options.total_timesteps or values.get("total_timesteps", train_flags()["total_timesteps"][1])
    if not isinstance(agent, str) or not isinstance(total, int):
        raise UsageError(f"{path} says agent {agent!r} and total_timesteps {total!r}; expected a name and a number.")
    given = [] if options.device is None else ["--device", options.device]
    given += ["--deterministic-ops"] if options.deterministic_ops else []

    def on_progress(what: str) -> None:
        if not (options.quiet or options.json):
            print(f"  {what}", file=sys.stderr, flush=True)

    verdict = run_verify([agent, "--config", str(path), *given], total, options.env, on_progress)
    print(json.dumps(dataclasses.asdict(verdict) | {"exact": verdict.exact}) if options.json else verdict.sentences())
    return 0 if verdict.exact else 1
