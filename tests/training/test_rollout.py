"""The scan on the device and the loop on the host give the same rows; what the rows say is true."""

import dataclasses
import os
import subprocess
import sys
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from jax import Array

import rlgd.envs
from rlgd.agents import A2C, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, HostEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters
from rlgd.pytrees import Actor, Rollout, View
from rlgd.spaces import Spec
from rlgd.training import device_rollout, episodes
from rlgd.training import loop as training
from rlgd.training.host_rollout import collect_on_host
from rlgd.training.rollout import EPISODE_BLOCK
from tests.support.probe_envs import (
    ACTIONS,
    Place,
    ScriptedOnDevice,
    as_numpy,
    collect,
    enter,
    initialize,
    script_of,
    scripted,
)

STEPS, LIMIT, N, T = (1, 3, 4, 5, 6, 7, 8), 4, 12, 15
ENV = DeviceEnv(ScriptedOnDevice(STEPS, ACTIONS["discrete"]), "scripted", LIMIT)
BOX_ENV = DeviceEnv(ScriptedOnDevice(STEPS, ACTIONS["box"]), "scripted", LIMIT)


class LongReset(ScriptedOnDevice):
    """The same, with more operations in a reset than a rollout repeats in every step; it notes when it was made."""

    def __init__(self, steps: tuple[int, ...]) -> None:
        super().__init__(steps, ACTIONS["discrete"])
        self.resets: list[int] = []

    def initial(self, rng: Array, params: Any = None) -> Place:
        number = super().initial(rng).number
        for _ in range(device_rollout.LONG_RESET):
            number = 1 - (1 - number)
        jax.debug.callback(lambda made: self.resets.append(int(made)), number)
        return Place(number, jnp.zeros((), jnp.int32))


FIXED = A2C(num_envs=N, rollout_length=T, hidden_sizes=())
WHOLE = REINFORCE(num_envs=N, hidden_sizes=())


def on_device(agent: Agent, env: DeviceEnv, rollouts: int, seed: int = 0) -> tuple[Any, list[Rollout]]:
    """The loop before, and consecutive rollouts, whose keys are numbered."""
    agent = agent.prepared()
    loop = first = initialize(agent, env, jax.random.key(seed))
    collected = []
    for iteration in range(rollouts):
        rows, loop = collect(agent, env, loop, jax.random.key(iteration))
        collected.append(rows)
    return first, collected


def on_host(agent: Agent, vector: HostVector, loop: Any, rollouts: int) -> list[Rollout]:
    agent = agent.prepared()
    collected = []
    for iteration in range(rollouts):
        rows, loop = collect_on_host(agent, vector, loop, jax.random.key(iteration))
        collected.append(rows)
    return collected


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize(
    ("env", "action"),
    [(ENV, "discrete"), (BOX_ENV, "box"), (DeviceEnv(LongReset(STEPS), "long reset", LIMIT), "discrete")],
)
def test_steps_on_the_host_equal_steps_on_the_device(env: DeviceEnv, action: str, mode: AutoresetMode) -> None:
    loop, expected = on_device(FIXED, env, rollouts=2)
    host = scripted(script_of(expected, STEPS), mode, LIMIT, action=action)
    assert host.spec == env.spec
    for ours, theirs in zip(on_host(FIXED, *enter(host, loop), rollouts=2), map(as_numpy, expected), strict=True):
        assert ours.mask is None
        for field in ("obs", "action", "reward", "terminated", "truncated", "last_obs", "first"):
            given, wanted = np.asarray(getattr(ours, field)), getattr(theirs, field)
            np.testing.assert_array_equal(given, wanted)
            assert given.dtype == wanted.dtype
        # Here the room is as much as there can be, there a power of 2.
        assert theirs.final_obs.shape == (4, N, 2)
        padded = np.zeros_like(theirs.final_obs)
        padded[: len(ours.final_obs)] = ours.final_obs
        np.testing.assert_array_equal(padded, theirs.final_obs)


