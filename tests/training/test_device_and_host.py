"""What was learned on the device holds in Gymnasium, and learning there gives what learning here gives."""

import numpy as np
import pytest
import scipy.stats

import rlgd
import rlgd.envs
from rlgd.agents import PPO
from rlgd.envs.functional.registration import TWINS

EPISODES, SEEDS = 400, 20
# A few thousand steps: no longer at random, and returns of all sizes.
AGENT = PPO(num_envs=16, rollout_length=128, hidden_sizes=(32,), measure_every=0)


@pytest.mark.slow
@pytest.mark.parametrize("env_id", TWINS)
def test_a_policy_trained_on_the_device_scores_the_same_in_gymnasium(env_id: str) -> None:
    """Sampled actions: the greedy policy of a short training often gets one and the same return every time."""
    env = rlgd.envs.make(env_id, backend="device")
    policy = rlgd.train(AGENT, env, total_timesteps=10 * 16 * 128).policy
    here, there = (
        rlgd.evaluate(policy, where, episodes=EPISODES, deterministic=False, max_steps=300)
        for where in (env, rlgd.envs.make(env_id, backend="host"))
    )
    for ours, theirs in ((here.returns, there.returns), (here.lengths, there.lengths)):
        assert scipy.stats.ks_2samp(ours, theirs, method="asymp").pvalue > 1e-3
        error = np.hypot(ours.std(), theirs.std()) / np.sqrt(EPISODES)
        # Rewards are float32 on the device: equal returns may differ by their rounding.
        assert abs(ours.mean() - theirs.mean()) <= 4 * error + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
def test_learning_on_the_device_and_on_the_host_gives_the_same_returns(env_id: str) -> None:
    """Interrupted where the seeds are farthest apart, neither at random nor solved."""

    def score(backend: str, seed: int) -> float:
        env = rlgd.envs.make(env_id, backend=backend)
        policy = rlgd.train(AGENT, env, total_timesteps=12 * 16 * 128, seed=seed).policy
        return rlgd.evaluate(policy, env_id, episodes=100, deterministic=False).mean

    here, there = (
        np.array([score(backend, first + seed) for seed in range(SEEDS)])
        for first, backend in ((0, "device"), (SEEDS, "host"))
    )
    assert here.std() > 0 < there.std()
    z = (here.mean() - there.mean()) / np.sqrt((here.var(ddof=1) + there.var(ddof=1)) / SEEDS)
    assert abs(z) < 3, (here, there)
    assert scipy.stats.ks_2samp(here, there, method="asymp").pvalue > 1e-3
