"""The bridge to Gymnasium: whatever the autoreset mode, the same episodes give the same rows and advantages."""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import rlgd.envs
from rlgd.agents import A2C
from rlgd.agents.base.experience import experience
from rlgd.envs import DeviceEnv, HostEnv
from rlgd.envs.functional.cartpole import CartPole
from rlgd.envs.host.host_env import VECTORIZATIONS
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.pytrees import LoopState, Params, Rollout
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, TupleSpec
from rlgd.training import episodes
from rlgd.training.host_rollout import collect_on_host
from tests.support.faulty_envs import Faulty, Locked, Reusing, Tree, Wandering
from tests.support.probe_envs import (
    ENDS,
    GAMMA,
    Script,
    ScriptedOnDevice,
    as_numpy,
    collect,
    enter,
    initialize,
    scripted,
)

MODES = list(AutoresetMode)
T = 6
LAMBDA = 0.8
LIMIT = 4  # on the device
DEVICE = DeviceEnv(ScriptedOnDevice((1, 2, 3, 4, 5, 9), Discrete(8)), "scripted", LIMIT)
# Two lanes of episodes that go round.
SCRIPTS = st.lists(
    st.lists(st.tuples(st.integers(1, 2 * T), st.sampled_from(ENDS)), min_size=1, max_size=4), min_size=2, max_size=2
).map(lambda lanes: [[(number, *episode) for number, episode in enumerate(lane)] for lane in lanes])
# Lane n ends in its step n + 1, which covers every row of two rollouts.
EVERY_ROW = {end: [[(0, n + 1, end), (1, 3, end), (2, 1, end)] for n in range(2 * T)] for end in ENDS}


def truth(lane: Any, action: int) -> Iterator[tuple[Any, ...]]:
    """The transitions of a lane: observation, reward, terminated, truncated, the true next observation."""
    while True:
        for number, steps, end in lane:
            for t in range(steps):
                over = t + 1 == steps
                reward = 100 * number + 10 * t + action
                ends = (over and end != "truncated", over and end != "terminated")
                yield (number, t), reward, *ends, (number, t + 1)


def transitions(vector: HostVector, steps: int, action: int) -> list[list[tuple[Any, ...]]]:
    """What happened in each lane according to ``HostVector.step``, reset rows left out."""
    lanes: list[list[tuple[Any, ...]]] = [[] for _ in range(vector.vector.num_envs)]
    obs = vector.reset(0)
    for _ in range(steps):
        step = vector.step(np.full(len(lanes), action))
        for n in np.flatnonzero(step.valid):
            ended = step.terminated[n] or step.truncated[n]
            # Behind a mere termination nobody needs the true observation.
            needed = step.truncated[n] or not ended
            true_obs = step.final_obs.get(int(n), step.obs[n])
            behind = tuple(true_obs) if needed else None
            lanes[n].append((tuple(obs[n]), step.reward[n], step.terminated[n], step.truncated[n], behind))
        assert not (step.terminated | step.truncated)[~step.valid].any()
        np.testing.assert_array_equal(step.first, step.obs[:, 1] == 0)
        obs = step.obs
    return lanes


def check_transitions(script: Script, mode: AutoresetMode) -> None:
    vector = scripted(script, mode).open(len(script))
    assert vector.mode is mode
    for lane, seen in zip(script, transitions(vector, 3 * T, action=5), strict=True):
        assert len(seen) >= (3 * T + 1) // 2
        for (*found, behind), (*expected, true_obs) in zip(seen, truth(lane, action=5), strict=False):
            assert found == expected
            assert behind in (true_obs, None)


@pytest.mark.parametrize("mode", MODES)
@given(script=SCRIPTS)
def test_every_autoreset_mode_gives_the_transitions_of_the_script(mode: AutoresetMode, script: Script) -> None:
    check_transitions(script, mode)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mode", MODES)
def test_an_episode_may_end_in_any_step(mode: AutoresetMode, end: str) -> None:
    check_transitions(EVERY_ROW[end], mode)


