"""What the updates of agents are composed of: steps of ascent, and the end of an iteration."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.agents.base.faults import first_fault
from rlgd.ascent.ascent import Ascent
from rlgd.ascent.fisher import Fisher
from rlgd.ascent.joined import Form, form
from rlgd.ascent.trees import apply_step, global_norm
from rlgd.errors import UsageError
from rlgd.maths import running_statistics
from rlgd.maths.minibatches import as_rows, by_time
from rlgd.models.features import encode
from rlgd.pytrees import AgentState, Metrics, Params, Previous, Rollout
from rlgd.spaces import Spec


def step(
    ascent: Ascent,
    gradient: Any,
    opt_state: Any,
    params: Any,
    progress: Array | float = 0.0,
    new_rollout: bool | Array = False,
    fisher: Fisher | None = None,
) -> tuple[Any, Any]:
    """Parameters and optimizer state after one step uphill; the arguments are those of ``Ascent.transformation``.

    Raises:
        UsageError: if the optimizer reads an estimate of the Fisher matrix, and there is none.
    """
    if ascent.fisher and fisher is None:
        raise UsageError(
            f"{ascent.rule.optimizer} reads an estimate of the Fisher matrix, and there is none in this step; choose "
            "another optimizer, or give the step one (rlgd.agents.base.fisher)."
        )
    update = ascent.transformation().update
    change, opt_state = update(gradient, opt_state, params, progress, new_rollout=new_rollout, fisher=fisher)
    return apply_step(params, change), opt_state


def ascend(
    agent: Agent,
    params: Params,
    opt_state: Params,
    gradient: Params,
    progress: Array,
    new_rollout: bool | Array = True,
    fisher: Fisher | None = None,
) -> tuple[Params, Params, Metrics]:
    """One step uphill for policy and value function, each with its own optimizer state, clipping and step size.

    ``new_rollout``: this is the first step since a rollout was collected. ``fisher``: what ``fisher.fisher`` estimates
    at the rows of the gradient.

    Returns:
        Parameters, optimizer state, and metrics of the gradients.
    """
    ascent, value_ascent = agent.ascent, agent.value_ascent
    of_policy, of_value = (
        (None, None)
        if fisher is None
        else (Fisher(fisher.score.policy, fisher.factors.policy), Fisher(fisher.score.value, fisher.factors.value))
    )
    policy, policy_opt_state = step(
        ascent, gradient.policy, opt_state.policy, params.policy, progress, new_rollout, of_policy
    )
    value, value_opt_state = step(
        value_ascent, gradient.value, opt_state.value, params.value, progress, new_rollout, of_value
    )
    norm = global_norm(ascent.penalties.subtracted(gradient.policy, params.policy))
    metrics = {
        "ascent/gradient_norm": norm,
        "ascent/value_gradient_norm": global_norm(value_ascent.penalties.subtracted(gradient.value, params.value)),
        "ascent/clipped": is_clipped(ascent, norm),
    }
    return Params(policy, value), Params(policy_opt_state, value_opt_state), metrics


def kept_form(agent: Agent, params: Params) -> Form:
    """How parameters and optimizer states of both networks are kept while an iteration makes many steps."""
    policy, value = form(agent.ascent, params.policy), form(agent.value_ascent, params.value)

    def both(of_policy: Callable[[Any], Any], of_value: Callable[[Any], Any]) -> Callable[[Params], Params]:
        return lambda trees: Params(of_policy(trees.policy), of_value(trees.value))

    return Form(*map(both, policy, value))


def is_clipped(ascent: Ascent, norm: Array) -> Array:
    """1 where a gradient of length ``norm`` is scaled down, else 0."""
    return (norm > ascent.clipping.limit).astype(norm.dtype)


def climb_once(
    agent: Agent,
    state: AgentState,
    gradient: Params,
    metrics: Metrics,
    progress: Array,
    fisher: Fisher | None = None,
) -> tuple[Params, Params, Metrics]:
    """The only step of an iteration.

    Args:
        agent, state, progress: as in ``Agent.update``.
        gradient, metrics: on all rows of the rollout.
        fisher: as in ``ascend``.

    Returns:
        Parameters, optimizer state, and all metrics of the step.
    """
    params, opt_state, ascent_metrics = ascend(agent, state.params, state.opt_state, gradient, progress, fisher=fisher)
    metrics = metrics | ascent_metrics
    metrics["first_fault"] = first_fault(metrics)
    return params, opt_state, metrics | applied_schedules(agent, progress)


def applied_schedules(agent: Agent, progress: Array) -> Metrics:
    """Step size, momentum and entropy weight as they are applied."""
    return {
        "ascent/learning_rate": agent.ascent.step_size(progress),
        "ascent/momentum": agent.ascent.momentum_at(progress),
        "ascent/effective_step": agent.ascent.effective_step(progress),
        "train/ent_coef": agent.entropy_weight(progress),
    }


def conclude(
    agent: Agent,
    spec: Spec,
    state: AgentState,
    rollout: Rollout,
    params: Params,
    opt_state: Params,
    value_memory: Array | None = None,
) -> AgentState:
    """The state after an update: after the outer step from ``state`` towards ``params``, and with new normalizers.

    The normalizers read the rollout only now: the update uses those that acted. ``value_memory`` is that of
    ``Experience``, of which the last sequences count.
    """
    obs_statistics, reward_statistics = state.obs_statistics, state.reward_statistics
    if obs_statistics is not None:
        mask = as_rows(rollout.mask)
        rows = as_rows(encode(spec.obs, rollout.obs))
        obs_statistics = running_statistics.merge(obs_statistics, running_statistics.of_batch(rows, mask))
    if reward_statistics is not None:
        reward_statistics = running_statistics.observe_reward(
            reward_statistics, rollout.reward, rollout.without_future | rollout.truncated, agent.gamma, rollout.mask
        )
    params, outer_opt_state = outer_step(agent.ascent.outer_ascent(), state.params, params, state.outer_opt_state)
    return dataclasses.replace(
        state,
        params=params,
        opt_state=opt_state,
        outer_opt_state=outer_opt_state,
        obs_statistics=obs_statistics,
        reward_statistics=reward_statistics,
        value_memory=None if value_memory is None else by_time(value_memory, agent.num_envs)[-1],
        previous=None if state.previous is None else Previous(state.params.policy, state.previous.updates + 1),
    )


def outer_step(
    outer: Ascent | None, start: Params, end: Params, opt_state: Params | None
) -> tuple[Params, Params | None]:
    """Parameters and optimizer state after the outer ascent's step from ``start`` towards ``end``."""
    if outer is None or opt_state is None:
        return end, None

    def one(start: Any, end: Any, opt_state: Any) -> tuple[Any, Any]:
        return step(outer, jax.tree.map(jnp.subtract, end, start), opt_state, start, jnp.zeros(()))

    policy, policy_opt_state = one(start.policy, end.policy, opt_state.policy)
    value, value_opt_state = one(start.value, end.value, opt_state.value)
    return Params(policy, value), Params(policy_opt_state, value_opt_state)
