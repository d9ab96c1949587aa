"""Environments of other suites, compared with the suites themselves; suites that are not installed are skipped."""

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from jax import Array

import rlgd
import rlgd.envs
from rlgd.agents import PPO
from rlgd.envs import DeviceEnv
from rlgd.envs.device.device_env import EnvState
from rlgd.envs.suites import catalog
from rlgd.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types:FutureWarning")

N, STEPS = 4, 1000
EPISODES = 16
TERMINATED, TRUNCATED = "terminated", "truncated"


@pytest.fixture(autouse=True)
def _suites_use_keys_twice() -> Iterator[None]:
    """Jumanji and Playground do, by the checker's measure."""
    with jax.debug_key_reuse(False):
        yield


def made(env_id: str, **arguments: Any) -> DeviceEnv:
    """The environment; skips the test where its suite is not installed."""
    pytest.importorskip(catalog.SUITES[env_id.partition(":")[0]].module)
    env = rlgd.envs.make(env_id, **arguments)
    assert isinstance(env, DeviceEnv)
    return env


def any_action(env: DeviceEnv, state: EnvState, key: Array) -> Array:
    """Random actions ``[N, ...]``, among those that the mask allows."""
    space, mask, num_envs = env.func_env.action_space, env.action_mask(state), state.elapsed.shape[0]
    if isinstance(space, spaces.Box):
        return jax.random.uniform(key, (num_envs, *space.shape), minval=space.low[None], maxval=space.high[None])
    if isinstance(space, spaces.Discrete):
        allowed = jnp.ones((num_envs, int(space.n)), bool) if mask is None else mask
        return jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))
    assert isinstance(space, spaces.MultiDiscrete)
    assert mask is not None
    allowed = mask.reshape(num_envs, len(space.nvec), int(space.nvec[0]))
    return jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))


class Walk(NamedTuple):
    """1,000 random steps of N environments, ``[STEPS, N, ...]``, and the episodes that were offered to each step."""

    timestep: Any
    elapsed: Any
    fresh_obs: Any


traced: list[str] = []


@functools.partial(jax.jit, static_argnums=0)
def walk(env: DeviceEnv, key: Array) -> Walk:
    traced.append(env.env_id)

    def step(state: Any, key: Array) -> Any:
        keys = jax.random.split(key, 3)
        fresh = env.reset(keys[0], N)
        state, timestep = env.step(keys[1], state, any_action(env, state, keys[2]), fresh)
        return state, Walk(timestep, state.elapsed, fresh[1])

    keys = jax.random.split(key, STEPS + 1)
    return jax.lax.scan(step, env.reset(keys[0], N)[0], keys[1:])[1]


@functools.cache
def walked(env: DeviceEnv) -> Walk:
    return jax.device_get(walk(env, jax.random.key(0)))


slow = pytest.mark.slow
LIMITS = {
    "pgx:2048": 1000,
    "pgx:minatar-breakout": 1000,
    "craftax:Craftax-Classic-Symbolic-v1": 200,
}  # of suites without one, or with a long one
OF_OTHERS = [prefix for prefix in catalog.SUITES if prefix != "minatar"]
WALKED = [
    "minatar:Breakout-v1",
    "minatar:Seaquest-v1",
    "gymnax:Breakout-MinAtar",
    "gymnax:CartPole-v1",
    "gymnax:Pendulum-v1",
    "jumanji:Cleaner-v0",
    "jumanji:Maze-v0",
    "jumanji:Tetris-v0",
    "navix:Navix-Empty-5x5-v0",
    "pgx:2048",
    "brax:fast",
    pytest.param("brax:inverted_pendulum", marks=slow),
    pytest.param("playground:CartpoleBalance", marks=slow),
    pytest.param("playground-warp:CartpoleBalance", marks=slow),
]


def member(space: Any, obs: Any) -> bool:
    """Whether an observation, as it is stored, is in the space, whose types may be wider."""
    if isinstance(space, spaces.Dict):
        return obs.keys() == space.keys() and all(member(space[name], obs[name]) for name in obs)
    return space.contains(np.asarray(obs, space.dtype))


@pytest.mark.parametrize("env_id", WALKED)
def test_random_steps_are_finite_and_in_the_space(env_id: str) -> None:
    env = made(env_id)
    steps = walked(env).timestep
    for leaf in jax.tree.leaves((steps.next_obs, steps.reward)):
        assert np.isfinite(leaf).all()
    for t in range(0, STEPS, 10):
        for n in range(N):
            obs = jax.tree.map(lambda leaf, at=(t, n): leaf[at], steps.next_obs)
            assert member(env.func_env.observation_space, obs), obs