def agent(num_envs: int) -> A2C:
    tiny = A2C(num_envs=num_envs, rollout_length=T, hidden_sizes=(), gamma=GAMMA, gae_lambda=LAMBDA).prepared()
    assert isinstance(tiny, A2C)
    return tiny


@functools.cache
def start(num_envs: int) -> LoopState:
    """A loop whose policy is uniform and whose value function is V(number, t) = number + t + 1."""
    loop = initialize(agent(num_envs), DEVICE, jax.random.key(0))
    params = Params(
        jax.tree.map(jnp.zeros_like, loop.agent_state.params.policy),
        jax.tree.map(jnp.ones_like, loop.agent_state.params.value),
    )
    return dataclasses.replace(loop, agent_state=dataclasses.replace(loop.agent_state, params=params))


def expected_advantages(number_t: NDArray[Any], reward: NDArray[Any], terminated: Any, ended: Any) -> list[float]:
    """Of consecutive transitions of one lane, by the definition: the true next observation of (i, t) is (i, t + 1)."""
    value = number_t.sum(axis=1) + 1.0
    error = reward + GAMMA * np.where(terminated, 0, value + 1) - value
    advantages = []
    for i in range(len(error)):
        total, weight = 0.0, 1.0
        for k in range(i, len(error)):
            total, weight = total + weight * error[k], weight * GAMMA * LAMBDA
            if ended[k]:
                break
        advantages.append(total)
    return advantages


learn_from = jax.jit(experience, static_argnums=1)


def check_advantages(rollouts: list[Rollout], loop: LoopState) -> None:
    for rollout in rollouts:
        shape = rollout.reward.shape
        rows = learn_from(agent(shape[1]), DEVICE.spec, loop.agent_state, rollout)
        seen = as_numpy(rollout)
        np.testing.assert_array_equal(rollout.first, seen.obs[0, :, 1] == 0)
        advantage, target, value = (
            np.asarray(x).reshape(shape) for x in (rows.advantage, rows.value_target, rows.value)
        )
        for n in range(shape[1]):
            real = seen.mask[:, n]
            expected = expected_advantages(
                *(x[real, n] for x in (seen.obs, seen.reward, seen.terminated, seen.terminated | seen.truncated))
            )
            np.testing.assert_allclose(advantage[real, n], expected, rtol=1e-5, atol=1e-3)
            np.testing.assert_allclose((target - value)[real, n], expected, rtol=1e-5, atol=1e-3)


def check_rollouts(script: Script, mode: AutoresetMode) -> None:
    """Two rollouts in a row hold the script's transitions, one behind the other, with the right advantages."""
    num_envs = len(script)
    vector, loop = enter(scripted(script, mode), start(num_envs))
    rollouts, seen = [], []
    for iteration in range(2):
        rollout, loop = collect_on_host(agent(num_envs), vector, loop, jax.random.key(iteration))
        rollouts.append(rollout)
        seen.append(as_numpy(rollout))
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *seen)
    for n, lane in enumerate(script):
        real = whole.mask[:, n]
        rows = (x[real, n] for x in (whole.obs, whole.reward - whole.action, whole.terminated, whole.truncated))
        for (obs, *found), expected in zip(zip(*rows, strict=True), truth(lane, action=0), strict=False):
            assert (tuple(obs), *found) == expected[:-1]
        # Only the row behind an end may be hidden, and only under NEXT_STEP.
        ended = np.concatenate([[False], (whole.terminated | whole.truncated)[:-1, n]])
        np.testing.assert_array_equal(~real, ended & (mode is AutoresetMode.NEXT_STEP))
    check_advantages(rollouts, loop)


@pytest.mark.parametrize("mode", MODES)
@given(script=SCRIPTS)
def test_rollouts_hold_the_script_and_its_advantages(mode: AutoresetMode, script: Script) -> None:
    check_rollouts(script, mode)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mode", MODES)
