"""What is put around a functional environment, and how ``make`` turns an id into an environment."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from jax import Array

import rlgd.envs
from rlgd.agents import A2C
from rlgd.envs.device.device_env import DeviceEnv, EnvState, Timestep
from rlgd.envs.host.host_env import HostEnv
from rlgd.errors import UsageError
from tests.support.probe_envs import MEDLEYS, Place, ScriptedOnDevice, collect, initialize

STEPS, LIMIT, N = (1, 2, 3, 5), 3, 16
ENV = DeviceEnv(ScriptedOnDevice(STEPS, Discrete(8)), "scripted", LIMIT)


@jax.jit
def play(key: Array) -> tuple[tuple[EnvState, Timestep], tuple[EnvState, Array]]:
    """Every step's state and what it gave, and the fresh episodes that were offered to it, ``[12, N]``."""

    def step(state: EnvState, key: Array) -> Any:
        offered = ENV.reset(jax.random.fold_in(key, 0), N)
        state, timestep = ENV.step(jax.random.fold_in(key, 1), state, jnp.arange(N) % 8, offered)
        return state, ((state, timestep), offered)

    state, _ = ENV.reset(jax.random.fold_in(key, 0), N)
    return jax.lax.scan(step, state, jax.random.split(jax.random.fold_in(key, 1), 12))[1]


def test_behind_an_end_the_next_episode_begins_and_the_true_observation_is_kept() -> None:
    (state, timestep), (fresh_state, fresh_obs) = jax.device_get(play(jax.random.key(0)))
    done = timestep.terminated | timestep.truncated
    number, t = timestep.next_obs[..., 0].astype(int), timestep.next_obs[..., 1]
    np.testing.assert_array_equal(timestep.terminated, t == np.array(STEPS)[number])
    np.testing.assert_array_equal(timestep.truncated, t == LIMIT)
    assert {(a, b) for a, b in zip(timestep.terminated.flat, timestep.truncated.flat, strict=True)} == {
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    }
    np.testing.assert_array_equal(timestep.obs, np.where(done[..., None], fresh_obs, timestep.next_obs))
    np.testing.assert_array_equal(state.elapsed, np.where(done, 0, t))
    for kept, fresh, moved in zip(state.inner, fresh_state.inner, (number, t), strict=True):
        np.testing.assert_array_equal(kept, np.where(done, fresh, moved))
    # Unless an episode begins, it goes on from the observation before.
    goes_on = ~done[:-1]
    np.testing.assert_array_equal(timestep.next_obs[1:][goes_on], timestep.obs[:-1][goes_on] + [0, 1])
    np.testing.assert_array_equal(timestep.reward, 100 * number + 10 * (t - 1) + np.arange(N) % 8)


def test_without_reset_an_environment_stays_where_it_ended() -> None:
    step = jax.jit(ENV.step_without_reset)
    state, obs = ENV.reset(jax.random.key(1), N)
    for t in range(LIMIT + 1):
        state, timestep = step(jax.random.key(2), state, jnp.zeros(N, jnp.int32))
        np.testing.assert_array_equal(timestep.next_obs, obs + jnp.asarray([[0.0, t + 1]]))
        np.testing.assert_array_equal(timestep.truncated, t + 1 >= LIMIT)
    np.testing.assert_array_equal(state.elapsed, LIMIT + 1)


def test_no_two_episodes_begin_alike() -> None:
    env = rlgd.envs.make("CartPole-v1", max_episode_steps=1)
    assert isinstance(env, DeviceEnv)
    agent = A2C(num_envs=8, rollout_length=5, hidden_sizes=()).prepared()
    loop = initialize(agent, env, jax.random.key(0))
    starts = [np.asarray(loop.obs)]
    for key in jax.random.split(jax.random.key(1), 2):
        rows, loop = collect(agent, env, loop, key)
        assert rows.truncated.all()
        starts += [*np.asarray(rows.obs[1:]), np.asarray(loop.obs)]
    assert len(np.unique(np.concatenate(starts), axis=0)) == 8 * (1 + 2 * 5)


