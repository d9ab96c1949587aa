"""Which quantity of an update is not finite."""

import jax.numpy as jnp
from jax import Array

from rlgd.pytrees import Metrics


def first_fault(metrics: Metrics) -> Array:
    """What in an update is not finite, int32: ``FINITE``, ``OBJECTIVE`` or, with a finite objective, ``GRADIENT``."""
    objective = metrics["train/objective"] + metrics["train/entropy"] + metrics.get("train/value_error", 0.0)
    lengths = metrics["ascent/gradient_norm"] + metrics["ascent/value_gradient_norm"]
    lengths += metrics.get("ascent/cg_residual", 0.0)
    return jnp.where(jnp.isfinite(objective), jnp.where(jnp.isfinite(lengths), FINITE, GRADIENT), OBJECTIVE)


# What can be infinite or NaN, by the number that an update or an iteration reports.
FINITE, OBJECTIVE, GRADIENT, PARAMETERS, REWARD, OBSERVATION = range(6)
FAULTS = ("", "the objective", "the gradient", "a parameter or running statistic", "a reward", "an observation")
