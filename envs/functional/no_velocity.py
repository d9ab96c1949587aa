"""Gymnasium's environments with hidden velocities: a policy needs memory. It imports no JAX."""

from typing import Any, ClassVar

import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.spaces import Box


class Partial(gymnasium.Env[Any, Any]):
    """A mixin before a Gymnasium environment with Box observations: shows only the numbers ``seen`` of them."""

    seen: ClassVar[slice]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        whole = self.observation_space
        assert isinstance(whole, Box)
        self.observation_space = Box(whole.low[self.seen], whole.high[self.seen])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = super().reset(seed=seed, options=options)
        return obs[self.seen], info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs[self.seen], reward, terminated, truncated, info


class CartPoleNoVelocity(Partial, CartPoleEnv):
    """CartPole that observes position and angle."""

    seen = slice(None, None, 2)


class PendulumNoVelocity(Partial, PendulumEnv):
    """Pendulum that observes the cosine and sine of the angle."""

    seen = slice(2)
