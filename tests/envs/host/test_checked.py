"""An environment that reports its own faults: what it passes on, and what it finds wrong with observations."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from rlgd.envs.host.checked import Broken, Checked, flat_mask, misfit

BOX = Box(-1.0, 1.0, (2,))
TREE = Dict({"a": BOX, "b": Tuple((Discrete(3), BOX))})
HALF = np.full(2, 0.5, np.float32)


class Scripted(gymnasium.Env[Any, Any]):
    """Gives what it is made with."""

    observation_space: Any = BOX
    action_space: Any = Discrete(2)

    def __init__(self, **given: Any) -> None:
        self.obs, self.given = np.zeros(2, np.float32), {"reward": 1, "truncated": False, "info": {}} | given

    def reset(self, **options: Any) -> Any:
        return self.obs, self.given["info"]

    def step(self, action: Any) -> Any:
        return self.obs, self.given["reward"], False, self.given["truncated"], self.given["info"]


def checked(**given: Any) -> Checked:
    return Checked(Scripted(**given), 3, (BOX, Discrete(2)))


def test_the_mask_is_all_that_is_kept_of_infos() -> None:
    env = checked(info={"action_mask": np.array([1, 0], np.int8), "other": object()})
    for *_, info in (env.reset(), env.step(0)):
        assert [*info] == ["action_mask"]
        np.testing.assert_array_equal(info["action_mask"], [True, False], strict=True)
    assert checked(info={"other": 1}).reset()[1] == {}


@pytest.mark.parametrize("reward", [2, True, np.float32(0.5), np.array(3)])
def test_a_reward_becomes_a_float(reward: Any) -> None:
    given = checked(reward=reward).step(0)[1]
    assert type(given) is float
    assert given == reward


@pytest.mark.parametrize("truncated", [False, True])
def test_the_last_observation_is_a_copy(truncated: bool) -> None:
    env = checked(truncated=truncated)
    assert (env.step(0)[0] is not env.env.unwrapped.obs) == truncated  # type: ignore[attr-defined]


def test_another_space_is_named_with_the_environment() -> None:
    with pytest.raises(Broken, match=r"^environment 3 has the action space Discrete\(2\), one made before it Disc"):
        Checked(Scripted(), 3, (BOX, Discrete(3)))


def test_parts_of_a_mask_are_concatenated() -> None:
    mask = flat_mask((np.array([1, 0]), np.array([0, 1, 1], np.int8)))
    np.testing.assert_array_equal(mask, [True, False, False, True, True], strict=True)


@pytest.mark.parametrize(
    ("obs", "wrong"),
    [
        ({"a": HALF, "b": (np.int64(1), HALF)}, None),
        ({"a": HALF, "b": (1, [0.5, 0.5]), "more": 0}, None),
        ({"a": HALF}, r"as observation the keys ['a'], which must have the keys ['a', 'b']"),
        ([HALF], "as observation list, which must have the keys ['a', 'b']"),
        ({"a": HALF, "b": [1, HALF]}, "as observation['b'] [1, array([0.5, 0.5], dtype=float32)], which must be a"),
        ({"a": HALF, "b": (1, HALF[:1])}, "the observation['b'][1] in the shape (1,), which must be (2,)"),
        ({"a": HALF * 1j, "b": (1, HALF)}, "the observation['a'] as complex64, which must be float32"),
        ({"a": HALF, "b": (0.5, HALF)}, "the observation['b'][0] as float64, which must be int64"),
    ],
)
def test_the_part_that_does_not_fit_is_named(obs: Any, wrong: str | None) -> None:
    found = misfit(TREE, obs)
    assert found == wrong if wrong is None else str(found).startswith(wrong)


@pytest.mark.parametrize(
    ("space", "fine", "wrong"),
    [
        (Box(-128, 127, (2,), np.int8), [1, 2], [1, 300]),
        (Box(0, 9, (), np.int32), np.int64(9), np.int64(2**32 + 9)),
        (gymnasium.spaces.MultiBinary(2), [0, 1], [0, 257]),
    ],
)
def test_whole_numbers_that_the_space_cannot_hold_are_named(space: Any, fine: Any, wrong: Any) -> None:
    assert misfit(space, fine) is None
    assert (misfit(space, wrong) or "").endswith(f", which {space.dtype} cannot hold")
