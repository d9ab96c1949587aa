"""That the agents learn, from the shipped defaults: two seeds in every run, twenty on request."""

import numpy as np
import pytest

import rlgd
from rlgd.agents import PPO, make_agent, preset, presets

# agent, steps, greedy return in Gymnasium's CartPole-v1 that counts as learned, how many of 20 seeds must reach it
TARGETS = [
    ("ppo", 100_000, 475, 18),
    ("a2c", 500_000, 475, 16),
    ("reinforce", 500_000, 475, 14),
    ("npg", 100_000, 475, 18),
    ("trpo", 100_000, 475, 18),
]


def score(agent_name: str, steps: int, seed: int) -> float:
    result = rlgd.train(make_agent(agent_name), "CartPole-v1", total_timesteps=steps, seed=seed)
    return rlgd.evaluate(result.policy, "CartPole-v1", episodes=100).mean


@pytest.mark.parametrize(("agent_name", "steps"), [row[:2] for row in TARGETS if row[0] != "npg"])  # like trpo
def test_learns_cartpole(agent_name: str, steps: int) -> None:
    """The best of two seeds, well below what almost every seed reaches."""
    assert max(score(agent_name, steps, seed) for seed in (1, 2)) >= 400


@pytest.mark.slow
@pytest.mark.parametrize(("agent_name", "steps", "threshold", "least"), TARGETS)
def test_twenty_seeds(agent_name: str, steps: int, threshold: float, least: int) -> None:
    scores = np.array([score(agent_name, steps, seed) for seed in range(20)])
    assert (scores >= threshold).sum() >= least, scores


@pytest.mark.slow
@pytest.mark.parametrize("agent_name", ["ppo", "trpo"])
def test_learns_pendulum_through_the_host(agent_name: str) -> None:
    """Box actions, a reward that is never 0, a time limit that truncates: a random policy gets -1207."""
    agent = make_agent(agent_name, gamma=0.9)
    scores = []
    for seed in range(3):
        result = rlgd.train(agent, "Pendulum-v1", total_timesteps=200_000, seed=seed)
        scores.append(rlgd.evaluate(result.policy, "Pendulum-v1", episodes=100).mean)
    assert np.mean(scores) >= -250, scores


@pytest.mark.slow
def test_a_memory_balances_a_pole_whose_velocity_is_hidden() -> None:
    """From the preset, in Gymnasium; without a memory the same steps lead nowhere near."""
    env = "rlgd/CartPoleNoVelocity-v1"
    total = presets.find("ppo", env).total_timesteps
    means = []
    for agent in (preset("ppo", env), PPO()):
        results = [rlgd.train(agent, env, total_timesteps=total, seed=seed) for seed in range(3)]
        means.append(np.mean([rlgd.evaluate(result.policy, env, episodes=50).mean for result in results]))
    assert means[0] >= 475, means
    assert means[1] <= 200, means
