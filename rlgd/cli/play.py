"""``rlgd play``."""

import dataclasses
from pathlib import Path

from rlgd.cli import episodes
from rlgd.cli.options import flag
from rlgd.cli.output import tensorboard


@dataclasses.dataclass(frozen=True)
class Options(episodes.EpisodeOptions):
    """Watch a trained policy: whole episodes in a window, or in a video."""

    video: str | None = flag(None, "record the episodes in this .mp4 or .gif, and in the run's TensorBoard", "FILE")
    episodes: int = flag(1, "how many to play")


def run(options: Options) -> int:
    """Show the episodes."""
    from rlgd.evaluation.video import play

    result, summary = episodes.play_episodes(play, "playing", options, video=options.video)
    if options.video is None:
        episodes.show(result, summary, options)
        return 0
    has_curves = Path(options.directory).is_dir()  # a policy in a file has none
    if has_curves:
        _add_to_tensorboard(options.video, options)
    episodes.show(result, summary | {"video": options.video}, options)
    if not (options.quiet or options.json):
        print(f"video:       {options.video}")
    if has_curves and not (options.quiet or options.json):
        print(f"curves:      {tensorboard(options.directory)}")
    return 0


def _add_to_tensorboard(video: str, options: Options) -> None:
    from rlgd.evaluation.video import preview
    from rlgd.run import loading
    from rlgd.run.sinks import tensorboard

    run_dir = Path(options.directory)
    _, checkpoint = loading.find_checkpoint(run_dir, options.checkpoint)
    tensorboard.add_video(run_dir, preview(Path(video)), checkpoint.steps)
