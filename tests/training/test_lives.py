"""Learning as if each lost life ended the episode, and from the signs of rewards; what is reported stays as it is."""

import dataclasses
import sys
import types
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
from rlgd.run import RunConfig, RunSettings, automatic
from rlgd.training.host_rollout import begin_episodes, collect_on_host

REWARD = 7.0


class Lived(gymnasium.Env[Any, Any]):
    """A game of several lives; every step pays 7, and the last one of a life -7.

    Args:
        lives: the number of lives.
        steps: how many steps each life has.
    """

    observation_space = spaces.Box(-1.0, 20.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, lives: int = 3, steps: int = 4) -> None:
        self.lives, self.steps, self.step_number = lives, steps, 0

    def about(self) -> tuple[Any, dict[str, Any]]:
        return np.array([self.step_number], np.float32), {"lives": self.lives - self.step_number // self.steps}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return self.about()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        obs, info = self.about()
        dies = self.step_number % self.steps == 0
        return obs, -REWARD if dies else REWARD, info["lives"] == 0, False, info


SCORE, LENGTH = 3 * (4 - 2) * REWARD, 3 * 4
SMALL: dict[str, Any] = {"num_envs": 2, "rollout_length": 16, "hidden_sizes": (8,)}
AGENT = A2C(**SMALL, terminal_on_life_loss=True)


def collected(agent: Any, mode: AutoresetMode, **game: Any) -> tuple[Any, Any, Any]:
    env = HostEnv.of(Lived, max_episode_steps=game.pop("limit", None), **game)
    vector = HostVector(SyncVectorEnv([env.make_one] * 2, autoreset_mode=mode), env.spec, "Lived")
    loop = begin_episodes(agent, vector, training.initialize(agent, env, jax.random.key(0)), (0,))
    state = loop.agent_state
    rollout, _ = collect_on_host(agent, vector, loop, jax.random.key(1))
    return env, state, jax.tree.map(jnp.asarray, rollout)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_rows_say_where_a_life_was_lost_and_the_game_continues(mode: AutoresetMode) -> None:
    _, _, rollout = collected(AGENT.prepared(), mode)
    seen = rollout.obs[..., 0]
    real = np.ones(seen.shape, bool) if rollout.mask is None else np.asarray(rollout.mask)
    np.testing.assert_array_equal(rollout.life_lost, real & (seen % 4 == 3))
    np.testing.assert_array_equal(rollout.terminated, real & (seen == 11))
    assert rollout.life_lost.sum() >= 2 * 3


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
@pytest.mark.parametrize(("game", "limit"), [({"lives": 3, "steps": 1}, None), ({"lives": 5, "steps": 2}, 4)])
def test_each_game_begins_with_its_own_lives(mode: AutoresetMode, game: Any, limit: int | None) -> None:
    """A life may be lost in a game's first step, or in the one that a time limit cuts off."""
    _, _, rollout = collected(AGENT.prepared(), mode, limit=limit, **game)
    seen = rollout.obs[..., 0]
    real = np.ones(seen.shape, bool) if rollout.mask is None else np.asarray(rollout.mask)
    np.testing.assert_array_equal(rollout.life_lost, real & ((seen + 1) % game["steps"] == 0))
    assert rollout.done.any()
    np.testing.assert_array_equal(rollout.without_future, rollout.terminated | rollout.life_lost)


def test_the_return_ends_with_a_life() -> None:
    """With lambda 1 the value target is the discounted return of the life, while the game continues."""
    agent: Any = dataclasses.replace(AGENT, gae_lambda=1.0, gamma=0.5, clip_reward=True).prepared()
    env, state, rollout = collected(agent, AutoresetMode.SAME_STEP)
    target = experience(agent, env.spec, state, rollout).value_target.reshape(16, 2)
    life = [1 + 0.5 + 0.25 - 0.125, 1 + 0.5 - 0.25, 1 - 0.5, -1]
    np.testing.assert_allclose(target[:12], np.tile(life, 3)[:, None].repeat(2, 1), atol=1e-6)
    np.testing.assert_array_equal(abs(rollout.reward), REWARD)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_what_is_reported_and_evaluated_is_the_whole_game(vectorization: str, tmp_path: Path) -> None:
    agent = PPO(**SMALL, num_epochs=1, num_minibatches=1, clip_reward=True, terminal_on_life_loss=True)
    env = make(Lived, vectorization=vectorization)
    result = rlgd.train(agent, env, total_timesteps=128, run_dir=tmp_path / "run")
    told = rlgd.runs(tmp_path / "run", curves=True)
    assert set(told["rollout/episode_return"].dropna()) == {SCORE}
    assert set(told["rollout/episode_length"].dropna()) == {LENGTH}
    assert result.evaluation is not None
    assert result.evaluation.mean == SCORE
    longer = rlgd.resume(tmp_path / "run", total_timesteps=192, env=env)
    assert longer.steps == 192


def test_reinforce_learns_from_signs_too() -> None:
    agent = REINFORCE(num_envs=2, hidden_sizes=(), gamma=1.0, measure_every=0)
    env = make(Lived, max_episode_steps=LENGTH)
    gradients = []
    for clip_reward, times in ((False, 1 / REWARD), (True, 1.0), (True, 5.0)):
        prepared = dataclasses.replace(agent, clip_reward=clip_reward).prepared()
        _, state, rollout = collected(prepared, AutoresetMode.SAME_STEP, limit=LENGTH)
        rollout = dataclasses.replace(rollout, reward=times * rollout.reward)
        gradients.append(prepared.gradient(env.spec, state, rollout, jnp.zeros(()), jax.random.key(2)).policy)
    for other in gradients[1:]:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), gradients[0], other)
    assert any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradients[0]))