@pytest.mark.parametrize("env_id", WALKED)
def test_every_end_has_its_true_observation_and_a_new_episode(env_id: str) -> None:
    env = made(env_id)
    steps, elapsed, fresh_obs = walked(env)
    done = steps.terminated | steps.truncated
    assert done.any()
    assert env.max_episode_steps is None or not (elapsed > env.max_episode_steps).any()
    np.testing.assert_array_equal(elapsed == 0, done)
    leaves = zip(*map(jax.tree.leaves, (steps.obs, steps.next_obs, fresh_obs)), strict=True)
    for obs, next_obs, fresh in leaves:
        at_end = done.reshape(*done.shape, *(1,) * (obs.ndim - 2))
        np.testing.assert_array_equal(obs, np.where(at_end, fresh, next_obs))


@pytest.mark.parametrize("env_id", WALKED)
def test_the_same_key_gives_the_same_bits_and_an_environment_compiles_once(env_id: str) -> None:
    first = walked(made(env_id))
    again = jax.device_get(walk(made(env_id), jax.random.key(0)))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert traced.count(env_id) == 1
    other = made(env_id, max_episode_steps=7)
    assert other != made(env_id)
    assert other.spec.max_episode_steps == 7


class Own(NamedTuple):
    """A suite as it comes, with its time limit and without reset: ``step`` gives state, observation, reward, done."""

    reset: Callable[[Array], Any]
    step: Callable[[Array, Any, Array], tuple[Any, Any, Any, Any]]


def own_gymnax(name: str) -> Own:
    env, params = importlib.import_module("gymnax").make(name)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Any, Any, Any]:
        obs, state, reward, done, *_ = env.step_env(key, state, action, params)
        return state, obs, reward, done

    return Own(lambda key: env.reset_env(key, params)[1], step)


def own_jumanji(name: str) -> Own:
    env = importlib.import_module("jumanji").make(name)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Any, Any, Any]:
        if name == "Tetris-v0":
            action = jnp.stack([action // 10, action % 10])  # rotation and column
        state, timestep = env.step(state, action)
        return state, timestep.observation, timestep.reward, timestep.last()

    return Own(lambda key: env.reset(key)[0], step)


def own_physics(env: Any) -> Own:
    limited = importlib.import_module("brax.envs.wrappers.training").EpisodeWrapper(env, 1000, 1)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Any, Any, Any]:
        state = limited.step(state, action)
        return state, state.obs, state.reward, state.done

    return Own(limited.reset, step)


def own_brax(name: str) -> Own:
    return own_physics(importlib.import_module("brax.envs").get_environment(name))


def own_playground(name: str) -> Own:
    registry = importlib.import_module("mujoco_playground").registry
    return own_physics(registry.load(name, config_overrides={"impl": "jax"}))


def own_craftax(name: str) -> Own:
    env = importlib.import_module("craftax.craftax_env").make_craftax_env_from_name(name, auto_reset=False)
    params = env.default_params.replace(max_timesteps=LIMITS[f"craftax:{name}"])

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Any, Any, Any]:
        obs, state, reward, done, _ = env.step(key, state, action, params)
        return state, obs, reward, done

    return Own(lambda key: env.reset(key, params)[1], step)


def own_navix(name: str) -> Own:
    env = importlib.import_module("navix").make(name)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Any, Any, Any]:
        timestep = env.step(state, action)
        return timestep, timestep.observation, timestep.reward, timestep.is_done()

    return Own(env.reset, step)


def own_pgx(name: str) -> Own:
    env = importlib.import_module("pgx").make(name)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Any, Any, Any]:
        state = env.step(state, action, key)
        return state, state.observation, state.rewards[0], state.terminated

    return Own(env.init, step)


OWN = {
    "brax": own_brax,
    "craftax": own_craftax,
    "gymnax": own_gymnax,
    "jumanji": own_jumanji,
    "navix": own_navix,
    "pgx": own_pgx,
    "playground": own_playground,
}


class Side(NamedTuple):
    """One side of the comparison, ``[T, EPISODES, ...]``."""

    obs: Any
    reward: Any
    done: Any


