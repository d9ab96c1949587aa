"""The games of MinAtar, which come with rlgd."""

from typing import Any

from gymnasium.envs.registration import load_env_creator

from rlgd.envs.suites.suite_env import Loaded


def load_minatar(suite: Any, name: str) -> Loaded:
    """A game of the package ``rlgd.envs.functional.minatar``; none has a time limit."""
    game: Any = load_env_creator(suite.GAMES[name])
    return game(), None