def test_an_episode_may_end_in_any_row_of_two_rollouts(mode: AutoresetMode, end: str) -> None:
    check_rollouts(EVERY_ROW[end], mode)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_advantages_on_the_device(seed: int) -> None:
    key, rollouts = jax.random.key(seed), []
    loop = dataclasses.replace(initialize(agent(12), DEVICE, key), agent_state=start(12).agent_state)
    for iteration in range(2):
        rollout, loop = collect(agent(12), DEVICE, loop, jax.random.fold_in(key, iteration))
        rollouts.append(rollout)
    assert any(rollout.final_obs.any() for rollout in rollouts)
    check_advantages(rollouts, loop)


def test_native_cartpole_hides_its_reset_rows_and_does_not_count_them() -> None:
    env = rlgd.envs.make("CartPole-v1", backend="host")
    assert isinstance(env, HostEnv)
    random = A2C(num_envs=32, rollout_length=50, hidden_sizes=()).prepared()
    vector, loop = enter(env, initialize(random, env, jax.random.key(0)))
    assert vector.mode is AutoresetMode.NEXT_STEP
    counters, done_before = loop.episodes, np.zeros((1, 32), bool)
    move = jax.jit(jax.vmap(lambda state, action: CartPole().transition(state, action, jax.random.key(0))))
    for iteration in range(2):
        rollout, loop = collect_on_host(random, vector, loop, jax.random.key(iteration))
        rows = as_numpy(rollout)
        done = rows.terminated | rows.truncated
        np.testing.assert_array_equal(rows.mask, ~np.concatenate([done_before, done[:-1]]))
        done_before = done[-1:]
        assert done_before.any()
        # A real row is a move of the physics; what follows a hidden row is a first observation.
        following = np.concatenate([rows.obs[1:], rows.last_obs[None]])
        moved = move(rows.obs[rows.mask], rows.action[rows.mask])
        np.testing.assert_allclose(following[rows.mask], moved, rtol=0, atol=1e-5)
        assert np.all(np.abs(following[~rows.mask]) <= 0.05)
        counters, sums = episodes.advance(counters, rollout)
        assert sums["rollout/steps"] == rows.mask.sum() < rows.mask.size
        assert sums["rollout/episodes"] == done.sum()
        assert int(sums["rollout/length_sum"]) == float(sums["rollout/return_sum"])
    np.testing.assert_array_equal(counters.episode_length, counters.episode_return)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_an_autoreset_mode_that_the_native_environment_lacks_is_had_one_by_one(mode: AutoresetMode | None) -> None:
    vector = HostEnv("CartPole-v1", autoreset_mode=mode).open(2)
    assert vector.mode is (mode or AutoresetMode.NEXT_STEP)
    assert isinstance(vector.vector, gymnasium.vector.SyncVectorEnv) == (mode not in (None, AutoresetMode.NEXT_STEP))
    assert vector.has_reset_rows == (vector.mode is AutoresetMode.NEXT_STEP)
    assert vector.spec.max_episode_steps == 500


@pytest.mark.parametrize("metadata", [{}, {"autoreset_mode": "next"}, {"autoreseet-mode": AutoresetMode.NEXT_STEP}])
def test_a_vector_environment_that_hides_its_autoreset_mode_is_refused(metadata: dict[str, Any]) -> None:
    env = scripted([[(0, 3, "terminated")]])
    vector = env.open(1).vector
    vector.metadata = metadata
    with pytest.raises(UsageError, match=r"probes/Scripted-v0 does not say its autoreset mode"):
        HostVector(vector, env.spec, env.env_id)


def test_observations_outlive_the_buffer_that_they_came_in() -> None:
    env = scripted([[(0, 2, "truncated"), (1, 9, "terminated")]])
    vector = env.open(2)
    assert isinstance(vector.vector, gymnasium.vector.SyncVectorEnv)
    vector.vector.copy = False
    obs, steps = vector.reset(0), [vector.step(np.zeros(2, np.int64)) for _ in range(4)]
    np.testing.assert_array_equal([obs[0], *(step.obs[0] for step in steps)], [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]])
    np.testing.assert_array_equal(steps[1].final_obs[0], [0, 2])


