"""The twins as vector environments, compared with Gymnasium's ``SyncVectorEnv`` of its own environments."""

import copy
import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics
from jax import Array

import rlgd.envs
from rlgd.envs.check import checker
from rlgd.envs.device import vector_program
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.gym_vector import DeviceVectorEnv
from rlgd.envs.functional.registration import vector_id
from rlgd.errors import UsageError
from tests.support.probe_envs import ScriptedOnDevice

N, STEPS, LIMIT = 5, 40, 13
ATOL, REWARD_ATOL = 5e-6, 2e-5
NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
UNTOLD = ("prob", "_prob")  # how probable the outcome was that was drawn: the twins' states do not keep it

CASES = [
    *(("CartPole-v1", mode) for mode in AutoresetMode),
    ("Acrobot-v1", NEXT_STEP),
    ("Blackjack-v1", SAME_STEP),
    ("CliffWalking-v1", DISABLED),
    ("FrozenLake-v1", NEXT_STEP),
    ("MountainCar-v0", NEXT_STEP),
    ("MountainCarContinuous-v0", DISABLED),
    ("Pendulum-v1", SAME_STEP),
    ("rlgd/CartPoleNoVelocity-v1", SAME_STEP),
    *(("Taxi-v4", mode) for mode in AutoresetMode),
]


def make(env_id: str = "CartPole-v1", num_envs: int = N, **kwargs: Any) -> Any:
    return gymnasium.make_vec(vector_id(env_id), num_envs, **{"max_episode_steps": LIMIT} | kwargs)


def row(tree: Any, n: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[n], tree)


class Puppet(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gymnasium's environment, which gets a given state before each step and at the beginning of an episode.

    Attributes:
        state, begins: these states, of the twin.
        wanted: observation, reward and termination of the next step: where chance decides, it is taken until they come.
    """

    state: Any = None
    begins: Any = None
    wanted: Any = None

    def __init__(self, env_id: str) -> None:
        super().__init__(gymnasium.make(env_id).unwrapped)
        twin: Any = rlgd.envs.make(env_id, backend="device")
        self.inner: Any = self.env
        self.show: Callable[[Any, Any], None] = twin.func_env.show

    def put(self, state: Any) -> None:
        self.show(jax.tree.map(lambda leaf: leaf.tolist(), state), self.inner)

    def look(self) -> Any:
        for name in ("_get_obs", "_get_ob"):
            if hasattr(self.inner, name):
                return getattr(self.inner, name)()
        if hasattr(self.inner, "s"):
            return self.inner.s
        return np.array(self.inner.state, np.float32)[getattr(self.inner, "seen", ...)]

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        _, info = self.inner.reset(**kwargs)
        self.put(self.begins)
        if "action_mask" in info:
            info["action_mask"] = self.inner.action_mask(self.inner.s)
        return self.look(), info

    def step(self, action: Any) -> Any:
        for _ in range(300):
            self.put(self.state)
            given = self.inner.step(action)
            if all(np.allclose(a, b, atol=1e-4) for a, b in zip(given, self.wanted, strict=False)):
                break
        return given


def compare(ours: Any, theirs: Any, atol: float) -> None:
    """The same structure, dtypes, shapes and, within ``atol``, numbers."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys() - UNTOLD
        for key in ours:
            compare(ours[key], theirs[key], atol)
    elif isinstance(ours, tuple):
        for mine, other in zip(ours, theirs, strict=True):
            compare(mine, other, atol)
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        compare(tuple(ours), tuple(theirs), atol)
    elif ours is not None:
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize(("env_id", "mode"), CASES)
def test_every_step_equals_gymnasiums_from_the_same_states(env_id: str, mode: AutoresetMode) -> None:
    env = make(env_id, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: TimeLimit(Puppet(env_id), LIMIT)] * N, autoreset_mode=mode)
    puppets: list[Any] = [limited.env for limited in theirs.envs]  # type: ignore[attr-defined]

    def both(ours: Any, call: Callable[[], Any]) -> None:
        for n, puppet in enumerate(puppets):
            puppet.begins = row(env.state.env_state.inner, n)
        given = call()
        compare(ours[0], given[0], ATOL)
        compare(ours[1:], given[1:], REWARD_ATOL)

    program = vector_program.programs()[1].program(env.env)
    compiled = program._cache_size()
    both(env.reset(seed=0), theirs.reset)
    env.action_space.seed(0)
    ends = np.zeros(N, int)
    for _ in range(STEPS):
        actions, before = env.action_space.sample(), env.state.env_state.inner
        obs, reward, terminated, truncated, info = ours = env.step(actions)
        over = terminated | truncated
        for n, puppet in enumerate(puppets):
            led_to = info["final_obs"][n] if mode is SAME_STEP and over[n] else row(obs, n)
            puppet.state, puppet.wanted = row(before, n), (led_to, reward[n], terminated[n])
        both(ours, functools.partial(theirs.step, actions))
        ends += over
        np.testing.assert_array_equal(env.state.over, over & (mode is not SAME_STEP))
        if mode is DISABLED and over.any():
            both(env.reset(options={"reset_mask": over}), functools.partial(theirs.reset, options={"reset_mask": over}))
    assert ends.min() > 1
    assert program._cache_size() <= compiled + 1


