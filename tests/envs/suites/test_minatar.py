"""Our games of MinAtar beside the original package, step by step."""

import numpy as np
import pytest

from rlgd.envs.functional.minatar import GAMES
from tests.support import minatar_walk

pytest.importorskip("minatar")


@pytest.mark.parametrize("name", GAMES)
def test_every_step_is_that_of_the_original(name: str) -> None:
    expected = minatar_walk.original(name, 4000, seed=1)
    found, _ = minatar_walk.ours(name, expected.actions, seed=1)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", GAMES)
def test_the_recorded_walks_are_those_of_the_original(name: str) -> None:
    again = minatar_walk.original(name, minatar_walk.STEPS)
    with np.load(minatar_walk.RECORDED) as walks:
        np.testing.assert_array_equal(again.digests(), walks[name])
