"""Many trainings in one process: what was given to one is let go after it."""

import gc
import weakref
from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from jax import Array

import rlgd
from rlgd.agents import PPO

AGENT = PPO(num_envs=2, rollout_length=8, num_minibatches=2, num_epochs=1, hidden_sizes=(8,))


class Market(gymnasium.Env[Any, Any]):
    observation_space, action_space = Box(-1.0, 1.0, (2,)), Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 1.0, False, True, {}


class Walk(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """Without ``stable`` the first state has another dtype than the others."""

    observation_space, action_space = Box(-1.0, 1.0, (2,)), Discrete(2)

    def __init__(self, stable: bool) -> None:
        super().__init__()
        self.first = jnp.zeros(2, jnp.float32 if stable else bool)
        self.traced = 0

    def initial(self, rng: Array, params: Any = None) -> Array:
        return self.first

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        self.traced += 1
        return state.astype(jnp.float32) / 2

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state.astype(jnp.float32)

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.ones(())

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros((), bool)


def all_that_is_done(env: Any, run_dir: Path) -> None:
    made = rlgd.envs.make(env, max_episode_steps=5)
    result = rlgd.train(AGENT, made, total_timesteps=32, eval_every=16, eval_episodes=2, run_dir=run_dir)
    for policy in (result.policy, rlgd.load(run_dir)):
        rlgd.evaluate(policy, made, episodes=2)


@pytest.mark.parametrize(
    "make",
    [Market, lambda: gymnasium.wrappers.TimeLimit(Market(), 3), lambda: Walk(True), lambda: Walk(False)],
    ids=["host", "wrapped", "device", "device, settled"],
)
def test_an_environment_lives_no_longer_than_its_training(make: Any, tmp_path: Path) -> None:
    env = make()
    gone = weakref.ref(env)
    all_that_is_done(env, tmp_path)
    del env
    gc.collect()
    assert gone() is None


@pytest.mark.slow
@pytest.mark.parametrize("make", [Market, lambda: Walk(True)], ids=["host", "device"])
def test_an_environment_lives_no_longer_than_its_study(make: Any) -> None:
    env = make()
    gone = weakref.ref(env)
    given = rlgd.envs.make(env, max_episode_steps=5)
    rlgd.study(AGENT, given, {"learning_rate": [0.1, 0.2]}, seeds=1, total_timesteps=32, eval_episodes=2)
    del env, given
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("stable", [True, False])
def test_an_environment_that_lives_is_compiled_once(stable: bool) -> None:
    env = Walk(stable)
    traced = []
    for _ in range(2):
        rlgd.train(AGENT, rlgd.envs.make(env, max_episode_steps=5), total_timesteps=32)
        gc.collect()
        traced.append(env.traced)
    made_again = 1  # ``make`` looks at the types of its states
    assert traced[1] - traced[0] == made_again
    assert traced[0] == made_again + 1  # and the compiled loop
