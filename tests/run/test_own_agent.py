"""Agents that are not in the registry: their runs and searches are written, overwritten and continued."""

from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.hyperparameters import hyperparameters, traced


@hyperparameters
class Mine(A2C):
    """A2C with a number of its own."""

    patience_with_it: float = traced(1.0, "nothing", "[0, inf)")


AGENT = Mine(num_envs=2, rollout_length=8, hidden_sizes=(4,), measure_every=0)


def test_a_run_is_overwritten(tmp_path: Path) -> None:
    given: dict[str, Any] = {"total_timesteps": 64, "eval_episodes": 1, "run_dir": tmp_path / "run"}
    rlgd.train(AGENT, "CartPole-v1", **given)
    result = rlgd.train(AGENT, "CartPole-v1", overwrite=True, **given | {"total_timesteps": 128})
    assert result.steps == 128


@pytest.mark.slow
def test_a_search_is_continued(tmp_path: Path) -> None:
    given: dict[str, Any] = {"seeds": 1, "fresh_seeds": 0, "total_timesteps": 64, "eval_episodes": 1}
    for trials in (1, 2):
        result = rlgd.tune(
            AGENT, "CartPole-v1", {"learning_rate": [0.01]}, trials=trials, tune_dir=tmp_path / "tune", **given
        )
        assert len(result.trials) == trials
