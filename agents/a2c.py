"""Advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, synchronous)."""

from jax import Array

from rlgd.agents.base.experience import Experience
from rlgd.agents.base.one_step import OneStepAgent
from rlgd.ascent.ascent import Ascent
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.maths import objectives
from rlgd.maths.distributions import Distribution


@hyperparameters
class A2C(OneStepAgent):
    """One step of ascent on each short rollout."""

    rollout_length: int = static(5, "steps of each environment in one iteration", "[1, inf)")
    normalize_advantage: bool = static(False, "shift and scale each rollout's advantages to mean 0 and variance 1")
    ascent: Ascent = nested(Ascent("adam", learning_rate=1e-3, max_grad_norm=0.5, schedule="linear"))

    def score(self, policy: Distribution, rows: Experience) -> Array:
        """The mean of log pi(a|s) * A."""
        return objectives.score_function(policy.log_prob(rows.action), rows.advantage, rows.mask)
