"""The bridge to Gymnasium: whatever the autoreset mode, the same episodes give the same rows and advantages."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from probes import (
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

import rlgd.envs
from rlgd import episodes
from rlgd.agents import A2C
from rlgd.agents.common import experience
from rlgd.data import LoopState, Params, Rollout
from rlgd.envs import DeviceEnv, HostEnv
from rlgd.envs.cartpole import CartPole
from rlgd.envs.host import HostVector
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.rollout import collect_on_host

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