@pytest.mark.parametrize("env_id", rlgd.envs.device_ids())
@pytest.mark.parametrize("mode", AutoresetMode)
def test_it_describes_itself_as_gymnasium_does(env_id: str, mode: AutoresetMode) -> None:
    ours = gymnasium.make_vec(vector_id(env_id), N, autoreset_mode=mode)
    theirs = gymnasium.make_vec(env_id, N, "sync", {"autoreset_mode": mode})
    for name in ("num_envs", "render_mode", "single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata == theirs.metadata | {"render_modes": ["rgb_array"]}
    assert ours.spec is not None
    assert theirs.spec is not None
    assert ours.spec.id == vector_id(env_id)
    for name in ("max_episode_steps", "reward_threshold"):
        assert getattr(ours.spec, name) == getattr(theirs.spec, name)
    assert isinstance(ours, DeviceVectorEnv)
    assert ours.env.max_episode_steps == ours.spec.max_episode_steps


def test_registering_is_part_of_importing() -> None:
    code = "import gymnasium; print(gymnasium.make_vec('rlgd.envs:rlgd/CartPole-v1', 4096).observation_space.shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(4096, 4)\n"


def actions_of(env: Any, steps: int = STEPS) -> list[Any]:
    """Random actions, the same ones in every environment, for any number of them."""
    space = copy.deepcopy(env.single_action_space)
    space.seed(0)
    return [np.stack([space.sample()] * env.num_envs) for _ in range(steps)]


def play(env: Any, seed: Any = None, steps: int = STEPS) -> list[Any]:
    """What a reset and some steps give, without ``info``."""
    obs, _ = env.reset(seed=seed)
    return [obs, *(env.step(actions)[:4] for actions in actions_of(env, steps))]


def single(given: list[Any], n: int) -> list[Any]:
    return [row(each, n) for each in given]


def same(first: list[Any], second: list[Any], atol: float = 0.0) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.allclose(a, b, rtol=0, atol=atol) for a, b in pairs)


@pytest.mark.parametrize(("env_id", "mode"), [("CartPole-v1", NEXT_STEP), ("Taxi-v4", SAME_STEP)])
def test_a_seed_repeats_itself_and_no_seed_goes_on(env_id: str, mode: AutoresetMode) -> None:
    env, other = make(env_id, autoreset_mode=mode), make(env_id, autoreset_mode=mode)
    first, following = play(env, 3), play(env)
    assert same(first, play(env, 3))
    assert same(following, play(env))
    assert same(first, play(other, 3))
    assert not same(first, following)
    assert not same(env.reset()[0], env.reset()[0])
    assert not same(first, play(env, 4))
    assert not same(play(make(env_id, autoreset_mode=mode)), play(make(env_id, autoreset_mode=mode)))


