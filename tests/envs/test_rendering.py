"""One environment to watch: which render mode it is made with, and what has no pictures. Videos test the rest."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import HumanRendering

from rlgd.envs import HostEnv, make
from rlgd.envs.rendering import PICTURES, WINDOW, alone, rendered
from rlgd.errors import UsageError


class Counted(gymnasium.Env[Any, Any]):
    """Observes its step, ends after two, and is rendered in the modes that a subclass names."""

    observation_space, action_space = Box(0.0, 9.0, (1,)), Discrete(2)
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012, as Gymnasium declares it

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.t = render_mode, 0

    def _obs(self) -> Any:
        return np.full(1, self.t, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._obs(), 1.0, self.t >= 2, False, {}

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8)


class Drawn(Counted):
    metadata: dict[str, Any] = {"render_modes": [PICTURES], "render_fps": 5}  # noqa: RUF012, as Gymnasium declares it


class Windowed(Counted):
    metadata: dict[str, Any] = {"render_modes": [WINDOW, PICTURES], "render_fps": 5}  # noqa: RUF012, as Gymnasium declares it


class Timeless(Counted):
    metadata: dict[str, Any] = {"render_modes": [PICTURES]}  # noqa: RUF012, as Gymnasium declares it


def host(cls: Any) -> HostEnv:
    env = make(cls)
    assert isinstance(env, HostEnv)
    return env


def test_an_environment_is_made_with_the_mode() -> None:
    assert rendered(host(Drawn), PICTURES).render_mode == PICTURES
    assert rendered(host(Windowed), WINDOW).render_mode == WINDOW
    assert not isinstance(rendered(host(Windowed), WINDOW), HumanRendering)


def test_pictures_are_shown_in_a_window_if_it_has_none() -> None:
    shown = rendered(host(Drawn), WINDOW)
    assert isinstance(shown, HumanRendering)
    assert shown.env.render_mode == PICTURES


@pytest.mark.parametrize(
    ("cls", "mode", "problem"),
    [
        (Counted, PICTURES, r"Counted gives no pictures: its render modes are none at all\."),
        (Timeless, WINDOW, r"Timeless has no window of its own, and its metadata do not say 'render_fps'"),
    ],
)
def test_what_cannot_be_shown_is_refused(cls: Any, mode: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        rendered(host(cls), mode)


def test_a_device_environment_gives_pictures_of_the_state_it_is_in() -> None:
    drawn = rendered(make("CartPole-v1", backend="device"), PICTURES)
    obs, info = drawn.reset(seed=3)
    assert (obs.shape, obs.dtype, info) == ((4,), np.float32, {})
    before = np.asarray(drawn.render())
    np.testing.assert_array_equal(drawn.reset(seed=3)[0], obs)
    for _ in range(5):
        after, reward, terminated, truncated, _ = drawn.step(1)
    assert (type(reward), terminated, truncated) == (float, False, False)
    assert after[0] > obs[0]
    assert (np.asarray(drawn.render()) != before).any()
    drawn.close()


def test_alone_it_is_reset_by_the_step_after_its_end() -> None:
    env = host(Counted)
    vector = alone(env.make_one(), env.spec, env.env_id)
    seen = [float(vector.reset(0)[0, 0])]
    ends = []
    for _ in range(4):
        step = vector.step(np.array([1]))
        seen.append(float(step.obs[0, 0]))
        ends.append(bool(step.terminated[0]))
    assert seen == [0, 1, 2, 0, 1]
    assert ends == [False, True, False, False]
    vector.close()
