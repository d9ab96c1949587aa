"""CartPole on the device, equal to Gymnasium's ``CartPole-v1`` step by step (Barto, Sutton & Anderson 1983)."""

import math
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.pytrees import Scalar


class CartPoleParams(NamedTuple):
    """The constants; ``half_length`` is half the pole's length."""

    gravity: Scalar = 9.8
    cart_mass: Scalar = 1.0
    pole_mass: Scalar = 0.1
    half_length: Scalar = 0.5
    force: Scalar = 10.0
    time_step: Scalar = 0.02
    max_position: Scalar = 2.4
    max_angle: Scalar = 12 * 2 * math.pi / 360
    initial_range: Scalar = 0.05

    @property
    def total_mass(self) -> Scalar:
        """The mass of cart and pole."""
        return self.cart_mass + self.pole_mass

    @property
    def pole_moment(self) -> Scalar:
        """The mass of the pole times the distance of its centre from the cart."""
        return self.pole_mass * self.half_length


BOUNDS = np.array(
    [CartPoleParams().max_position * 2, np.inf, CartPoleParams().max_angle * 2, np.inf],
    np.float32,
)


class CartPole(Rendered[Array, Array, CartPoleParams]):
    """A pole on a cart that is pushed left (0) or right (1); every step pays 1.

    The state is ``[4]`` float32: position, velocity, angle, angular velocity. The episode terminates when the cart
    leaves +-2.4 or the pole +-12 degrees. The time limit belongs to the wrapper.
    """

    env_id = "CartPole-v1"
    observation_space = gymnasium.spaces.Box(-BOUNDS, BOUNDS)
    action_space = gymnasium.spaces.Discrete(2)

    def get_default_params(self, **kwargs: Any) -> CartPoleParams:
        return CartPoleParams(**kwargs)

    def initial(self, rng: Array, params: CartPoleParams | None = None) -> Array:
        params = params or self.default_params
        return jax.random.uniform(rng, (4,), minval=-params.initial_range, maxval=params.initial_range)

    def transition(self, state: Array, action: Array, rng: Array, params: CartPoleParams | None = None) -> Array:
        params = params or self.default_params
        _, velocity, angle, spin = state
        force = jnp.where(action == 1, params.force, -params.force)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        push = (force + params.pole_moment * jnp.square(spin) * sin) / params.total_mass
        inertia = params.half_length * (4 / 3 - params.pole_mass * jnp.square(cos) / params.total_mass)
        spin_change = (params.gravity * sin - cos * push) / inertia
        velocity_change = push - params.pole_moment * spin_change * cos / params.total_mass
        rates = jnp.stack([velocity, velocity_change, spin, spin_change])
        return state + params.time_step * rates

    def observation(self, state: Array, rng: Array, params: CartPoleParams | None = None) -> Array:
        return state

    def reward(
        self, state: Array, action: Array, next_state: Array, rng: Array, params: CartPoleParams | None = None
    ) -> Array:
        return jnp.ones(())

    def terminal(self, state: Array, rng: Array, params: CartPoleParams | None = None) -> Array:
        params = params or self.default_params
        return (jnp.abs(state[0]) > params.max_position) | (jnp.abs(state[2]) > params.max_angle)

    def show(self, state: list[float], env: Any) -> None:
        env.state = state


class CartPoleNoVelocity(CartPole):
    """CartPole that observes only position and angle: the policy needs memory for the velocities."""

    env_id = "rlgd/CartPoleNoVelocity-v1"
    observation_space = gymnasium.spaces.Box(-BOUNDS[::2], BOUNDS[::2])

    def observation(self, state: Array, rng: Array, params: CartPoleParams | None = None) -> Array:
        return state[::2]