@pytest.mark.parametrize(
    ("env_id", "mode"),
    [("CartPole-v1", NEXT_STEP), ("Blackjack-v1", SAME_STEP)],
)
def test_environment_i_plays_as_environment_0_under_the_seed_plus_i(env_id: str, mode: AutoresetMode) -> None:
    env, alone = make(env_id, autoreset_mode=mode), make(env_id, 1, autoreset_mode=mode)
    together = play(env, 2**40 + 5)
    each = [single(together, n) for n in range(N)]
    for n, ours in enumerate(each):
        # As many environments as there are, XLA rounds differently.
        assert same(ours, single(play(alone, 2**40 + 5 + n), 0), 1e-5)
    assert not any(same(ours, each[0]) for ours in each[1:])
    assert not same(single(play(alone, 5), 0), each[0])


def test_each_environment_can_have_a_seed_or_none() -> None:
    env = make()
    whole = play(env, 10)
    following = play(env)
    play(env, np.int64(10))
    mixed = play(env, [10, None, 12, None, 3])
    for n in (0, 2):
        assert same(single(mixed, n), single(whole, n))
    for n in (1, 3):
        assert same(single(mixed, n), single(following, n))
    assert not same(single(mixed, 4), single(whole, 4))


@pytest.mark.parametrize(("env_id", "mode"), [("CartPole-v1", NEXT_STEP), ("Blackjack-v1", SAME_STEP)])
def test_a_partial_reset_is_a_reset_for_some_and_nothing_for_others(env_id: str, mode: AutoresetMode) -> None:
    mixed, fresh, untouched = (make(env_id, autoreset_mode=mode) for _ in range(3))
    options = {"reset_mask": np.arange(N) % 2 == 0}

    def check(ours: Any, new: Any, old: Any) -> None:
        for n, is_new in enumerate(options["reset_mask"]):
            assert same(row(ours, n), row(new if is_new else old, n))

    for steps in range(1, 20):
        seeds = [None if n % 2 else 100 * steps + n for n in range(N)]
        for env in (mixed, untouched):
            last = play(env, steps, steps)[-1]
        check(mixed.reset(seed=seeds, options=options)[0], fresh.reset(seed=seeds)[0], last[0])
        for actions in actions_of(mixed, 20):
            check(*(env.step(actions)[:4] for env in (mixed, fresh, untouched)))
    assert list(options) == ["reset_mask"]


def test_returned_arrays_can_be_kept_and_written_to() -> None:
    env = make(autoreset_mode=SAME_STEP)
    kept, copies = [], []
    env.reset(seed=0)
    for actions in actions_of(env):
        given = env.step(actions)
        kept.append(given)
        copies.append(copy.deepcopy(given))
        assert all(leaf.flags.writeable for leaf in given[:4])
    for now, then in zip(kept, copies, strict=True):
        compare(now, then, 0)
    first, second = play(env, 1), play(env, 1)
    first[0][:] = 7
    assert same(second, play(env, 1))


