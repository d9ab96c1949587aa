"""Keys from seeds: none is cut."""

import jax
import numpy as np
import pytest

from rlgd.maths.seeds import random_key


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, np.int64(7)])
def test_a_short_seed_has_the_key_that_jax_gives(seed: int) -> None:
    assert random_key(seed) == jax.random.key(int(seed))


def test_seeds_that_differ_in_any_word_have_different_keys() -> None:
    seeds = [5, 5 + 2**32, 5 + 2**33, 5 + 2**64, 5 + 2**32 + 2**64, 5 + 2**96]
    keys = {tuple(jax.random.key_data(random_key(seed)).tolist()) for seed in seeds}
    assert len(keys) == len(seeds)
