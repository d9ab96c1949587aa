"""Action masks as vector environments give them."""

from typing import Any

import numpy as np
import pytest

from rlgd.envs.host.action_masks import ActionMasks
from rlgd.envs.host.checked import Broken, flat_mask
from rlgd.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec

EVERYONE, NOBODY = np.ones(2, bool), np.zeros(2, bool)


def test_without_masks_every_action_is_allowed() -> None:
    masks = ActionMasks(DiscreteSpec(3))
    masks.read({}, EVERYONE, NOBODY)
    assert masks.current is None
    info = {"action_mask": np.array([[1, 0, 0], [0, 0, 1]]), "_action_mask": np.array([True, False])}
    masks.read(info, EVERYONE, NOBODY)
    np.testing.assert_array_equal(masks.current, [[1, 0, 0], [1, 1, 1]])
    masks.read({}, EVERYONE, NOBODY)
    np.testing.assert_array_equal(masks.current, np.ones((2, 3)))


def test_only_the_named_environments_change() -> None:
    masks = ActionMasks(DiscreteSpec(2))
    masks.read({"action_mask": np.array([[1, 0], [0, 1]])}, EVERYONE, NOBODY)
    masks.read({"action_mask": np.array([[0, 1], [1, 0]])}, np.array([False, True]), NOBODY)
    np.testing.assert_array_equal(masks.current, [[1, 0], [1, 0]])


def test_any_action_is_allowed_where_it_is_ignored() -> None:
    masks = ActionMasks(DiscreteSpec(2))
    masks.read({"action_mask": np.array([[0, 0], [0, 1]])}, EVERYONE, np.array([True, False]))
    np.testing.assert_array_equal(masks.current, [[1, 1], [0, 1]])


def test_actions_without_masks_have_none() -> None:
    masks = ActionMasks(BoxSpec((2,), "float32"))
    masks.read({"action_mask": np.ones((2, 2))}, EVERYONE, NOBODY)
    assert masks.current is None


@pytest.mark.parametrize(
    ("given", "number", "what"),
    [
        (np.array([[1, 1, 0, 0, 0], [1, 0, 1, 1, 1]]), 0, "gave an action mask that allows no action"),
        (np.array([[1, 0, 1, 1, 1], [0, 0, 1, 1, 1]]), 1, "gave an action mask that allows no action"),
        (np.ones((2, 4)), None, "gave an action mask of 4 entries, which must have 5,"),
    ],
)
def test_wrong_masks_are_named(given: Any, number: int | None, what: str) -> None:
    masks = ActionMasks(MultiDiscreteSpec((2, 3), (0, 0), (2,)))
    expected = np.array([[1, 1, 1, 0, 1], [0, 1, 1, 1, 1]])
    masks.read({"action_mask": (expected[:, :2], expected[:, 2:])}, EVERYONE, NOBODY)
    np.testing.assert_array_equal(masks.current, expected)
    with pytest.raises(Broken, match=what) as caught:
        masks.read({"action_mask": given}, EVERYONE, NOBODY)
    assert caught.value.number == number


def test_a_flat_mask_has_the_parts_in_order() -> None:
    np.testing.assert_array_equal(flat_mask((np.array([1, 0]), [np.array([0, 1, 1])])), [1, 0, 0, 1, 1])