@pytest.mark.parametrize(
    ("name", "dtype"), [("Float64-v0", "float32"), ("DiscreteObservations-v0", "int32"), ("OneStep-v0", "float32")]
)
def test_observations_are_stored_in_32_bits(name: str, dtype: str) -> None:
    env = HostEnv(f"probes/{name}")
    vector, loop = enter(env, initialize(agent(3), env, jax.random.key(0)))
    rollout, loop = collect_on_host(agent(3), vector, loop, jax.random.key(1))
    assert {rollout.obs.dtype, rollout.last_obs.dtype, rollout.final_obs.dtype} == {np.dtype(dtype)}
    steps = 1 if name.startswith("OneStep") else 3
    np.testing.assert_array_equal(np.asarray(rollout.done), (np.arange(T)[:, None] + 1) % steps == np.zeros((1, 3)))


@pytest.mark.parametrize("mode", MODES)
def test_an_environment_that_writes_into_the_array_that_it_gave(mode: AutoresetMode) -> None:
    vector = HostEnv("Reusing", autoreset_mode=mode, source=Reusing).open(2)
    obs, steps = vector.reset(0), [vector.step(np.zeros(2, np.int64)) for _ in range(5)]
    behind = [step.final_obs.get(1, step.obs[1])[0] for step in steps if step.valid[1]]
    assert behind == ([1, 2, 1, 2] if mode is AutoresetMode.NEXT_STEP else [1, 2, 1, 2, 1])
    assert obs[1] == 0


@pytest.mark.parametrize("mode", MODES)
def test_observations_may_be_trees(mode: AutoresetMode) -> None:
    """Every part has its own shape and 32-bit type, also behind an end."""
    vector = HostEnv("Tree", autoreset_mode=mode, source=Tree, vectorization="sync").open(2)
    assert vector.spec.obs == DictSpec(
        (
            ("camera", BoxSpec((2, 3), "uint8")),
            ("joints", TupleSpec((BoxSpec((2,), "float64"), DiscreteSpec(5, start=2)))),
        )
    )
    alone = Tree()
    alone.reset(seed=1)
    obs, truth = vector.reset(0), alone.reset(seed=1)[0]
    for t in range(3):
        assert jax.tree.map(lambda x: (x.dtype.name, x.shape), obs) == {
            "camera": ("uint8", (2, 2, 3)),
            "joints": (("float32", (2, 2)), ("int32", (2,))),
        }
        jax.tree.map(
            lambda seen, true: np.testing.assert_array_equal(seen[1], np.asarray(true, seen.dtype)), obs, truth
        )
        step, (truth, *_) = vector.step(np.ones((2, 2), np.int64)), alone.step(np.ones(2, np.int64))
        obs = (
            step.obs
            if mode is AutoresetMode.NEXT_STEP or t < 2
            else jax.tree.map(lambda *both: np.stack(both), step.final_obs[0], step.final_obs[1])
        )
    assert step.truncated.all()
    jax.tree.map(lambda seen, true: np.testing.assert_array_equal(seen[1], np.asarray(true, seen.dtype)), obs, truth)


@pytest.mark.parametrize("mode", MODES)
def test_action_masks_are_those_of_the_state_that_is_seen_next(mode: AutoresetMode) -> None:
    """Where an environment gives none, and where the next action is ignored, everything is allowed."""
    vector = HostEnv("Wandering", autoreset_mode=mode, source=Wandering).open(3)
    alone = [Wandering() for _ in range(3)]

    def allowed(info: dict[str, Any]) -> NDArray[Any]:
        return info.get("action_mask", np.ones(3)).astype(bool)

    vector.reset(5)
    expected = [allowed(env.reset(seed=5 + n)[1]) for n, env in enumerate(alone)]
    ended = [False] * 3
    for _ in range(40):
        assert vector.action_mask is not None
        np.testing.assert_array_equal(vector.action_mask, expected)
        vector.step(np.array([1, 2, 3]))
        for n, env in enumerate(alone):
            if ended[n]:
                expected[n], ended[n] = allowed(env.reset()[1]), False
                continue
            *_, terminated, truncated, info = env.step(n + 1)
            expected[n] = allowed(info)
            if terminated or truncated:
                ended[n] = mode is AutoresetMode.NEXT_STEP
                expected[n] = np.ones(3, bool) if ended[n] else allowed(env.reset()[1])


