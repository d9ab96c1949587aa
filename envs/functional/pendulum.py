"""The pendulum on the device, equal to Gymnasium's ``Pendulum-v1`` step by step."""

import math
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.pytrees import Scalar

TURN = 2 * math.pi
BOUNDS = np.array([1.0, 1.0, 8.0], np.float32)


class PendulumParams(NamedTuple):
    """The constants; an episode begins within +-``initial_angle`` and +-``initial_speed``."""

    gravity: Scalar = 10.0
    mass: Scalar = 1.0
    length: Scalar = 1.0
    max_torque: Scalar = 2.0
    max_speed: Scalar = 8.0
    time_step: Scalar = 0.05
    speed_cost: Scalar = 0.1
    torque_cost: Scalar = 0.001
    initial_angle: Scalar = math.pi
    initial_speed: Scalar = 1.0


def wrap_angle(angle: Array) -> Array:
    """The same angle within +-pi; an angle that is already there keeps its bits."""
    return angle - TURN * jnp.round(angle / TURN)


class Pendulum(Rendered[Array, Array, PendulumParams]):
    """A torque, clipped to +-2, turns a pendulum; a step costs a weighted sum of squared angle, speed and torque.

    The state is ``[3]`` float32: the angle, 0 at the top, wrapped to stay precise; the speed; and the last torque,
    which the picture shows. An episode never terminates. The time limit belongs to the wrapper.
    """

    env_id = "Pendulum-v1"
    observation_space = gymnasium.spaces.Box(-BOUNDS, BOUNDS)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,))

    def get_default_params(self, **kwargs: Any) -> PendulumParams:
        return PendulumParams(**kwargs)

    def initial(self, rng: Array, params: PendulumParams | None = None) -> Array:
        params = params or self.default_params
        angle, speed = jax.random.uniform(rng, (2,), minval=-1.0)
        return jnp.stack([params.initial_angle * angle, params.initial_speed * speed, jnp.zeros_like(angle)])

    def transition(self, state: Array, action: Array, rng: Array, params: PendulumParams | None = None) -> Array:
        params = params or self.default_params
        angle, speed, _ = state
        torque = jnp.clip(action[0], -params.max_torque, params.max_torque)
        falling = 3 * params.gravity / (2 * params.length) * jnp.sin(angle)
        turning = 3 / (params.mass * params.length**2) * torque
        speed = jnp.clip(speed + params.time_step * (falling + turning), -params.max_speed, params.max_speed)
        return jnp.stack([wrap_angle(angle + params.time_step * speed), speed, torque])

    def observation(self, state: Array, rng: Array, params: PendulumParams | None = None) -> Array:
        angle, speed, _ = state
        return jnp.stack([jnp.cos(angle), jnp.sin(angle), speed])

    def reward(
        self, state: Array, action: Array, next_state: Array, rng: Array, params: PendulumParams | None = None
    ) -> Array:
        params = params or self.default_params
        angle, speed, _ = state
        torque = next_state[2]
        costs = params.speed_cost * jnp.square(speed) + params.torque_cost * jnp.square(torque)
        return -(jnp.square(wrap_angle(angle)) + costs)

    def terminal(self, state: Array, rng: Array, params: PendulumParams | None = None) -> Array:
        return jnp.zeros((), bool)

    def show(self, state: list[float], env: Any) -> None:
        *env.state, env.last_u = state


class PendulumNoVelocity(Pendulum):
    """Pendulum that observes only the cosine and sine of the angle: the policy needs memory for the speed."""

    env_id = "rlgd/PendulumNoVelocity-v1"
    observation_space = gymnasium.spaces.Box(-BOUNDS[:2], BOUNDS[:2])

    def observation(self, state: Array, rng: Array, params: PendulumParams | None = None) -> Array:
        return super().observation(state, rng, params)[:2]
