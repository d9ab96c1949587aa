"""The policy as a function of observations."""

import copy
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import rlgd.envs
import rlgd.evaluation.policy
import rlgd.spaces
from rlgd.agents import PPO
from rlgd.envs import HostEnv
from rlgd.errors import UsageError
from rlgd.evaluation import Policy
from rlgd.pytrees import View
from rlgd.spaces import Spec
from tests.support.probe_envs import linear_policy

CARTPOLE = rlgd.envs.make("CartPole-v1")
ANGLE = np.array([[0.0, 0, -50, 0], [0, 0, 50, 0]])  # pushes to the side that the pole leans to


def cartpole_policy(weights: Any = ANGLE) -> Policy:
    return linear_policy(CARTPOLE.spec, weights, np.zeros(2))


def test_one_observation_or_a_batch() -> None:
    policy = cartpole_policy()
    obs = np.random.default_rng(0).normal(size=(50, 4))
    actions = policy(obs)
    np.testing.assert_array_equal(actions, obs[:, 2] > 0)
    assert (actions.shape, actions.dtype) == ((50,), np.dtype(np.int64))
    for row, action in zip(obs, actions, strict=True):
        alone = policy(row)
        assert (alone.shape, alone.dtype, alone) == ((), np.dtype(np.int64), action)
    assert policy(list(obs[0])) == actions[0]
    assert policy(obs[:0]).shape == (0,)


def test_the_same_key_gives_the_same_sample() -> None:
    policy = cartpole_policy(0 * ANGLE)
    obs = np.zeros((100, 4))
    sampled = policy(obs, deterministic=False, key=3)
    np.testing.assert_array_equal(policy(obs, deterministic=False, key=jax.random.key(3)), sampled)
    assert (policy(obs, deterministic=False, key=4) != sampled).any()
    assert 20 < sampled.sum() < 80
    np.testing.assert_array_equal(policy(obs), 0)


