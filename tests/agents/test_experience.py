"""What is learned from is what acted: values, log-probabilities and memories of a rollout."""

import dataclasses
import functools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jax import Array
from numpy.typing import NDArray

from rlgd.agents import PPO, make_agent
from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.experience import Experience, as_sequences, by_environment, experience, from_sequences
from rlgd.envs import DeviceEnv, make
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import UsageError
from rlgd.maths import minibatches
from rlgd.pytrees import Features, Params, Rollout
from rlgd.spaces import Spec
from rlgd.training import loop as training
from rlgd.training.device_rollout import collect
from rlgd.training.host_rollout import collect_on_host
from tests.support.marks import quick
from tests.support.probe_envs import ACTIONS, ScriptedOnDevice
from tests.support.small_agents import N, T, agent_of

STEPS, LIMIT = (1, 3, 4, 5, 6, 7, 8), 4
ENV = DeviceEnv(ScriptedOnDevice(STEPS, ACTIONS["discrete"]), "scripted", LIMIT)
BOX_ENV = DeviceEnv(ScriptedOnDevice(STEPS, ACTIONS["box"]), "scripted", LIMIT)


@pytest.mark.parametrize(
    ("env", "box_distribution"), quick([(BOX_ENV, "tanh")], [(ENV, "gaussian"), (BOX_ENV, "tanh"), (BOX_ENV, "beta")])
)
def test_the_first_ratio_is_1(env: DeviceEnv, box_distribution: str) -> None:
    """The log-probabilities that an update starts from are those of what acted, though normalizers move."""
    options: dict[str, Any] = {"num_epochs": 1, "num_minibatches": 1, "normalize_obs": True}
    options["box_distribution"] = box_distribution
    agent = PPO(num_envs=12, rollout_length=15, hidden_sizes=(), **options).prepared()
    assert isinstance(agent, PPO)
    learn = jax.jit(training.learn, static_argnums=1)
    loop = training.initialize(agent, env, jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), 2):
        acted = loop.agent_state
        rows, loop = jax.jit(collect, static_argnums=1)(agent, env, loop, key)
        loop, metrics = learn(agent, env.spec, loop, rows)
        assert abs(metrics["train/approx_kl"]) < 1e-9
        assert metrics["train/clip_fraction"] == 0

    def log_prob(obs: Array, action: Array) -> Array:
        features = agent.features(env.spec, acted.actor.obs_statistics, obs)
        return agent.distribution(env.spec, acted.actor.policy, features).log_prob(action)

    stored = jax.jit(experience, static_argnums=1)(agent, env.spec, acted, rows).log_prob
    given = jax.jit(jax.vmap(log_prob))(rows.obs, rows.action)
    np.testing.assert_allclose(given.reshape(-1), stored, rtol=0, atol=1e-5)
    assert loop.agent_state.obs_statistics.mean[0] != acted.obs_statistics.mean[0]


def slow_targets(agent: RolloutAgent, env: Any, state: Any, rollout: Rollout, memory: Array) -> NDArray[Any]:
    """The value target of each row with gae_lambda 0, ``[T, N]``: one step of the value function after another."""
    spec, firsts = env.spec, np.asarray(rollout.firsts)

    @jax.jit
    def value(obs: Any, first: Any, memory: Array) -> tuple[Array, Array]:
        features = agent.features(spec, state.obs_statistics, obs)
        features = features._replace(first=first, memory=Params(None, memory))
        read = agent.networks(spec).read_value(state.params, features)
        assert read.memory is not None
        return read.outputs[..., 0], read.memory

    truncations = np.zeros(agent.num_envs, int)
    targets = np.zeros(rollout.reward.shape)
    for t in range(len(targets)):
        _, memory = value(rollout.obs[t], firsts[t], memory)
        following = rollout.last_obs if t == len(targets) - 1 else rollout.obs[t + 1]
        nowhere = np.zeros(agent.num_envs, bool)
        after, _ = value(following, nowhere, memory)
        for n in range(agent.num_envs):
            target = after[n]
            if rollout.truncated[t, n] and rollout.final_obs.shape[0]:
                final = np.asarray(following).copy()
                final[n] = rollout.final_obs[truncations[n], n]
                target = value(final, nowhere, memory)[0][n]
            truncations[n] += int(rollout.truncated[t, n])
            going = 1 - float(rollout.terminated[t, n])
            targets[t, n] = rollout.reward[t, n] + float(agent.gamma) * going * target
    return targets


@functools.partial(jax.jit, static_argnums=1)
def policy_memory(agent: RolloutAgent, spec: Spec, policy: Any, features: Features) -> Array:
    """What the policy remembers after each step."""
    memory = agent.networks(spec).decide(policy, features).output.memory
    assert memory is not None
    return memory


