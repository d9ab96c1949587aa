"""CartPole on the device, equal to Gymnasium's ``CartPole-v1`` step by step (Barto, Sutton & Anderson 1983)."""

import math
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from jax import Array

GRAVITY = 9.8
CART_MASS = 1.0
POLE_MASS = 0.1
TOTAL_MASS = CART_MASS + POLE_MASS
HALF_LENGTH = 0.5
POLE_MOMENT = POLE_MASS * HALF_LENGTH
FORCE = 10.0
TIME_STEP = 0.02
MAX_POSITION = 2.4
MAX_ANGLE = 12 * 2 * math.pi / 360
INITIAL_RANGE = 0.05
BOUNDS = np.array([MAX_POSITION * 2, np.inf, MAX_ANGLE * 2, np.inf], np.float32)


class CartPole(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """A pole on a cart that is pushed left (0) or right (1); every step pays 1.

    The state is ``[4]`` float32: position, velocity, angle, angular velocity. The episode terminates when the cart
    leaves +-2.4 or the pole +-12 degrees. The time limit belongs to the wrapper.
    """

    observation_space = gymnasium.spaces.Box(-BOUNDS, BOUNDS)
    action_space = gymnasium.spaces.Discrete(2)

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jax.random.uniform(rng, (4,), minval=-INITIAL_RANGE, maxval=INITIAL_RANGE)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        _, velocity, angle, spin = state
        force = jnp.where(action == 1, FORCE, -FORCE)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        push = (force + POLE_MOMENT * jnp.square(spin) * sin) / TOTAL_MASS
        spin_change = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4 / 3 - POLE_MASS * jnp.square(cos) / TOTAL_MASS))
        velocity_change = push - POLE_MOMENT * spin_change * cos / TOTAL_MASS
        rates = jnp.stack([velocity, velocity_change, spin, spin_change])
        return state + TIME_STEP * rates

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.ones(())

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return (jnp.abs(state[0]) > MAX_POSITION) | (jnp.abs(state[2]) > MAX_ANGLE)
