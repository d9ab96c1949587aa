"""``rlgd eval`` and ``rlgd play``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.cli.flags import Flags, doc, output_flags, parse, take_run
from rlgd.cli.output import sentence, tensorboard_command
from rlgd.run.summary import describe

if TYPE_CHECKING:
    from rlgd.evaluation.evaluator import EvalResult


def episode_flags(episodes: int) -> Flags:
    """Flags of the commands that play whole episodes."""
    return {
        "episodes": doc(int, "how many", episodes),
        "checkpoint": doc(str | None, "best, latest or a step; by default the run's result", None),
        "sampled": doc(bool, "sample actions instead of taking the most probable", False),
        "seed": doc(int, "of environments and sampled actions", 0),
        "env": doc(str | None, "another environment than the run's", None),
        "max_steps": doc(int | None, "of an episode; by default the time limit, or 10,000 where there is none", None),
        **output_flags(),
    }


def evaluate(argv: list[str]) -> int:
    """``rlgd eval``."""
    about = "Play whole episodes with a trained policy."
    run, argv = take_run("eval", argv, episode_flags(100), about)
    options = parse(f"rlgd eval {run}", episode_flags(100), argv, about)
    from rlgd.evaluation.evaluator import evaluate as run_evaluate

    result, summary = play_whole(run_evaluate, run, options)
    show_played(result, summary, options)
    return 0


def play(argv: list[str]) -> int:
    """``rlgd play``."""
    video = doc(str | None, "record them in this .mp4 or .gif, and in the run's TensorBoard", None)
    flags = {"video": video, **episode_flags(1)}
    about = "Watch a trained policy: whole episodes in a window, or in a video."
    run, argv = take_run("play", argv, flags, about)
    options = parse(f"rlgd play {run}", flags, argv, about)
    from rlgd.evaluation.video import play as run_play
    from rlgd.evaluation.video import preview
    from rlgd.run import loading
    from rlgd.run.sinks import tensorboard

    result, summary = play_whole(run_play, run, options, video=options.video)
    if options.video is not None:
        _, found = loading.find_checkpoint(run, options.checkpoint)
        tensorboard.add_video(run, preview(Path(options.video)), found.steps)
        summary |= {"video": options.video}
    show_played(result, summary, options)
    if options.video is not None and not (options.quiet or options.json):
        print(f"video:       {options.video}")
        print(f"curves:      {tensorboard_command()} --logdir {run}")
    return 0


def show_played(result: "EvalResult", summary: dict[str, Any], options: Any) -> None:
    """Whole episodes, for a person or as JSON."""
    if options.json:
        print(json.dumps(summary | {"returns": result.returns.tolist(), "lengths": result.lengths.tolist()}))
    else:
        print(sentence(summary))


def play_whole(
    how: Callable[..., "EvalResult"], run: Path, options: Any, **more: Any
) -> tuple["EvalResult", dict[str, Any]]:
    """The episodes that ``episode_flags`` ask for, and their summary."""
    from rlgd.cli import jax_setup
    from rlgd.run import config_file
    from rlgd.run.loading import load

    settings = config_file.read(run, options.env)
    jax_setup.set_up(settings, options.device, options.deterministic_ops)
    result = how(
        load(run, options.checkpoint),
        settings.evaluation_env,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=not options.sampled,
        max_steps=options.max_steps,
        **more,
    )
    return result, describe(result, settings.evaluation_env.env_id)