def side_by_side(env: DeviceEnv, own: Own, play: Callable[..., Array]) -> tuple[Side, Side]:
    """``EPISODES`` of the adapted environment, without time limit, and of the suite's own, with the same actions."""
    assert env.max_episode_steps is not None

    def step(states: Any, key: Array) -> Any:
        adapted, state = states
        keys = jax.random.split(key, EPISODES)
        action = play(env, EnvState(adapted, jnp.zeros(EPISODES, jnp.int32)), jax.random.fold_in(key, EPISODES))
        adapted = jax.vmap(env.func_env.transition)(adapted, action, keys)
        state, *given = jax.vmap(own.step)(keys, state, action)
        return (adapted, state), (Side(adapted.obs, adapted.reward, adapted.terminated), Side(*given))

    keys = jax.random.split(jax.random.key(0), EPISODES)
    begun = jax.vmap(env.func_env.initial)(keys), jax.vmap(own.reset)(keys)
    return jax.lax.scan(step, begun, jax.random.split(jax.random.key(1), env.max_episode_steps + 1))[1]


def assert_equal_obs(adapted: Any, own: Any, where: tuple[slice, int]) -> None:
    if isinstance(adapted, dict):
        for name in adapted:
            assert_equal_obs(adapted[name], getattr(own, name), where)
    else:
        np.testing.assert_allclose(adapted[where], own[where], rtol=1e-5, atol=1e-5)


def under_the_ball(env: DeviceEnv, state: Any, key: Array) -> Array:
    """Breakout: the paddle follows the ball, and the episode does not end."""
    breakout = state.inner.state
    return jnp.where(breakout.ball_x < breakout.pos, 1, jnp.where(breakout.ball_x > breakout.pos, 2, 0))


@pytest.mark.parametrize(
    ("env_id", "play", "ends"),
    [
        ("gymnax:CartPole-v1", any_action, {TERMINATED}),
        ("gymnax:Pendulum-v1", any_action, {TRUNCATED}),
        ("gymnax:Breakout-MinAtar", any_action, {TERMINATED}),
        ("gymnax:Breakout-MinAtar", under_the_ball, {TRUNCATED}),
        ("gymnax:DiscountingChain-bsuite", any_action, {TERMINATED}),
        ("jumanji:Cleaner-v0", any_action, {TRUNCATED}),
        ("jumanji:Maze-v0", any_action, {TERMINATED, TRUNCATED}),
        ("jumanji:Tetris-v0", any_action, {TERMINATED}),
        ("navix:Navix-Empty-5x5-v0", any_action, {TERMINATED, TRUNCATED}),
        ("pgx:2048", any_action, {TERMINATED}),
        ("pgx:minatar-breakout", any_action, {TERMINATED}),
        pytest.param("craftax:Craftax-Classic-Symbolic-v1", any_action, {TERMINATED, TRUNCATED}, marks=slow),
        ("brax:fast", any_action, {TRUNCATED}),
        pytest.param("brax:inverted_pendulum", any_action, {TERMINATED}, marks=slow),
        pytest.param("playground:CartpoleBalance", any_action, {TRUNCATED}, marks=slow),
    ],
)
def test_an_episode_is_the_suites_own_but_for_the_time_limit(
    env_id: str, play: Callable[..., Array], ends: set[str]
) -> None:
    env = made(env_id, max_episode_steps=LIMITS.get(env_id))
    prefix, _, name = env_id.partition(":")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        suite = OWN[prefix](name)
        adapted, own = jax.device_get(jax.jit(lambda: side_by_side(env, suite, play))())
    seen = set()
    for number in range(EPISODES):
        (end, *_) = np.flatnonzero(own.done[:, number])
        where = slice(end + 1), number
        assert_equal_obs(adapted.obs, own.obs, where)
        np.testing.assert_allclose(adapted.reward[where], own.reward[where], rtol=1e-5, atol=1e-5)
        assert not adapted.done[:end, number].any()
        seen.add(TERMINATED if adapted.done[end, number] else TRUNCATED)
        if not adapted.done[end, number]:  # the suite's time limit, which the adapted environment does not have
            assert end + 1 == env.max_episode_steps
            assert not adapted.done[end + 1, number]
    assert seen == ends


