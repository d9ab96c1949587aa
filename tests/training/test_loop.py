"""The loop: chunks, progress, keys, and that pausing changes nothing."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import Array

from rlgd import hyperparameters, training
from rlgd.agents import A2C, PPO, REINFORCE, make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, make
from rlgd.models import torsos
from rlgd.pytrees import Features, LoopState
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, Spec
from rlgd.training import Chunk, DeviceRunner, runners
from rlgd.training import chunks as chunks_module

SMALL: dict[str, Any] = {"num_envs": 2, "hidden_sizes": (4,)}
AGENT = A2C(**SMALL, rollout_length=8).prepared()


@pytest.fixture(name="env", scope="module")
def _env() -> DeviceEnv:
    env = make("CartPole-v1", max_episode_steps=20)
    assert isinstance(env, DeviceEnv)
    return env


def run(agent: Agent, env: DeviceEnv, length: int, total: int, **options: Any) -> list[Chunk]:
    loop = training.initialize(agent, env, jax.random.key(0), total)
    return list(chunks_module.chunks(DeviceRunner(agent, env, length), loop, length, total, **options))


def leaves(loop: LoopState) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(dataclasses.replace(loop, key=jax.random.key_data(loop.key)))]


def test_chunks_are_iterations_one_after_another(env: DeviceEnv) -> None:
    total, length = 16 * 7, 3
    chunks = run(AGENT, env, length, total)
    assert [len(chunk.metrics["rollout/steps"]) for chunk in chunks] == [3, 3, 1]
    assert [chunk.steps for chunk in chunks] == [48, 96, 112]
    step = jax.jit(training.iterate, static_argnums=1)
    loop = training.initialize(AGENT, env, jax.random.key(0), total)
    for _ in range(7):
        loop, _ = step(AGENT, env, loop)
    for one, other in zip(leaves(loop), leaves(chunks[-1].loop), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_pausing_changes_no_bit(env: DeviceEnv) -> None:
    total = 16 * 20
    plain = run(AGENT, env, 6, total)[-1].loop
    paused = run(AGENT, env, 6, total, pauses=(40, 100))
    assert {48, 80, 112} <= {chunk.steps for chunk in paused}
    for one, other in zip(leaves(plain), leaves(paused[-1].loop), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_ends_with_the_iteration_that_reaches_its_end(env: DeviceEnv) -> None:
    assert run(AGENT, env, 4, 100)[-1].steps == 112
    assert run(AGENT, env, 4, 1)[-1].steps == 16
    agent = REINFORCE(**SMALL).prepared()
    *_, last = chunks = run(agent, env, 4, 200)
    steps = np.concatenate([chunk.metrics["rollout/steps"] for chunk in chunks])
    assert last.steps == steps.sum() >= 200 > steps[:-1].sum()


def test_progress_is_the_share_of_the_run(env: DeviceEnv) -> None:
    agent = hyperparameters.with_values(AGENT, {"schedule": "linear"}).prepared()
    chunks = run(agent, env, 3, 160)
    rates = np.concatenate([chunk.metrics["ascent/learning_rate"] for chunk in chunks])
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.arange(10) / 10), rtol=1e-5)


@pytest.mark.slow
def test_progress_without_an_end_stays_zero(env: DeviceEnv) -> None:
    loop = training.initialize(AGENT, env, jax.random.key(0))
    loop, _ = training.iterate(AGENT, env, loop)
    assert loop.progress == 0


def test_steps_do_not_wrap(env: DeviceEnv) -> None:
    """A run far beyond 2^31 steps continues to count, and its schedule continues to fall."""
    start = 2**31 - 16
    loop = training.initialize(AGENT, env, jax.random.key(0), 2**33)
    runner = DeviceRunner(AGENT, env, 4)
    seen = []
    for chunk in chunks_module.chunks(runner, loop, 4, 2**33, steps=start):
        seen.append((chunk.steps, float(chunk.loop.progress)))
        if len(seen) == 3:
            break
    assert [steps for steps, _ in seen] == [start + 64, start + 128, start + 192]
    assert all(0.2499 < progress < 0.2501 for _, progress in seen)


def test_one_program_for_every_chunk_and_every_equal_run(env: DeviceEnv) -> None:
    program = runners.chunk_program.program(env)
    before = program._cache_size()
    agent = PPO(**SMALL, rollout_length=4, num_epochs=1, num_minibatches=1)
    for learning_rate in (1e-3, 0.01, 1):
        run(hyperparameters.with_values(agent, {"learning_rate": learning_rate}).prepared(), env, 3, 16 * 5)
    assert program._cache_size() == before + 1


def test_chunk_length_depends_on_the_configuration_alone(env: DeviceEnv) -> None:
    small, large = (A2C(rollout_length=64, hidden_sizes=(width, width)) for width in (8, 512))
    assert training.chunk_length(small, env) > training.chunk_length(large, env) >= 1
    assert training.chunk_length(small, env) == training.chunk_length(small.prepared(), env)
    host = make("CartPole-v1", backend="host")
    assert training.chunk_length(small, host) < training.chunk_length(small, env)


def _vector(features: Features) -> Array:
    return features.vector


def test_chunk_length_follows_both_networks(env: DeviceEnv) -> None:
    def length(**networks: Any) -> int:
        return training.chunk_length(make_agent("a2c", **{"num_envs": 64, "hidden_sizes": (128, 128)} | networks), env)

    assert length() == length(value_network="mlp")
    assert length(value_network="policy") > length() > length(value_network="simba")
    own = linen.Sequential([_vector, linen.Dense(512), linen.Dense(512)])
    both, one, other = {"network": own}, {"network": own, "value_network": "mlp"}, {"value_network": own}
    lengths = [length(hidden_sizes=(8,), **networks) for networks in (both, one, other)]
    assert lengths[0] < lengths[1] == lengths[2]


def test_the_convolutions_of_both_networks_count() -> None:
    seen = DictSpec((("image", BoxSpec((64, 64, 3), "uint8")), ("own", BoxSpec((2,), "float32"))))
    spec = Spec(seen, DiscreteSpec(2), max_episode_steps=32)
    plain, residual = (torsos.convolution_cost((64, 64, 3), kind) for kind in ("mlp", "impala"))
    for agent, cost in (
        (A2C(), 2 * plain),
        (A2C(network="impala"), 2 * residual),
        (A2C(value_network="impala"), plain + residual),
        (A2C(value_network="impala", critic_obs=("image",)), residual),
        (A2C(network="impala", value_network="policy"), residual),
        (A2C(network="flat"), 0),
    ):
        assert agent.convolution_cost(spec) == cost


def test_no_episode_ended_is_zero_and_not_nan(env: DeviceEnv) -> None:
    agent = A2C(**SMALL, rollout_length=1, measure_every=0).prepared()
    _, metrics = training.iterate(agent, env, training.initialize(agent, env, jax.random.key(0)))
    assert metrics["rollout/episodes"] == 0
    assert all(jnp.isfinite(value) for value in metrics.values())