class Noise(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """Observes two new random numbers: one drawn by the state, one by the observation."""

    observation_space, action_space = Box(0.0, 1.0, (2,)), Discrete(1)

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jax.random.uniform(rng)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return jax.random.uniform(rng)

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.stack([state, jax.random.uniform(rng)])

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(())

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state < 0.2


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_no_random_number_is_drawn_twice(mode: AutoresetMode) -> None:
    env = DeviceVectorEnv(DeviceEnv(Noise(), "noise", LIMIT), N, autoreset_mode=mode)
    obs, ends = [env.reset(seed=0)[0]], 0
    for _ in range(2 * STEPS):
        seen, _, terminated, truncated, _ = env.step(np.zeros(N, int))
        obs.append(seen)
        ends += int(np.sum(terminated | truncated))
    numbers = np.concatenate(obs).ravel()
    assert ends > 8 * N
    assert len(np.unique(numbers)) == len(numbers)


def test_no_two_episodes_begin_alike() -> None:
    env = make(autoreset_mode=SAME_STEP)
    starts = [env.reset(seed=0)[0]]
    for actions in actions_of(env, 20 * LIMIT):
        obs, _, terminated, truncated, _ = env.step(actions)
        starts.append(obs[terminated | truncated])
    found = np.concatenate(starts)
    assert len(np.unique(found, axis=0)) == len(found) > 20 * N
    assert np.abs(found).max() < 0.05


@jax.jit
def play_with_spare(key: Array) -> Any:
    """Each step's state and result, in episodes of 1 to 5 steps, ``[60, 16]``."""
    env = DeviceEnv(ScriptedOnDevice((1, 2, 3, 5), Discrete(8)), "scripted", 3)

    def step(carry: Any, key: Array) -> Any:
        state, timestep, spare = env.step_with_spare(key, carry[0], jnp.zeros(16, jnp.int32), carry[1])
        return (state, spare), (state, timestep)

    begin, spare, steps = jax.random.split(key, 3)
    start = env.reset(begin, 16)[0], env.spare(spare, 16)
    return jax.lax.scan(step, start, jax.random.split(steps, 60))[1]


def test_every_episode_begins_from_its_own_spare_state() -> None:
    state, timestep = jax.device_get(play_with_spare(jax.random.key(0)))
    done = timestep.terminated | timestep.truncated
    np.testing.assert_array_equal(timestep.obs[~done], timestep.next_obs[~done])
    np.testing.assert_array_equal(timestep.obs[done][:, 1], 0)
    np.testing.assert_array_equal(state.elapsed[done], 0)
    np.testing.assert_array_equal(state.inner.number, timestep.obs[..., 0])
    np.testing.assert_array_equal(timestep.next_obs[1:], timestep.obs[:-1] + np.array([0, 1]))
    # Each of the four kinds of episodes is as frequent as the others, and follows each of them.
    numbers = [timestep.obs[:, n][done[:, n], 0] for n in range(16)]
    pairs = np.concatenate([4 * each[:-1] + each[1:] for each in numbers])
    counts = np.bincount(pairs.astype(int), minlength=16)
    assert counts.sum() > 400
    assert counts.min() > 0.4 * counts.mean()
    assert counts.max() < 1.8 * counts.mean()


class Everything(FuncEnv[Array, Any, Array, Array, Array, Any, Any]):
    """Observes a dictionary, gives nested info, and counts how often it is traced."""

    observation_space = Dict({"image": Box(0, 255, (5, 6, 3), np.uint8), "two": MultiBinary(2), "which": Discrete(9)})
    traces = 0

    def __init__(self, action_space: Any) -> None:
        super().__init__()
        self.action_space = action_space

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jnp.zeros((), jnp.int32)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        Everything.traces += 1
        return state + 1

    def observation(self, state: Array, rng: Array, params: Any = None) -> Any:
        return {"image": jnp.full((5, 6, 3), state, jnp.uint8), "two": jnp.ones(2, jnp.int8), "which": state}

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return action.sum().astype(jnp.float32)

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state >= 2

    def state_info(self, state: Array, params: Any = None) -> dict[str, Any]:
        return {"count": state, "nested": {"half": state / 2}}


def everything(action_space: Any, **kwargs: Any) -> DeviceVectorEnv:
    return DeviceVectorEnv(DeviceEnv(Everything(action_space), "everything", None), N, **kwargs)


@pytest.mark.parametrize(
    "action_space", [Discrete(3, start=5), MultiDiscrete([2, 3]), MultiBinary(3), Box(-1, 1, (2,))]
)
def test_every_space_is_batched_as_gymnasium_batches_it(action_space: Any) -> None:
    env = everything(action_space, autoreset_mode=SAME_STEP)
    obs, info = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    compare(info["nested"], {"half": np.zeros(N, np.float32), "_half": np.ones(N, bool)}, 0)
    env.action_space.seed(0)
    for t in range(4):
        actions = env.action_space.sample()
        obs, reward, terminated, _, info = env.step(actions)
        assert env.observation_space.contains(obs)
        np.testing.assert_allclose(reward, actions.reshape(N, -1).sum(axis=1), rtol=1e-6)
        np.testing.assert_array_equal(obs["which"], info["count"])
        assert terminated.all() == (t % 2 == 1)
        if terminated.all():
            assert all(env.single_observation_space.contains(each) for each in info["final_obs"])
            np.testing.assert_array_equal(info["final_info"]["nested"]["half"], np.ones(N))
            np.testing.assert_array_equal(info["nested"]["half"], np.zeros(N))


def test_equal_environments_are_compiled_once() -> None:
    func_env, traces = Everything(Discrete(2)), []
    for _ in range(2):
        env = DeviceVectorEnv(DeviceEnv(func_env, "everything", None), N)
        env.reset(seed=0)
        for actions in (np.zeros(N, np.int64), np.ones(N, np.int8), np.zeros(N, bool), [1] * N, jnp.zeros(N, int)):
            env.step(actions)
            traces.append(Everything.traces)
    assert len(set(traces)) == 1


def pole(mode: AutoresetMode = NEXT_STEP, **kwargs: Any) -> Any:
    env = make(autoreset_mode=mode, **kwargs)
    env.reset(seed=0)
    return env


def ended() -> Any:
    """A vector environment in which the episode of environment 3 is over."""
    env, over = pole(DISABLED), np.zeros(N, bool)
    while not over[3]:
        if over.any():
            env.reset(options={"reset_mask": over})
        _, _, terminated, truncated, _ = env.step(np.zeros(N, int))
        over = terminated | truncated
    over[3] = False
    if over.any():
        env.reset(options={"reset_mask": over})
    return env


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: pole().step(np.zeros(N + 1, int)), r"shape is \(6,\); allowed: \(5,\)"),
        (lambda: pole().step(0), r"shape is \(\); allowed: \(5,\)"),
        (lambda: pole().step(np.array([0, 1, 0, 2, 0])), r"environment 3 is 2; allowed: Discrete\(2\)"),
        (lambda: pole().step(np.array([0, 1, -1, 2, 0])), r"environment 2 is -1; allowed: Discrete\(2\)"),
        (lambda: pole().step(np.zeros(N)), "type is float64; allowed: whole numbers"),
        (lambda: make().step(np.zeros(N, int)), "must be reset before the first step"),
        (lambda: nan_action(), r"environment 1 is \[nan\]; allowed: Box\(-2.0, 2.0, \(1,\), float32\)"),
        (lambda: ended().step(np.zeros(N, int)), "episodes of environments 3 are over; reset them, by reset_mask"),
        (lambda: pole().reset(seed=-1), "the seed is -1; allowed: whole numbers from 0"),
        (lambda: pole().reset(seed=2**64 - 2), f"the seed is {2**64}; allowed: .* to 2\\*\\*64 - 1"),
        (lambda: pole().reset(seed=[1, 2]), "there are 2 seeds; allowed: one number, or one for each of 5"),
        (lambda: pole().reset(options={"low": -0.1}), "no reset options but reset_mask; got low"),
        (lambda: pole().reset(options={"reset_mask": np.zeros(N, bool)}), "allowed: .*, not all False"),
        (lambda: pole().reset(options={"reset_mask": np.ones(N)}), "allowed: a NumPy array of bool"),
        (lambda: pole().reset(options={"reset_mask": [True] * N}), "allowed: a NumPy array of bool"),
        (lambda: pole().reset(options={"reset_mask": np.ones(2, bool)}), r"with the shape \(5,\)"),
        (lambda: make().reset(options={"reset_mask": np.arange(N) > 0}), "never reset; reset all of them first"),
        (lambda: make(max_episode_steps=0), "max_episode_steps is 0; allowed: a whole number from 1, or -1"),
        (lambda: make(num_envs=0), "num_envs is 0; allowed: a whole number from 1"),
        (lambda: make(autoreset_mode="same_step"), "unknown autoreset mode 'same_step'; did you mean 'SameStep'"),
        (lambda: make(render_mode="human"), "'human'; allowed: None, 'rgb_array'.*HumanRendering"),
        (
            lambda: DeviceVectorEnv(DeviceEnv(Everything(Discrete(2)), "E", None), 1, render_mode="rgb_array"),
            "d: None.",
        ),
        (lambda: pole().render(), "make it with render_mode='rgb_array', and reset it first"),
        (lambda: make(render_mode="rgb_array").render(), "and reset it first"),
    ],
)
def test_a_wrong_argument_is_refused(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        act()


def nan_action() -> None:
    env = make("Pendulum-v1", autoreset_mode=SAME_STEP)
    env.reset(seed=0)
    env.step(np.array([[9.0], [np.nan], [0.0], [0.0], [0.0]]))


def test_a_time_limit_can_be_left_out() -> None:
    assert make("Pendulum-v1", max_episode_steps=-1).env.max_episode_steps is None
    assert make("Pendulum-v1", max_episode_steps=7).env.max_episode_steps == 7


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_gymnasiums_statistics_of_episodes_are_right(mode: AutoresetMode) -> None:
    env = RecordEpisodeStatistics(make(autoreset_mode=mode))
    env.reset(seed=0)
    lengths, found = np.zeros(N), 0
    over = np.zeros(N, bool)
    for actions in actions_of(env):
        _, _, terminated, truncated, info = env.step(actions)
        lengths = np.where(over, 0 if mode is NEXT_STEP else 1, lengths + 1)
        over = terminated | truncated
        for n in np.flatnonzero(over):
            assert info["episode"]["l"][n] == info["episode"]["r"][n] == lengths[n]
            found += 1
    assert found > 2 * N


def test_gymnasiums_wrappers_normalize_observations() -> None:
    env = NormalizeObservation(make())
    obs, _ = env.reset(seed=0)
    seen = [obs, *(env.step(actions)[0] for actions in actions_of(env))]
    assert all(env.observation_space.contains(each) for each in seen)
    assert abs(np.concatenate(seen).mean()) < 0.5
    assert 0.5 < np.concatenate(seen).std() < 1.5


@pytest.mark.parametrize(("env_id", "mode"), [("CartPole-v1", SAME_STEP), ("Taxi-v4", NEXT_STEP)])
def test_the_project_finds_it_sound(env_id: str, mode: AutoresetMode) -> None:
    report = checker.check(functools.partial(make, env_id, autoreset_mode=mode), worker=False, steps=100)
    assert [finding for finding in report.findings if finding.severity != "note"] == []


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
def test_pictures_are_gymnasiums_of_the_same_states(env_id: str) -> None:
    env = make(env_id, render_mode="rgb_array")
    env.reset(seed=1)
    puppet: Any = Puppet(env_id)
    theirs = gymnasium.make(env_id, render_mode="rgb_array").unwrapped
    theirs.reset()
    puppet.inner = theirs
    for actions in actions_of(env, 3):
        env.step(actions)
        pictures = env.render()
        assert isinstance(pictures, tuple)
        for n, picture in enumerate(pictures):
            puppet.put(row(env.state.env_state.inner, n))
            np.testing.assert_array_equal(picture, theirs.render())
            assert picture.dtype == np.uint8
    assert not np.array_equal(pictures[0], pictures[1])
    env.close()
    assert env.closed
    theirs.close()
