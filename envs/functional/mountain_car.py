"""Mountain car on the device, equal to Gymnasium's ``MountainCar-v0`` and ``MountainCarContinuous-v0`` (Moore 1990)."""

from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.pytrees import Scalar


class MountainCarParams(NamedTuple):
    """The constants; an episode begins at rest, between ``initial_low`` and ``initial_high``.

    In one step the strongest push adds ``force`` to the velocity, and the steepest slope adds ``gravity``.
    """

    force: Scalar = 0.001
    gravity: Scalar = 0.0025
    max_speed: Scalar = 0.07
    min_position: Scalar = -1.2
    max_position: Scalar = 0.6
    goal_position: Scalar = 0.5
    goal_velocity: Scalar = 0.0
    initial_low: Scalar = -0.6
    initial_high: Scalar = -0.4


def at_goal(state: Array, params: MountainCarParams) -> Array:
    """Whether the car is at the goal with enough speed, a bool scalar."""
    position, velocity = state
    return (position >= params.goal_position) & (velocity >= params.goal_velocity)


class Hill(Rendered[Array, Array, MountainCarParams]):
    """The common base of both. The state is ``[2]`` float32: position and velocity.

    The episode terminates at the goal on the right hill. The time limit belongs to the wrapper.
    """

    observation_space = gymnasium.spaces.Box(np.array([-1.2, -0.07], np.float32), np.array([0.6, 0.07], np.float32))

    def push(self, action: Array) -> Array:
        """How strongly an action pushes, -1 (left) to 1 (right)."""
        raise NotImplementedError

    def initial(self, rng: Array, params: MountainCarParams | None = None) -> Array:
        params = params or self.default_params
        position = jax.random.uniform(rng, minval=params.initial_low, maxval=params.initial_high)
        return jnp.stack([position, jnp.zeros_like(position)])

    def transition(self, state: Array, action: Array, rng: Array, params: MountainCarParams | None = None) -> Array:
        params = params or self.default_params
        position, velocity = state
        velocity = velocity + params.force * self.push(action) - params.gravity * jnp.cos(3 * position)
        velocity = jnp.clip(velocity, -params.max_speed, params.max_speed)
        position = jnp.clip(position + velocity, params.min_position, params.max_position)
        hits_wall = (position == params.min_position) & (velocity < 0)
        return jnp.stack([position, jnp.where(hits_wall, 0, velocity)])

    def observation(self, state: Array, rng: Array, params: MountainCarParams | None = None) -> Array:
        return state

    def terminal(self, state: Array, rng: Array, params: MountainCarParams | None = None) -> Array:
        return at_goal(state, params or self.default_params)

    def show(self, state: list[float], env: Any) -> None:
        env.state = state


class MountainCar(Hill):
    """A car is pushed left (0), not at all (1) or right (2); every step costs 1."""

    env_id = "MountainCar-v0"
    action_space = gymnasium.spaces.Discrete(3)

    def get_default_params(self, **kwargs: Any) -> MountainCarParams:
        return MountainCarParams(**kwargs)

    def push(self, action: Array) -> Array:
        return jnp.asarray(action, float) - 1

    def reward(
        self, state: Array, action: Array, next_state: Array, rng: Array, params: MountainCarParams | None = None
    ) -> Array:
        return -jnp.ones(())


class MountainCarContinuous(Hill):
    """A car is pushed by the action, clipped to +-1; the goal pays 100, and each action, unclipped, costs 0.1 a^2."""

    env_id = "MountainCarContinuous-v0"
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def get_default_params(self, **kwargs: Any) -> MountainCarParams:
        return MountainCarParams(**{"force": 0.0015, "goal_position": 0.45} | kwargs)

    def push(self, action: Array) -> Array:
        return jnp.clip(action[0], -1, 1)

    def reward(
        self, state: Array, action: Array, next_state: Array, rng: Array, params: MountainCarParams | None = None
    ) -> Array:
        earned = jnp.where(at_goal(next_state, params or self.default_params), 100, 0)
        return earned - 0.1 * jnp.square(action[0])
