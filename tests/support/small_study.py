"""A study that trains in seconds."""

from typing import Any

import numpy as np

import rlgd
from rlgd.agents import A2C
from rlgd.ascent import Ascent
from rlgd.run.sinks.rows import Row
from rlgd.studies import Outcome, StudyResult

A2C_SMALL = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0, ascent=Ascent("sgd", momentum=None))
STEPS = 320
VARY: dict[str, Any] = {"learning_rate": [0.01, 0.1], "total_timesteps": [STEPS, STEPS // 2]}


def study(**options: Any) -> StudyResult:
    given: dict[str, Any] = {"vary": VARY, "seeds": 2, "total_timesteps": STEPS, "eval_episodes": 3}
    return rlgd.study(A2C_SMALL, "CartPole-v1", **(given | options))


def outcome(episode_return: float = 0.0, steps: int = 0, curve: tuple[tuple[int, float], ...] = ()) -> Outcome:
    """An outcome that nobody trained. The curve has a row for each pair of steps and return; a step takes a second."""
    rows = tuple(Row(step, float(step), {"rollout/episode_return": value}) for step, value in curve)
    return Outcome(episode_return, 1.0, steps, float(steps), "total_timesteps", "", np.nan, rows)


def assert_same_training(one: Outcome, other: Outcome, rtol: float) -> None:
    assert (one.steps, one.reason, len(one.rows)) == (other.steps, other.reason, len(other.rows))
    for ours, theirs in zip(one.rows, other.rows, strict=True):
        assert ours.step == theirs.step
        names = [name for name in ours.values if not name.startswith("time/")]
        for name in names:
            np.testing.assert_allclose(ours.values[name], theirs.values[name], rtol=rtol, atol=rtol)