def test_rewards_are_scaled_by_the_returns_that_are_learned() -> None:
    """Over lives of one step the return is one reward, and the scale its standard deviation."""
    agent = dataclasses.replace(AGENT, gamma=1.0, scale_reward=True).prepared()
    env, state, rollout = collected(agent, AutoresetMode.SAME_STEP, lives=10, steps=1)
    rollout = dataclasses.replace(rollout, reward=jnp.tile(jnp.array([[2.0], [-2.0]]), (8, 2)))
    new, _ = agent.update(env.spec, state, rollout, jnp.zeros(()), jax.random.key(0))
    assert float(new.reward_statistics.statistics.variance) == pytest.approx(4.0)


class Pool:
    """What rlgd uses of EnvPool: a pool of games that tells lives."""

    spec: Any = types.SimpleNamespace(config=types.SimpleNamespace(max_episode_steps=9))
    observation_space, action_space = Lived.observation_space, Lived.action_space
    lives = 3

    def about(self) -> dict[str, Any]:
        return {"lives": np.full(2, self.lives, np.int32), "elapsed_step": np.zeros(2, np.int32)}

    def reset(self) -> Any:
        return np.zeros((2, 1), np.float32), self.about()

    def step(self, action: Any) -> Any:
        self.lives -= 1
        return np.zeros((2, 1), np.float32), np.ones(2), np.zeros(2, bool), np.zeros(2, bool), self.about()

    def close(self) -> None:
        pass


def test_the_lives_of_envpools_games_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("envpool")
    module.list_all_envs = lambda: ["Lived-v5"]
    module.make_gymnasium = lambda *args, **kwargs: Pool()
    monkeypatch.setitem(sys.modules, "envpool", module)
    vector = HostEnv("ALE/Lived-v5", vectorization="envpool").open(2)
    vector.reset(0)
    assert vector.tells_lives
    step = vector.step(np.zeros(2, np.int32))
    assert step.life_lost is not None
    assert step.life_lost.all()


def test_what_cannot_be_learned_so_is_refused() -> None:
    with pytest.raises(UsageError, match="clip_reward and scale_reward are both set"):
        A2C(clip_reward=True, scale_reward=True).validate()
    for backend in ("device", "host"):
        with pytest.raises(UsageError, match="the infos of CartPole-v1 have no number of lives"):
            RunConfig(AGENT, make("CartPole-v1", backend=backend), RunSettings(128)).validate()
    with pytest.raises(UsageError, match="the infos of CartPoleVectorEnv have no number of lives"):
        rlgd.train(AGENT, gymnasium.make_vec("CartPole-v1", 2), total_timesteps=128)


def test_rules_leave_clipped_rewards_alone() -> None:
    agent: Any = automatic("ppo", "CartPole-v1", clip_reward=True)
    assert agent.clip_reward
    assert not agent.scale_reward
    assert automatic("ppo", "CartPole-v1", clip_reward=False).scale_reward


def test_one_preset_is_for_all_atari_games() -> None:
    pytest.importorskip("ale_py")
    preset = presets.find("ppo", "ALE/Seaquest-v5")
    assert preset.env == "ALE/Seaquest-v5"
    agent: Any = make_agent("ppo", **preset.settings)
    assert agent.clip_reward
    assert agent.terminal_on_life_loss
    assert presets.known("ppo", "ALEX/Seaquest-v5") is None
    RunConfig(agent, make("ALE/Seaquest-v5"), RunSettings(preset.total_timesteps)).validate()
