"""``rlgd tune``."""

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rlgd.cli import near_misses
from rlgd.cli.engine_options import EngineOptions
from rlgd.cli.options import UNKNOWN, flag, json_or_text, key_value, part, positional, sinks_flag
from rlgd.cli.output import command, end_interrupted, terminal_width
from rlgd.engines.choice import LOCAL
from rlgd.errors import UsageError

if TYPE_CHECKING:
    from rlgd.agents.base.agent import Agent
    from rlgd.tuning.result import TuneResult

EXAMPLE_SEARCH = "learning_rate=log:1e-4,1e-2"
VALUES = """\
VALUES of --search is one of
  adam,lion,rmsprop     a choice; [[64,64],[128]] where values are lists
  log:1e-4,1e-2         a range, by factors
  linear:0.9,1          a range; of whole numbers if both ends are
"""
AGENTS = "`rlgd list agents` lists them; `rlgd tune AGENT --help` shows an agent's flags."


@dataclasses.dataclass(frozen=True)
class Options(EngineOptions):
    """Search for good hyper-parameters, and train the best with fresh seeds.
    The agent's flags hold for all trials.
    """

    agent: str = positional("AGENT", "an agent of `rlgd list agents`", near_misses.agent)
    env: str | None = flag(
        None, "Gymnasium id, such as CartPole-v1; see `rlgd list envs` and `rlgd list suites`", "ID", group="run"
    )
    search: tuple[str, ...] = flag((), "hyper-parameters to search over", "NAME=VALUES ...", group="run")
    trials: int = flag(30, "values to try, in all processes", group="run")
    seeds: int = flag(3, "seeds of each trial", group="run")
    fresh_seeds: int = flag(
        10,
        "new seeds to train the best values with again; 0: none",
        group="run",
    )
    total_timesteps: int = flag(100_000, "environment steps of each member", group="run", count=True)
    eval_episodes: int = flag(20, "episodes of each evaluation", group="evaluation")
    seed: int = flag(0, "seed of the search", group="run")
    workers: int | None = flag(None, "trials that an engine runs at a time; the default is all", group="engine")
    hyperparameters: "Agent" = dataclasses.field(default=UNKNOWN, metadata=part())
    sink: tuple[str, ...] = sinks_flag()
    run_dir: str | None = flag(
        None,
        "where to write; a search in it is continued, and several processes may share it; the default is "
        "runs/tune/<env>/<agent>/<time>",
        "DIR",
        group="output",
    )
    storage: str | None = flag(
        None,
        "a database for the trials, which machines may share",
        "URL",
        group="output",
    )
    study_name: str | None = flag(None, "name of the search there; default: the directory's", "NAME", group="output")

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Self:
        """The agent's own values."""
        from rlgd.agents import make_agent

        return cls(agent=given["agent"], hyperparameters=make_agent(given["agent"]))

    def notes(self) -> str:
        """How a search is written, and where the agents are listed if none is chosen yet."""
        return f"{VALUES}\n{AGENTS}" if self.hyperparameters is UNKNOWN else VALUES


def run(options: Options) -> int:
    """Check everything, search, and print what was found."""
    if options.env is None or not options.search:
        missing = "--env" if options.env is None else "--search"
        example = f"rlgd tune ppo --env CartPole-v1 --search {EXAMPLE_SEARCH}"
        raise UsageError(f"{missing} is missing; for example {example}.")
    search, engine = ranges(options.search, "--search"), options.engine_choice
    if options.workers is not None and engine.name == LOCAL:
        raise UsageError("workers is set, but this process runs one trial after another; choose an --engine.")
    from rlgd import envs
    from rlgd.cli import jax_setup
    from rlgd.cli.progress import ShownProgress
    from rlgd.run.config import RunConfig
    from rlgd.run.settings import RunSettings

    agent, env = options.hyperparameters, envs.make(options.env)
    config = RunConfig(agent, env, RunSettings(options.total_timesteps, eval_episodes=options.eval_episodes))
    config.validate()
    on_device = isinstance(env, envs.DeviceEnv)
    set_up = functools.partial(jax_setup.set_up, computing=options.computing, alone=not on_device)
    set_up(config)
    from rlgd.tuning import search as tuning
    from rlgd.tuning.sharing import JOBS

    directory = Path(options.run_dir) if options.run_dir else tuning.automatic(Path("runs"), env.env_id, options.agent)
    numbers = ("trials", "seeds", "fresh_seeds", "total_timesteps", "eval_episodes", "seed")
    given = {name: getattr(options, name) for name in numbers}
    on_trial = functools.partial(_show_trial, silent=options.quiet or options.json)
    try:
        with engine.executor(options.workers, directory / JOBS) as executor, ShownProgress(options) as progress:
            result = tuning.tune(
                agent, env, search, **given, tune_dir=directory, storage=options.storage,
                study_name=options.study_name, on_trial=on_trial, on_progress=progress, executor=executor,
                workers=options.workers, set_up=set_up, sinks=options.sink, typed=False,
            )  # fmt: skip
    except KeyboardInterrupt as interrupt:
        end_interrupted(interrupt, f"the same command with --run-dir {directory} continues the search")
    _report(result, options)
    return 0


def ranges(texts: Sequence[str], flag: str) -> dict[str, Any]:
    """The values of ``name=values`` that a flag such as ``--search`` gives, by name.

    Raises:
        UsageError: if a name is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, values = _searched(text, flag)
        if name in found:
            raise UsageError(f"{flag} gives {name} twice; give it once.")
        found[name] = values
    return found


def _searched(text: str, flag: str) -> tuple[str, Any]:
    name, values = key_value(text, flag)
    if not isinstance(values, str):
        return name, values if isinstance(values, list) else [values]
    spacing, colon, ends = values.partition(":")
    parts = [json_or_text(part) for part in (ends if colon else values).split(",")]
    return name, {spacing: parts} if colon else parts


def _show_trial(number: int, state: str, score: float, values: dict[str, Any], silent: bool) -> None:
    from rlgd.tuning.result import score_in_words
    from rlgd.tuning.space import values_in_words

    if not silent:
        text = f"  trial {number}: {score_in_words(score)} ({state}) {values_in_words(values)}"
        print(text, file=sys.stderr, flush=True)


def _report(result: "TuneResult", options: Options) -> None:
    """Print what was found, for a person or as JSON."""
    from rlgd.tuning.sharing import BEST, HISTORY, IMPORTANCE

    directory = result.tune_dir
    if options.json:
        fresh = None if result.fresh is None else result.fresh._asdict()
        trials = [trial | {"score": None if math.isnan(trial["score"]) else trial["score"]} for trial in result.trials]
        scores = {"search_score": result.search_score, "fresh": fresh, "fresh_diverged": result.fresh_diverged}
        print(json.dumps({"tune_dir": str(directory), "best": result.best, **scores, "trials": trials}))
        return
    print(result.table(terminal_width()))
    print(f"\nsearch:      {directory}")
    pictures = [str(path) for name in (HISTORY, IMPORTANCE) if (path := directory / name).exists()]
    print(f"figures:     {' '.join(pictures)}")
    print(f"train:       {command('train', options.agent, '--config', directory / BEST)}")