class Awkward(ScriptedOnDevice):
    """Rewards and ends in the shapes and types that authors give them."""

    def reward(self, state: Place, action: Array, next_state: Place, rng: Array, params: Any = None) -> Array:
        return jnp.full(1, 7, jnp.int32)

    def terminal(self, state: Place, rng: Array, params: Any = None) -> Array:
        return super().terminal(state, rng)[None].astype(jnp.float32)


def test_rewards_and_ends_have_one_shape_and_type() -> None:
    env = DeviceEnv(Awkward(STEPS, Discrete(8)), "awkward", None)
    state, obs = env.reset(jax.random.key(0), N)
    _, timestep = env.step_without_reset(jax.random.key(1), state, jnp.zeros(N, jnp.int32))
    np.testing.assert_array_equal(timestep.reward, np.full(N, 7, np.float32))
    np.testing.assert_array_equal(timestep.terminated, np.asarray(STEPS)[np.asarray(obs[:, 0], int)] == 1)
    for value, dtype in zip(timestep[2:], map(np.dtype, ("float32", "bool", "bool")), strict=True):
        assert (value.shape, value.dtype) == ((N,), dtype)


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"max_episode_steps": 7}),
        ("CartPole-v1", {"backend": "host"}),
        ("CartPole-v1", {"sutton_barto_reward": True, "max_episode_steps": 7}),
        ("Acrobot-v1", {}),
        (MEDLEYS["discrete"], {"max_episode_steps": 7}),
    ],
)
def test_equal_arguments_give_equal_environments_and_one_compilation(env: Any, arguments: dict[str, Any]) -> None:
    traces = []

    def width(env: Any, x: Array) -> Array:
        traces.append(env)
        return x

    first, second = (rlgd.envs.make(env, **arguments) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    for made in (first, second):
        jax.jit(width, static_argnums=0)(made, jnp.zeros(3))
    assert len(traces) == 1
    other = rlgd.envs.make(env, **arguments | {"max_episode_steps": 8})
    assert other != first
    assert other.spec.max_episode_steps == 8
    assert first.spec.max_episode_steps == arguments.get("max_episode_steps", 500)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, DeviceEnv),
        ({"backend": "device"}, DeviceEnv),
        ({"backend": "host"}, HostEnv),
        ({"sutton_barto_reward": True}, HostEnv),
        ({"vectorization": "sync"}, HostEnv),
        ({"env_timeout": 5.0}, HostEnv),
    ],
)
def test_the_twin_is_taken_where_it_is_the_same_environment(arguments: dict[str, Any], kind: type) -> None:
    assert type(rlgd.envs.make("CartPole-v1", **arguments)) is kind
    assert type(rlgd.envs.make("CartPole-v0")) is HostEnv
    assert {"CartPole-v1", "Acrobot-v1", "Taxi-v4"} < set(rlgd.envs.device_ids())


def test_arguments_reach_gymnasium() -> None:
    env = rlgd.envs.make("CartPole-v1", sutton_barto_reward=True)
    assert isinstance(env, HostEnv)
    vector = env.open(2)
    vector.reset(0)
    assert not vector.step(np.ones(2, np.int64)).reward.any()


def test_a_made_environment_passes_through() -> None:
    for made in (rlgd.envs.make("CartPole-v1"), rlgd.envs.make("CartPole-v1", backend="host")):
        assert rlgd.envs.make(made) is made