@pytest.mark.parametrize(
    ("env_id", "space", "shape"),
    [
        ("jumanji:Maze-v0", spaces.Discrete(4), (4,)),
        ("jumanji:Tetris-v0", spaces.Discrete(40), (4, 10)),  # all pairs of rotation and column
        ("jumanji:Cleaner-v0", spaces.MultiDiscrete([4, 4, 4]), (3, 4)),  # three numbers, each with its own mask
    ],
)
def test_masks_are_the_suites_own(env_id: str, space: Any, shape: tuple[int, ...]) -> None:
    env = made(env_id)
    assert env.func_env.action_space == space
    own = importlib.import_module("jumanji").make(env_id.partition(":")[2])
    state, _ = env.reset(jax.random.key(0), N)
    mask = env.action_mask(state)
    assert mask is not None
    with jax.numpy_dtype_promotion("standard"):
        state_key, _ = jax.random.split(jax.random.key(0))
        expected = jax.vmap(own.reset)(jax.random.split(state_key, N))[1].observation.action_mask
    assert expected.shape == (N, *shape)
    np.testing.assert_array_equal(mask, expected.reshape(N, -1))
    assert 0 < np.mean(mask) < 1


def test_a_step_count_is_a_number_up_to_the_limit() -> None:
    observation_space = made("jumanji:Tetris-v0").func_env.observation_space
    assert isinstance(observation_space, spaces.Dict)
    assert set(observation_space) == {"grid", "step_count", "tetromino"}
    assert observation_space["step_count"] == spaces.Box(0, 400, (), np.int32)


def test_gymnax_has_no_masks() -> None:
    env = made("gymnax:CartPole-v1")
    state, _ = jax.eval_shape(lambda: env.reset(jax.random.key(0), N))
    assert env.action_mask(state) is None


@pytest.mark.parametrize(
    "env_id",
    [
        "jumanji:Tetris-v0",
        pytest.param("gymnax:Breakout-MinAtar", marks=slow),
        pytest.param("brax:fast", marks=slow),
        pytest.param("craftax:Craftax-Classic-Symbolic-v1", marks=slow),
        pytest.param("playground:CartpoleBalance", marks=slow),  # has arrays without elements
    ],
)
def test_an_agent_trains_and_goes_on_from_its_checkpoint(env_id: str, tmp_path: Path) -> None:
    made(env_id)
    agent = PPO(num_envs=4, rollout_length=8, hidden_sizes=(8,), num_minibatches=1, num_epochs=1)
    result = rlgd.train(agent, env_id, total_timesteps=64, eval_episodes=1, run_dir=tmp_path / "run")
    assert result.steps == 64
    assert rlgd.resume(tmp_path / "run", total_timesteps=128).steps == 128


