"""The bridge to Gymnasium: in every autoreset mode, the same episodes give the same rows and advantages."""

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

import rlgd.envs
from rlgd.agents import A2C
from rlgd.agents.base.experience import experience
from rlgd.envs import DeviceEnv, HostEnv
from rlgd.envs.functional.cartpole import CartPole
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.pytrees import LoopState, Params, Rollout
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, TupleSpec
from rlgd.training import episodes
from rlgd.training.host_rollout import collect_on_host
from tests.support.faulty_envs import Faulty, Reusing, Tree, Wandering
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
# The episodes of two environments, which repeat.
SCRIPTS = st.lists(
    st.lists(st.tuples(st.integers(1, 2 * T), st.sampled_from(ENDS)), min_size=1, max_size=4), min_size=2, max_size=2
).map(lambda envs: [[(number, *episode) for number, episode in enumerate(own)] for own in envs])
# Environment n ends in its step n + 1, which covers every row of two rollouts.
EVERY_ROW = {end: [[(0, n + 1, end), (1, 3, end), (2, 1, end)] for n in range(2 * T)] for end in ENDS}


def truth(episodes: Any, action: int) -> Iterator[tuple[Any, ...]]:
    """The transitions of one environment: observation, reward, terminated, truncated, the true next observation."""
    while True:
        for number, steps, end in episodes:
            for t in range(steps):
                over = t + 1 == steps
                reward = 100 * number + 10 * t + action
                ends = (over and end != "truncated", over and end != "terminated")
                yield (number, t), reward, *ends, (number, t + 1)


def transitions(vector: HostVector, steps: int, action: int) -> list[list[tuple[Any, ...]]]:
    """The transitions of each environment by ``HostVector.step``, without reset rows."""
    played: list[list[tuple[Any, ...]]] = [[] for _ in range(vector.vector.num_envs)]
    obs = vector.reset(0)
    for _ in range(steps):
        step = vector.step(np.full(len(played), action))
        for n in np.flatnonzero(step.valid):
            ended = step.terminated[n] or step.truncated[n]
            # After a termination alone, the true observation is not needed.
            needed = step.truncated[n] or not ended
            true_obs = step.final_obs.get(int(n), step.obs[n])
            following = tuple(true_obs) if needed else None
            played[n].append((tuple(obs[n]), step.reward[n], step.terminated[n], step.truncated[n], following))
        assert not (step.terminated | step.truncated)[~step.valid].any()
        np.testing.assert_array_equal(step.first, step.obs[:, 1] == 0)
        obs = step.obs
    return played


def check_transitions(script: Script, mode: AutoresetMode) -> None:
    vector = scripted(script, mode).open(len(script))
    assert vector.mode is mode
    for own, seen in zip(script, transitions(vector, 3 * T, action=5), strict=True):
        assert len(seen) >= (3 * T + 1) // 2
        for (*found, following), (*expected, true_obs) in zip(seen, truth(own, action=5), strict=False):
            assert found == expected
            assert following in (true_obs, None)


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
    """Of one environment's transitions, by definition; the true next observation of (i, t) is (i, t + 1)."""
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
    """Two rollouts in a row have the script's transitions, in order, with the right advantages."""
    num_envs = len(script)
    vector, loop = enter(scripted(script, mode), start(num_envs))
    rollouts, seen = [], []
    for iteration in range(2):
        rollout, loop = collect_on_host(agent(num_envs), vector, loop, jax.random.key(iteration))
        rollouts.append(rollout)
        seen.append(as_numpy(rollout))
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *seen)
    for n, own in enumerate(script):
        real = whole.mask[:, n]
        rows = (x[real, n] for x in (whole.obs, whole.reward - whole.action, whole.terminated, whole.truncated))
        for (obs, *found), expected in zip(zip(*rows, strict=True), truth(own, action=0), strict=False):
            assert (tuple(obs), *found) == expected[:-1]
        # Only the row after an end may be hidden, and only under NEXT_STEP.
        ended = np.concatenate([[False], (whole.terminated | whole.truncated)[:-1, n]])
        np.testing.assert_array_equal(~real, ended & (mode is AutoresetMode.NEXT_STEP))
    check_advantages(rollouts, loop)


