"""An optimizer of a user: heavy-ball momentum on the signs of gradients."""

import jax
import jax.numpy as jnp
import optax
from jax import Array


def sign_momentum(learning_rate: float | Array, momentum: float | Array = 0.9) -> optax.GradientTransformation:
    """Each step sums the signs of past gradients, of which the share ``momentum`` remains."""
    signs = optax.stateless(lambda gradient, params: jax.tree.map(jnp.sign, gradient))
    return optax.chain(signs, optax.trace(decay=momentum), optax.scale_by_learning_rate(learning_rate))