@pytest.mark.parametrize(("name", "version"), [("CartPole", 1), ("MountainCarContinuous", 0), ("phys2d/CartPole", 1)])
def test_a_name_without_a_version_is_the_newest_of_its_namespace(
    name: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = "elsewhere/CartPole-v7"
    spec = gymnasium.envs.registration.EnvSpec(elsewhere, "tests.support.probe_envs:Scripted")
    monkeypatch.setitem(gymnasium.registry, elsewhere, spec)
    assert rlgd.envs.make(name).env_id == f"{name}-v{version}"


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        ("CartPoole-v1", {}, r"unknown environment 'CartPoole-v1'; did you mean .*'CartPole-v1'"),
        ("cartpole-v1", {}, "did you mean 'CartPole-v1'"),
        ("CartPole-v9", {}, "did you mean .*'CartPole-v1'"),
        ("Cart", {}, "unknown environment 'Cart'"),
        ("Scripted", {}, "unknown environment 'Scripted'"),
        ("CartPole-v1", {"backend": "gpu"}, "unknown backend 'gpu'; known: auto, device, host"),
        ("CartPole-v0", {"backend": "device"}, "CartPole-v0 has no twin .*, CartPole-v1, .*Use backend 'host'"),
        ("CartPole-v1", {"backend": "device", "vectorization": "sync"}, "got vectorization or a timeout"),
        ("CartPole-v1", {"vectorization": "synk"}, "unknown vectorization 'synk'; did you mean 'sync'"),
        ("CartPole-v1", {"env_timeout": -1.0}, "timeout of CartPole-v1 is -1.0; allowed"),
        (MEDLEYS["discrete"], {"vectorization": "sync"}, "Medley runs on the device"),
        (3, {}, "3 is no environment; allowed: a Gymnasium id, "),
        (gymnasium.Env, {"backend": "device"}, "runs on the host"),
        ("gymnax:CartPoole", {}, "gymnax"),
        ("CartPole-v1", {"backend": "device", "sutton_barto_reward": True}, "got sutton_barto_reward"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps is 0; allowed: "),
        ("CartPole-v1", {"max_episode_steps": -1, "backend": "host"}, "max_episode_steps is -1; allowed: "),
        (MEDLEYS["discrete"], {"backend": "host"}, "Medley"),
        (MEDLEYS["discrete"], {"gravity": 1}, "gravity"),
        (ENV, {"max_episode_steps": 7}, "max_episode_steps"),
        (HostEnv("CartPole-v1"), {"backend": "device"}, "backend"),
    ],
)
def test_what_does_not_fit_is_refused(env: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rlgd.envs.make(env, **arguments)


def test_arguments_that_gymnasium_refuses_are_a_usage_error() -> None:
    env = rlgd.envs.make("CartPole-v1", gravity=1)
    with pytest.raises(UsageError, match=r"CartPole-v1 cannot be made: .*gravity"):
        env.spec  # noqa: B018


class Restless(ScriptedOnDevice):
    """Its first state has another type than the later ones."""

    def initial(self, rng: Array, params: Any = None) -> Place:
        number, _ = super().initial(rng)
        return Place(number, jnp.zeros((), bool))


def test_states_have_one_type_from_the_first_on() -> None:
    env = rlgd.envs.make(Restless(STEPS, Discrete(8)), max_episode_steps=LIMIT)
    assert isinstance(env, DeviceEnv)
    state, obs = env.reset(jax.random.key(0), N)
    assert state.inner.t.dtype == jnp.int32
    _, timestep = env.step_without_reset(jax.random.key(1), state, jnp.zeros(N, jnp.int32))
    np.testing.assert_array_equal(timestep.next_obs, obs + jnp.asarray([[0.0, 1.0]]))


class Opaque(ScriptedOnDevice):
    """Written for numbers, not for arrays."""

    def transition(self, state: Place, action: Array, rng: Array, params: Any = None) -> Place:
        return state if action > 0 else super().transition(state, action, rng)


def test_what_jax_cannot_compile_is_refused() -> None:
    with pytest.raises(UsageError, match="Opaque cannot be compiled by JAX"):
        rlgd.envs.make(Opaque(STEPS, Discrete(8)))


@pytest.mark.parametrize(
    "env_id", ["phys2d/CartPole-v1", "phys2d/Pendulum-v0", "tabular/Blackjack-v0", "tabular/CliffWalking-v0"]
)
def test_gymnasium_s_functional_environments_run_on_the_device(env_id: str) -> None:
    """As their shells in Gymnasium do, from the same states."""
    env = rlgd.envs.make(env_id)
    assert isinstance(env, DeviceEnv)
    assert env is rlgd.envs.make(env_id)
    shell: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        state, obs = env.reset(jax.random.key(0), 3)
        action = jnp.asarray(np.stack([shell.action_space.sample() for _ in range(3)]))
        moved, timestep = env.step_without_reset(jax.random.key(1), state, action)
    assert all(
        shell.observation_space.contains(np.asarray(x, shell.observation_space.dtype))
        for x in (*obs, *timestep.next_obs)
    )
    assert np.isfinite(timestep.reward).all()
    assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, state)