def host_vector(mode: AutoresetMode) -> HostVector:
    vector = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1", max_episode_steps=4)] * N, autoreset_mode=mode)
    return HostVector(vector, make("CartPole-v1", max_episode_steps=4).spec, "CartPole-v1")


@pytest.mark.parametrize("kind", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("where", quick(["device", "NEXT_STEP"], ["device", "SAME_STEP", "NEXT_STEP", "DISABLED"]))
def test_learning_sees_what_acting_saw(kind: str, where: str) -> None:
    """Over several rollouts both remember the same, and values bootstrap from the true memory."""
    agent = agent_of(kind, gae_lambda=0.0, normalize_advantage=False)
    env: Any = make("CartPole-v1", max_episode_steps=4)
    vector = None if where == "device" else host_vector(AutoresetMode[where])
    loop = training.initialize(agent, env, jax.random.key(0), 10_000)
    if vector is not None:
        loop = dataclasses.replace(loop, obs=vector.reset(0))
    learn = jax.jit(training.learn, static_argnums=1)
    truncated = 0
    for key in jax.random.split(jax.random.key(1), 3):
        before, rollout = loop, None
        if vector is None:
            rollout, loop = jax.jit(collect, static_argnums=1)(agent, env, loop, key)
        else:
            rollout, loop = collect_on_host(agent, vector, loop, key)
            rollout = jax.tree.map(jnp.asarray, rollout)
        rows = jax.jit(experience, static_argnums=1)(agent, env.spec, before.agent_state, rollout)
        assert before.agent_state.value_memory is not None
        expected = slow_targets(agent, env, before.agent_state, rollout, before.agent_state.value_memory)
        real = np.ones((T, N), bool) if rollout.mask is None else np.asarray(rollout.mask)
        np.testing.assert_allclose(np.asarray(rows.value_target).T[real], expected[real], rtol=1e-4, atol=1e-5)
        remembered = policy_memory(agent, env.spec, before.agent_state.params.policy, rows.features)
        np.testing.assert_allclose(loop.memory.hidden, remembered[:, -1], rtol=1e-5, atol=1e-6)
        loop, _ = learn(agent, env.spec, loop, rollout)
        truncated += int(rollout.truncated.sum())
    assert truncated > 3


def test_acting_and_learning_agree_on_log_probabilities() -> None:
    agent, env = agent_of("lstm"), make("CartPole-v1", max_episode_steps=4)
    assert isinstance(env, DeviceEnv)
    loop = training.initialize(agent, env, jax.random.key(0))
    loop = dataclasses.replace(loop, memory=loop.memory._replace(hidden=loop.memory.hidden + 0.3))
    rollout, _ = jax.jit(collect, static_argnums=1)(agent, env, loop, jax.random.key(1))
    state, memory = loop.agent_state, loop.memory.hidden
    rows = jax.jit(experience, static_argnums=1)(agent, env.spec, state, rollout)

    @jax.jit
    def act(obs: Array, first: Array, action: Array, memory: Array) -> tuple[Array, Any]:
        features = agent.features(env.spec, state.obs_statistics, obs)
        features = features._replace(first=first, memory=Params(memory, None))
        policy, output, _ = agent.networks(env.spec).decide(state.params.policy, features)
        return policy.log_prob(action), output.memory

    for t in range(T):
        log_prob, memory = act(rollout.obs[t], rollout.firsts[t], rollout.action[t], memory)
        np.testing.assert_allclose(log_prob, rows.log_prob[:, t], rtol=1e-5, atol=1e-6)


def test_minibatches_are_whole_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, env = agent_of("gru", num_envs=4, num_minibatches=2, num_epochs=2), make("CartPole-v1")
    assert isinstance(env, DeviceEnv)
    seen: list[tuple[int, ...]] = []

    def spy(step: Any, *rest: Any) -> Any:
        def seeing(climb: Any, batch: Experience, number: Array) -> Any:
            seen.append(batch.features.vector.shape)
            return step(climb, batch, number)

        return minibatches.epochs(seeing, *rest)

    monkeypatch.setattr("rlgd.agents.ppo.epochs", spy)
    loop = training.initialize(agent, env, jax.random.key(0))
    jax.eval_shape(lambda loop: training.iterate(agent, env, loop), loop)
    assert (2, T, 4) in seen
    with pytest.raises(UsageError, match="that network 'gru' learns from; nearest that do: 1, 2, 4"):
        dataclasses.replace(PPO(num_envs=4, network="gru"), num_minibatches=3).validate()


def rollout_of(agent: RolloutAgent, **options: Any) -> tuple[DeviceEnv, Any, Any]:
    """A small environment, a loop state with a memory of its past, and the rollout from there."""
    env = make("CartPole-v1", max_episode_steps=4)
    assert isinstance(env, DeviceEnv)
    loop = training.initialize(agent, env, jax.random.key(0))
    collected = jax.jit(collect, static_argnums=1)
    _, loop = collected(agent, env, loop, jax.random.key(2))
    state = loop.agent_state
    if state.value_memory is not None:
        loop = dataclasses.replace(loop, agent_state=dataclasses.replace(state, value_memory=state.value_memory + 0.3))
    return env, loop, collected(agent, env, loop, jax.random.key(1))[0]


@pytest.mark.parametrize(
    ("network", "value_network"),
    quick(
        [("lstm", "mlp"), ("lru", None)],
        [("gru", None), ("lstm", "mlp"), ("mlp", "rnn"), ("attention", None), ("lru", None)],
    ),
)
def test_sequences_are_read_like_the_whole_rollout(network: str, value_network: str | None) -> None:
    """Cut in three, with the memories from before each part, networks say what they said of the whole."""
    options: dict[str, Any] = {"rollout_length": 6, "value_network": value_network}
    whole, cut = (agent_of(network, **options, sequence_length=length) for length in (None, 2))
    env, loop, rollout = rollout_of(whole)
    state = loop.agent_state
    read = jax.jit(experience, static_argnums=1)
    expected, rows = (read(agent, env.spec, state, rollout) for agent in (whole, cut))
    assert rows.features.vector.shape == (3 * N, 2, 4)
    again, values = jax.jit(cut.networks(env.spec).read)(state.params, rows.features)
    assert again is not None
    assert values is not None
    for name, found in {
        "log_prob": again.policy.log_prob(rows.action),
        "value": values.outputs[..., 0],
        "advantage": rows.advantage,
        "value_target": rows.value_target,
        "action": rows.action,
    }.items():
        by_time = from_sequences(found, N)
        np.testing.assert_allclose(by_environment(by_time), getattr(expected, name), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(as_sequences(by_time, 2), found)
    if rows.value_memory is not None:
        np.testing.assert_allclose(rows.value_memory[-N:], expected.value_memory, rtol=1e-5, atol=1e-6)


def test_gradients_reach_back_to_the_beginning_of_a_sequence() -> None:
    """With sequences of two steps, an observation moves what is remembered in its own sequence alone."""
    agent = agent_of("gru", rollout_length=6, sequence_length=2)
    env, loop, rollout = rollout_of(agent)
    rows = jax.jit(experience, static_argnums=1)(agent, env.spec, loop.agent_state, rollout)
    first = jnp.zeros_like(rows.features.first)

    def last_log_prob(vector: Array) -> Array:
        features = rows.features._replace(vector=vector, first=first)
        return agent.distribution(env.spec, loop.agent_state.params.policy, features).log_prob(rows.action)[0, -1]

    moved = np.abs(np.asarray(jax.jit(jax.grad(last_log_prob))(rows.features.vector))).sum(axis=-1) > 0
    assert moved[0].all()
    assert not moved[1:].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "a2c", "npg"])
