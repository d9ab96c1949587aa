"""How environments on the host are made."""

import time
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlgd.envs
from rlgd.envs.functional.registration import vector_id
from rlgd.envs.host.maker import Maker, measure, registered, why_not_native
from rlgd.errors import UsageError
from tests.support.faulty_envs import Faulty, Slow, Wandering

assert rlgd.envs.TWINS  # importing rlgd.envs registers the twins


def test_an_object_is_copied_and_a_class_is_called() -> None:
    mine = Faulty(length=3)
    copied = Maker(mine, {})()
    assert isinstance(copied, Faulty)
    assert copied is not mine
    assert copied.length == 3
    made = Maker(Faulty, {"length": 4}, max_episode_steps=2)()
    assert made.unwrapped.__dict__["length"] == 4
    made.reset(seed=0)
    assert [made.step(1)[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(("limit", "expected"), [(None, 500), (7, 7)])
def test_a_registered_environment_gets_the_time_limit(limit: int | None, expected: int) -> None:
    env = Maker(registered("CartPole-v1"), {}, limit)()
    assert env.spec is not None
    assert env.spec.max_episode_steps == expected


@pytest.mark.parametrize(
    ("env_id", "reason"),
    [
        ("CartPole-v1", None),
        ("Acrobot-v1", "Gymnasium has no native vector environment for Acrobot-v1"),
        (vector_id("CartPole-v1"), "runs on the device"),
        ("phys2d/CartPole-v1", "loses steps of all environments when one of them resets"),
    ],
)
def test_a_native_vector_environment_is_used_only_if_it_is_sound(env_id: str, reason: str | None) -> None:
    given = why_not_native(env_id)
    assert (given is None) == (reason is None)
    assert reason is None or (given is not None and reason in given)


def test_a_module_that_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="the module of no_such_module:X-v0 cannot be imported"):
        registered("no_such_module:X-v0")
    with pytest.raises(gymnasium.error.Error):
        registered("NoSuchEnvironment-v0")


def test_the_first_step_is_not_measured() -> None:
    class Compiling(Slow):
        def step(self, action: Any) -> Any:
            time.sleep(0.1 if self.steps == 0 else 0)
            return super().step(action)

    assert 0.003 <= measure(Compiling()).seconds < 0.1
    assert measure(Wandering()).seconds < 0.003


def test_measuring_obeys_action_masks() -> None:
    class Masked(Wandering):
        mask: Any = None

        def _info(self) -> dict[str, Any]:
            self.mask = np.array([0, 1, 0], np.int8)
            return {"action_mask": self.mask}

        def step(self, action: Any) -> Any:
            assert action == 2
            return super().step(action)

    assert measure(Masked()).seconds > 0
