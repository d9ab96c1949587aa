"""Observations in dictionaries, whatever their keys are: trained, saved, loaded, resumed."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import rlgd
from rlgd.agents import PPO

AGENT = PPO(num_envs=2, rollout_length=8, num_minibatches=2, num_epochs=1, hidden_sizes=(8,))
NUMBER = Box(0.0, 1.0, (1,))


def env_of(space: Dict) -> type[gymnasium.Env[Any, Any]]:
    class Sensors(gymnasium.Env[Any, Any]):
        observation_space, action_space = space, Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
            super().reset(seed=seed)
            return space.sample(), {}

        def step(self, action: Any) -> Any:
            return space.sample(), 1.0, False, True, {}

    return Sensors


KEYED: Any = Dict  # Gymnasium's annotations allow text only


@pytest.mark.slow
@pytest.mark.parametrize(
    "space",
    [
        KEYED({0: NUMBER, -1: Discrete(3), np.int64(2): NUMBER}),
        Dict({"a.b": NUMBER, "a": Dict({"b": NUMBER, "": NUMBER}), "a.": NUMBER, "a/b": NUMBER, "": NUMBER}),
        Dict({"": KEYED({7: NUMBER})}),
    ],
    ids=["numbers", "look alike", "one"],
)
def test_any_text_and_any_whole_numbers_are_keys(space: Dict, tmp_path: Path) -> None:
    env = env_of(space)
    given: dict[str, Any] = {"run_dir": tmp_path, "eval_every": 16, "eval_episodes": 1}
    trained = rlgd.train(AGENT, env, total_timesteps=32, **given)
    obs = space.sample()
    assert rlgd.load(tmp_path)(obs) == trained.policy(obs)
    assert rlgd.resume(tmp_path, env=env, total_timesteps=48).steps == 48
