"""Trust region policy optimization (Schulman et al. 2015, arXiv 1502.05477)."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from rlgd.agents.base.natural import NaturalAgent
from rlgd.ascent.trees import global_norm
from rlgd.hyperparameters import hyperparameters
from rlgd.maths.natural_gradient import Solution

# Least share of x^T F x in x^T (F + damping I) x: with less, rounding and the curve of the KL would set the length.
LEAST_SHARE = 1e-3


@hyperparameters
class TRPO(NaturalAgent):
    """The longest step along the natural gradient that stays in the trust region and raises the surrogate."""

    least_gain: ClassVar[float] = 0.0

    def direction(self, solution: Solution) -> Any:
        """sqrt(2 max_kl / x^T F x) x, where x = (F + cg_damping I)^-1 g is the natural gradient.

        To second order the KL of that step is ``max_kl``, and with learning_rate 1 it is taken whole. With gSDE no
        gradient flows from the deviations to the hidden layer: there only the measured KL is bounded.
        """
        damping = self.cg_damping * jnp.square(global_norm(solution.x))
        curvature = jnp.maximum(solution.curvature - damping, LEAST_SHARE * solution.curvature)
        scale = jnp.where(curvature > 0, jnp.sqrt(2 * self.max_kl / curvature), 0)
        return jax.tree.map(lambda x: scale.astype(x.dtype) * x, solution.x)
