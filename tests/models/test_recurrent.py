"""Policies with a memory: what is remembered, where it is forgotten, and that learning sees what acting saw."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jax import Array
from numpy.typing import NDArray

import rlgd
from rlgd import evaluation
from rlgd.agents import A2C, PPO
from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.experience import Experience, experience
from rlgd.ascent import Ascent
from rlgd.envs import DeviceEnv, make
from rlgd.envs.host.host_env import HostEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import UsageError
from rlgd.evaluation import Policy, evaluator
from rlgd.models import networks
from rlgd.models import recurrent as recurrent_module
from rlgd.models.recurrent import Recurrence
from rlgd.pytrees import Features, Params, Rollout, View
from rlgd.training import loop as training
from rlgd.training.device_rollout import collect
from rlgd.training.host_rollout import collect_on_host

N, T, WIDTH = 3, 7, 4
CELLS = sorted(recurrent_module.CELLS)


def recurrent(kind: str) -> networks.Network:
    return networks.network(2, 2, (5,), recurrence=Recurrence(kind, WIDTH))


def blank(kind: str, num_envs: int = N) -> Array:
    return jnp.zeros((num_envs, Recurrence(kind, WIDTH).memory_size))


def sequence(seed: int, kind: str) -> Features:
    rng = np.random.default_rng(seed)
    vector, first = rng.normal(size=(N, T, 2)), rng.random((N, T)) < 0.3
    return Features(jnp.asarray(vector, jnp.float32), first=jnp.asarray(first), memory=blank(kind) + 0.5)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x))


def reference(kind: str, params: Any, x: NDArray[Any], first: NDArray[Any], memory: NDArray[Any]) -> NDArray[Any]:
    """What the layer remembers behind each step of one environment, ``[T, size]``, written as in the textbooks."""
    layer = params["RecurrentLayer_0"]
    w, b, u = (np.asarray(a, float) for a in (*layer["Dense_0"].values(), layer["recurrent_kernel"]))
    w, b = (w, b) if w.ndim == 2 else (b, w)

    def gates(x: NDArray[Any], h: NDArray[Any]) -> Any:
        return zip(*(np.split(a, len(a) // WIDTH) for a in (x @ w + b, h @ u)), strict=True)

    remembered = []
    for row, begins in zip(x, first, strict=True):
        memory = np.zeros_like(memory) if begins else memory
        if kind == "rnn":
            memory = np.tanh(row @ w + b + memory @ u)
        elif kind == "gru":
            (r, r_h), (z, z_h), (n, n_h) = gates(row, memory)
            z = sigmoid(z + z_h)
            memory = (1 - z) * np.tanh(n + sigmoid(r + r_h) * n_h) + z * memory
        else:
            hidden, cell = np.split(memory, 2)
            i, f, o, g = (x + h for x, h in gates(row, hidden))
            cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
            memory = np.concatenate([sigmoid(o) * np.tanh(cell), cell])
        remembered.append(memory)
    return np.stack(remembered)


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_those_of_the_textbooks(kind: str) -> None:
    network, features = recurrent(kind), sequence(0, kind)
    params = network.init(jax.random.key(0))
    read = jax.jit(network.read)(params, features)
    assert features.first is not None
    for n in range(N):
        x, first, memory = (np.asarray(a[n], float) for a in (features.vector, features.first, features.memory))
        expected = reference(kind, params, x, first, memory)
        assert read.memory is not None
        np.testing.assert_allclose(read.memory[n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CELLS)
def test_a_sequence_is_its_steps_one_by_one(kind: str) -> None:
    network, features = recurrent(kind), sequence(1, kind)
    params = network.init(jax.random.key(0))
    whole = jax.jit(network.read)(params, features)
    memory, step = features.memory, jax.jit(network.read)
    assert features.first is not None
    for t in range(T):
        one = step(params, Features(features.vector[:, t], first=features.first[:, t], memory=memory))
        np.testing.assert_allclose(one.outputs, whole.outputs[:, t], rtol=1e-5, atol=1e-6)
        memory = one.memory
    np.testing.assert_allclose(memory, whole.memory[:, -1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CELLS)
def test_an_episode_knows_nothing_of_the_one_before(kind: str) -> None:
    """With the history cut off where an episode begins, whatever is remembered there, no later output changes."""
    network, features = recurrent(kind), sequence(2, kind)
    params, cut = network.init(jax.random.key(0)), 3
    assert features.first is not None
    features = features._replace(first=features.first.at[:, cut].set(True))
    whole = network.apply(params, features)
    for memory in (blank(kind), blank(kind) + 100.0):
        rest = Features(features.vector[:, cut:], first=features.first[:, cut:], memory=memory)  # type: ignore[index]
        np.testing.assert_allclose(network.apply(params, rest), whole[:, cut:], rtol=1e-6, atol=1e-7)
    assert features.first is not None
    forgetful = features._replace(first=features.first.at[:, cut].set(False))
    assert np.abs(network.apply(params, forgetful)[:, cut:] - whole[:, cut:]).max() > 1e-3


def agent_of(kind: str, **options: Any) -> PPO:
    defaults: dict[str, Any] = {"num_envs": N, "rollout_length": T, "hidden_sizes": (8,), "memory_width": WIDTH}
    defaults |= {"num_epochs": 1, "num_minibatches": 1, "normalize_obs": True, "network": kind, "measure_every": 0}
    agent = PPO(**(defaults | options)).prepared()
    assert isinstance(agent, PPO)
    return agent


def slow_targets(agent: RolloutAgent, env: Any, state: Any, rollout: Rollout, memory: Array) -> NDArray[Any]:
    """The value target of each row with gae_lambda 0, ``[T, N]``: one step of the value function after another."""
    spec, firsts = env.spec, np.asarray(rollout.firsts)

    def value(obs: Any, first: Any, memory: Array) -> tuple[NDArray[Any], Array]:
        features = agent.features(spec, state.obs_statistics, jnp.asarray(obs))
        features = features._replace(first=jnp.asarray(first), memory=Params(None, memory))
        read = agent.networks(spec).read_value(state.params.value, features)
        assert read.memory is not None
        return np.asarray(read.outputs[..., 0]), read.memory

    truncations = np.zeros(agent.num_envs, int)
    targets = np.zeros(rollout.reward.shape)
    for t in range(len(targets)):
        _, memory = value(rollout.obs[t], firsts[t], memory)
        following = rollout.last_obs if t == len(targets) - 1 else rollout.obs[t + 1]
        nowhere = np.zeros(agent.num_envs, bool)
        behind, _ = value(following, nowhere, memory)
        for n in range(agent.num_envs):
            target = behind[n]
            if rollout.truncated[t, n] and rollout.final_obs.shape[0]:
                final = np.asarray(following).copy()
                final[n] = rollout.final_obs[truncations[n], n]
                target = value(final, nowhere, memory)[0][n]
            truncations[n] += int(rollout.truncated[t, n])
            going = 1 - float(rollout.terminated[t, n])
            targets[t, n] = rollout.reward[t, n] + float(agent.gamma) * going * target
    return targets


def host_vector(mode: AutoresetMode) -> HostVector:
    vector = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1", max_episode_steps=4)] * N, autoreset_mode=mode)
    return HostVector(vector, make("CartPole-v1", max_episode_steps=4).spec, "CartPole-v1")


@pytest.mark.parametrize("kind", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("where", ["device", "SAME_STEP", "NEXT_STEP", "DISABLED"])
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
        read = agent.networks(env.spec).decide(before.agent_state.params.policy, rows.features).output
        assert read.memory is not None
        np.testing.assert_allclose(loop.memory.hidden, read.memory[:, -1], rtol=1e-5, atol=1e-6)
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
    for t in range(T):
        features = agent.features(env.spec, state.obs_statistics, rollout.obs[t])
        features = features._replace(first=rollout.firsts[t], memory=Params(memory, None))
        policy, output, _ = agent.networks(env.spec).decide(state.params.policy, features)
        np.testing.assert_allclose(policy.log_prob(rollout.action[t]), rows.log_prob[:, t], rtol=1e-5, atol=1e-6)
        memory = output.memory


def test_minibatches_are_whole_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, env = agent_of("gru", num_envs=4, num_minibatches=2, num_epochs=2), make("CartPole-v1")
    assert isinstance(env, DeviceEnv)
    seen: list[tuple[int, ...]] = []
    original = Experience.at

    def spy(self: Experience, index: Array) -> Experience:
        batch = original(self, index)
        seen.append(batch.features.vector.shape)
        return batch

    monkeypatch.setattr(Experience, "at", spy)
    loop = training.initialize(agent, env, jax.random.key(0))
    jax.eval_shape(lambda loop: training.iterate(agent, env, loop), loop)
    assert (2, T, 4) in seen
    with pytest.raises(UsageError, match="num_envs = 4, the sequences that gru learns from; nearest that do: 1, 2, 4"):
        dataclasses.replace(PPO(num_envs=4, network="gru"), num_minibatches=3).validate()


def policy_of(kind: str) -> Policy:
    agent, env = agent_of(kind), make("CartPole-v1")
    state = agent.init(env.spec, jax.random.key(3))
    kernel = state.params.policy["network"]["mlp"]["OutputLayer_0"]["kernel"]
    kernel = 100 * kernel  # so that what is remembered decides
    state.params.policy["network"]["mlp"]["OutputLayer_0"]["kernel"] = kernel
    return Policy(agent, env.spec, state.actor)


def test_a_policy_remembers_until_it_is_reset() -> None:
    policy = policy_of("lstm")
    obs = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    once = [int(policy(o)) for o in obs]
    policy.reset()
    assert [int(policy(o)) for o in obs] == once
    forgetful = []
    for o in obs:
        policy.reset()
        forgetful.append(int(policy(o)))
    assert forgetful != once
    policy.reset()
    batch = [policy(np.stack([o, o]), first=[t == 0, True]) for t, o in enumerate(obs)]
    assert [int(a) for a, _ in batch] == once
    assert [int(b) for _, b in batch] == forgetful
    with pytest.raises(UsageError, match=r"obs is a batch of 1, but the policy remembers 2 episodes; call reset\(\)"):
        policy(obs[0])
    with pytest.raises(UsageError, match=r"first has shape \(3,\); expected \(2,\)"):
        policy(obs[:2], first=[True, False, True])


def test_evaluation_keeps_episodes_apart_and_leaves_the_policy_alone() -> None:
    """As if each environment had a policy of its own, that is reset where an episode begins."""
    policy, env = policy_of("gru"), make("CartPole-v1", vectorization="sync", max_episode_steps=30)
    policy(np.zeros(4))
    memory = jax.tree.map(np.asarray, policy._memory)
    result = evaluation.evaluate(policy, env, episodes=20, seed=1)
    jax.tree.map(np.testing.assert_array_equal, memory, policy._memory)
    assert isinstance(env, HostEnv)
    num_envs = evaluator.MAX_HOST_ENVS
    lengths: list[list[int]] = [[] for _ in range(num_envs)]
    own, running = [policy.anew() for _ in range(num_envs)], np.zeros(num_envs, int)
    with contextlib.closing(env.open(num_envs)) as vector:
        obs = vector.reset(1)
        while min(map(len, lengths)) < 2:
            step = vector.step(np.stack([one(o) for one, o in zip(own, obs, strict=True)]))
            running += step.valid
            for n in np.flatnonzero(step.terminated | step.truncated):
                lengths[n].append(int(running[n]))
                running[n] = 0
                own[n].reset()
            obs = step.obs
    assert result.lengths.tolist() == [length for n in range(num_envs) for length in lengths[n][: 1 + (n < 4)]]


class Recall(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """A number is shown in the first step, and has to be said in the third: chance, without a memory."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def initial(self, rng: Array, params: Any = None) -> Any:
        return jnp.zeros((), jnp.int32), jax.random.bernoulli(rng).astype(jnp.int32)

    def transition(self, state: Any, action: Array, rng: Array, params: Any = None) -> Any:
        return state[0] + 1, state[1]

    def observation(self, state: Any, rng: Array, params: Any = None) -> Array:
        time, shown = state
        return jnp.stack([jnp.where(time == 0, 2 * shown - 1, 0), jnp.where(time == 2, 1, 0)]).astype(jnp.float32)

    def reward(self, state: Any, action: Array, next_state: Any, rng: Array, params: Any = None) -> Array:
        return jnp.where((state[0] == 2) & (action == state[1]), 1.0, 0.0)

    def terminal(self, state: Any, rng: Array, params: Any = None) -> Array:
        return state[0] == 3