@pytest.mark.parametrize("shape", [(), (3,), (5,), (2, 5), (1, 2, 4), (4, 1)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as refusal:
        cartpole_policy()(np.zeros(shape))
    assert str(refusal.value) == f"obs has shape {shape}; expected (4,), or ('N', 4) for a batch."


def test_a_sampled_action_needs_a_key() -> None:
    with pytest.raises(UsageError, match="a sampled action needs a key"):
        cartpole_policy()(np.zeros(4), deterministic=False)


def test_the_repr_names_agent_and_actions() -> None:
    assert repr(cartpole_policy()) == "Policy(PPO, Discrete actions)"
    env = HostEnv("probes/BoxActions-v0")
    assert repr(linear_policy(env.spec, np.zeros((2, 2)), np.zeros(2))) == "Policy(PPO, Box actions)"


def test_an_action_mask_rules_actions_out() -> None:
    policy = cartpole_policy()
    obs = np.array([[0.0, 0, 0.1, 0], [0.0, 0, -0.1, 0]])
    np.testing.assert_array_equal(policy(obs), [1, 0])
    np.testing.assert_array_equal(policy(obs, action_mask=[[True, False], [False, True]]), [0, 1])
    assert policy(obs[0], action_mask=[1, 0]) == 0
    with pytest.raises(UsageError, match=r"action_mask has shape \(2,\); expected \(2, 2\)"):
        policy(obs, action_mask=[True, False])
    env = HostEnv("probes/BoxActions-v0")
    with pytest.raises(UsageError, match="these actions have no masks"):
        linear_policy(env.spec, np.zeros((2, 2)), np.zeros(2))(np.zeros(2), action_mask=[True])


def test_a_copy_plays_alike() -> None:
    policy = cartpole_policy()
    obs = np.random.default_rng(1).normal(size=(20, 4))
    copied = policy.copy()
    assert copied is not policy
    np.testing.assert_array_equal(copied(obs), policy(obs))


def test_a_number_that_would_change_is_refused_by_name() -> None:
    spec = rlgd.spaces.spec(
        Dict(clock=Box(0, 2**62, (), np.int64), image=Box(0, 255, (), np.uint8), speed=Box(-1, 1, ())), Discrete(2)
    )
    agent = PPO(hidden_sizes=())
    policy = Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)
    fine: dict[str, Any] = {"clock": 2**31 - 1, "image": 255.0, "speed": 0.1}
    assert policy(fine) in (0, 1)
    for changes, message in (
        ({"clock": 2**32 + 7}, r"obs\['clock'\] has the number 4294967303, which int32 cannot hold\."),
        ({"clock": 0.5}, r"obs\['clock'\] has the number 0.5, which int32 cannot hold\."),
        ({"clock": float("nan")}, r"obs\['clock'\] has the number nan, which int32"),
        ({"image": -1}, r"obs\['image'\] has the number -1, which uint8"),
        ({"image": 256}, r"obs\['image'\] has the number 256, which uint8"),
        ({"speed": 1e39}, r"obs\['speed'\] has the number 1e\+39, which float32"),
        ({"speed": "fast"}, r"obs\['speed'\] is <U4; expected float32\."),
        ({"speed": 2**70}, r"obs\['speed'\] is object; expected float32\."),
        ({"speed": [[1.0], [1.0, 2.0]]}, r"obs\['speed'\] is no array: "),
    ):
        with pytest.raises(UsageError, match=message):
            policy(fine | changes)
    with pytest.raises(UsageError, match=r"obs\['image'\] has the number 300"):
        policy({name: np.array([value, value]) for name, value in fine.items()} | {"image": np.array([1, 300])})


BOX = Box(-1, 1, (3,))
HYBRID = Dict(pick=Discrete(3, start=2), arm=Tuple((BOX, Box(-2, 2, (2,), np.float64))))
KINDS: dict[str, tuple[PPO, Any, Any]] = {
    "discrete": (PPO(normalize_obs=True, hidden_sizes=(4,)), BOX, Discrete(5)),
    "box of 64 bits": (PPO(hidden_sizes=(4,)), Box(-1, 1, (5,), np.float64), BOX),
    "gsde": (PPO(hidden_sizes=(4,), box_std="gsde"), BOX, BOX),
    "memory": (PPO(hidden_sizes=(4,), network="gru", memory_width=4), BOX, MultiDiscrete([2, 3])),
    "parts": (PPO(hidden_sizes=(4,)), Dict(a=BOX, b=Tuple((Discrete(3), MultiBinary(2)))), HYBRID),
}


def policy_of(name: str, seed: int = 0) -> Policy:
    agent, observation, action = KINDS[name]
    spec = rlgd.spaces.spec(observation, action)
    actor = agent.prepared().init(spec, jax.random.key(seed)).actor
    return Policy(agent, spec, jax.tree.map(lambda x: 10 * x if x.ndim == 2 else x, actor))


def observations(name: str, steps: int, num: int) -> list[Any]:
    space = KINDS[name][1]
    space.seed(0)
    return [jax.tree.map(lambda *leaves: np.stack(leaves), *(space.sample() for _ in range(num))) for _ in range(steps)]


def env_action(policy: Policy, memory: Any, view: View, key: Any, greedy: bool) -> tuple[Any, Any]:
    """What the agent itself does, compiled with the whole agent as its argument."""
    given, memory = _whole(policy.agent.prepared(), policy.spec, policy.actor, memory, view, key, greedy)
    return rlgd.spaces.converted_action(policy.spec.action, given), memory


_whole = jax.jit(rlgd.evaluation.policy.env_action, static_argnums=(1, 6))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("greedy", [True, False])
def test_a_policy_does_to_the_bit_what_its_agent_does(name: str, greedy: bool) -> None:
    policy, num = policy_of(name), 3
    memory = blank = policy.agent.memory(policy.spec, num)
    size = rlgd.spaces.mask_size(policy.spec.action)
    mask = None if size is None else np.arange(num * size).reshape(num, size) % 2 == np.arange(size) // 2 % 2
    for t, obs in enumerate(observations(name, 4, num)):
        first: Any = np.full(num, t == 0) if t != 2 or name != "memory" else np.array([True, False, True])
        key = jax.random.key(t)
        stored = jax.tree.map(lambda x: x.astype(jax.dtypes.canonicalize_dtype(x.dtype)), obs)
        expected, memory = env_action(policy, memory, View(stored, first, mask), jax.random.clone(key), greedy)
        given = policy(
            obs, deterministic=greedy, key=None if greedy else key, action_mask=mask, first=first if t == 2 else None
        )
        jax.tree.map(np.testing.assert_array_equal, given, expected)
        assert jax.tree.map(lambda x: x.dtype, given) == jax.tree.map(lambda x: x.dtype, expected)
        if name != "memory":
            memory = blank


@pytest.mark.parametrize("name", KINDS)
def test_policies_of_one_structure_compile_once(name: str, tmp_path: Path) -> None:
    policy, (obs,) = policy_of(name), observations(name, 1, 2)

    def act(policy: Policy) -> None:
        for _ in range(2):
            policy(obs)
            policy(obs, deterministic=False, key=jax.random.key(1), first=[True, False])
        policy.reset()
        policy(obs)

    rlgd.evaluation.policy._program.cache_clear()
    policy.save(tmp_path / "policy")
    act(policy)
    assert policy._ready is not None
    program = policy._ready.act
    compiled = program._cache_size()
    assert compiled == 2  # greedy and sampled
    for other in (policy, policy.copy(), policy_of(name, 1), Policy.load(tmp_path / "policy"), copy.deepcopy(policy)):
        act(other)
        assert other._ready is not None
        assert other._ready.act is program
    assert program._cache_size() == compiled


def test_only_the_first_call_builds_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    built, networks = [], PPO.networks

    def counted(agent: PPO, spec: Spec) -> Any:
        built.append(spec)
        return networks(agent, spec)

    monkeypatch.setattr(PPO, "networks", counted)
    for name in ("discrete", "memory"):
        policy, batches = policy_of(name), observations(name, 5, 2)
        policy(batches[0])
        built.clear()
        for obs in batches:
            policy(obs)
        policy.reset()
        policy(batches[0])
        assert not built


def test_new_arrays_act_at_once() -> None:
    policy, other = policy_of("discrete"), policy_of("discrete", 1)
    (obs,) = observations("discrete", 1, 50)
    assert (policy(obs) != other(obs)).any()
    policy.actor = other.actor
    np.testing.assert_array_equal(policy(obs), other(obs))


def test_a_policy_that_has_acted_is_pickled() -> None:
    policy = policy_of("memory")
    before, after = observations("memory", 2, 1)
    policy(before)
    twin = pickle.loads(pickle.dumps(policy))
    np.testing.assert_array_equal(twin(after), policy(after))
