"""What a short play shows: real environments, and one whose observations hide what the test hides."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from rlgd.envs import make
from rlgd.envs import probe as probing
from rlgd.envs.probe import Probe, probe


@pytest.mark.parametrize(
    "env_id",
    ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0", "Acrobot-v1", "HalfCheetah-v5", "InvertedPendulum-v5"],
)
def test_what_is_all_observed_hides_nothing(env_id: str) -> None:
    assert probe(make(env_id)) == Probe(hides_state=False, end_weighs=False)


@pytest.mark.parametrize("env_id", ["rlgd/CartPoleNoVelocity-v1", "rlgd/PendulumNoVelocity-v1"])
def test_velocities_that_are_hidden(env_id: str) -> None:
    assert probe(make(env_id)).hides_state is True


class Walk(gymnasium.Env[Any, Any]):
    """A number with a velocity, which is observed if ``shown``, in a dictionary; ``masked`` actions are a choice."""

    def __init__(self, shown: bool, length: int = 100, masked: bool = False) -> None:
        number = Box(-np.inf, np.inf, (1,), np.float32)
        parts: dict[str, gymnasium.Space[Any]] = {"place": number, "velocity": number} if shown else {"place": number}
        self.observation_space = Dict(parts)
        self.action_space, self.shown, self.length, self.masked = Discrete(2), shown, length, masked

    def _answer(self) -> tuple[Any, Any]:
        obs = {"place": np.array([self.place], np.float32)}
        if self.shown:
            obs["velocity"] = np.array([self.velocity], np.float32)
        return obs, {"action_mask": np.ones(2, np.int8)} if self.masked else {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.velocity, self.elapsed = self.np_random.normal(), self.np_random.normal(), 0
        return self._answer()

    def step(self, action: Any) -> Any:
        self.velocity = 0.8 * self.velocity + float(action) - 0.5
        self.place += self.velocity
        self.elapsed += 1
        obs, info = self._answer()
        return obs, 0.0, self.elapsed >= self.length, False, info


@pytest.mark.parametrize("shown", [True, False])
def test_a_dictionary(shown: bool) -> None:
    assert probe(make(Walk, shown=shown)).hides_state is not shown


@pytest.mark.parametrize("arguments", [{"length": 2}, {"masked": True}])
def test_what_cannot_be_said(arguments: dict[str, Any]) -> None:
    assert probe(make(Walk, shown=False, **arguments)).hides_state is None


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Blackjack-v1"])
def test_what_is_counted_has_no_numbers(env_id: str) -> None:
    assert probe(make(env_id)).hides_state is None


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "BipedalWalker-v3", "Blackjack-v1"])
def test_an_end_that_weighs(env_id: str) -> None:
    assert probe(make(env_id)).end_weighs


def test_a_running_vector_environment_is_left_as_it_is() -> None:
    running = gymnasium.make_vec("CartPole-v1", 2, "sync")
    steps: list[Any] = []
    running.step = steps.append  # type: ignore[method-assign,assignment]
    assert probe(make(running)) == Probe(None, False)
    assert not steps
    running.close()


def test_an_environment_on_the_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "in_gymnasium", lambda env: env)
    monkeypatch.setattr(probing, "STEPS", 512)
    assert probe(make("rlgd/CartPoleNoVelocity-v1")).hides_state is True
