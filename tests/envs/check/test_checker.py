"""``check``: its arguments, its refusals, and objects that stay open."""

from typing import Any

import jax
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rlgd.envs
from rlgd.envs.check import check
from rlgd.errors import UsageError
from tests.support.sound_envs import STEPS, Sound, expect


class NeverCloses(Sound):
    def close(self) -> None:
        raise OSError("busy")


class OpenVector(SyncVectorEnv):
    def close_extras(self, **kwargs: Any) -> None:
        raise OSError("busy")


def test_an_object_stays_open() -> None:
    report = check(NeverCloses(), steps=STEPS)
    expect(report)
    assert report.checked == ("making", "answers", "determinism")
    vector = OpenVector([Sound] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    report = check(vector, steps=STEPS)
    expect(report)
    assert report.checked == ("making", "vector environment")
    assert not vector.closed


class Counting(Sound):
    total = 0

    def pay(self) -> Any:
        self.total += 1
        return float(self.total)


def test_an_object_is_compared_with_itself() -> None:
    expected = ("fault", "determinism", "call 1 after the reset", "in the same environment")
    expect(check(Counting(), steps=STEPS), expected)


class Clocks(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """Counts to four, from a random place; ``lost``: the last observation is NaN."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Discrete(2)

    def __init__(self, lost: bool) -> None:
        super().__init__()
        self.lost = lost

    def initial(self, rng: Any, params: Any = None) -> Any:
        return jax.numpy.append(jax.random.normal(rng, (1,)), 0.0)

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        return state + jax.numpy.stack([action.astype(jax.numpy.float32), jax.numpy.ones(())])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return jax.numpy.where(self.lost & (state[1] >= 4), jax.numpy.nan, state)

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return next_state[0]

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[1] >= 4


def test_a_functional_environment_is_checked_as_a_vector_on_the_device() -> None:
    report = check(Clocks(lost=False), steps=STEPS)
    expect(report)
    assert report.name == "Clocks"
    assert report.checked == ("making", "vector environment")
    report = check(rlgd.envs.make(Clocks(lost=True)), steps=STEPS)
    expect(report, ("fault", "finite", "vector environment, step 3, observation[0, 0]", "is nan"))


def test_arguments_and_names_reach_gymnasium() -> None:
    report = check("CartPole", worker=False, steps=STEPS, max_episode_steps=3)
    expect(report)
    assert report.name == "CartPole-v1"
    assert not any(finding.check == "endless" for finding in report.findings)
    assert check("gymnasium.envs:FrozenLake-v1", worker=False, steps=STEPS, map_name="8x8").sound
    expect(
        check("FrozenLake-v1", worker=False, map_name="9x9"),
        ("fault", "make", "FrozenLake-v1", "raised KeyError: '9x9'"),
    )


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("CartPol-v1", {}, "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
        ("CartPole-v7", {}, "unknown environment 'CartPole-v7'; did you mean 'CartPole-v1'"),
        ("", {}, "unknown environment ''"),
        ("nomodule:CartPole-v1", {}, "No module named 'nomodule'"),
        (3, {}, "3 cannot be checked; allowed: a Gymnasium id"),
        (Sound(), {"size": 3}, "already made; pass the arguments size"),
        (Sound, {"seed": -1}, "seed is -1"),
        (Sound, {"steps": 0}, "steps is 0"),
    ],
)
def test_a_wrong_argument_is_refused(source: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(source, **arguments)
