"""Environments whose parameters are drawn again for every episode."""

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

import rlgd
from rlgd import plugins
from rlgd.agents import A2C, REINFORCE
from rlgd.envs import DeviceEnv, make, randomized
from rlgd.envs.functional import Blackjack, CartPole, CartPoleParams
from rlgd.envs.randomization import EpisodeState, Ranges
from rlgd.errors import UsageError

RANGES = {"half_length": (0.25, 1.0), "gravity": (5.0, 15.0), "cart_mass": 2.0}
N = 200


def params(env: DeviceEnv, state: Any) -> Any:
    """The parameters of each environment."""
    return jax.vmap(env.func_env.params_of)(state.inner)  # type: ignore[attr-defined]


def test_each_episode_has_its_own_parameters() -> None:
    env = randomized("CartPole-v1", RANGES)
    assert (env.env_id, env.max_episode_steps) == ("randomized CartPole-v1", 500)
    state, obs = env.reset(jax.random.key(0), N)
    before = params(env, state)
    assert obs.shape == (N, 4)
    for name, (low, high) in {"half_length": (0.25, 1.0), "gravity": (5.0, 15.0)}.items():
        values = np.asarray(getattr(before, name))
        assert len(np.unique(values)) > N // 2
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high >= values.max() > high - 0.1 * (high - low)
    np.testing.assert_array_equal(before.cart_mass, 2)
    np.testing.assert_allclose(before.pole_mass, CartPoleParams().pole_mass)
    step = jax.jit(lambda key, state, fresh: env.step(key, state, jnp.zeros(N, jnp.int32), fresh))
    changed = np.zeros(N, bool)
    for t in range(30):
        key = jax.random.key(t)
        following, timestep = step(key, state, env.reset(jax.random.fold_in(key, 1), N))
        other = np.asarray(params(env, following).half_length != params(env, state).half_length)
        np.testing.assert_array_equal(other, timestep.terminated)
        changed |= other
        state = following
    assert changed.all()


def test_its_physics_is_that_of_its_parameters() -> None:
    env = randomized(CartPole(), RANGES)
    state, _ = env.reset(jax.random.key(0), N)
    moved, timestep = env.step_without_reset(jax.random.key(1), state, jnp.ones(N, jnp.int32))
    drawn = params(env, state)
    for n in range(0, N, 40):
        own = jax.tree.map(lambda leaf, n=n: float(leaf[n]), drawn)
        expected = CartPole().transition(state.inner.inner[n], jnp.int32(1), jax.random.key(0), own)
        np.testing.assert_allclose(moved.inner.inner[n], expected, rtol=1e-6)
    np.testing.assert_array_equal(timestep.reward, 1)


def test_a_function_draws_what_it_likes() -> None:
    def sampler(key: Array, default: CartPoleParams) -> CartPoleParams:
        scale = jnp.exp(jax.random.normal(key))
        return default._replace(pole_mass=default.pole_mass * scale, half_length=default.half_length * scale)

    env = randomized(make("CartPole-v1"), sampler, max_episode_steps=20)
    assert env.max_episode_steps == 20
    drawn = params(env, env.reset(jax.random.key(0), N)[0])
    np.testing.assert_allclose(drawn.pole_mass / drawn.half_length, 0.2, rtol=1e-6)
    state = env.reset(jax.random.key(0), N)[0].inner
    assert isinstance(state, EpisodeState)
    assert [leaf.shape for leaf in state.drawn] == [(N,), (N,)]  # the others are constants


def test_whole_numbers_stay_whole() -> None:
    env = randomized("Blackjack-v1", {"dealer_stands": (15, 18)})
    drawn = params(env, env.reset(jax.random.key(0), N)[0]).dealer_stands
    assert drawn.dtype == jnp.int32
    assert {*np.asarray(drawn).tolist()} == {15, 16, 17, 18}
    assert isinstance(Blackjack().default_params.dealer_stands, int)


def test_equal_arguments_give_equal_environments() -> None:
    env = randomized("CartPole-v1", RANGES)
    assert env == randomized("CartPole-v1", RANGES)
    assert hash(env) == hash(randomized("CartPole-v1", RANGES))
    assert env != randomized("CartPole-v1", RANGES | {"gravity": (1.0, 2.0)})
    assert env != make("CartPole-v1")


