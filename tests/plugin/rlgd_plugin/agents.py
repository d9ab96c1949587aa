"""An agent of a user: A2C whose advantages are clipped, so that one rare return cannot turn the gradient."""

import jax.numpy as jnp
from jax import Array

from rlgd.agents import OneStepAgent
from rlgd.agents.base.experience import Experience
from rlgd.hyperparameters import hyperparameters, traced
from rlgd.maths import objectives
from rlgd.maths.distributions import Distribution


@hyperparameters
class ClippedA2C(OneStepAgent):
    """One step of ascent on each rollout, with clipped advantages."""

    adv_clip: float = traced(2.0, "the largest advantage", "(0, inf)")

    def score(self, policy: Distribution, rows: Experience) -> Array:
        advantage = jnp.clip(rows.advantage, -self.adv_clip, self.adv_clip)
        return objectives.score_function(policy.log_prob(rows.action), advantage, rows.mask)
