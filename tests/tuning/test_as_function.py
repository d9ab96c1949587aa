"""The return as a function of hyper-parameters."""

from typing import Any

import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.envs import make
from rlgd.errors import Diverged, UsageError
from rlgd.maths import confidence

AGENT = A2C(num_envs=4, rollout_length=16, hidden_sizes=(8,), measure_every=0)
GIVEN: dict[str, Any] = {"seeds": 2, "total_timesteps": 640, "eval_episodes": 2}


@pytest.mark.slow
def test_it_is_the_score_of_a_study_and_of_a_trial() -> None:
    return_of = rlgd.objective(AGENT, "CartPole-v1", **GIVEN)
    value = return_of({"learning_rate": np.float64(0.02)})
    assert type(value) is float
    study = rlgd.study(AGENT, "CartPole-v1", {"learning_rate": [0.02], "eval_every": [128]}, **GIVEN)
    returns = [outcome.episode_return for outcome in study.outcomes.values()]
    assert value == pytest.approx(confidence.interquartile_mean(returns))
    assert return_of({"learning_rate": 0.02}) == value


@pytest.mark.slow
def test_values_come_as_searches_give_them() -> None:
    return_of = rlgd.objective("a2c", "CartPole-v1", **GIVEN)
    usual = {"num_envs": 4, "rollout_length": 16, "hidden_sizes": (8,)}
    odd = {"num_envs": 4.0, "rollout_length": np.int64(16), "hidden_sizes": [8]}
    assert return_of(odd) == return_of(usual)


@pytest.mark.parametrize("env", ["CartPole-v1", make("CartPole-v1", backend="host")], ids=["device", "host"])
def test_reports_hear_the_return_and_end_the_training(env: Any) -> None:
    return_of = rlgd.objective(AGENT, env, **GIVEN)
    heard: list[tuple[int, float]] = []

    def report(value: float, count: int) -> bool:
        heard.append((count, value))
        return count == 1

    assert return_of({}, report) == heard[-1][1]
    assert [count for count, _ in heard] == [0, 1]

    def fail(value: float, count: int) -> None:
        raise StopIteration  # as FLAML does

    with pytest.raises(StopIteration):
        return_of({}, fail)


def test_failures_are_raised_or_have_the_worst_return() -> None:
    return_of = rlgd.objective(AGENT, "CartPole-v1", **GIVEN)
    with pytest.raises(UsageError, match="gamma is 2; allowed: a number within"):
        return_of({"gamma": 2})
    with pytest.raises(Diverged):
        return_of({"learning_rate": 1e38})
    lenient = rlgd.objective(AGENT, "CartPole-v1", **GIVEN, worst=-5.0)
    assert lenient({"gamma": 2}) == lenient({"learning_rate": 1e38}) == -5
    with pytest.raises(UsageError, match="unknown hyper-parameter 'gama'; did you mean 'gamma'"):
        lenient({"gama": 0.9})
    with pytest.raises(UsageError, match="seeds is 0; allowed: a whole number from 1"):
        rlgd.objective(AGENT, "CartPole-v1", seeds=0)
