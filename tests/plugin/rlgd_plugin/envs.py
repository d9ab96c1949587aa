"""An environment of a user, on the device: a corridor whose end is to be found."""

import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from jax import Array

LENGTH = 8


class Corridor(FuncEnv[Array, Array, Array, Array, Array, None, None]):
    """Each step to the left or the right costs 1, until the right end is reached."""

    observation_space, action_space = Box(0, 1, (1,)), Discrete(2)

    def initial(self, rng: Array, params: None = None) -> Array:
        return jnp.zeros(())

    def transition(self, state: Array, action: Array, rng: Array, params: None = None) -> Array:
        return jnp.clip(state + 2 * action - 1, 0, LENGTH)

    def observation(self, state: Array, rng: Array, params: None = None) -> Array:
        return state[None] / LENGTH

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: None = None) -> Array:
        return -jnp.ones(())

    def terminal(self, state: Array, rng: Array, params: None = None) -> Array:
        return state == LENGTH
