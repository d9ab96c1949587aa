"""What was learned before a run, as its configuration has it."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rlgd.agents.base.agent import Agent
from rlgd.pytrees import AgentState, Params, named_leaves, with_leaves
from rlgd.run.settings import RunSettings
from rlgd.training import federation


class Inherited(NamedTuple):
    """What was learned before, and by which agent; of a policy, ``state`` has nothing but what acts."""

    agent: Agent
    state: AgentState

    def taken_over_by(self, agent: Agent, settings: RunSettings, new: AgentState) -> AgentState:
        """The state of a new run's agent with what it takes over, as the settings of the run say."""
        arrays = named_leaves(self.state)
        old = with_leaves(self.state, lambda name: jnp.asarray(np.asarray(arrays[name])))  # on this process's device
        begun, learned = federation.common(new), federation.common(old)
        value = begun.params.value if learned.params.value is None else learned.params.value
        changes: dict[str, Any] = {"params": Params(learned.params.policy, value)}
        if settings.init_normalizers:
            changes["obs_statistics"] = learned.obs_statistics
            rewards = begun.reward_statistics
            if rewards is not None and learned.reward_statistics is not None:  # the returns so far are new ones
                statistics = learned.reward_statistics.statistics
                changes["reward_statistics"] = dataclasses.replace(rewards, statistics=statistics)
        if settings.init_optimizer:
            changes |= {"opt_state": old.opt_state, "outer_opt_state": old.outer_opt_state}
        # Nothing has moved yet: what is compared with the parameters before the last update begins at these.
        if begun.previous is not None:
            changes["previous"] = begun.previous._replace(policy=learned.params.policy)
        if begun.control is not None and begun.control.before is not None:
            changes["control"] = dataclasses.replace(begun.control, before=learned.params.policy)
        return federation.spread(agent, dataclasses.replace(begun, **changes))
