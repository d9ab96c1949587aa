"""Learning as if each lost life ended the episode, and from the signs of rewards; what is told stays as it is."""

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rlgd
from rlgd import training
from rlgd.agents import A2C, PPO, REINFORCE, make_agent, presets
from rlgd.agents.base.experience import experience
from rlgd.envs import HostEnv, make
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import UsageError
from rlgd.pytrees import View
from rlgd.run import RunConfig, RunSettings
from rlgd.training.host_rollout import HostRows, begin_episodes, collect_on_host

LIVES, STEPS_OF_A_LIFE, REWARD = 3, 4, 7.0


class Lived(gymnasium.Env[Any, Any]):
    """A game of three lives of four steps each; every step pays 7, and the last of a life -7."""

    observation_space = spaces.Box(-1.0, 20.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.steps = 0

    def about(self) -> tuple[Any, dict[str, Any]]:
        return np.array([self.steps], np.float32), {"lives": LIVES - self.steps // STEPS_OF_A_LIFE}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.about()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        obs, info = self.about()
        dies = self.steps % STEPS_OF_A_LIFE == 0
        return obs, -REWARD if dies else REWARD, info["lives"] == 0, False, info


SCORE = LIVES * (STEPS_OF_A_LIFE - 2) * REWARD
SMALL: dict[str, Any] = {"num_envs": 2, "rollout_length": 16, "hidden_sizes": (8,)}
AGENT = A2C(**SMALL, terminal_on_life_loss=True)


def collected(agent: Any, mode: AutoresetMode) -> tuple[Any, Any, Any]:
    env = HostEnv.of(Lived)
    vector = HostVector(SyncVectorEnv([Lived] * 2, autoreset_mode=mode), env.spec, "Lived")
    loop = begin_episodes(agent, vector, training.initialize(agent, env, jax.random.key(0)), (0,))
    state = loop.agent_state
    rollout, _ = collect_on_host(agent, vector, loop, jax.random.key(1))
    return env, state, jax.tree.map(jnp.asarray, rollout)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_rows_say_where_a_life_was_lost_and_the_game_goes_on(mode: AutoresetMode) -> None:
    _, _, rollout = collected(AGENT.prepared(), mode)
    seen = rollout.obs[..., 0]
    real = np.ones(seen.shape, bool) if rollout.mask is None else np.asarray(rollout.mask)
    np.testing.assert_array_equal(rollout.lost, real & ((seen == 3) | (seen == 7)))
    np.testing.assert_array_equal(rollout.terminated, real & (seen == 11))
    assert rollout.lost.sum() >= 2 * 2
    assert rollout.terminated.sum() == 2


def test_the_return_ends_with_a_life() -> None:
    """With lambda 1 the value target is the discounted return of the life, where the game's goes on."""
    agent: Any = dataclasses.replace(AGENT, gae_lambda=1.0, gamma=0.5, clip_reward=True).prepared()
    env, state, rollout = collected(agent, AutoresetMode.SAME_STEP)
    target = experience(agent, env.spec, state, rollout).value_target.reshape(16, 2)
    life = [1 + 0.5 + 0.25 - 0.125, 1 + 0.5 - 0.25, 1 - 0.5, -1]
    np.testing.assert_allclose(target[:12], np.tile(life, 3)[:, None].repeat(2, 1), atol=1e-6)
    np.testing.assert_array_equal(abs(rollout.reward), REWARD)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_what_is_told_and_evaluated_is_the_whole_game(vectorization: str, tmp_path: Path) -> None:
    agent = PPO(**SMALL, num_epochs=1, num_minibatches=1, clip_reward=True, terminal_on_life_loss=True)
    env = make(Lived, vectorization=vectorization)
    result = rlgd.train(agent, env, total_timesteps=128, run_dir=tmp_path / "run")
    told = rlgd.runs(tmp_path / "run", curves=True)
    assert set(told["rollout/episode_return"].dropna()) == {SCORE}
    assert set(told["rollout/episode_length"].dropna()) == {LIVES * STEPS_OF_A_LIFE}
    assert result.evaluation is not None
    assert result.evaluation.mean == SCORE
    longer = rlgd.resume(tmp_path / "run", total_timesteps=192, env=env)
    assert longer.steps == 192


def test_reinforce_learns_from_signs_too() -> None:
    env = make(Lived, max_episode_steps=20)
    assert isinstance(env, HostEnv)
    for agent in (REINFORCE(num_envs=2, hidden_sizes=()), REINFORCE(num_envs=2, hidden_sizes=(), clip_reward=True)):
        prepared = agent.prepared()
        view = View(np.zeros((1, 1), np.float32), np.ones(1, bool), None)
        blank = HostRows(1, view, lives=False).rollout(view.obs, view.first, False, 0)
        rollout = dataclasses.replace(blank, reward=jnp.full((1, 1), -3.0))
        state = training.initialize(prepared, env, jax.random.key(0)).agent_state
        assert float(prepared.learned_reward(state, rollout)[0, 0]) == (-1.0 if agent.clip_reward else -3.0)


def test_what_cannot_be_learned_so_is_refused() -> None:
    with pytest.raises(UsageError, match="clip_reward and scale_reward are both set"):
        A2C(clip_reward=True, scale_reward=True).validate()
    with pytest.raises(UsageError, match="CartPole-v1 runs on the device; no lives there"):
        RunConfig(AGENT, make("CartPole-v1"), RunSettings(128)).validate()
    with pytest.raises(UsageError, match="the infos of CartPole-v1 have no number of lives"):
        rlgd.train(AGENT, make("CartPole-v1", backend="host"), total_timesteps=128)


def test_all_atari_games_have_the_published_settings() -> None:
    preset = presets.find("ppo", "ALE/Seaquest-v5")
    assert preset.env == "ALE/Seaquest-v5"
    agent: Any = make_agent("ppo", **preset.settings)
    assert agent.clip_reward
    assert agent.terminal_on_life_loss
    assert presets.known("ppo", "ALEX/Seaquest-v5") is None
    RunConfig(agent, make("ALE/Seaquest-v5"), RunSettings(preset.total_timesteps)).validate()
