"""The training loop: pure ``initialize`` and ``iterate``, and many iterations as one compiled program."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd import spaces
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.pytrees import LoopState, Metrics, Obs, Rollout
from rlgd.spaces import Spec
from rlgd.training import controlling, episodes, federation
from rlgd.training.device_rollout import collect
from rlgd.training.faults import find_faults
from rlgd.training.history import History
from rlgd.training.rollout import padded_limit

INIT, ENV, ROLLOUT, UPDATE = range(4)  # purposes of the random keys of a run


def initialize(agent: Agent, env: Env, key: Array, total_timesteps: int | None = None) -> LoopState:
    """The state before the first iteration.

    Args:
        agent: its values may be traced or stacked.
        env: a device or host environment; a host environment's observations are filled in when it is opened.
        key: the root key, from which all other random keys of the run derive.
        total_timesteps: the length of the run, for schedules; None: progress stays 0.
    """
    if not isinstance(env, DeviceEnv):
        return initialize_on_host(agent, env.spec, key, total_timesteps)
    env_state, obs = env.reset(jax.random.fold_in(key, ENV), agent.num_envs)
    return _beginning(agent, env.spec, env_state, obs, key, total_timesteps)


def initialize_on_host(agent: Agent, spec: Spec, key: Array, total_timesteps: int | None = None) -> LoopState:
    """``initialize`` for a host environment, of which it needs the ``spec`` only."""
    return _beginning(agent, spec, (), spaces.blank(spec.obs, agent.num_envs), key, total_timesteps)


def _beginning(
    agent: Agent, spec: Spec, env_state: Any, obs: Obs, key: Array, total_timesteps: int | None
) -> LoopState:
    num_envs = agent.num_envs
    if agent.whole_episodes:
        padded_limit(spec)
    return LoopState(
        agent_state=federation.init(agent, spec, jax.random.fold_in(key, INIT)),
        env_state=env_state,
        obs=obs,
        first=jnp.ones(num_envs, bool),
        memory=agent.memory(spec, num_envs),
        episodes=episodes.begin(num_envs),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
        progress=jnp.zeros(()),
        progress_per_step=jnp.asarray(1 / total_timesteps if total_timesteps else 0.0),
    )


def iterate(agent: Agent, env: DeviceEnv, loop: LoopState) -> tuple[LoopState, Metrics]:
    """One iteration on the device: collect a rollout, learn from it. Pure: jit it, vmap it over agents and states."""
    if agent.climbers is not None:
        return federation.iterate(agent, loop, lambda climber, own: iterate(climber, env, own))
    with jax.named_scope("collecting"):  # in the names of operations, for profilers
        rollout, loop = collect(agent, env, loop, iteration_key(loop, ROLLOUT))
    with jax.named_scope("learning"):
        return learn(agent, env.spec, loop, rollout)


def learn(agent: Agent, spec: Spec, loop: LoopState, rollout: Rollout) -> tuple[LoopState, Metrics]:
    """The second half of an iteration: the update of the agent and the statistics of episodes."""
    key = iteration_key(loop, UPDATE)
    agent_state, metrics = controlling.update(agent, spec, loop.agent_state, rollout, share_done(loop), key)
    learned = (agent_state.params, agent_state.obs_statistics, agent_state.reward_statistics)
    metrics |= find_faults(metrics.pop("first_fault"), rollout, learned)
    counters, sums = episodes.advance(loop.episodes, rollout)
    loop = dataclasses.replace(
        loop,
        agent_state=agent_state,
        episodes=counters,
        iteration=loop.iteration + 1,
        progress=loop.progress + loop.progress_per_step * sums["rollout/steps"].astype(loop.progress.dtype),
    )
    return loop, metrics | sums | episodes.told(rollout)


def share_done(loop: LoopState) -> Array:
    """``progress`` of the present iteration, without the rounding that may leave [0, 1]."""
    return jnp.clip(loop.progress, 0, 1)


def iterations_done(loop: LoopState) -> int:
    """Iterations of a run so far; the counter in the state is an int32, which wraps to negative numbers."""
    return int(loop.iteration) % 2**32


def iteration_key(loop: LoopState, purpose: int) -> Array:
    """The random key of the present iteration for ``purpose``, such as ``UPDATE``."""
    return _fold_in_both(loop.key, purpose, loop.iteration)


@functools.partial(jax.jit, static_argnums=1)  # the host asks for a key in every iteration
def _fold_in_both(key: Array, purpose: int, iteration: Array) -> Array:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), iteration)


def run_iterations(
    agent: Agent, env: DeviceEnv, length: int, loop: LoopState, iterations: Array, rows: Array
) -> tuple[LoopState, History, Array]:
    """Run up to ``iterations`` (at most ``length``) iterations. The first iteration that reaches ``rows`` real rows, or
    has something that is not finite, is the last one.

    One program serves every number of iterations: the history has room for ``length``, and only the first ``n`` are
    valid. The third result is ``n``.
    """
    # It is used twice, for its shapes and then for itself, but traced once.
    once_traced = jax.jit(lambda agent, loop: iterate(agent, env, loop), inline=True)
    history = History.blank(jax.eval_shape(once_traced, agent, loop)[1], length)

    def unfinished(carry: Any) -> Array:
        _, _, done, seen, finite = carry
        return (done < iterations) & (seen < rows) & finite

    def body(carry: Any) -> Any:
        loop, history, done, seen, _ = carry
        loop, metrics = once_traced(agent, loop)
        history = history.with_iteration(done, metrics)
        return loop, history, done + 1, seen + metrics["rollout/steps"], metrics["fault/count"] == 0

    zero = jnp.zeros((), jnp.int32)
    start = (loop, history, zero, zero, jnp.array(True))
    loop, history, done, *_ = jax.lax.while_loop(unfinished, body, start)
    return loop, history, done
