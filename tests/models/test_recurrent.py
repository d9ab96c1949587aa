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
from jax import Array
from numpy.typing import NDArray

import rlgd
from rlgd import evaluation
from rlgd.agents import A2C, PPO
from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.ascent import Ascent
from rlgd.envs import make
from rlgd.envs.host.host_env import HostEnv
from rlgd.errors import UsageError
from rlgd.evaluation import Policy, evaluator
from rlgd.models import networks
from rlgd.models import recurrent as recurrent_module
from rlgd.models.recurrent import Recurrence
from rlgd.pytrees import Features
from tests.support.marks import quick
from tests.support.small_agents import agent_of

N, T, WIDTH = 3, 7, 4
CELLS = sorted(recurrent_module.CELLS)


def recurrent(kind: str) -> networks.Network:
    return networks.network(2, 2, (5,), kind=kind, memory=Recurrence(kind, WIDTH))


def blank(kind: str, num_envs: int = N) -> Array:
    return jnp.zeros((num_envs, Recurrence(kind, WIDTH).memory_size))


def sequence(seed: int, kind: str) -> Features:
    rng = np.random.default_rng(seed)
    vector, first = rng.normal(size=(N, T, 2)), rng.random((N, T)) < 0.3
    return Features(jnp.asarray(vector, jnp.float32), first=jnp.asarray(first), memory=blank(kind) + 0.5)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x))


def reference(kind: str, params: Any, x: NDArray[Any], first: NDArray[Any], memory: NDArray[Any]) -> NDArray[Any]:
    """The memory after each step of one environment, ``[T, size]``, written as in the textbooks."""
    if kind not in ("rnn", "gru", "lstm"):
        return linear_reference(kind, params, x, first, memory)
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


def linear_reference(
    kind: str, params: Any, x: NDArray[Any], first: NDArray[Any], memory: NDArray[Any]
) -> NDArray[Any]:
    """``reference`` of the cells that are linear in their memory."""
    if kind == "lru":
        layer = {name: np.asarray(value, float) for name, value in params["LRULayer_0"].items() if name[0] in "ntl"}
        eigenvalue = np.exp(-np.exp(layer["nu"]) + 1j * np.exp(layer["theta"]))
        real, imaginary = np.split(np.asarray(params["LRULayer_0"]["B"]["kernel"], float), 2, axis=1)
        term = np.exp(layer["log_gamma"]) * (x @ (real + 1j * imaginary))
        hidden, remembered = memory[:WIDTH] + 1j * memory[WIDTH:], []
        for t, begins in enumerate(first):
            hidden = eigenvalue * (0 if begins else hidden) + term[t]
            remembered.append(np.concatenate([hidden.real, hidden.imag]))
        return np.stack(remembered)
    dense = {name: np.asarray(value, float) for name, value in params["GatedLayer_0"]["Dense_0"].items()}
    gates = np.split(x @ dense["kernel"] + dense["bias"], 3 if kind == "minlstm" else 2, axis=1)
    remembered = []
    for t, begins in enumerate(first):
        memory = np.zeros_like(memory) if begins else memory
        *opened, new = (gate[t] for gate in gates)
        opened = [sigmoid(gate) for gate in opened]
        if kind == "mingru":
            memory = (1 - opened[0]) * memory + opened[0] * new
        else:
            memory = (opened[0] * memory + opened[1] * new) / (opened[0] + opened[1])
        remembered.append(memory)
    return np.stack(remembered)


def test_the_lru_begins_on_its_ring_and_reads_the_real_part() -> None:
    network, features = recurrent("lru"), sequence(3, "lru")
    params = network.init(jax.random.key(1))
    layer = {name: np.asarray(value) for name, value in params["LRULayer_0"].items() if name[0] in "ntl"}
    radius = np.exp(-np.exp(layer["nu"]))
    assert np.all((radius >= 0.9) & (radius <= 0.999))
    assert np.all(np.exp(layer["theta"]) <= np.pi / 10)
    np.testing.assert_allclose(np.exp(layer["log_gamma"]), np.sqrt(1 - radius**2), rtol=1e-4)
    read = network.read(params, features)
    assert read.memory is not None
    real, imaginary = np.split(np.asarray(params["LRULayer_0"]["C"]["kernel"], float), 2)
    memory = np.asarray(read.memory, float)
    hidden = memory[..., :WIDTH] + 1j * memory[..., WIDTH:]
    through = jax.tree.map(np.asarray, params["LRULayer_0"]["D"])
    outputs = (hidden @ (real - 1j * imaginary)).real + np.asarray(features.vector) @ through["kernel"]
    mlp = jax.tree.map(np.asarray, params["mlp"])
    first = np.tanh((outputs + through["bias"]) @ mlp["Dense_0"]["kernel"] + mlp["Dense_0"]["bias"])
    expected = first @ mlp["OutputLayer_0"]["kernel"].T + mlp["OutputLayer_0"]["bias"]
    np.testing.assert_allclose(read.outputs, expected, rtol=1e-4, atol=1e-5)


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
    own, running = [policy.copy() for _ in range(num_envs)], np.zeros(num_envs, int)
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


RECALLING: dict[str, Any] = {
    **{"num_envs": 16, "rollout_length": 12, "hidden_sizes": (16,), "measure_every": 0},
    "ascent": Ascent("adam", learning_rate=1e-2, max_grad_norm=0.5),
}


@pytest.mark.parametrize("kind", quick(["gru"], CELLS))
def test_a_memory_learns_what_needs_one(kind: str) -> None:
    assert recall(A2C(**RECALLING, network=kind, memory_width=8)) == 1.0


def test_without_a_memory_it_is_not_learned() -> None:
    assert 0.4 < recall(A2C(**RECALLING)) < 0.6


@pytest.mark.parametrize(
    "options",
    [
        {"network": "lstm", "memory_width": 8},
        pytest.param({"box_std": "gsde"}, marks=pytest.mark.slow),
    ],
    ids=["lstm", "gsde"],
)
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
