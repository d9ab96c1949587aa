"""That the agents learn: probe environments with exact answers, CartPole from the shipped defaults, the same bits."""

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import rlgd
import rlgd.envs
from rlgd import TrainResult
from rlgd.agents import PPO, make_agent, preset, presets
from rlgd.pytrees import Features
from rlgd.run.verify import rows
from tests.support.probe_envs import BOX_PROBES, GAMMA, MEDLEYS, PROBE_LIMIT, PROBES
from tests.support.processes import FLAGS, state

# ------------------------------------------------------------------------------------------------ exact answers

VALUE_TOLERANCE, ACTION_TOLERANCE = 0.05, 0.1
SMALL_AND_FAST = {"gamma": GAMMA, "hidden_sizes": (16,), "learning_rate": 0.02, "num_envs": 128}
AGENTS = {
    "reinforce": {},
    "a2c": {"rollout_length": 4, "vf_coef": 1.0},
    "ppo": {"rollout_length": 8, "num_epochs": 4, "num_minibatches": 4, "learning_rate": 0.01},
    "trpo": {"rollout_length": 8, "num_minibatches": 4, "learning_rate": 1.0, "value_learning_rate": 0.01},
}


@functools.cache
def learned(agent: str, kind: str) -> TrainResult:
    env = rlgd.envs.make(MEDLEYS[kind], max_episode_steps=PROBE_LIMIT)
    return rlgd.train(make_agent(agent, **SMALL_AND_FAST | AGENTS[agent]), env, total_timesteps=150_000)


@pytest.mark.parametrize(
    ("kind", "name"), [("discrete", name) for name in PROBES] + [("box", name) for name in BOX_PROBES]
)
@pytest.mark.parametrize("agent", AGENTS)
def test_the_answers_are_learned(agent: str, kind: str, name: str) -> None:
    result = learned(agent, kind)
    for shown, (value, action) in (PROBES | BOX_PROBES)[name].answers.items():
        if name == "no_end" and agent == "reinforce":
            value = 1 + GAMMA / 2  # both steps look alike, and the limit ends the episode: nothing is bootstrapped
        policy, obs = result.policy, MEDLEYS[kind].see(name, shown)
        predicted = policy.agent.value(policy.spec, result.state.agent_state.params, Features(jnp.asarray(obs)))
        np.testing.assert_allclose(predicted, value, rtol=0, atol=VALUE_TOLERANCE)
        if action is not None:
            np.testing.assert_allclose(policy(obs), action, rtol=0, atol=ACTION_TOLERANCE)


# ------------------------------------------------------------------------------------------------ from the defaults

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


# The quick proof that the others learn are the exact answers above.
@pytest.mark.parametrize(
    ("agent_name", "steps"),
    [pytest.param(*row[:2], marks=() if row[0] == "ppo" else pytest.mark.slow) for row in TARGETS],
)
def test_learns_cartpole(agent_name: str, steps: int) -> None:
    """One of two seeds, and well below what almost every seed reaches."""
    assert any(score(agent_name, steps, seed) >= 400 for seed in (1, 2))


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


# ------------------------------------------------------------------------------------------------ the same bits

COMMAND = [sys.executable, "-m", "rlgd", "train", *FLAGS, "--total-timesteps", "30000", "--run-dir", "run"]


def fingerprint(run: Path) -> str:
    content = {name: value.tobytes() for name, value in state(run).items()}
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()


# The second one finds what the first one compiled, or compiles itself.
@pytest.mark.slow
@pytest.mark.parametrize("cache", ["cold", "other"])
def test_the_same_command_gives_the_same_bits(cache: str, tmp_path: Path) -> None:
    runs = []
    for number, (seed, place_of_programs) in enumerate([("0", "cold"), ("random", cache)]):
        place = tmp_path / f"place {number}"
        place.mkdir()
        own = {"PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(tmp_path / place_of_programs), "TZ": "Asia/Tokyo"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        done = subprocess.run(
            COMMAND,
            cwd=place,
            env=kept | own | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        runs.append(place / "run")
    one, other = runs
    assert fingerprint(other) == fingerprint(one)
    assert rows(other) == rows(one)
    for name, value in state(one).items():
        np.testing.assert_array_equal(value, state(other)[name])
