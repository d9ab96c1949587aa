"""Random play: chosen actions are allowed ones, and differences are named."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rlgd.envs.aliases import Space
from rlgd.envs.check.play import HIGHEST, LOWEST, as_array, choose_action, difference, frozen, play, same
from tests.support.sound_envs import Sound


@pytest.mark.parametrize(
    ("space", "mask", "lowest", "highest"),
    [
        (Discrete(3, start=-2), None, -2, 0),
        (Discrete(3, start=1), [0, 1, 0], 2, 2),
        (Discrete(2), [0, 0], 0, 1),  # a mask that allows nothing is reported elsewhere, and allows everything here
        (MultiDiscrete([2, 3]), None, [0, 0], [1, 2]),
        (MultiDiscrete([2, 3], start=[5, 0]), [0, 1, 1, 1, 0], [6, 0], [6, 1]),
        (MultiBinary(2), None, [0, 0], [1, 1]),
        (Box(-1.0, 3.0, (2,)), None, [-1, -1], [3, 3]),
        (Box(-np.inf, np.inf, (1,)), None, [-1], [1]),
        (Box(-np.inf, 5.0, (1,)), None, [4], [5]),
        (Box(2.0, np.inf, (1,)), None, [2], [4]),
    ],
)
def test_actions_are_in_the_space_and_allowed(space: Space, mask: Any, lowest: Any, highest: Any) -> None:
    rng = np.random.default_rng(0)
    for choice, expected in ((LOWEST, lowest), (HIGHEST, highest), (rng, None)):
        action = choose_action(space, None if mask is None else np.array(mask), choice)
        assert space.contains(action)
        if expected is None:
            assert (np.asarray(lowest) <= action).all()
            assert (action <= np.asarray(highest)).all()
        else:
            np.testing.assert_array_equal(action, expected)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ([1.0, 2.0], [1.0, 2.0], None),
        ([np.nan], [np.nan], None),
        ([1.0, 2.0], [1.0, 3.0], "observation[1] is 2.0, then 3.0"),
        (1, 2, "observation is 1, then 2"),
        ([1.0], [1.0, 2.0], "observation has the shape (1,), then (2,)"),
        ({"a": [1]}, {"b": [1]}, "observation has another structure"),
        (
            {"a": (np.zeros(1), np.ones(1))},
            {"a": (np.zeros(1), np.zeros(1))},
            "observation['a'][1][0] is 1.0, then 0.0",
        ),
    ],
)
def test_the_first_difference_is_named(one: Any, other: Any, words: str | None) -> None:
    assert difference(frozen(one), frozen(other)) == words
    assert same(frozen(one), frozen(other)) == (words is None)


def test_frozen_values_are_copies() -> None:
    array = np.zeros(2)
    copy = frozen({"a": (array, [[1], [2, 3]])})
    array[:] = 1
    np.testing.assert_array_equal(copy["a"][0], [0, 0])
    assert as_array([[1], [2, 3]]).shape == ()


def test_environments_in_turn_play_as_alone() -> None:
    together = play([Sound(), Sound()], 3, 20)
    for i, answers in enumerate(together):
        alone = play([Sound()], 3 + i, 20)[0]
        assert all(same(tuple(a), tuple(b)) for a, b in zip(answers, alone, strict=True))
    assert not same(tuple(together[0][5]), tuple(together[1][5]))
    resets = sum(answer.reward is None for answer in together[0])
    assert resets == 1 + sum(bool(answer.terminated or answer.truncated) for answer in together[0])
