"""Random keys from seeds."""

import jax
from jax import Array

WORD = 2**32  # JAX keeps this many seeds apart, and cuts longer ones silently


def random_key(seed: int) -> Array:
    """The random key of a seed, a whole number from 0 of any length; different seeds have different keys.

    Below 2**32 it is ``jax.random.key(seed)``. Of longer seeds the higher words are folded in, one after another.
    """
    seed, word = divmod(seed, WORD)
    key = jax.random.key(word)
    while seed:
        seed, word = divmod(seed, WORD)
        key = jax.random.fold_in(key, word)
    return key
