"""Static descriptions of spaces: what each says, that equal spaces have equal ones, and which are refused."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, OneOf, Sequence, Text, Tuple

from rlgd import spaces
from rlgd.errors import UsageError
from rlgd.spaces import BoxSpec, DiscreteSpec
from tests.support.spaces import ACTIONS, MATRIX

Space = gymnasium.Space[Any]


def test_spec_describes_both_spaces() -> None:
    spec = spaces.spec(Box(-1, 1, (4,), np.float32), Box(np.array([-2, 0]), np.array([2, 1]), dtype=np.float64), 500)
    assert spec.obs == BoxSpec((4,), "float32")
    assert spec.action == BoxSpec((2,), "float64", (-2.0, 0.0), (2.0, 1.0))
    assert spec.max_episode_steps == 500
    spec = spaces.spec(Discrete(5, start=2), Discrete(3))
    assert spec.obs == DiscreteSpec(5, 2, "int64")
    assert spec.action == DiscreteSpec(3)
    assert spec.max_episode_steps is None


@pytest.mark.parametrize("name", ACTIONS)
def test_equal_spaces_give_equal_and_hashable_specs(name: str) -> None:
    first, second = (spaces.spec(MATRIX, space) for space in (ACTIONS[name], ACTIONS[name]))
    assert first == second
    assert hash(first) == hash(second)
    assert first != spaces.spec(MATRIX, Discrete(7))


UNKNOWN = [
    Box(0, 1, (0,)),
    Box(0, 1, (2, 0)),
    Dict(),
    Text(5),
    Sequence(Discrete(2)),
    Graph(Box(0, 1, (2,)), None),
    OneOf([Discrete(2), Discrete(3)]),
]


@pytest.mark.parametrize("space", [*UNKNOWN, Dict(a=Discrete(2), b=Tuple([Text(3)]))], ids=str)
def test_other_observations_are_refused(space: Space) -> None:
    with pytest.raises(
        UsageError, match=r"observation space .* is not supported; supported: Box .*wrappers"
    ) as refusal:
        spaces.spec(space, Discrete(2))
    inner = "Text(" if isinstance(space, Dict) and space.spaces else str(space)
    assert inner in str(refusal.value)  # the part at fault is named


@pytest.mark.parametrize("space", [*UNKNOWN, Dict(a=Discrete(2)), Tuple([Discrete(2)])], ids=str)
def test_other_actions_are_refused(space: Space) -> None:
    with pytest.raises(
        UsageError, match=r"action space .* is not supported; supported: Discrete, .*wrappers"
    ) as refusal:
        spaces.spec(Discrete(2), space)
    assert str(space) in str(refusal.value)


def test_boxes_and_bits_have_no_masks() -> None:
    assert [spaces.mask_size(spaces.spec(MATRIX, ACTIONS[name]).action) for name in ("box", "bits")] == [None, None]
