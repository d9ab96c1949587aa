"""An optimizer of a user: heavy-ball momentum on the signs of gradients."""

import optax
from jax import Array


def sign_momentum(learning_rate: float | Array, momentum: float | Array = 0.9) -> optax.GradientTransformation:
    """Each step sums the signs of past gradients, of which the share ``momentum`` remains."""
    return optax.chain(optax.scale_by_sign(), optax.trace(decay=momentum), optax.scale_by_learning_rate(learning_rate))
