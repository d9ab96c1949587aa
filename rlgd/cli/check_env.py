"""``rlgd check-env``."""

import json

from rlgd.cli.flags import Flags, doc, key_value, parse, take_first
from rlgd.errors import UsageError


def check_env(argv: list[str]) -> int:
    """``rlgd check-env``."""
    flags: Flags = {
        "env_arg": doc(tuple[str, ...], "arguments for the environment, key=value", ()),
        "seed": doc(int, "of resets and actions", 0),
        "steps": doc(int | None, "of random actions; by default 1,000, or fewer in a slow environment", None),
        "timeout": doc(float, "seconds to make the environment in a worker process, and to play there", 60.0),
        "worker": doc(bool, "try the environment in a worker process first", True),
        "json": doc(bool, "print one JSON document on standard output, and nothing else there", False),
        "debug": doc(bool, "show the traceback of a failure", False),
    }
    about = "Probe an environment by what it does. The exit code is 1 if it has a fault."
    env_id, argv = take_first("check-env", "ID", argv, flags, about)
    options = parse(f"rlgd check-env {env_id}", flags, argv, about)
    from rlgd.envs import SUITES, make
    from rlgd.envs.check.checker import check
    from rlgd.envs.check.report import render

    arguments = dict(key_value(text) for text in options.env_arg)
    own = {name: getattr(options, name) for name in ("seed", "steps", "timeout", "worker")}
    if taken := own.keys() & arguments:
        raise UsageError(f"--env-arg {min(taken)}=... cannot be given here: check-env has a flag of that name.")
    source = make(env_id, **arguments) if env_id.partition(":")[0] in SUITES else env_id
    report = check(source, **own, **(arguments if isinstance(source, str) else {}))
    print(json.dumps(report.as_dict()) if options.json else render(report))
    return 0 if report.sound else 1
