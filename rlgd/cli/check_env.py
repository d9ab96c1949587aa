"""``rlgd check-env``."""

import dataclasses
import json

from rlgd.cli.options import CommandOptions, flag, key_value, positional
from rlgd.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """Probe an environment by what it does. The exit code is 1 if it has a fault."""

    env: str = positional("ID", "a Gymnasium id, or one of another suite, such as brax:ant")
    env_arg: tuple[str, ...] = flag((), "arguments for the environment", "KEY=VALUE ...")
    seed: int = flag(0, "seed of resets and actions")
    steps: int | None = flag(None, "random actions to take; the default is 1,000, or fewer in a slow environment")
    timeout: float = flag(60.0, "seconds to make the environment in a worker process, and to play there")
    worker: bool = flag(True, "try the environment in a worker process first")
    json: bool = flag(False, "print one JSON document on standard output, and nothing else there")
    debug: bool = flag(False, "show the traceback of a failure")


def run(options: Options) -> int:
    """Check the environment."""
    from rlgd.envs import SUITES, make
    from rlgd.envs.check.checker import check
    from rlgd.envs.check.report import render
    from rlgd.envs.registry import part_of_user

    arguments = dict(key_value(text) for text in options.env_arg)
    own = {name: getattr(options, name) for name in ("seed", "steps", "timeout", "worker")}
    if taken := own.keys() & arguments:
        raise UsageError(f"--env-arg {min(taken)}=... cannot be given here: check-env has a flag of that name.")
    if options.env.partition(":")[0] in SUITES:
        report = check(make(options.env, **arguments), **own)
    else:
        part = part_of_user(options.env)
        report = check(options.env if part is None else part, **own, **arguments)
    print(json.dumps(report.as_dict()) if options.json else render(report))
    return 0 if report.sound else 1
