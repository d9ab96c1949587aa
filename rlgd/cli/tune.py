"""``rlgd tune``."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from rlgd.cli.flags import Flags, counts, doc, json_or_text, key_value, output_flags, parse, setting_flags
from rlgd.errors import UsageError
from rlgd.system import signals

EXAMPLE_SEARCH = "learning_rate=log:1e-4,1e-2"
TUNE_HELP = """\
usage: rlgd tune AGENT --env ID --search NAME=VALUES NAME=VALUES ... [flags]

Search for hyper-parameters with a high return, and train the best ones with fresh seeds. VALUES is one of

  adam,lion,rmsprop                 a choice; [[64,64],[128]] where values are lists
  log:1e-4,1e-2                     a range, by factors
  linear:0.9,1                      a range; of whole numbers if both ends are

`rlgd tune AGENT --help` lists the flags: the agent's, for what all trials have, and the search's.
"""


def tune_flags() -> Flags:
    """Flags of ``rlgd tune`` beside the agent's."""
    return {
        "env": doc(str | None, "Gymnasium id, such as CartPole-v1 (required)", None),
        "search": doc(
            tuple[str, ...], "what is searched over, name=values; `rlgd tune --help` says how (required)", ()
        ),
        "trials": doc(int, "how many", 30),
        "seeds": doc(int, "of each trial", 3),
        "fresh_seeds": doc(int, "that the best values are trained with in the end, none of them a trial's; 0: not", 10),
        "total_timesteps": doc(counts(), "environment steps of each member", 100_000),
        "eval_episodes": doc(int, "episodes of each evaluation", 20),
        "seed": doc(int, "of the search", 0),
        "run_dir": doc(
            str | None,
            "where to write; a search that is there goes on, and several processes may share it; by default "
            "runs/tune/<env>/<agent>/<time>",
            None,
        ),
    }


def tune(argv: list[str]) -> int:
    """``rlgd tune``."""
    if not argv or argv[0] in ("-h", "--help"):
        print(TUNE_HELP, end="")
        return 0 if argv else 2
    from rlgd.agents import make_agent

    name, argv = argv[0], argv[1:]
    own = setting_flags(make_agent(name))
    flags = {**tune_flags(), **own, **output_flags()}
    options = parse(f"rlgd tune {name}", flags, argv, "Search for hyper-parameters with a high return.")
    if options.env is None or not options.search:
        missing = "--env" if options.env is None else "--search"
        raise UsageError(
            f"{missing} is missing; for example rlgd tune ppo --env CartPole-v1 --search {EXAMPLE_SEARCH}."
        )
    search = dict(searched(text) for text in options.search)
    from rlgd import envs
    from rlgd.cli import jax_setup
    from rlgd.run.config import RunConfig
    from rlgd.run.settings import RunSettings

    agent = make_agent(name, **{key: getattr(options, key) for key in own})
    env = envs.make(options.env)
    settings = RunConfig(agent, env, RunSettings(options.total_timesteps, eval_episodes=options.eval_episodes))
    settings.validate()
    jax_setup.set_up(settings, options.device, options.deterministic_ops, alone=not isinstance(env, envs.DeviceEnv))
    from rlgd.studies import arms
    from rlgd.tuning import result as result_module
    from rlgd.tuning import search as tuning

    directory = Path(options.run_dir) if options.run_dir else tuning.automatic(Path("runs"), env.env_id, name)
    silent = options.quiet or options.json

    def on_trial(number: int, state: str, score: float, values: dict[str, Any]) -> None:
        if not silent:
            text = " ".join(f"{key}={arms.as_label(value)}" for key, value in values.items())
            print(f"  trial {number}: {score:.1f} ({state}) {text}", file=sys.stderr, flush=True)

    numbers = ("trials", "seeds", "fresh_seeds", "total_timesteps", "eval_episodes", "seed")
    given = {key: getattr(options, key) for key in numbers}
    try:
        result = tuning.tune(agent, env, search, **given, tune_dir=directory, on_trial=on_trial)
    except KeyboardInterrupt as interrupt:
        print(f"rlgd: interrupted; the same command with --run-dir {directory} goes on", file=sys.stderr, flush=True)
        return signals.exit_code(interrupt)
    if options.json:
        fresh = None if result.fresh is None else result.fresh._asdict()
        trials = [trial | {"score": None if math.isnan(trial["score"]) else trial["score"]} for trial in result.trials]
        scores = {"search_score": result.search_score, "fresh": fresh, "trials": trials}
        print(json.dumps({"tune_dir": str(directory), "best": result.best, **scores}))
        return 0
    print(result.table())
    print(f"\nsearch:      {directory}")
    print(f"train:       rlgd train {name} --config {directory / result_module.BEST}")
    return 0


def searched(text: str) -> tuple[str, Any]:
    """``name=values`` of ``--search``."""
    name, values = key_value(text, "--search")
    if not isinstance(values, str):
        return name, values if isinstance(values, list) else [values]
    spacing, colon, ends = values.partition(":")
    parts = [json_or_text(part) for part in (ends if colon else values).split(",")]
    return name, {spacing: parts} if colon else parts