def test_a_long_reset_is_made_when_an_episode_needs_it() -> None:
    func_env = LongReset((5,) * 1000)  # all episodes are over after 5 steps
    _, (rows,) = on_device(FIXED, DeviceEnv(func_env, "long reset", None), rollouts=1)
    jax.effects_barrier()
    assert len(func_env.resets) == 4 * N, "for the loop, and for each of the three ends"
    numbers = np.asarray(rows.obs)[::5, :, 0].ravel().tolist()
    assert len(set(numbers)) > 0.9 * len(numbers), "every episode begins in a state of its own"
    assert set(numbers) | set(np.asarray(rows.last_obs)[:, 0].tolist()) <= set(func_env.resets)


def test_long_resets_are_the_same_side_by_side() -> None:
    env = DeviceEnv(LongReset(STEPS), "long reset", LIMIT)
    agent = FIXED.prepared()
    seeds = jnp.arange(2)
    loops = [initialize(agent, env, jax.random.key(seed)) for seed in range(2)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *loops)
    rows, _ = jax.jit(jax.vmap(lambda loop, seed: device_rollout.collect(agent, env, loop, jax.random.key(seed))))(
        together, seeds
    )
    for seed, loop in enumerate(loops):
        alone, _ = collect(agent, env, loop, jax.random.key(seed))
        np.testing.assert_array_equal(rows.obs[seed], alone.obs)
        np.testing.assert_array_equal(rows.terminated[seed], alone.terminated)


