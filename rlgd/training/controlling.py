"""Feedback in the training loop: what drives learning rate, momentum and batch is measured here.

The laws (``rlgd.ascent.control``) change the agent's hyper-parameters, which are traced, so no agent has to know of
them.
"""

import dataclasses
from typing import Any

from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.agents.base.experience import kl_of_update
from rlgd.ascent.accumulation import Accumulation
from rlgd.pytrees import AgentState, Metrics, Rollout
from rlgd.spaces import Spec


def update(
    agent: Agent, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
) -> tuple[AgentState, Metrics]:
    """``agent.update`` with the learning rate and the momentum that the laws of its ascent give it."""
    control = agent.ascent.control
    if not control.is_on:
        return agent.update(spec, state, rollout, progress, key)
    rule, driven, measured = agent.ascent.resolved().rule, state.control, dict[str, Any]()
    if control.reads_noise:
        halves = agent.half_gradients(spec, state, rollout, progress, key)
        driven, more = control.after_halves(driven, halves)
        measured |= more
    if control.reads_gradient:
        gradient = agent.gradient(spec, state, rollout, progress, key).policy
        if control.step.name == "storm":
            driven, more = control.after_norm(driven, rule, gradient)
        else:
            moment = agent.ascent.first_moment(state.opt_state.policy)
            driven, more = control.after_gradient(driven, gradient, moment, state.params.policy)
        measured |= more
    ascent = dataclasses.replace(agent.ascent, rule=control.applied(rule, driven))
    if driven.gradients is not None:
        accumulation = Accumulation(gradient_accumulation_steps=driven.gradients)
        ascent = dataclasses.replace(ascent, accumulation=accumulation)
    after, metrics = dataclasses.replace(agent, ascent=ascent).update(spec, state, rollout, progress, key)
    measured |= driven.metrics()
    if control.step.name == "kl":
        kl = kl_of_update(agent, spec, state, rollout, after.params.policy)
        driven, more = control.after_kl(driven, kl)
        measured |= more
    return dataclasses.replace(after, control=driven), metrics | measured
