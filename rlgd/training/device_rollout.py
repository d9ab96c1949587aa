"""Collecting a rollout on the device: one compiled scan."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rlgd import spaces
from rlgd.agents.base.agent import Agent
from rlgd.envs.device.device_env import DeviceEnv, EnvState, Spare, Timestep, select_envs
from rlgd.pytrees import LoopState, Obs, Rollout, View
from rlgd.system.layout import layout
from rlgd.training.rollout import (
    ACT,
    EPISODE_BLOCK,
    RESET,
    STEP,
    choose_action,
    most_truncations,
    padded_limit,
    rollout_length,
    step_key,
)

UNROLLED_OPERATIONS = 1600  # in a turn of a rollout's loop
# A first state of more operations, or more bytes, is made only when an episode needs it. Classic control and MinAtar
# have at most 348 and 1,939, Craftax 3,839 and 339,429, CheetahRun of Playground 23,970 and 8,361.
LONG_RESET, LARGE_STATE = 500, 4096


def collect(agent: Agent, env: DeviceEnv, loop: LoopState, key: Array) -> tuple[Rollout, LoopState]:
    """The rows of one iteration on the device: ``rollout_length`` steps, or one whole episode of each environment.

    Returns:
        The rollout, and the loop state with environments and memory after it.
    """
    if agent.whole_episodes:
        return _collect_episodes(agent, env, loop, key)
    return _collect_steps(agent, env, loop, key, rollout_length(agent, env.spec))


def _keys(key: Array, purpose: int, times: Array) -> Array:
    """The keys of several steps, as numbers: JAX's check for keys that are used twice knows no keys in a scan."""
    return jax.random.key_data(jax.vmap(lambda t: step_key(key, purpose, t))(times))


def _steps_in_a_turn(step: Callable[[Any, Any], Any], carry: Any, row: Any) -> int:
    """How many steps a turn of a rollout's loop makes: few where a step is a long program, which compiles long."""
    most = layout().unroll
    if most == 1:
        return 1
    operations = _num_operations(jax.make_jaxpr(step)(carry, row).jaxpr)
    return max(1, min(most, UNROLLED_OPERATIONS // operations))


def _num_operations(program: Any) -> int:
    """The operations of a jaxpr, those of loops and functions inside included."""
    values = [value for equation in program.eqns for value in equation.params.values()]
    parts = [part for value in values for part in (value if isinstance(value, tuple | list) else (value,))]
    inner = [getattr(part, "jaxpr", part) for part in parts]
    return len(program.eqns) + sum(_num_operations(part) for part in inner if hasattr(part, "eqns"))


class _NextEpisodes(NamedTuple):
    """The first states of the episodes that begin in a rollout.

    Attributes:
        spare: what the loop carries of them.
        given: what each step of the loop reads of them, ``[T, ...]``.
        begin: ``(over [N], current state and observation, spare, what this step reads)`` to the state and observation
            with a new episode in each environment that is over, and the spare after that.
    """

    spare: Any
    given: Any
    begin: Callable[[Array, tuple[EnvState, Obs], Any, Any], tuple[tuple[EnvState, Obs], Any]]


def _next_episodes(
    reset: Callable[[Array], tuple[EnvState, Obs]], current: tuple[EnvState, Obs], keys: Array
) -> _NextEpisodes:
    """Short resets are made for all steps at once, before the loop: there they are cheapest, and have few kernels.

    Of long ones (worlds, bodies in contact) this would need most of the time and the memory. They are made for all
    environments when an episode first ends, and again when an environment needs a second one. Under ``vmap``, as in a
    study, both branches of that condition are computed in every step, so there the gain is memory alone.

    Args:
        reset: from a key's numbers to the first states of all environments.
        current: states and observations of the environments before the rollout.
        keys: the numbers of a key for each step.
    """
    reset = jax.jit(reset, inline=True)  # traced once, and used twice
    if not _is_long(reset, keys[0]):

        def begin_given(over: Array, current: Any, spare: Any, fresh: Any) -> Any:
            return select_envs(over, fresh, current), spare

        return _NextEpisodes((), jax.vmap(reset)(keys), begin_given)

    def begin_spare(over: Array, current: Any, spare: Spare, numbers: Array) -> Any:
        return spare.begin_where(over, current, lambda: reset(numbers))

    none_yet = Spare(current, jnp.ones(current[0].elapsed.shape, bool))
    return _NextEpisodes(none_yet, keys, begin_spare)


def _is_long(reset: Callable[[Array], tuple[EnvState, Obs]], key: Array) -> bool:
    """Whether first states of all environments, for every step of a rollout, would be too much to make ahead."""
    first = jax.eval_shape(reset, key)
    num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(first)) // len(first[0].elapsed)
    return num_bytes > LARGE_STATE or _num_operations(jax.make_jaxpr(reset)(key).jaxpr) > LONG_RESET


def _row(view: View, action: Array, timestep: Timestep) -> dict[str, Any]:
    return {
        "obs": view.obs,
        "action_mask": view.action_mask,
        "action": action,
        "reward": timestep.reward,
        "terminated": timestep.terminated,
        "truncated": timestep.truncated,
        "info": timestep.info,
    }


def _collect_steps(agent: Agent, env: DeviceEnv, loop: LoopState, key: Array, length: int) -> tuple[Rollout, LoopState]:
    spec, actor = env.spec, loop.agent_state.actor
    num_final = most_truncations(spec, length)
    # Outside of the loop: keys take kernels of one thread.
    act_keys, env_keys, reset_keys = (_keys(key, purpose, jnp.arange(length)) for purpose in (ACT, STEP, RESET))
    as_key = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(key))
    episodes = _next_episodes(
        lambda numbers: env.reset(as_key(numbers), agent.num_envs), (loop.env_state, loop.obs), reset_keys
    )

    def step(carry: Any, row: Any) -> tuple[Any, Any]:
        state, obs, first, memory, final_obs, num_truncated, spare = carry
        act_key, env_key, given = row
        view = View(obs, first, env.action_mask(state))
        action, env_action, memory = choose_action(agent, spec, actor, memory, view, as_key(act_key))
        moved, timestep = env.step_without_reset(as_key(env_key), state, env_action)
        final_obs = _keep_final(final_obs, num_truncated, timestep)
        done = timestep.terminated | timestep.truncated
        (state, obs), spare = episodes.begin(done, (moved, timestep.next_obs), spare, given)
        num_truncated += timestep.truncated.astype(jnp.int32)
        return (state, obs, done, memory, final_obs, num_truncated, spare), _row(view, action, timestep)

    final_obs = spaces.blank(spec.obs, num_final, agent.num_envs)
    num_truncated = jnp.zeros(loop.first.shape, jnp.int32)
    start = (loop.env_state, loop.obs, loop.first, loop.memory, final_obs, num_truncated, episodes.spare)
    given = (act_keys, env_keys, episodes.given)
    turn = _steps_in_a_turn(step, start, jax.tree.map(lambda x: x[0], given))
    (state, obs, first, memory, final_obs, *_), rows = jax.lax.scan(step, start, given, unroll=turn)
    rollout = Rollout(**rows, mask=None, last_obs=obs, final_obs=final_obs, first=loop.first, memory=loop.memory)
    return rollout, dataclasses.replace(loop, env_state=state, obs=obs, first=first, memory=memory)


