"""What ``rlgd eval`` and ``rlgd play`` share: they play whole episodes of a run."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.cli.options import OutputOptions, flag, positional
from rlgd.cli.output import sentence

if TYPE_CHECKING:
    from rlgd.evaluation.evaluator import EvalResult


@dataclasses.dataclass(frozen=True)
class EpisodeOptions(OutputOptions):
    """Options of the commands that play whole episodes."""

    directory: str = positional("RUN", "a directory that `rlgd train` wrote")
    episodes: int = flag(100, "how many to play")
    checkpoint: str | None = flag(None, "best, latest or a step; the default is the run's result", "best|latest|STEP")
    sampled: bool = flag(False, "sample actions instead of taking the most probable")
    seed: int = flag(0, "seed of environments and sampled actions")
    env: str | None = flag(None, "another environment than the run's", "ID")
    max_steps: int | None = flag(None, "longest episode; the default is the time limit, or 10,000 where there is none")


def play_episodes(
    how: Callable[..., "EvalResult"], options: EpisodeOptions, **more: Any
) -> tuple["EvalResult", dict[str, Any]]:
    """The episodes that the options ask for, and their summary."""
    from rlgd.cli import jax_setup
    from rlgd.run import config_file
    from rlgd.run.loading import load
    from rlgd.run.summary import describe

    run = Path(options.directory)
    config = config_file.read(run, options.env)
    jax_setup.set_up(config, options.computing)
    result = how(
        load(run, options.checkpoint),
        config.evaluation_env,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=not options.sampled,
        max_steps=options.max_steps,
        **more,
    )
    return result, describe(result, config.evaluation_env.env_id)


def show(result: "EvalResult", summary: dict[str, Any], options: EpisodeOptions) -> None:
    """Print the episodes, for a person or as JSON."""
    if options.json:
        print(json.dumps(summary | {"returns": result.returns.tolist(), "lengths": result.lengths.tolist()}))
    else:
        print(sentence(summary))