def test_masks_of_several_numbers_stand_one_behind_the_other() -> None:
    vector = HostEnv.of(Tree).open(2)
    vector.reset(0)
    masks = [vector.action_mask]
    for _ in range(3):
        vector.step(np.ones((2, 2), np.int64))
        masks.append(vector.action_mask)
    given, none, given_again = [True, False, False, True, True], [True] * 5, [True, False, False, True, True]
    np.testing.assert_array_equal(masks, [[mask] * 2 for mask in (given, none, given_again, given)])


def test_without_masks_there_is_none() -> None:
    vector = HostEnv.of(Tree, masks=False).open(2)
    vector.reset(0)
    vector.step(np.ones((2, 2), np.int64))
    assert vector.action_mask is None


def test_taxi_gives_its_masks() -> None:
    vector, alone = HostEnv("Taxi-v4").open(1), gymnasium.make("Taxi-v4")
    vector.reset(3)
    np.testing.assert_array_equal(vector.action_mask, [alone.reset(seed=3)[1]["action_mask"] == 1])


@pytest.mark.parametrize("num_envs", [1, 3])
def test_episodes_of_one_step_and_actions_that_begin_with_1(num_envs: int) -> None:
    vector = HostEnv.of(Faulty, length=1, lane=9).open(num_envs)
    vector.reset(0)
    for action in (1, 3):
        step = vector.step(np.full(num_envs, action))
        assert step.terminated.all()
        assert step.first.all()
        np.testing.assert_array_equal(step.reward, np.full(num_envs, action))


# What is brought along


def made_with(length: int = 5) -> Faulty:
    return Faulty(length=length)


@pytest.mark.parametrize("source", [Faulty, made_with, lambda **kwargs: Faulty(**kwargs)])
def test_a_class_and_a_function_get_arguments_and_a_time_limit(source: Any) -> None:
    env = HostEnv.of(source, max_episode_steps=3, length=2)
    assert env == HostEnv.of(source, max_episode_steps=3, length=2)
    assert hash(env) == hash(HostEnv.of(source, max_episode_steps=3, length=2))
    assert env != HostEnv.of(source, max_episode_steps=3, length=4)
    assert env.env_id == {"<lambda>": "environment"}.get(source.__name__, source.__name__)
    assert env.spec == dataclasses.replace(HostEnv.of(Faulty).spec, max_episode_steps=3)
    for length, ended in ((2, "terminated"), (4, "truncated")):
        vector = HostEnv.of(source, max_episode_steps=3, length=length).open(2)
        vector.reset(0)
        last = [vector.step(np.array([1, 2])) for _ in range(min(length, 3))][-1]
        assert getattr(last, ended).all()


def test_an_environment_is_copied_for_each_and_stays_as_it_is() -> None:
    mine = gymnasium.make("CartPole-v1")
    mine.reset(seed=0)
    state = copy.deepcopy(mine.unwrapped.__dict__["state"])
    env = HostEnv.of(mine)
    assert (env.env_id, env.spec.max_episode_steps) == ("CartPoleEnv", 500)
    vector = env.open(2)
    seen = vector.reset(7)
    vector.step(np.array([0, 1]))
    vector.close()
    np.testing.assert_array_equal(mine.unwrapped.__dict__["state"], state)
    np.testing.assert_array_equal(seen[1], gymnasium.make("CartPole-v1").reset(seed=8)[0])