def _keep_final(final_obs: Obs, num_truncated: Array, timestep: Timestep) -> Obs:
    """``final_obs [K, N, ...]`` with the observations of the environments that are truncated now added."""

    def keep(final: Array, obs: Array) -> Array:
        if final.shape[0] == 0:
            return final
        place = jnp.arange(final.shape[0], dtype=jnp.int32)[:, None] == num_truncated[None]
        here = place & timestep.truncated[None]
        return jnp.where(here.reshape(*here.shape, *(1,) * (final.ndim - 2)), obs[None], final)

    return jax.tree.map(keep, final_obs, timestep.next_obs)


def _collect_episodes(agent: Agent, env: DeviceEnv, loop: LoopState, key: Array) -> tuple[Rollout, LoopState]:
    spec, actor, num_envs = env.spec, loop.agent_state.actor, agent.num_envs
    length = padded_limit(spec)
    state, obs = env.reset(jax.random.fold_in(key, RESET), num_envs)
    alive = jnp.ones(num_envs, bool)
    as_key = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(key))

    def step(carry: Any, row: tuple[Array, Array]) -> tuple[Any, Any]:
        state, obs, alive, first, memory = carry
        act_key, env_key = row
        view = View(obs, first, env.action_mask(state))
        action, env_action, memory = choose_action(agent, spec, actor, memory, view, as_key(act_key))
        moved, timestep = env.step_without_reset(as_key(env_key), state, env_action)
        timestep = timestep._replace(terminated=alive & timestep.terminated, truncated=alive & timestep.truncated)
        # After its end the physics of an environment may become infinite or NaN, so its state stays as it is.
        state, obs = select_envs(alive, (moved, timestep.next_obs), (state, obs))
        still_alive = alive & ~(timestep.terminated | timestep.truncated)
        return (state, obs, still_alive, jnp.zeros_like(first), memory), _row(view, action, timestep) | {"mask": alive}

    def block(carry: Any) -> Any:
        index, running, rows = carry
        times = index * EPISODE_BLOCK + jnp.arange(EPISODE_BLOCK)
        keys = (_keys(key, ACT, times), _keys(key, STEP, times))
        running, new = jax.lax.scan(step, running, keys, unroll=turn)

        def place(whole: Array, part: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(whole, part, index * EPISODE_BLOCK, 0)

        return index + 1, running, jax.tree.map(place, rows, new)

    def unfinished(carry: Any) -> Array:
        index, running, _ = carry
        return (index < length // EPISODE_BLOCK) & jnp.any(running[2])

    start = (state, obs, alive, alive, agent.memory(spec, num_envs))
    two_keys = (jax.random.key_data(key),) * 2
    turn = _steps_in_a_turn(step, start, two_keys)
    _, row = jax.eval_shape(step, start, two_keys)
    empty = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), row)
    _, (state, obs, _, first, memory), rows = jax.lax.while_loop(
        unfinished, block, (jnp.zeros((), jnp.int32), start, empty)
    )
    rollout = Rollout(**rows, last_obs=obs, final_obs=spaces.blank(spec.obs, 0, num_envs), first=alive)
    return rollout, dataclasses.replace(loop, env_state=state, obs=obs, first=first, memory=memory)
