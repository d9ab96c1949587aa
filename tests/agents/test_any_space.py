"""Observations and actions of every kind, end to end: each observation shows the right action."""

import dataclasses
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from jax import Array
from numpy.typing import NDArray

import rlgd
import rlgd.envs
from rlgd import spaces, training
from rlgd.agents import A2C, NPG, PPO, REINFORCE, TRPO
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.envs.device.gym_vector import DeviceVectorEnv
from rlgd.errors import UsageError
from tests.support.marks import quick
from tests.support.probe_envs import collect, initialize

SIDE = 6


class Kind(NamedTuple):
    """``sizes``: the number of values of each number to give; the spaces; whether the mask gives the answer away."""

    sizes: tuple[int, ...]
    observation: Any
    action: Any
    masked: bool = False


NESTED = Dict(picture=Box(0, 255, (SIDE, SIDE, 3), np.uint8), arm=Tuple([Discrete(3, start=5), Box(-1, 1, (2,))]))
KINDS = {
    "nested": Kind((SIDE, 3), NESTED, MultiDiscrete([SIDE, 3], start=[1, -2])),
    "bits": Kind((2, 2, 2, 2), MultiBinary([2, 2]), MultiBinary([2, 2])),
    "numbers": Kind((3, 4), MultiDiscrete([3, 4], start=[2, 0]), MultiDiscrete(np.array([[3, 4]]))),
    "parts": Kind(
        (3, 2, 2, 2, 2),
        MultiBinary(12),
        Dict(pick=Discrete(3, start=1), bits=MultiBinary(2), arm=Tuple([MultiDiscrete([2]), Box(-1, 3, (1,))])),
    ),
    "masked": Kind((5,), Box(-1, 1, (2,)), Discrete(5, start=3), masked=True),
    "masked_numbers": Kind((2, 3), Box(-1, 1, (2,)), MultiDiscrete([2, 3]), masked=True),
}


def show(name: str, numbers: Any, xp: Any) -> Any:
    """The observation that shows ``numbers``, by NumPy or JAX's NumPy."""
    zeros = xp.zeros(2, "float32")
    if name == "nested":
        column = (xp.arange(SIDE) == numbers[0])[None, :, None] & (xp.arange(3) == 1)[None, None]
        picture = xp.broadcast_to(xp.where(column, 255, 0), (SIDE, SIDE, 3)).astype("uint8")
        return {"picture": picture, "arm": (numbers[1] + 5, zeros)}
    if name == "bits":
        return numbers.reshape(2, 2).astype("int8")
    if name == "parts":
        bits = [*(numbers[:1] == i for i in range(4)), numbers[1:] == 1, numbers[1:] == 0]
        return xp.concatenate(bits).astype("int8")
    return zeros if name.startswith("masked") else numbers + xp.asarray([2, 0], numbers.dtype)


def counted(name: str, action: Any, xp: Any) -> Any:
    """The action's numbers, counted from 0; of the Box whether it is above its middle."""
    if name == "parts":
        bits, (number, box) = action["bits"], action["arm"]
        columns = [xp.reshape(action["pick"] - 1, (1,)), bits, number, box > 1]
        return xp.concatenate([column.astype("int32") for column in columns])
    start = {"nested": [1, -2], "masked": [3]}.get(name, [0] * len(KINDS[name].sizes))
    return action.reshape(-1).astype("int32") - xp.asarray(start, "int32")


def allowed(name: str, numbers: Any, xp: Any) -> Any:
    return xp.concatenate([xp.arange(n) == numbers[i] for i, n in enumerate(KINDS[name].sizes)])


