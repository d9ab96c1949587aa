"""Federated ascent: groups of environments climb alone, and meet once in some iterations at the mean of where they are.

Between two meetings nothing is exchanged, so devices that train far from each other wait less. This is local SGD
(McMahan et al. 2017, arXiv 1602.05629; Stich 2019); with a learning rate and a momentum of the outer step it is DiLoCo
(Douillard et al. 2023, arXiv 2311.08105): the outer step ascends the mean displacement since the last meeting. Each
climber keeps its own optimizer state and environments.

All climbers have one state, an array ``[climbers, ...]`` for each of the agent's, divided over the devices.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.agent import Agent, opt_state
from rlgd.agents.base.learning import outer_step
from rlgd.maths import running_statistics
from rlgd.pytrees import AgentState, LoopState, Met, Metrics
from rlgd.spaces import Spec
from rlgd.system.mesh import undivided

T = TypeVar("T")
OF_ENVS = ("env_state", "obs", "first", "memory", "episodes")  # of the state: what belongs to an environment


def init(agent: Agent, spec: Spec, key: Array) -> AgentState:
    """The state of an agent before the first iteration, see ``Agent.init``; all climbers begin alike."""
    number = agent.climbers
    if number is None:
        return agent.init(spec, key)
    own, outer = agent.climber().init(spec, key), agent.ascent.outer_ascent()
    return dataclasses.replace(
        _copies(own, number),
        outer_opt_state=None if outer is None else opt_state(outer, outer, own.params),
        met=Met(own.params, own.obs_statistics),
    )


def each(agent: Agent, loop: LoopState, function: Callable[[Agent, LoopState], T]) -> T:
    """What ``function`` gives for each climber and its own state, stacked: ``[climbers, ...]``."""
    number = agent.climbers
    assert number is not None
    climber = agent.climber()

    def part(x: Array) -> Array:
        return x.reshape(number, -1, *x.shape[1:])

    parts = {name: jax.tree.map(part, getattr(loop, name)) for name in OF_ENVS}
    states = dataclasses.replace(loop.agent_state, outer_opt_state=None, met=None)

    def of_one(place: Array, state: AgentState, own: dict[str, Any]) -> T:
        key = jax.random.fold_in(loop.key, place)
        return function(climber, dataclasses.replace(loop, agent_state=state, key=key, **own))

    with undivided():  # each device has whole climbers
        return jax.vmap(of_one)(jnp.arange(number), states, parts)


def iterate(
    agent: Agent, loop: LoopState, iterate_one: Callable[[Agent, LoopState], tuple[LoopState, Metrics]]
) -> tuple[LoopState, Metrics]:
    """One iteration of every climber, after which they meet if it is time."""
    after, metrics = each(agent, loop, iterate_one)
    metrics = joined_metrics(metrics)
    envs = {name: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), getattr(after, name)) for name in OF_ENVS}
    states = dataclasses.replace(
        after.agent_state, outer_opt_state=loop.agent_state.outer_opt_state, met=loop.agent_state.met
    )
    every, iteration = agent.ascent.outer.sync_every, loop.iteration + 1
    due = jnp.mod(iteration, jnp.asarray(every).astype(jnp.int32)) == 0
    # A condition, not a choice: where it is not time, nothing is exchanged.
    states = jax.lax.cond(due, lambda states: _meet(agent, states), lambda states: states, states)
    steps = metrics["rollout/steps"].astype(loop.progress.dtype)
    progress = loop.progress + loop.progress_per_step * steps
    return dataclasses.replace(loop, agent_state=states, iteration=iteration, progress=progress, **envs), metrics


def joined_metrics(metrics: Metrics) -> Metrics:
    """Metrics of all climbers, from ``[climbers]`` of each: counts and sums are added, a fault is the first one's."""
    counts = metrics.get("fault/count")
    first = None if counts is None else jnp.argmax(counts > 0)

    def join(name: str, values: Array) -> Array:
        if name.startswith("rollout/") or name == "fault/count":
            return jnp.sum(values, axis=0, dtype=values.dtype)
        return values[first] if name.startswith("fault/") else jnp.mean(values, axis=0)

    return {name: join(name, values) for name, values in metrics.items()}


def _meet(agent: Agent, states: AgentState) -> AgentState:
    """All climbers at one place: after the outer step from their last meeting towards their mean."""
    before, number = states.met, agent.climbers
    assert before is not None
    assert number is not None
    mean: Any = jax.tree.map(lambda x: jnp.mean(x, axis=0), states.params)
    params, outer_opt_state = outer_step(agent.ascent.outer_ascent(), before.params, mean, states.outer_opt_state)
    obs_statistics, rewards = states.obs_statistics, states.reward_statistics
    if obs_statistics is not None:
        obs_statistics = running_statistics.pooled(obs_statistics)
    if rewards is not None:
        pooled = _copies(running_statistics.pooled(rewards.statistics), number)
        rewards = dataclasses.replace(rewards, statistics=pooled)
    return dataclasses.replace(
        states,
        params=_copies(params, number),
        obs_statistics=_copies(obs_statistics, number),
        reward_statistics=rewards,
        outer_opt_state=outer_opt_state,
        met=Met(params, obs_statistics),
    )


def common(state: AgentState) -> AgentState:
    """What an agent has learned, as the state of one that climbs alone; the optimizer's state stays as it is."""
    if state.met is None:
        return state
    rewards = state.reward_statistics
    if rewards is not None:
        rewards = dataclasses.replace(rewards, statistics=running_statistics.pooled(rewards.statistics))
    params, obs_statistics = state.met
    return dataclasses.replace(state, params=params, obs_statistics=obs_statistics, reward_statistics=rewards, met=None)


def spread(agent: Agent, state: AgentState) -> AgentState:
    """The reverse of ``common``: every climber of the agent, if it has any, begins with what was learned."""
    number, rewards = agent.climbers, state.reward_statistics
    if number is None:
        return state
    if rewards is not None:
        rewards = dataclasses.replace(rewards, statistics=_copies(rewards.statistics, number))
    return dataclasses.replace(
        state,
        params=_copies(state.params, number),
        obs_statistics=_copies(state.obs_statistics, number),
        reward_statistics=rewards,
        met=Met(state.params, state.obs_statistics),
    )


def _copies(tree: T, number: int) -> T:
    copies: T = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (number, *x.shape)), tree)
    return copies
