"""A network of a user: layers that look at differences between the numbers of an observation."""

import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.pytrees import Features


class Differences(linen.Module):
    """Hidden units of all numbers and of the differences between neighbours."""

    width: int = 64

    @linen.compact
    def __call__(self, features: Features) -> Array:
        x = jnp.concatenate([features.vector, jnp.diff(features.vector)], axis=-1)
        return jnp.tanh(linen.Dense(self.width)(x))
