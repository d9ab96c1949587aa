"""Static descriptions of spaces: what each says, that equal spaces have equal ones, and which are refused."""

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiDiscrete, OneOf, Sequence, Text, Tuple

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


@pytest.mark.parametrize("space", UNKNOWN, ids=str)
def test_other_actions_are_refused(space: Space) -> None:
    with pytest.raises(
        UsageError, match=r"action space .* is not supported; supported: Discrete, .*wrappers"
    ) as refusal:
        spaces.spec(Discrete(2), space)
    inner = "Text(" if isinstance(space, Dict) and space.spaces else str(space)
    assert inner in str(refusal.value)


def test_boxes_and_bits_have_no_masks() -> None:
    assert [spaces.mask_size(spaces.spec(MATRIX, ACTIONS[name]).action) for name in ("box", "bits")] == [None, None]


HUGE = [Discrete(3, start=2**31 - 2), Discrete(2, start=-(2**31) - 1), Discrete(2**33), MultiDiscrete([2, 2**32])]


@pytest.mark.parametrize("space", [*HUGE, Dict(a=HUGE[0])], ids=str)
def test_whole_numbers_that_jax_does_not_have_are_refused(space: Space) -> None:
    with pytest.raises(UsageError, match=r"observation space .* whole numbers from .* int32, .*TransformObservation"):
        spaces.spec(space, Discrete(2))
    assert spaces.spec(Discrete(2**31, dtype=np.int64), Discrete(2)).obs == DiscreteSpec(2**31)


@pytest.mark.parametrize("space", [*HUGE, Box(0, 2**40, (2,), np.int64), Box(0, 2**63, (), np.uint64)], ids=str)
def test_actions_that_jax_does_not_have_are_refused(space: Space) -> None:
    with pytest.raises(UsageError, match=r"action space .* whole numbers from .* u?int32, .*TransformAction"):
        spaces.spec(Discrete(2), space)


@pytest.mark.parametrize("keys", [(0, "a"), ((0, 1),), (None,), (0.5, 1)])
def test_keys_that_cannot_be_sorted_and_kept_are_refused(keys: Any) -> None:
    space = Dict({"outer": Dict({key: Discrete(2) for key in keys})})
    with pytest.raises(UsageError, match=r"has the keys \[.*\], which must be all text or all whole numbers"):
        spaces.spec(space, Discrete(2))


@pytest.mark.parametrize("keys", [(0, -1), (True, False), (np.int64(3), 4), ("", "0", "a.b")])
def test_a_file_keeps_keys(keys: Any) -> None:
    spec = spaces.spec(Dict({key: Discrete(2) for key in keys}), Discrete(2))
    assert spaces.from_json(json.loads(json.dumps(spaces.to_json(spec)))) == spec
    assert all(spaces.blank(spec.obs)[key] == 0 for key in keys)