def test_agents_learn_from_sequences(name: str) -> None:
    """With sequences as long as the rollout the update is the same; with shorter ones it is another."""
    fields: dict[str, Any] = {
        "num_envs": 2,
        "rollout_length": 8,
        "network": "gru",
        "memory_width": 4,
        "measure_every": 0,
    }
    fields |= {"hidden_sizes": (4,)} | ({"variance_reduction": "storm"} if name == "a2c" else {"num_minibatches": 1})
    made = {length: make_agent(name, **fields, sequence_length=length).prepared() for length in (None, 8, 2)}
    env, loop, _ = rollout_of(made[None])  # type: ignore[arg-type]
    step = jax.jit(training.iterate, static_argnums=1)
    after = {
        length: [
            np.asarray(x) for x in jax.tree.leaves(step(agent, env, step(agent, env, loop)[0])[0].agent_state.params)
        ]
        for length, agent in made.items()
    }
    for one, other in zip(after[None], after[8], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert any(np.abs(one - other).max() > 1e-6 for one, other in zip(after[None], after[2], strict=True))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"sequence_length": 4}, "neither network nor value_network remembers"),
        ({"network": "gru", "sequence_length": 3}, "which does not divide rollout_length = 128"),
        ({"network": "gru", "sequence_length": 1}, r"\[2, inf\)"),
        ({"network": "gru", "sequence_length": 32, "num_minibatches": 5}, "does not divide 32, the sequences"),
    ],
)
def test_sequences_that_cannot_be_cut_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        make_agent("ppo", **fields).validate()
