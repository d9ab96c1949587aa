"""What ``rlgd eval`` and ``rlgd play`` share: they play whole episodes with the policy of a run, or of a file."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.cli.options import OutputOptions, flag, positional
from rlgd.cli.output import say, sentence
from rlgd.cli.run_selection import newest
from rlgd.errors import UsageError

if TYPE_CHECKING:
    from rlgd.evaluation.evaluator import EvalResult
    from rlgd.run.config import RunConfig


@dataclasses.dataclass(frozen=True)
class EpisodeOptions(OutputOptions):
    """Options of the commands that play whole episodes."""

    directory: str = positional("RUN|FILE", "a directory that `rlgd train` wrote, or a policy that was saved", newest)
    episodes: int = flag(100, "how many to play")
    checkpoint: str | None = flag(None, "best, latest or a step; the default is the run's result", "best|latest|STEP")
    sampled: bool = flag(False, "sample actions instead of taking the most probable")
    seed: int = flag(0, "seed of environments and sampled actions")
    env: str | None = flag(None, "another environment than the run's; the one for a policy in a file", "ID")
    max_steps: int | None = flag(None, "longest episode; the default is the time limit, or 10,000 where there is none")


def play_episodes(
    how: Callable[..., "EvalResult"], doing: str, options: EpisodeOptions, **more: Any
) -> tuple["EvalResult", dict[str, Any]]:
    """The episodes that the options ask for, and their summary; ``doing`` says what takes so long."""
    from rlgd.cli import jax_setup
    from rlgd.evaluation.policy import Policy
    from rlgd.run.loading import load
    from rlgd.run.summary import describe

    place = Path(options.directory)
    config = _config(place, options)
    jax_setup.set_up(config, options.computing)
    policy = Policy.load(place) if place.is_file() else load(place, options.checkpoint)
    if not (options.quiet or options.json):
        say(f"{doing} {options.episodes:,} episode{'s' * (options.episodes != 1)} ...")
    result = how(
        policy,
        config.evaluation_env,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=not options.sampled,
        max_steps=options.max_steps,
        **more,
    )
    return result, describe(result, config.evaluation_env.env_id)


def _config(place: Path, options: EpisodeOptions) -> "RunConfig":
    """The configuration of the run, or that of the policy in a file and the environment that the user names."""
    from rlgd.envs import make
    from rlgd.evaluation import policy_file
    from rlgd.run import config_file
    from rlgd.run.config import RunConfig

    if not place.is_file():
        return config_file.read(place, options.env)
    agent, _ = policy_file.read_agent(place)
    if options.env is None:
        raise UsageError(f"{place} is a policy, which does not say its environment; name it, as --env CartPole-v1.")
    if options.checkpoint is not None:
        raise UsageError(f"{place} is one policy and has no checkpoints; leave --checkpoint out, or name the run.")
    return RunConfig(agent, make(options.env))


def show(result: "EvalResult", summary: dict[str, Any], options: EpisodeOptions) -> None:
    """Print the episodes, for a person or as JSON."""
    if options.json:
        print(json.dumps(summary | {"returns": result.returns.tolist(), "lengths": result.lengths.tolist()}))
    else:
        print(sentence(summary))