def recall(agent: RolloutAgent) -> float:
    result = rlgd.train(agent, Recall(), total_timesteps=20_000)
    return evaluation.evaluate(result.policy, make(Recall()), episodes=200).mean


@pytest.mark.parametrize("kind", CELLS)
def test_a_memory_learns_what_needs_one(kind: str) -> None:
    options: dict[str, Any] = {"num_envs": 16, "rollout_length": 12, "hidden_sizes": (16,)}
    ascent = Ascent("adam", learning_rate=1e-2, max_grad_norm=0.5)
    assert recall(A2C(**options, ascent=ascent, network=kind, memory_width=8)) == 1.0
    if kind == "rnn":  # once is enough
        assert 0.4 < recall(A2C(**options, ascent=ascent)) < 0.6


@pytest.mark.parametrize("options", [{"network": "lstm", "memory_width": 8}, {"box_std": "gsde"}], ids=["lstm", "gsde"])
def test_resume_is_exact(options: dict[str, Any], tmp_path: Path) -> None:
    """To the end at once, or to the middle, saved and resumed: the same bits, memories and noise included."""
    sizes: dict[str, Any] = {"num_envs": 4, "rollout_length": 10, "hidden_sizes": (8,), "num_minibatches": 2}
    agent = PPO(**sizes, **options, measure_every=0, ascent=Ascent("adam", learning_rate=1e-3))

    def train(total_timesteps: int, run_dir: Path | None) -> rlgd.TrainResult:
        return rlgd.train(agent, "Pendulum-v1", total_timesteps=total_timesteps, run_dir=run_dir, eval_episodes=2)

    whole, _ = train(480, None), train(240, tmp_path / "run")
    resumed = rlgd.resume(tmp_path / "run", total_timesteps=480)
    for one, other in zip(leaves(whole), leaves(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    loaded = rlgd.load(tmp_path / "run")
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    resumed.policy.reset()
    assert [float(loaded(o)[0]) for o in obs] == [float(resumed.policy(o)[0]) for o in obs]


def leaves(result: rlgd.TrainResult) -> list[NDArray[Any]]:
    """Of a run's state, but for its progress, which schedules alone look at: here there is none."""
    state = dataclasses.replace(result.state, progress=jnp.zeros(()), progress_per_step=jnp.zeros(()))
    state = dataclasses.replace(state, key=jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def explorer(**options: Any) -> Any:
    agent = PPO(num_envs=2, rollout_length=8, num_minibatches=2, hidden_sizes=(6,), box_std="gsde", **options)
    return agent.prepared(), make("Pendulum-v1")


def test_gsde_keeps_its_noise_for_some_steps() -> None:
    agent, env = explorer(sde_sample_freq=3)
    state = agent.init(env.spec, jax.random.key(0))
    memory, seen = agent.memory(env.spec, 2), []
    for t in range(8):
        view = View(jnp.ones((2, 3)), jnp.array([t == 0, t in (0, 5)]))
        action, memory = agent.act(env.spec, state.actor, memory, view, jax.random.key(t))
        seen.append(np.asarray(action)[:, 0])
    actions = np.array(seen).T
    np.testing.assert_array_equal(np.diff(actions[0]) != 0, [False, False, True, False, False, True, False])
    np.testing.assert_array_equal(np.diff(actions[1]) != 0, [False, False, True, False, True, False, False])


def test_gsde_explores_with_the_deviation_that_it_says() -> None:
    agent, env = explorer(log_std_init=-1.0)
    state = agent.init(env.spec, jax.random.key(0))
    view = View(jnp.broadcast_to(jnp.array([0.3, -0.9, 2.0]), (20_000, 3)), jnp.ones(20_000, bool))
    memory = agent.memory(env.spec, 20_000)
    action, _ = agent.act(env.spec, state.actor, memory, view, jax.random.key(1))
    features = agent.features(env.spec, None, view.obs)
    distribution = agent.distribution(env.spec, state.params.policy, features)
    deviation = float(np.exp(distribution.log_std[0, 0]))
    assert np.std(np.asarray(action)) == pytest.approx(deviation, rel=0.03)
    assert np.mean(np.asarray(action)) == pytest.approx(float(distribution.mean[0, 0]), abs=4 * deviation / 140)
    greedy, _ = agent.act(env.spec, state.actor, memory, view, jax.random.key(1), greedy=True)
    np.testing.assert_array_equal(greedy, distribution.mean)
    policy = Policy(agent, env.spec, state.actor)
    once = policy(np.ones(3), deterministic=False, key=1)
    assert policy(np.ones((5, 3))).shape == (5, 1)  # nothing is remembered
    assert policy(np.ones(3), deterministic=False, key=2) != once
    assert policy(np.ones(3), deterministic=False, key=1, first=False) == once