def test_whole_episodes_on_the_host_equal_those_on_the_device() -> None:
    loop, (rows,) = on_device(WHOLE, ENV, rollouts=1)
    vector, loop = enter(scripted(script_of([rows], STEPS), limit=LIMIT), loop)
    (ours,) = map(as_numpy, on_host(WHOLE, vector, loop, rollouts=1))
    theirs = as_numpy(rows)
    for field in ("mask", "terminated", "truncated", "first"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    for field in ("obs", "action", "reward"):
        given, wanted = (getattr(x, field) for x in (ours, theirs))
        np.testing.assert_array_equal(given[ours.mask], wanted[ours.mask])
        assert (given.shape, given.dtype) == (wanted.shape, wanted.dtype)
    counts = [episodes.advance(episodes.begin(N), x)[1] for x in (ours, theirs)]
    assert jax.device_get(counts[0]) == jax.device_get(counts[1])
    assert counts[0]["rollout/episodes"] == N


@pytest.mark.parametrize("length", [LIMIT - 1, T])
def test_every_truncation_keeps_its_final_observation_in_its_place(length: int) -> None:
    agent = dataclasses.replace(FIXED, rollout_length=length)
    _, rollouts = on_device(agent, ENV, rollouts=2)
    for rows in map(as_numpy, rollouts):
        assert rows.final_obs.shape == (-(-length // LIMIT), N, 2)
        for n in range(N):
            cut = np.flatnonzero(rows.truncated[:, n])
            np.testing.assert_array_equal(rows.final_obs[: len(cut), n], rows.obs[cut, n] + [0, 1])
            assert not rows.final_obs[len(cut) :, n].any()
    assert rows.truncated.sum(axis=0).max() == len(rows.final_obs)


class Counting:
    """A policy with a memory: its action is the number of steps since an episode began, as `first` says."""

    def memory(self, spec: Spec, num_envs: int) -> Any:
        return jnp.full(num_envs, -100, jnp.int32)

    def act(
        self, spec: Spec, actor: Actor, memory: Array, view: View, key: Array, greedy: bool = False
    ) -> tuple[Array, Array]:
        count = jnp.where(view.first, 0, memory + 1)
        return count, count


@hyperparameters
class CountingA2C(Counting, A2C):
    pass


@hyperparameters
class CountingREINFORCE(Counting, REINFORCE):
    pass


def test_agents_that_differ_in_their_methods_alone_are_compiled_apart() -> None:
    """Equal structures are one key of jit's cache: now and then the one agent would run the other's program."""
    counting = CountingA2C(num_envs=N, rollout_length=T, hidden_sizes=())
    assert jax.tree.leaves(counting) == jax.tree.leaves(FIXED)
    structures: list[Any] = [jax.tree.structure(agent) for agent in (counting, FIXED)]
    assert structures[0] != structures[1]


@pytest.mark.parametrize(
    "agent",
    [CountingA2C(num_envs=N, rollout_length=T, hidden_sizes=()), CountingREINFORCE(num_envs=N, hidden_sizes=())],
)
@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_policies_are_told_where_episodes_begin(agent: Agent, mode: AutoresetMode | None) -> None:
    """In every row, also after the rollout's edge and in hidden rows, the count is the t that is observed."""
    loop, rollouts = on_device(agent, ENV, rollouts=2)
    if mode is not None:
        rollouts = on_host(agent, *enter(scripted(script_of(rollouts, STEPS), mode, LIMIT), loop), rollouts=2)
    for rows in map(as_numpy, rollouts):
        seen = np.ones_like(rows.mask) if not agent.whole_episodes else rows.mask
        np.testing.assert_array_equal(rows.action[seen], rows.obs[seen][:, 1])
        np.testing.assert_array_equal(rows.first, rows.obs[0, :, 1] == 0)
    assert (seen & (rows.obs[..., 1] == 0)).sum() >= N


@pytest.mark.parametrize("limit", [3, 40])
def test_whole_episodes_begin_in_row_0_and_end_once(limit: int) -> None:
    steps = (1, 2, 5, 35, 60)
    env = DeviceEnv(ScriptedOnDevice(steps, Discrete(8)), "scripted", limit)
    _, rollouts = on_device(WHOLE, env, rollouts=2)
    for rows in map(as_numpy, rollouts):
        number = rows.obs[0, :, 0].astype(int)
        own = np.array(steps)[number]
        length = np.minimum(own, limit)
        time = np.arange(-(-limit // EPISODE_BLOCK) * EPISODE_BLOCK)[:, None]
        np.testing.assert_array_equal(rows.mask, time < length)
        np.testing.assert_array_equal(rows.terminated, (time == own - 1) & rows.mask)
        np.testing.assert_array_equal(rows.truncated, (time == limit - 1) & rows.mask)
        t, n = np.nonzero(rows.mask)
        np.testing.assert_array_equal(rows.obs[t, n], np.stack([number[n], t], axis=1))
        assert rows.first.all()
        assert rows.final_obs.shape == (0, N, 2)
        assert len(np.unique(number)) > 2


class Cliff(ScriptedOnDevice):
    """Beyond its end the square root of a negative number."""

    def observation(self, state: Place, rng: Array, params: Any = None) -> Array:
        return super().observation(state, rng) * jnp.sqrt(
            (jnp.asarray(self.steps)[state.number] - state.t).astype(float)
        )

    def reward(self, state: Place, action: Array, next_state: Place, rng: Array, params: Any = None) -> Array:
        return jnp.sum(self.observation(next_state, rng))


def test_nothing_that_lies_behind_an_end_is_learned_from() -> None:
    agent = dataclasses.replace(WHOLE, normalize_obs=True, scale_reward=True, measure_every=0).prepared()
    env = DeviceEnv(Cliff(STEPS, Discrete(8)), "cliff", 30)
    loop, (rows,) = on_device(agent, env, rollouts=1)
    assert np.isfinite(rows.obs).all()
    assert not np.isfinite(rows.reward).all()
    counters, metrics = jax.jit(training.learn, static_argnums=1)(agent, env.spec, loop, rows)
    for leaf in jax.tree.leaves((counters.agent_state, counters.episodes, metrics)):
        assert np.isfinite(leaf).all()


def test_whole_episodes_need_a_time_limit() -> None:
    endless = rlgd.envs.make(ScriptedOnDevice(STEPS, Discrete(8)))
    for env in (endless, scripted([[(0, 3, "terminated")]])):
        with pytest.raises(UsageError, match="no time limit; set max_episode_steps"):
            training.initialize(WHOLE, env, jax.random.key(0))


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_episode_statistics_agree_with_gymnasium(mode: AutoresetMode) -> None:
    script = [[(n, n + 1, "terminated"), (2, 3, "truncated"), (5, 8, "both")] for n in range(N)]
    env = scripted(script, mode)
    inner = env.open(N)
    recorder: Any = gymnasium.wrappers.vector.RecordEpisodeStatistics(inner.vector, buffer_length=1000)
    vector = HostVector(recorder, inner.spec, env.env_id)
    loop = dataclasses.replace(initialize(FIXED.prepared(), env, jax.random.key(0)), obs=vector.reset(0))
    counters, sums = loop.episodes, []
    for rows in on_host(FIXED, vector, loop, rollouts=4):
        counters, new = episodes.advance(counters, rows)
        sums.append(jax.device_get(new))
    total = {name: sum(float(part[name]) for part in sums) for name in sums[0]}
    assert recorder.episode_count > 3 * N
    assert total["rollout/episodes"] == recorder.episode_count == len(recorder.return_queue)
    assert total["rollout/return_sum"] == sum(recorder.return_queue)
    assert total["rollout/length_sum"] == sum(recorder.length_queue)
    unfinished = ~recorder.prev_dones
    np.testing.assert_array_equal(counters.episode_return, np.where(unfinished, recorder.episode_returns, 0))
    np.testing.assert_array_equal(counters.episode_length, np.where(unfinished, recorder.episode_lengths, 0))
    assert total["rollout/steps"] == total["rollout/length_sum"] + int(counters.episode_length.sum())


ON_TWO_DEVICES = """
import dataclasses, jax, numpy as np, rlgd.envs
from rlgd import training
from rlgd.training.chunks import chunks
from rlgd.agents import PPO

learner, actor = jax.devices()
agent = PPO(num_envs=4, rollout_length=8, num_epochs=1, num_minibatches=1, hidden_sizes=(8,)).prepared()
env = rlgd.envs.make("CartPole-v1", backend="host")
states = []
for device in (None, actor):
    vector = env.open(agent.num_envs)
    loop = training.initialize(agent, env, jax.random.key(0), 64)
    loop = dataclasses.replace(loop, obs=vector.reset(0))
    *_, last = chunks(training.HostRunner(agent, vector, act_device=device), loop, 1, 64)
    states.append(last.loop)
    vector.close()
for one, other in zip(*map(jax.tree.leaves, states), strict=True):
    if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
        one, other = map(jax.random.key_data, (one, other))
    assert not hasattr(other, "devices") or other.devices() == {learner}
    np.testing.assert_array_equal(one, other)
"""


def test_acting_on_another_device_than_learning_changes_no_bit() -> None:
    """Two devices made of one CPU stand for an accelerator that learns and a CPU that acts."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], env=environment, check=True, timeout=300)


def test_rollouts_of_images_are_as_large_as_the_images() -> None:
    """Atari through the convolutions: bytes stay bytes, and there is one row for each step."""
    agent = dataclasses.replace(FIXED, num_envs=2, rollout_length=4, hidden_sizes=(8,)).prepared()
    env = rlgd.envs.make("ALE/Breakout-v5", max_episode_steps=3, vectorization="sync")
    assert isinstance(env, HostEnv)
    vector = env.open(2)
    loop = dataclasses.replace(initialize(agent, env, jax.random.key(0)), obs=vector.reset(0))
    rows, loop = collect_on_host(agent, vector, loop, jax.random.key(1))
    vector.close()
    assert rows.obs.shape == (4, 2, 4, 84, 84)
    assert rows.final_obs.shape == (2, 2, 4, 84, 84)
    for obs in (rows.obs, rows.last_obs, rows.final_obs, loop.obs):
        assert obs.dtype == np.uint8
    np.testing.assert_array_equal(rows.obs[0], rows.obs[3][:, :1].repeat(4, axis=1))