@pytest.mark.slow
def test_physics_in_warp_are_those_in_jax() -> None:
    """A robot that falls on the floor, and begins again: what environments share is not part of a state."""
    seen = []
    for prefix in ("playground", "playground-warp"):
        env = made(f"{prefix}:CheetahRun", max_episode_steps=15)
        reset, step = jax.jit(functools.partial(env.reset, num_envs=N)), jax.jit(env.step)
        state, _ = reset(jax.random.key(0))
        fresh = reset(jax.random.key(1))
        assert all(len(leaf) == N for leaf in jax.tree.leaves(state))
        steps = []
        for t in range(20):
            action = jnp.broadcast_to(jnp.sin(jnp.arange(6.0) + t), (N, 6))
            state, timestep = step(jax.random.key(t), state, action, fresh)
            steps.append((timestep.obs, timestep.reward, timestep.truncated))
        seen.append(jax.tree.map(lambda *x: np.stack(x), *steps))
    assert seen[0][2].sum() == N
    for one, other in zip(*seen, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


SIZES = {"state": 1, "privileged_state": 2}


def test_policy_and_critic_see_what_playground_means_for_them() -> None:
    playground = pytest.importorskip("mujoco_playground")
    config = importlib.import_module("ml_collections").config_dict

    class Counter(playground.MjxEnv):  # type: ignore[misc, name-defined]
        """Writes into the state that it is given, as some of Playground's own do."""

        action_size, xml_path, mj_model, mjx_model = 2, "", None, None

        def _state(self, info: dict[str, Array]) -> Any:
            count = info["count"].astype(jnp.float32)
            obs = {"state": count[None], "privileged_state": jnp.stack([count, count])}
            return playground.State(None, obs, count, (count > 2).astype(jnp.float32), {}, info)

        def reset(self, rng: Array) -> Any:
            return self._state({"count": jnp.zeros((), jnp.int32)})

        def step(self, state: Any, action: Array) -> Any:
            state.info["count"] += 1
            return self._state(state.info)

    playground.dm_control_suite.register_environment(
        "Counter", Counter, lambda: config.create(ctrl_dt=0.1, sim_dt=0.1, episode_length=5)
    )
    assert "Counter" in catalog.names("playground")
    env = made("playground:Counter")
    assert env.max_episode_steps == 5
    parts: dict[str, Any] = {name: spaces.Box(-np.inf, np.inf, (size,)) for name, size in SIZES.items()}
    assert env.func_env.observation_space == spaces.Dict(parts)
    assert env.func_env.action_space == spaces.Box(-1.0, 1.0, (2,))
    state = env.func_env.initial(jax.random.key(0))
    for _ in range(2):  # the state is not changed by a step
        following = env.func_env.transition(state, jnp.zeros(2), jax.random.key(1))
        assert following.obs["privileged_state"].tolist() == [1.0, 1.0]
        assert (float(following.obs["state"][0]), float(following.reward), bool(following.terminated)) == (
            1.0,
            1.0,
            False,
        )


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("gymnax:CartPole", "unknown gymnax environment 'CartPole'; did you mean 'CartPole-v1'"),
        ("minatar:Breakout", "unknown MinAtar environment 'Breakout'; did you mean 'Breakout-v1'"),
        ("gymnax:breakout-minatar", "did you mean 'Breakout-MinAtar'"),
        ("brax:aant", "unknown Brax environment 'aant'; did you mean 'ant'"),
        ("navix:Navix-Empty-5x5", "unknown Navix environment 'Navix-Empty-5x5'; did you mean 'Navix-Empty-5x5-v0'"),
        ("pgx:chess", "unknown Pgx environment 'chess'"),
        (
            "craftax:Craftax-Symbolic",
            "unknown Craftax environment 'Craftax-Symbolic'; did you mean 'Craftax-Symbolic-v1",
        ),
        ("jumanji:Maze", "unknown Jumanji environment 'Maze'; did you mean 'Maze-v0'"),
        ("jumanji:Connector-v3", "jumanji:Connector-v3 pays 10 agents; allowed: one reward"),
        ("playground:CartpoleBalanc", "unknown MuJoCo Playground environment .* did you mean 'CartpoleBalance'"),
    ],
)
def test_an_unknown_or_unsuitable_environment_is_refused(env_id: str, message: str) -> None:
    pytest.importorskip(catalog.SUITES[env_id.partition(":")[0]].module)
    with pytest.raises(UsageError, match=message):
        rlgd.envs.make(env_id)


def test_a_suite_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    gymnax = pytest.importorskip("gymnax")
    monkeypatch.setattr(gymnax, "registered_envs", ["Listed-v0"])
    with pytest.raises(UsageError, match="gymnax:Listed-v0 cannot be made: Listed-v0 is not in registered gymnax"):
        rlgd.envs.make("gymnax:Listed-v0")


@pytest.mark.parametrize("prefix", OF_OTHERS)
def test_a_suite_that_is_not_installed_is_named_with_its_extra(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = catalog.SUITES[prefix]
    monkeypatch.setitem(sys.modules, suite.module, None)
    extra = "playground" if prefix == "playground-warp" else prefix
    with pytest.raises(UsageError, match=rf"{prefix}:any needs {suite.title}; pip install 'rlgd\[{extra}\]'"):
        rlgd.envs.make(f"{prefix}:any")
    assert catalog.names(prefix) == []


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown suite 'gymnaxx'; did you mean 'gymnax'"):
        catalog.names("gymnaxx")
    with pytest.raises(UsageError, match="unknown suite 'gymnaxx'"):
        catalog.load("gymnaxx", "CartPole-v1")


def test_no_suite_is_imported_before_it_is_used() -> None:
    code = "import sys, rlgd.envs; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "rlgd" in loaded
    assert not {catalog.SUITES[prefix].module.split(".")[0] for prefix in OF_OTHERS} & set(loaded)


def test_what_a_suite_says_of_its_models_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("mujoco_playground")
    code = "import rlgd.envs; rlgd.envs.make('playground:CheetahRun')"  # its model has a deprecated attribute
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "deprecated" not in done.stderr
    assert list(tmp_path.iterdir()) == []
