"""Acrobot on the device, equal to Gymnasium's ``Acrobot-v1`` step by step (Sutton 1996; Sutton & Barto 2018)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.envs.functional.pendulum import wrap_angle
from rlgd.pytrees import Scalar

BOUNDS = np.array([1, 1, 1, 1, 4 * math.pi, 9 * math.pi], np.float32)


class AcrobotParams(NamedTuple):
    """The constants of the two links; ``center_1`` is the distance from the first one's joint to its centre of mass."""

    gravity: Scalar = 9.8
    mass_1: Scalar = 1.0
    mass_2: Scalar = 1.0
    length_1: Scalar = 1.0
    center_1: Scalar = 0.5
    center_2: Scalar = 0.5
    inertia_1: Scalar = 1.0
    inertia_2: Scalar = 1.0
    torque: Scalar = 1.0
    time_step: Scalar = 0.2
    max_speed_1: Scalar = 4 * math.pi
    max_speed_2: Scalar = 9 * math.pi
    goal_height: Scalar = 1.0
    initial_range: Scalar = 0.1


def rates(state: Array, torque: Scalar, params: AcrobotParams) -> Array:
    """The derivative of the state by time, in the symbols of Sutton & Barto (first edition, section 11.3)."""
    theta1, theta2, speed1, speed2 = state
    g, m1, m2, l1, lc1, lc2, i1, i2, *_ = params
    cos2, sin2 = jnp.cos(theta2), jnp.sin(theta2)
    d1 = m1 * lc1**2 + m2 * (l1**2 + lc2**2 + 2 * l1 * lc2 * cos2) + i1 + i2
    d2 = m2 * (lc2**2 + l1 * lc2 * cos2) + i2
    phi2 = m2 * lc2 * g * jnp.sin(theta1 + theta2)
    coupling = m2 * l1 * lc2 * sin2
    phi1 = -coupling * speed2 * (speed2 + 2 * speed1) + (m1 * lc1 + m2 * l1) * g * jnp.sin(theta1) + phi2
    change2 = (torque + d2 / d1 * phi1 - coupling * speed1**2 - phi2) / (m2 * lc2**2 + i2 - d2**2 / d1)
    change1 = -(d2 * change2 + phi1) / d1
    return jnp.stack([speed1, speed2, change1, change2])


def runge_kutta(derivative: Callable[[Array], Array], x: Array, time_step: Scalar) -> Array:
    """One step of the classical method of fourth order."""
    k1 = derivative(x)
    k2 = derivative(x + time_step / 2 * k1)
    k3 = derivative(x + time_step / 2 * k2)
    k4 = derivative(x + time_step * k3)
    return x + time_step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def is_high(state: Array, params: AcrobotParams) -> Array:
    """Whether the tip is above the goal's height, a bool scalar."""
    theta1, theta2, *_ = state
    return -jnp.cos(theta1) - jnp.cos(theta1 + theta2) > params.goal_height


class Acrobot(Rendered[Array, Array, AcrobotParams]):
    """A torque of -1 (action 0), 0 or 1 drives the lower of two links; each step costs 1 until the tip is high enough.

    The state is ``[4]`` float32: both angles, 0 when hanging down, the second relative to the first; and both speeds.
    The episode terminates, with a step that costs nothing, when the tip is a link's length above the upper joint. The
    time limit belongs to the wrapper.
    """

    env_id = "Acrobot-v1"
    observation_space = gymnasium.spaces.Box(-BOUNDS, BOUNDS)
    action_space = gymnasium.spaces.Discrete(3)

    def get_default_params(self, **kwargs: Any) -> AcrobotParams:
        return AcrobotParams(**kwargs)

    def initial(self, rng: Array, params: AcrobotParams | None = None) -> Array:
        params = params or self.default_params
        return jax.random.uniform(rng, (4,), minval=-params.initial_range, maxval=params.initial_range)

    def transition(self, state: Array, action: Array, rng: Array, params: AcrobotParams | None = None) -> Array:
        numbers = state, jnp.asarray(action, state.dtype) - 1, params or self.default_params
        # When the links turn fast, one step amplifies rounding errors a thousandfold: in single precision the result
        # would differ from Gymnasium's by up to 1e-3.
        with jax.enable_x64(True):
            x, push, c = jax.tree.map(lambda number: jnp.asarray(number, jnp.float64), numbers)
            theta1, theta2, speed1, speed2 = runge_kutta(lambda x: rates(x, c.torque * push, c), x, c.time_step)
            speed1 = jnp.clip(speed1, -c.max_speed_1, c.max_speed_1)
            speed2 = jnp.clip(speed2, -c.max_speed_2, c.max_speed_2)
            return jnp.stack([wrap_angle(theta1), wrap_angle(theta2), speed1, speed2]).astype(state.dtype)

    def observation(self, state: Array, rng: Array, params: AcrobotParams | None = None) -> Array:
        theta1, theta2, speed1, speed2 = state
        return jnp.stack([jnp.cos(theta1), jnp.sin(theta1), jnp.cos(theta2), jnp.sin(theta2), speed1, speed2])

    def reward(
        self, state: Array, action: Array, next_state: Array, rng: Array, params: AcrobotParams | None = None
    ) -> Array:
        return jnp.where(is_high(next_state, params or self.default_params), 0.0, -1.0)

    def terminal(self, state: Array, rng: Array, params: AcrobotParams | None = None) -> Array:
        return is_high(state, params or self.default_params)

    def show(self, state: list[float], env: Any) -> None:
        env.state = state