def test_a_running_vector_environment_is_opened_once_at_a_time_and_stays_open() -> None:
    mine: Any = SyncVectorEnv([made_with] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    env = HostEnv.of(mine)
    assert (env.env_id, env.spec.action) == ("SyncVectorEnv", DiscreteSpec(3, start=1))
    for _ in range(2):
        vector = env.open(2)
        with pytest.raises(UsageError, match=r"SyncVectorEnv is a running vector environment and in use; give the env"):
            env.open(2)
        vector.reset(0)
        np.testing.assert_array_equal(vector.step(np.array([1, 2])).reward, [1, 2])
        vector.close()
        vector.close()
    assert not mine.closed
    with pytest.raises(
        UsageError, match=r"a running vector environment of 2 environments, but 3 are asked for; give the"
    ):
        env.open(3)


def test_gymnasiums_functional_vector_environments_are_not_taken() -> None:
    """They lose steps where one resets; the environments one by one are sound."""
    env = HostEnv("phys2d/CartPole-v1")
    assert not env.native
    assert dataclasses.replace(env, vectorization="sync").open(2).mode is AutoresetMode.SAME_STEP
    with pytest.raises(UsageError, match=r"environment of phys2d/CartPole-v1 loses steps .*; use vectorization 'auto'"):
        dataclasses.replace(env, vectorization="native").open(2)


def some_vector() -> Any:
    return SyncVectorEnv([made_with], autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HostEnv("CartPole-v1", vectorization="asynk"), r"unknown vectorization 'asynk'; did you mean 'async'"),
        (lambda: HostEnv("CartPole-v1", timeout=0), r"timeout of CartPole-v1 is 0; allowed: seconds above 0"),
        (lambda: HostEnv("CartPole-v1", timeout=float("nan")), r"timeout of CartPole-v1 is nan"),
        (lambda: HostEnv.of(3), r"3 is no environment; allowed: a Gymnasium id, a gymnasium.Env class or a function"),
        (lambda: HostEnv.of(Faulty, what=object()), r"arguments of Faulty must be JSON values, so that the run"),
        (lambda: HostEnv.of(Faulty(), what="raise"), r"Faulty is already made; arguments .*raise.* go with its class"),
        (lambda: HostEnv.of(Faulty, vectorization="native"), r"Faulty is brought; vectorization 'native' is for a Gym"),
        (
            lambda: HostEnv.of(some_vector(), max_episode_steps=3),
            r"SyncVectorEnv is a running vector environment, which",
        ),
        (
            lambda: HostEnv.of(some_vector(), vectorization="async"),
            r"SyncVectorEnv is a running vector environment, whi",
        ),
        (
            lambda: HostEnv.of(Locked()).open(2),
            r"Locked.*cannot be copied .*lock.* give its class, its Gymnasium id or",
        ),
        (lambda: HostEnv.of(lambda: 3).spec, r"lambda.* made 3; it must make a gymnasium.Env"),
        (
            lambda: HostEnv.of(Faulty, nonsense=1).spec,
            r"Faulty cannot be made: .*unexpected keyword argument 'nonsense'",
        ),
        (
            lambda: HostEnv("Acrobot-v1", vectorization="native").open(2),
            r"Gymnasium has no native vector environment for",
        ),
        (
            lambda: HostEnv("CartPole-v1", vectorization="native", autoreset_mode=AutoresetMode.SAME_STEP).open(2),
            r"vectorization 'native' has NEXT_STEP autoreset only, not SAME_STEP",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("way", sorted(set(VECTORIZATIONS) - {"auto", "async"}))
def test_a_timeout_needs_worker_processes(way: str) -> None:
    message = rf"CartPole-v1 has a timeout, but vectorization '{way}', and a step in this process cannot be interrupted"
    with pytest.raises(UsageError, match=message):
        HostEnv("CartPole-v1", vectorization=way, timeout=1)


# Optional extras


def test_an_atari_game_comes_with_gymnasiums_preprocessing() -> None:
    pytest.importorskip("ale_py")
    env = HostEnv("ALE/Breakout-v5", max_episode_steps=3, vectorization="sync")
    assert env.spec.obs == BoxSpec((4, 84, 84), "uint8")
    vector = env.open(2)
    obs = vector.reset(0)
    assert (obs.dtype, obs.shape) == (np.uint8, (2, 4, 84, 84))
    assert [vector.step(np.zeros(2, np.int64)).truncated.all() for _ in range(3)] == [False, False, True]
    vector.close()
    assert HostEnv("ALE/Breakout-v5", kwargs='{"frameskip": 4}').spec.obs == BoxSpec((210, 160, 3), "uint8")
    assert HostEnv("ALE/Breakout-v5", kwargs='{"obs_type": "ram"}').spec.obs == BoxSpec((128,), "uint8")
    with pytest.raises(UsageError, match="clips rewards"):
        HostEnv("ALE/Breakout-v5", vectorization="native").open(2)


def test_envpool_steps_as_every_other_vector_environment() -> None:
    pytest.importorskip("envpool")
    env = HostEnv("CartPole-v1", vectorization="envpool", max_episode_steps=20)
    assert (env.spec.obs, env.spec.max_episode_steps) == (HostEnv("CartPole-v1").spec.obs, 20)
    vectors = [env.open(3) for _ in range(2)]
    assert [vector.how for vector in vectors] == ["EnvPool"] * 2
    np.testing.assert_array_equal(vectors[0].reset(4), vectors[1].reset(4))
    move = jax.vmap(lambda state, action: CartPole().transition(state, action, jax.random.key(0)))
    obs, ends = vectors[0].reset(4), 0
    for t in range(60):
        action = np.full(3, t % 2)
        step, other = (vector.step(action) for vector in vectors)
        np.testing.assert_array_equal(step.obs, other.obs)
        moved = move(jnp.asarray(obs), jnp.asarray(action))
        np.testing.assert_allclose(step.obs[step.valid], moved[step.valid], rtol=0, atol=1e-5)
        assert np.all(np.abs(step.obs[~step.valid]) <= 0.05)
        np.testing.assert_array_equal(step.reward, step.valid)
        obs, ends = step.obs, ends + step.truncated.sum()
    assert ends > 0
    for vector in vectors:
        vector.close()
    with pytest.raises(UsageError, match="unknown EnvPool task 'Taxi-v9'; did you mean 'Taxi-v3'"):
        HostEnv("Taxi-v9", vectorization="envpool").open(1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", [0, 2, T - 1])
@pytest.mark.parametrize(
    ("what", "end"),
    [
        ("raise", "never"),
        ("reward", "never"),
        ("reward", "both"),
        ("observation", "never"),
        ("observation", "truncated"),
    ],
)
def test_a_broken_environment_is_named(mode: AutoresetMode, what: str, end: str, step: int) -> None:
    """Environment 1 breaks in a step that ends its episode, or in the middle of one."""
    steps = 3 * T if end == "never" else step + 1
    script = [[(0, 9, "terminated")], [(0, steps, end)], [(0, 9, "terminated")]]
    vector, loop = enter(scripted(script, mode, fault=(what, 1, step)), start(3))
    # An observation may be named by the step that gave it or by the row that it opens.
    where = f"({step}|{step + 1})" if what == "observation" else step
    message = "RuntimeError.*out of order" if what == "raise" else f"{what} .*nan"
    with pytest.raises(EnvironmentFault, match=rf"(?=.*{message})probes/Scripted-v0.*environment 1\b.*step {where}\b"):
        collect_on_host(agent(3), vector, loop, jax.random.key(0))


def test_an_id_brings_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought_by_its_id.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Brought-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    env = rlgd.envs.make("brought_by_its_id:Brought-v0")
    assert (env.env_id, env.spec.max_episode_steps) == ("brought_by_its_id:Brought-v0", 7)
    assert isinstance(env, HostEnv)
    with contextlib.closing(env.open(2)) as vector:
        assert vector.reset(0).shape == (2, 4)
    with pytest.raises(UsageError, match="the module of no_such_module:X-v0 cannot be imported: No module named"):
        rlgd.envs.make("no_such_module:X-v0")
