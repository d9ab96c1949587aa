"""Learning from a rollout while the next one is collected: with the weights of an older policy, whoever is faster."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C, PPO, make_agent
from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.experience import experience
from rlgd.envs import HostEnv, make
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.pytrees import LoopState, Rollout
from rlgd.training import HostRunner, OverlappingRunner, initialize
from rlgd.training.chunks import chunks
from tests.support.faulty_envs import Faulty

SMALL: dict[str, Any] = {"num_envs": 2, "rollout_length": 8, "hidden_sizes": (8,), "measure_every": 3}
ROWS = 16  # of an iteration
AGENTS = {
    "a2c": A2C(**SMALL, normalize_obs=True, ent_coef=0.01),
    "ppo": PPO(**SMALL, num_epochs=2, num_minibatches=2),
    "recurrent": PPO(**SMALL, num_epochs=2, num_minibatches=2, network="gru", memory_width=8),
}
EVERY_AGENT = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)


def opened(agent: Agent, env_id: str = "CartPole-v1", **options: Any) -> tuple[Agent, HostVector, LoopState]:
    """A prepared agent, running environments, and the state with their first observations."""
    prepared, env = agent.prepared(), make(env_id, backend="host", vectorization="sync", **options)
    assert isinstance(env, HostEnv)
    vector = env.open(agent.num_envs)
    loop = initialize(prepared, env, jax.random.key(0), 1000)
    return prepared, vector, dataclasses.replace(loop, obs=jax.tree.map(jnp.asarray, vector.reset(0)))


class Watched(OverlappingRunner):
    """Keeps what is learned from, and the state that learns; ``slow``: seconds that learning takes more."""

    def __init__(self, agent: Agent, vector: HostVector, left: int, slow: float = 0.0) -> None:
        super().__init__(agent, vector, left)
        self.slow = slow
        self.seen: list[tuple[Rollout, LoopState]] = []

    def _learn_from(self, rollout: Rollout, begun: LoopState, iteration: int) -> Any:
        time.sleep(self.slow)
        self.seen.append((rollout, begun))
        return super()._learn_from(rollout, begun, iteration)


def arrays(tree: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)


@EVERY_AGENT
def test_rows_have_the_log_probabilities_of_who_acted_and_weights_against_it(agent: Agent) -> None:
    prepared, vector, loop = opened(agent)
    runner = Watched(prepared, vector, 1000)
    runner(loop, 4, 1000)
    rollout, begun = runner.seen[3]
    state = begun.agent_state
    assert isinstance(prepared, RolloutAgent)
    rows = experience(prepared, vector.spec, state, rollout)
    acted = dataclasses.replace(
        state,
        params=dataclasses.replace(state.params, policy=rollout.actor.policy),
        obs_statistics=rollout.actor.obs_statistics,
    )
    alone = dataclasses.replace(rollout, actor=())
    then = experience(prepared, vector.spec, acted, alone).log_prob
    now = experience(prepared, vector.spec, state, alone).log_prob
    np.testing.assert_allclose(rows.log_prob, then, rtol=1e-5, atol=1e-6)
    assert rows.weight is not None
    np.testing.assert_allclose(rows.weight, np.exp(now - then), rtol=1e-4)
    assert np.abs(rows.weight - 1).max() > 1e-4
    lag = rows.lag()["train/lag_kl"]
    np.testing.assert_allclose(lag, np.mean(rows.weight - 1 - np.log(rows.weight)), rtol=0.02, atol=1e-8)


def test_weighted_rows_have_the_policy_gradient_as_their_mean() -> None:
    """In a bandit with two arms: over the actions of an older policy, exactly."""
    agent = A2C(num_envs=1, rollout_length=1, hidden_sizes=(), measure_every=0).prepared()
    spec, one, zero = make("CartPole-v1").spec, jnp.ones((1, 1), bool), jnp.zeros((1, 1), bool)
    state, older = (agent.init(spec, jax.random.key(seed)) for seed in (0, 1))
    # Initial policies are close to uniform: these are far apart.
    state, older = (
        dataclasses.replace(
            x, params=dataclasses.replace(x.params, policy=jax.tree.map(lambda w: 100 * w, x.params.policy))
        )
        for x in (state, older)
    )
    obs, returns = jnp.asarray([[0.3, -1.0, 0.5, 2.0]]), jnp.asarray([1.0, -2.0])

    def log_probs(policy: Any) -> Any:
        features = agent.features(spec, None, obs)
        policies = agent.distribution(spec, policy, features)
        return jnp.stack([policies.log_prob(jnp.full(1, action))[0] for action in (0, 1)])

    def gradient(action: int) -> Any:
        rollout = Rollout(
            obs=obs[None], action=jnp.full((1, 1), action), reward=returns[action].reshape(1, 1).astype(jnp.float32),
            terminated=one, truncated=zero, mask=None, action_mask=None, last_obs=obs, final_obs=obs[None][:0],
            first=jnp.ones(1, bool), actor=older.actor,
        )  # fmt: skip
        return agent.gradient(spec, state, rollout, jnp.zeros(()), jax.random.key(0)).policy

    exact = jax.grad(lambda policy: jnp.sum(jnp.exp(log_probs(policy)) * returns))(state.params.policy)
    chances = np.exp(log_probs(older.params.policy))
    assert np.abs(chances - np.exp(log_probs(state.params.policy))).max() > 0.1
    mean = jax.tree.map(lambda *parts: sum(c * x for c, x in zip(chances, parts, strict=True)), *map(gradient, (0, 1)))
    for expected, found in zip(arrays(exact), arrays(mean), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@EVERY_AGENT
def test_each_rollout_is_collected_with_the_policy_before_the_last_update(agent: Agent) -> None:
    prepared, vector, loop = opened(agent)
    runner = Watched(prepared, vector, 5 * ROWS)
    _, metrics = runner(loop, 5, 5 * ROWS)
    states = [begun.agent_state for _, begun in runner.seen]
    assert_same(runner.seen[0][0].actor, states[0].actor)
    for iteration in range(1, 5):
        assert_same(runner.seen[iteration][0].actor, states[iteration - 1].actor)
    lags = metrics["train/lag_kl"]
    assert lags[0] == pytest.approx(0, abs=1e-8)
    assert (lags[1:] > 1e-9).all()
    prepared, vector, loop = opened(agent)
    _, alone = HostRunner(prepared, vector)(loop, 1, ROWS)
    assert alone["rollout/length_sum"] == metrics["rollout/length_sum"][:1]


@EVERY_AGENT
def test_neither_chunks_nor_speeds_change_a_bit(agent: Agent) -> None:
    ends = []
    for length, slow in ((6, 0.0), (2, 0.0), (6, 0.05)):
        prepared, vector, loop = opened(agent)
        runner = Watched(prepared, vector, 6 * ROWS, slow)
        *_, last = chunks(runner, loop, 6, 6 * ROWS, pauses=[length * ROWS])
        ends.append(last.loop.agent_state)
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


class Counting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts the steps of all environments."""

    steps = 0

    def step(self, action: Any) -> Any:
        Counting.steps += 1
        return super().step(action)


