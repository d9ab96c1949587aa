"""Natural policy gradient (Kakade 2001)."""

import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.natural import NaturalAgent, learn
from rlgd.hyperparameters import hyperparameters, traced
from rlgd.pytrees import AgentState, Metrics, Rollout
from rlgd.spaces import Spec


@hyperparameters
class NPG(NaturalAgent):
    """Ascent along the natural gradient, with any optimizer and step size, shortened where it would move too far."""

    max_kl: float = traced(0.05, "how far a step may move the policy: mean KL(old || new) in nats", "(0, inf)")

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: x = (F + cg_damping I)^-1 g is what the ascent is given as the gradient."""
        return learn(self, spec, state, rollout, progress, key, lambda solution: solution.x, -jnp.inf)