class Oracle(FuncEnv[Array, Any, Array, Array, Array, Any, Any]):
    """Shows a few numbers; the reward is the share of them in the action, and the episode ends. On the device."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.kind = name, KINDS[name]
        self.observation_space, self.action_space = self.kind.observation, self.kind.action

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jax.random.randint(rng, (len(self.kind.sizes),), 0, jnp.asarray(self.kind.sizes))

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return state

    def observation(self, state: Array, rng: Array, params: Any = None) -> Any:
        return show(self.name, state, jnp)

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.mean((counted(self.name, action, jnp) == state).astype(float))

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.array(True)

    def state_info(self, state: Array, params: Any = None) -> dict[str, Any]:
        return {"action_mask": allowed(self.name, state, jnp)} if self.kind.masked else {}


class OracleOnHost(gymnasium.Env[Any, Any]):
    """The same in Gymnasium; it insists on members of its action space."""

    def __init__(self, name: str) -> None:
        self.name, self.kind = name, KINDS[name]
        self.observation_space, self.action_space = self.kind.observation, self.kind.action

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.numbers = self.np_random.integers(0, self.kind.sizes)
        return self._told()

    def _told(self) -> tuple[Any, dict[str, Any]]:
        mask = allowed(self.name, self.numbers, np).astype(np.int8)
        by_number: Any = mask
        if isinstance(self.action_space, MultiDiscrete):
            by_number = tuple(np.split(mask, np.cumsum(self.kind.sizes)[:-1]))
        return show(self.name, self.numbers, np), {"action_mask": by_number} if self.kind.masked else {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        given = counted(self.name, action if self.name == "parts" else np.asarray(action), np)
        obs, info = self._told()
        return obs, float(np.mean(given == self.numbers)), True, False, info


SMALL: dict[str, Any] = {"num_envs": 8, "hidden_sizes": (32,), "measure_every": 0}
AGENTS: dict[str, Agent] = {
    "ppo": PPO(**SMALL, rollout_length=16, num_epochs=2, num_minibatches=4),
    "a2c": A2C(**SMALL | {"measure_every": 1}, rollout_length=8),
    "reinforce": REINFORCE(**SMALL),
    "npg": NPG(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=2),
    "trpo": TRPO(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=2),
}


@pytest.mark.parametrize(
    ("name", "where"),
    quick(
        [("bits", "device")],
        [
            ("nested", "device"),
            ("nested", "host"),
            ("bits", "device"),
            ("parts", "device"),
            ("parts", "host"),
            ("numbers", "host"),
        ],
    ),
)
def test_what_is_shown_is_learned(name: str, where: str) -> None:
    agent = PPO(num_envs=16, rollout_length=16, num_epochs=4, num_minibatches=4, hidden_sizes=(64,), measure_every=0)
    env = Oracle(name) if where == "device" else OracleOnHost
    result = rlgd.train(agent, env, total_timesteps=16_000, env_args=None if where == "device" else {"name": name})
    evaluation = rlgd.evaluate(result.policy, rlgd.envs.make(OracleOnHost, name=name), episodes=64, seed=1)
    assert evaluation.mean > 0.9  # a guess is worth 0.5 at most


@pytest.mark.parametrize(
    ("name", "agent", "where"),
    [
        ("masked", "ppo", "device"),
        ("masked", "a2c", "host"),
        ("masked_numbers", "reinforce", "device"),
        pytest.param("masked_numbers", "ppo", "host", marks=pytest.mark.slow),
        ("nested", "a2c", "device"),
        pytest.param("nested", "reinforce", "host", marks=pytest.mark.slow),
        pytest.param("bits", "reinforce", "device", marks=pytest.mark.slow),
        ("masked_numbers", "npg", "device"),
        pytest.param("nested", "trpo", "host", marks=pytest.mark.slow),
        pytest.param("bits", "trpo", "device", marks=pytest.mark.slow),
        ("parts", "a2c", "host"),
        pytest.param("parts", "reinforce", "device", marks=pytest.mark.slow),
        pytest.param("parts", "trpo", "device", marks=pytest.mark.slow),
    ],
)
def test_every_agent_learns_from_every_kind(name: str, agent: str, where: str) -> None:
    """Two iterations: all numbers are finite, and where a mask gives the answer away every answer is right."""
    env: Any = rlgd.envs.make(Oracle(name), max_episode_steps=3)
    if where == "host":
        env = rlgd.envs.make(OracleOnHost, max_episode_steps=3, name=name)
    steps = 2 * 8 * getattr(AGENTS[agent], "rollout_length", 1)
    result = rlgd.train(AGENTS[agent], env, total_timesteps=steps)
    assert result.steps == steps
    for leaf in jax.tree.leaves((result.state.agent_state.params, result.metrics["train/entropy"])):
        assert np.isfinite(leaf).all()
    returns = result.metrics["rollout/episode_return"]
    assert np.all((returns == 1) if KINDS[name].masked else (returns < 0.9))
    if KINDS[name].masked:
        np.testing.assert_allclose(result.metrics["train/entropy"], 0, atol=1e-6)
        assert rlgd.evaluate(result.policy, env, episodes=20, deterministic=False).mean == 1


def test_rollouts_keep_the_structure_and_the_types_of_observations() -> None:
    env = rlgd.envs.make(Oracle("nested"), max_episode_steps=3)
    agent = AGENTS["ppo"].prepared()
    rows, loop = collect(agent, env, initialize(agent, env, jax.random.key(0)), jax.random.key(1))
    for obs, lead in ((rows.obs, (16, 8)), (rows.last_obs, (8,)), (rows.final_obs, (6, 8)), (loop.obs, (8,))):
        assert obs["picture"].shape == (*lead, SIDE, SIDE, 3)
        assert [leaf.dtype for leaf in (obs["picture"], *obs["arm"])] == ["uint8", "int32", "float32"]
    numbers = jnp.stack([jnp.argmax(rows.obs["picture"][:, :, 0, :, 1], axis=-1), rows.obs["arm"][0] - 5], axis=-1)
    np.testing.assert_array_equal(rows.reward, (rows.action == numbers).mean(axis=-1))


def test_masks_are_kept_beside_what_they_allowed() -> None:
    agent = AGENTS["a2c"].prepared()
    for name in ("masked", "masked_numbers"):
        env = rlgd.envs.make(Oracle(name), max_episode_steps=3)
        rows, _ = collect(agent, env, initialize(agent, env, jax.random.key(0)), jax.random.key(1))
        assert rows.action_mask is not None
        assert rows.action_mask.shape == (8, 8, sum(KINDS[name].sizes))
        np.testing.assert_array_equal(rows.reward, 1)
        starts = np.cumsum((0, *KINDS[name].sizes[:-1]))
        taken = np.asarray(rows.action).reshape(8, 8, -1) + starts
        assert np.take_along_axis(np.asarray(rows.action_mask), taken, axis=-1).all()


def test_a_policy_takes_one_observation_or_a_batch_of_any_structure() -> None:
    spec = spaces.spec(NESTED, KINDS["nested"].action)
    agent = AGENTS["ppo"]
    policy = rlgd.evaluation.policy.Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)
    many = [NESTED.sample() for _ in range(3)]
    batch: Any = jax.tree.map(lambda *leaves: np.stack(leaves), *many)
    actions = policy(batch)
    assert actions.shape == (3, 2)
    assert actions.dtype == np.int64
    np.testing.assert_array_equal(actions, [policy(obs) for obs in many])
    assert all(KINDS["nested"].action.contains(action) for action in actions)
    for wrong, message in (
        ({"picture": batch["picture"]}, "another structure"),
        (batch | {"picture": batch["picture"][:2]}, r"shape .*\(2, 6, 6, 3\).* expected .*\('N', 6, 6, 3\)"),
        (batch | {"arm": (np.int64(5), batch["arm"][1])}, "expected"),
        (np.zeros(4), "another structure"),
    ):
        with pytest.raises(UsageError, match=message):
            policy(wrong)
    with pytest.raises(UsageError, match=r"action_mask has shape \(2,\); expected \(9,\)"):
        policy(many[0], action_mask=np.ones(2))


def test_actions_with_parts_come_as_the_space_has_them() -> None:
    kind = KINDS["parts"]
    spec = spaces.spec(kind.observation, kind.action)
    assert spaces.from_json(spaces.to_json(spec)) == spec
    for agent in (AGENTS["ppo"], dataclasses.replace(AGENTS["ppo"], box_distribution="beta")):
        policy = rlgd.evaluation.policy.Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)
        one, many = policy(np.zeros(12)), policy(np.zeros((3, 12)), deterministic=False, key=0)
        assert kind.action.contains(one)
        assert list(one) == list(kind.action.spaces)
        assert many["arm"][1].shape == (3, 1)
        for n in range(3):
            assert kind.action.contains({k: tuple(x[n] for x in v) if k == "arm" else v[n] for k, v in many.items()})
    with pytest.raises(UsageError, match="the actions have parts"):
        dataclasses.replace(AGENTS["ppo"], box_std="gsde").action_head(spec)
    alone = spaces.spec(kind.observation, Dict(a=Discrete(2)))
    with pytest.raises(UsageError, match="it is for Box actions"):
        dataclasses.replace(AGENTS["ppo"], box_distribution="tanh").action_head(alone)


def test_gymnasium_steps_our_environments_with_parts() -> None:
    vector = DeviceVectorEnv(DeviceEnv(Oracle("parts"), "parts", 3), 4)
    vector.reset(seed=0)
    *_, reward, _, _, _ = vector.step(vector.action_space.sample())
    assert reward.shape == (4,)
    with pytest.raises(UsageError, match="another structure"):
        vector.step({"pick": np.ones(4, int)})


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_environments_on_the_host_take_actions_with_parts(vectorization: str) -> None:
    env = rlgd.envs.make(OracleOnHost, max_episode_steps=3, name="parts", vectorization=vectorization)
    agent = dataclasses.replace(AGENTS["a2c"], num_envs=2, measure_every=0)
    assert rlgd.train(agent, env, total_timesteps=16).steps == 16


@pytest.mark.parametrize("single", [True, False])
def test_a_policy_heeds_masks(single: bool) -> None:
    spec = spaces.spec(Box(-1, 1, (2,)), Discrete(5, start=3))
    agent = AGENTS["ppo"]
    policy = rlgd.evaluation.policy.Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)
    masks: NDArray[np.bool_] = np.eye(5, dtype=bool)
    for mask, answer in zip(masks, range(3, 8), strict=True):
        shape = (2,) if single else (7, 2)
        obs, allowed = np.zeros(shape), mask if single else np.tile(mask, (7, 1))
        assert np.all(policy(obs, action_mask=allowed) == answer)
        assert np.all(policy(obs, action_mask=allowed, deterministic=False, key=0) == answer)


def test_images_are_not_normalized() -> None:
    env = rlgd.envs.make(Oracle("nested"), max_episode_steps=3)
    normalizing = dataclasses.replace(AGENTS["a2c"], normalize_obs=True)
    agent = normalizing.prepared()
    loop = initialize(agent, env, jax.random.key(0))
    for _ in range(2):
        loop, _ = jax.jit(training.iterate, static_argnums=1)(agent, env, loop)
    statistics = loop.agent_state.obs_statistics
    assert statistics.mean.shape == (5,)  # three values of the joint, two of the arm
    np.testing.assert_allclose(statistics.mean[:3].sum(), 1, rtol=1e-5)
    with pytest.raises(UsageError, match="normalize_obs has no effect"):
        rlgd.train(normalizing, Pictures, total_timesteps=8)


class Pictures(gymnasium.Env[Any, Any]):
    """Never played."""

    observation_space = Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = Discrete(2)
