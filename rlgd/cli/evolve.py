"""``rlgd evolve``."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rlgd.cli import near_misses
from rlgd.cli.options import UNKNOWN, OutputOptions, flag, part, positional
from rlgd.cli.output import command, end_interrupted, tensorboard, terminal_width
from rlgd.cli.tune import ranges
from rlgd.errors import UsageError

if TYPE_CHECKING:
    from rlgd.agents.base.agent import Agent
    from rlgd.evolution.result import EvolveResult

VALUES = """\
A range of --vary is one of
  log:1e-4,1e-2         by factors
  linear:0,0.99         by differences"""
AGENTS = "`rlgd list agents` lists them; `rlgd evolve AGENT --help` shows an agent's flags."
EXAMPLE = "rlgd evolve ppo --env CartPole-v1 --vary learning_rate=log:1e-4,1e-1 momentum=linear:0,0.99"


@dataclasses.dataclass(frozen=True)
class Options(OutputOptions):
    """Train a population whose hyper-parameters change while it trains, and write the schedule that it found.
    The agent's flags hold for all members.
    """

    agent: str = positional("AGENT", "an agent of `rlgd list agents`", near_misses.agent)
    env: str | None = flag(None, "Gymnasium id of an environment on the device, such as CartPole-v1", "ID", group="run")
    vary: tuple[str, ...] = flag((), "what evolves, and within which range", "NAME=RANGE ...", group="run")
    members: int = flag(16, "members of the population, side by side", group="run")
    generations: int = flag(20, "after each of them the worst quarter may become copies of the best", group="run")
    total_timesteps: int = flag(100_000, "environment steps of each member", group="run", count=True)
    method: str = flag(
        "pbt", "how copies change: by chance, as a bandit expects, or nobody copies", "pbt|pb2|fixed", group="run"
    )
    eval_episodes: int = flag(100, "episodes of the winner's evaluation", group="evaluation")
    seed: int = flag(0, "seed of the population", group="run")
    devices: int = flag(1, "devices of this machine over which members are divided", group="run")
    hyperparameters: "Agent" = dataclasses.field(default=UNKNOWN, metadata=part())
    run_dir: str | None = flag(
        None,
        "where to write; a population in it goes on; the default is runs/evolve/<env>/<agent>/<time>",
        "DIR",
        group="output",
    )

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Self:
        """The agent's own values."""
        from rlgd.agents import make_agent

        return cls(agent=given["agent"], hyperparameters=make_agent(given["agent"]))

    def notes(self) -> str:
        """How a range is written, and where the agents are listed if none is chosen yet."""
        return f"{VALUES}\n{AGENTS}" if self.hyperparameters is UNKNOWN else VALUES


def run(options: Options) -> int:
    """Check everything, evolve, and print what was found."""
    if options.env is None or not options.vary:
        raise UsageError(f"{'--env' if options.env is None else '--vary'} is missing; for example {EXAMPLE}.")
    varied = ranges(options.vary, "--vary")
    from rlgd import envs
    from rlgd.cli import jax_setup
    from rlgd.cli.progress import ShownProgress
    from rlgd.run.config import RunConfig
    from rlgd.run.settings import RunSettings

    env = envs.make(options.env)
    config = RunConfig(options.hyperparameters, env, RunSettings(options.total_timesteps))
    jax_setup.set_up(config, computing=options.computing)
    from rlgd.evolution import api

    directory = Path(options.run_dir) if options.run_dir else api.automatic(Path("runs"), env.env_id, options.agent)
    names = ("members", "generations", "total_timesteps", "method", "eval_episodes", "seed", "devices")
    given = {name: getattr(options, name) for name in names}
    try:
        with ShownProgress(options) as progress:
            result = api.evolve(
                options.hyperparameters, env, varied, **given, evolve_dir=directory, on_progress=progress
            )
    except KeyboardInterrupt as interrupt:
        end_interrupted(interrupt, f"the same command with --run-dir {directory} goes on")
    _report(result, options)
    return 0


def _report(result: "EvolveResult", options: Options) -> None:
    """Print what was found, for a person or as JSON."""
    from rlgd.evolution.result import BEST, TENSORBOARD

    directory = result.evolve_dir
    if options.json:
        evaluation = {"mean": result.evaluation.mean, "std": result.evaluation.std}
        print(json.dumps({"evolve_dir": str(directory), "best": result.flags, "evaluation": evaluation}))
        return
    print(result.table(terminal_width()))
    print(f"\nwinner:      return {result.evaluation.mean:.1f} (greedy policy, {options.eval_episodes} episodes)")
    print(f"population:  {directory}")
    print(f"curves:      {tensorboard(directory / TENSORBOARD)}")
    print(f"train:       {command('train', options.agent, '--config', directory / BEST)}")