def test_nothing_is_collected_beyond_the_end(tmp_path: Path) -> None:
    gymnasium.register(
        "Counting-v0", lambda **_: Counting(gymnasium.make("CartPole-v1").unwrapped), max_episode_steps=20
    )
    Counting.steps = 0
    agent = A2C(**SMALL)
    options: dict[str, Any] = {"backend": "host", "vectorization": "sync", "eval_episodes": 1}
    made = rlgd.train(agent, "Counting-v0", total_timesteps=160, overlap=True, run_dir=tmp_path / "run", **options)
    assert made.steps == 160
    # The evaluation, and rows in which an environment was reset.
    assert Counting.steps <= 160 + 20
    resumed = rlgd.resume(tmp_path / "run", total_timesteps=320)
    assert resumed.steps == 320
    assert "train/lag_kl" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_what_was_learned_is_kept_if_the_environments_fail_meanwhile() -> None:
    gymnasium.register("FaultyLater-v0", lambda **_: Faulty("raise", index=0, step=2 * 8 + 3))
    prepared, vector, loop = opened(A2C(**SMALL), "FaultyLater-v0")
    runner = Watched(prepared, vector, 1000)
    after, metrics = runner(loop, 10, 1000)
    assert isinstance(runner.cut_short, EnvironmentFault)
    assert "FaultyLater-v0" in str(runner.cut_short)
    assert len(metrics["rollout/steps"]) == 2 == int(after.iteration)


@pytest.mark.parametrize(
    ("agent", "settings", "message"),
    [
        ("ppo", {}, "overlap is set, but CartPole-v1 runs on the device"),
        ("reinforce", {"backend": "host"}, "reinforce, as it is set, does not weight"),
        ("trpo", {"backend": "host"}, "trpo, as it is set, does not weight"),
        ("a2c", {"backend": "host", "variance_reduction": "storm", "optimizer": "momentum"}, "without variance_red"),
        ("ppo", {"backend": "host", "devices": 2}, "several devices or processes train"),
    ],
)
def test_where_it_means_nothing_it_is_refused(agent: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rlgd.train(agent, "CartPole-v1", overlap=True, total_timesteps=100, **settings)


def test_it_learns() -> None:
    agent = make_agent("ppo", num_envs=8, rollout_length=64, num_epochs=4, num_minibatches=4, learning_rate=3e-3)
    result = rlgd.train(agent, "CartPole-v1", backend="host", total_timesteps=40_000, overlap=True)
    assert rlgd.evaluate(result.policy, "CartPole-v1", episodes=20).mean > 400