@pytest.mark.parametrize("mode", MODES)
@given(script=SCRIPTS)
def test_rollouts_have_the_scripts_transitions_and_advantages(mode: AutoresetMode, script: Script) -> None:
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
        # A real row is a transition of the physics; after a hidden row comes a first observation.
        following = np.concatenate([rows.obs[1:], rows.last_obs[None]])
        moved = move(rows.obs[rows.mask], rows.action[rows.mask])
        np.testing.assert_allclose(following[rows.mask], moved, rtol=0, atol=1e-5)
        assert np.all(np.abs(following[~rows.mask]) <= 0.05)
        counters, sums = episodes.advance(counters, rollout)
        assert sums["rollout/steps"] == rows.mask.sum() < rows.mask.size
        assert sums["rollout/episodes"] == done.sum()
        assert int(sums["rollout/length_sum"]) == float(sums["rollout/return_sum"])
    np.testing.assert_array_equal(counters.episode_length, counters.episode_return)


@pytest.mark.parametrize("metadata", [{}, {"autoreset_mode": "next"}, {"autoreseet-mode": AutoresetMode.NEXT_STEP}])
def test_a_vector_environment_without_an_autoreset_mode_is_refused(metadata: dict[str, Any]) -> None:
    env = scripted([[(0, 3, "terminated")]])
    vector = env.open(1).vector
    vector.metadata = metadata
    with pytest.raises(UsageError, match=r"probes/Scripted-v0 does not say its autoreset mode"):
        HostVector(vector, env.spec, env.env_id)


def test_observations_outlive_the_buffer_of_the_vector_environment() -> None:
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
def test_an_environment_may_write_into_the_array_that_it_returned(mode: AutoresetMode) -> None:
    vector = HostEnv("Reusing", autoreset_mode=mode, source=Reusing).open(2)
    obs, steps = vector.reset(0), [vector.step(np.zeros(2, np.int64)) for _ in range(5)]
    following = [step.final_obs.get(1, step.obs[1])[0] for step in steps if step.valid[1]]
    assert following == ([1, 2, 1, 2] if mode is AutoresetMode.NEXT_STEP else [1, 2, 1, 2, 1])
    assert obs[1] == 0


@pytest.mark.parametrize("mode", MODES)
def test_observations_may_be_trees(mode: AutoresetMode) -> None:
    """Every part has its own shape and 32-bit dtype, also after an end."""
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
def test_action_masks_are_those_of_the_next_observation(mode: AutoresetMode) -> None:
    """If an environment gives none, or ignores the next action, every action is allowed."""
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


def test_masks_of_several_numbers_are_concatenated() -> None:
    vector = HostEnv.of(Tree).open(2)
    vector.reset(0)
    masks = [vector.action_mask]
    for _ in range(3):
        vector.step(np.ones((2, 2), np.int64))
        masks.append(vector.action_mask)
    given, none, given_again = [True, False, False, True, True], [True] * 5, [True, False, False, True, True]
    np.testing.assert_array_equal(masks, [[mask] * 2 for mask in (given, none, given_again, given)])


def test_an_environment_without_masks_has_none() -> None:
    vector = HostEnv.of(Tree, masks=False).open(2)
    vector.reset(0)
    vector.step(np.ones((2, 2), np.int64))
    assert vector.action_mask is None


def test_taxi_gives_its_masks() -> None:
    vector, alone = HostEnv("Taxi-v4").open(1), gymnasium.make("Taxi-v4")
    vector.reset(3)
    np.testing.assert_array_equal(vector.action_mask, [alone.reset(seed=3)[1]["action_mask"] == 1])


@pytest.mark.parametrize("num_envs", [1, 3])
def test_episodes_of_one_step_and_actions_that_start_at_1(num_envs: int) -> None:
    vector = HostEnv.of(Faulty, length=1, index=9).open(num_envs)
    vector.reset(0)
    for action in (1, 3):
        step = vector.step(np.full(num_envs, action))
        assert step.terminated.all()
        assert step.first.all()
        np.testing.assert_array_equal(step.reward, np.full(num_envs, action))


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
    """Environment 1 breaks in the last step of an episode, or in the middle of one."""
    steps = 3 * T if end == "never" else step + 1
    script = [[(0, 9, "terminated")], [(0, steps, end)], [(0, 9, "terminated")]]
    vector, loop = enter(scripted(script, mode, fault=(what, 1, step)), start(3))
    # A message may name an observation's step, or the row that begins with it.
    where = f"({step}|{step + 1})" if what == "observation" else step
    message = "RuntimeError.*out of order" if what == "raise" else f"{what} .*nan"
    with pytest.raises(EnvironmentFault, match=rf"(?=.*{message})probes/Scripted-v0.*environment 1\b.*step {where}\b"):
        collect_on_host(agent(3), vector, loop, jax.random.key(0))
