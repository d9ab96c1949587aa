"""What is said of an environment before training."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import ClipAction, NormalizeObservation, NormalizeReward, TimeLimit
from gymnasium.wrappers import vector as vector_wrappers

import rlgd
from rlgd.agents import PPO
from rlgd.envs.host.host_env import HostEnv
from rlgd.system.log import warn_once


@pytest.fixture(autouse=True)
def _nothing_was_said() -> None:
    warn_once.cache_clear()


def pendulum(*wrappers: Any) -> Any:
    env: Any = gymnasium.make("Pendulum-v1")
    for wrapper in wrappers:
        env = wrapper(env)
    return env


class Whitened(NormalizeObservation[Any, Any, Any]):
    """A wrapper of the user's own."""


def pair(*wrappers: Any) -> Any:
    """A running vector environment of wrapped ones, which evaluates nothing but can be loaded into."""
    return SyncVectorEnv([lambda: pendulum(*wrappers)] * 2)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: pendulum(NormalizeObservation), {"NormalizeObservation": "normalize_obs"}),
        (
            lambda: pendulum(NormalizeObservation, ClipAction, NormalizeReward, lambda env: TimeLimit(env, 9)),
            {"NormalizeObservation": "normalize_obs", "NormalizeReward": "scale_reward"},
        ),
        (lambda: pendulum(Whitened), {"Whitened": "normalize_obs"}),
        (pendulum(NormalizeReward), {"NormalizeReward": "scale_reward"}),
        (pair(NormalizeReward), {"NormalizeReward": "scale_reward"}),
        (vector_wrappers.NormalizeObservation(pair()), {"NormalizeObservation": "normalize_obs"}),
        (lambda: pendulum(ClipAction), {}),
        (pair(ClipAction), {}),
    ],
)
def test_wrappers_that_keep_statistics_are_named_with_what_replaces_them(
    make: Any, named: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert HostEnv.of(make).spec
    found = {}
    for message in caplog.messages:
        assert "keeps statistics in each environment: evaluations, and a loaded policy, begin" in message
        found[message.split("its wrapper ")[1].split(" ")[0]] = message.split("give the agent ")[1].split("=True")[0]
    assert found == named
    assert len(caplog.messages) == len(named)
    PPO(**dict.fromkeys(found.values(), True))  # type: ignore[arg-type]


def test_it_is_said_once_and_before_training(caplog: pytest.LogCaptureFixture) -> None:
    said: list[int] = []

    class Steps(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            said.append(sum("keeps statistics" in message for message in caplog.messages))
            return super().step(np.zeros(1))

    agent = PPO(num_envs=2, rollout_length=8, num_minibatches=2, num_epochs=1, hidden_sizes=(8,))
    source = lambda: pendulum(NormalizeObservation, Steps, lambda env: TimeLimit(env, 9))  # noqa: E731
    given: dict[str, Any] = {"vectorization": "sync", "eval_every": 16, "eval_episodes": 1}
    rlgd.train(agent, source, total_timesteps=32, **given)
    assert set(said) == {1}