class Dictionary(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """A bandit whose prize is a parameter in a dictionary; its state changes its dtype, as some authors' do."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Discrete(2)

    def get_default_params(self, **kwargs: Any) -> dict[str, Any]:
        return {"prize": 1.0, "table": np.arange(3.0)}

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(())

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return state[None] + 1

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(1)

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return action * params["prize"] + params["table"][1]

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.array(True)


def test_an_environment_of_a_user() -> None:
    env = randomized(Dictionary(), {"prize": (2.0, 3.0)}, max_episode_steps=5)
    state, _ = env.reset(jax.random.key(0), N)
    with jax.numpy_dtype_promotion("standard"):
        _, timestep = env.step_without_reset(jax.random.key(1), state, jnp.ones(N, jnp.int32))
    assert 3 <= timestep.reward.min() < timestep.reward.max() <= 4


@pytest.mark.parametrize(
    ("env", "sampler", "message"),
    [
        ("CartPole-v1", {"half_lenght": (0, 1)}, "unknown parameter of CartPole-v1 'half_lenght'; did you mean"),
        ("CartPole-v1", {"gravity": (1, 2, 3)}, r"gravity is \(1, 2, 3\); allowed: a number, or a range"),
        ("CartPole-v1", {"gravity": (2, 1)}, r"gravity is \(2, 1\); allowed: a number, or a range \(low, high\)"),
        ("CartPole-v1", {"gravity": "low"}, "gravity is 'low'; allowed"),
        ("CartPole-v1", {"gravity": (1.0, float("inf"))}, "gravity is inf; allowed: a number"),
        ("Blackjack-v1", {"dealer_stands": 16.5}, "dealer_stands is 16.5; allowed: a whole number"),
        ("CartPole-v1", {}, "no parameter of CartPole-v1 is chosen; those with names are: gravity, "),
        ("CartPole-v1", lambda key, params: params.gravity, "parameters of the structure"),
        ("CartPole-v1", lambda key, params: params._replace(gravity=bool(key)), "cannot be compiled by JAX"),
        ("FrozenLake-v1", {"slip": (0, 1)}, "no parameter of FrozenLake-v1 is chosen; those with names are: initial, "),
        ("Ant-v5", {"gravity": 1.0}, "has no twin on the device"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(env: str, sampler: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        randomized(env, sampler)


@pytest.mark.slow
@pytest.mark.parametrize("agent", [A2C, REINFORCE])
def test_a_run_trains_and_is_resumed(agent: Any, tmp_path: Path) -> None:
    env = randomized("CartPole-v1", {"half_length": (0.25, 1.0)}, max_episode_steps=64)
    small = agent(num_envs=4, hidden_sizes=(8,), measure_every=0)
    given: dict[str, Any] = {"total_timesteps": 512, "eval_episodes": 2}
    result = rlgd.train(small, env, run_dir=tmp_path / "run", **given)
    assert result.evaluation is not None
    with pytest.raises(UsageError, match="cannot be made from a file; name it"):
        rlgd.resume(tmp_path / "run", total_timesteps=1024)
    assert rlgd.resume(tmp_path / "run", total_timesteps=1024, env=env).steps >= 1024
    assert rlgd.evaluate(result.policy, "CartPole-v1", episodes=2).returns.shape == (2,)


WIDE = randomized("CartPole-v1", {"half_length": (0.25, 1.0)})  # an environment with a name in a module


def test_one_with_a_name_is_known_to_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:WIDE"
    made = make(name)
    assert made == dataclasses.replace(WIDE, env_id=name)
    assert make(name, max_episode_steps=64).max_episode_steps == 64
    with pytest.raises(UsageError, match="WIDE runs on the device: it takes no arguments"):
        make(name, backend="host")
    small = A2C(num_envs=4, hidden_sizes=(8,), measure_every=0)
    rlgd.train(small, name, run_dir=tmp_path / "run", total_timesteps=512, eval_episodes=2, max_episode_steps=64)
    monkeypatch.setattr(plugins, "_used", {})  # as in another process
    monkeypatch.setattr(plugins, "_trusted", set())
    with pytest.raises(UsageError, match="cannot be made from a file; name it"):
        rlgd.resume(tmp_path / "run", total_timesteps=1024)
    plugins.trust(__name__.partition(".")[0])
    assert rlgd.resume(tmp_path / "run", total_timesteps=1024).steps >= 1024


def test_ranges_can_be_printed() -> None:
    assert repr(Ranges.of("CartPole-v1", CartPoleParams(), {"gravity": 1})) == "Ranges(ranges=(('gravity', 1.0, 1.0),))"
