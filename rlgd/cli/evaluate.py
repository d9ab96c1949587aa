"""``rlgd eval``."""

import dataclasses

from rlgd.cli import episodes


@dataclasses.dataclass(frozen=True)
class Options(episodes.EpisodeOptions):
    """Play whole episodes with a trained policy, and report the returns."""


def run(options: Options) -> int:
    """Play the episodes."""
    from rlgd.evaluation.evaluator import evaluate

    episodes.show(*episodes.play_episodes(evaluate, "evaluating", options), options)
    return 0
