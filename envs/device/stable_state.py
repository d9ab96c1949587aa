"""Functional environments of other authors, with states that keep their shapes and dtypes from the first one on."""

from typing import Any

import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv
from jax import Array

from rlgd import spaces
from rlgd.envs.aliases import Functional
from rlgd.errors import UsageError


def settled(env: Functional) -> Functional:
    """The environment itself if its states keep their shapes and dtypes, else a wrapper that makes them do so.

    Some of Gymnasium's own need the wrapper: a flag of theirs is a number at first and an array ``[1]`` later.

    Raises:
        UsageError: if it cannot be traced by JAX.
    """
    action = spaces.spec(env.observation_space, env.action_space).action
    given = spaces.map_parts(lambda part: jax.ShapeDtypeStruct(*spaces.obs_shape_dtype(part)), action)
    try:
        # The caller's strict modes of JAX are for the caller's own code, not for other authors' environments.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
            key = jax.eval_shape(lambda: jax.random.key(0))
            state = jax.eval_shape(env.initial, key)
            following = jax.eval_shape(env.transition, state, given, key)
    except Exception as error:
        raise UsageError(f"{type(env).__name__} cannot be compiled by JAX: {error}") from error
    structures: list[Any] = [jax.tree.structure(tree) for tree in (state, following)]
    if structures[0] != structures[1]:
        raise UsageError(f"{type(env).__name__} begins with a state of another structure than its transitions give.")
    kept = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, following)
    return env if all(jax.tree.leaves(kept)) else Settled(env, following)


class Settled(FuncEnv[Any, Any, Array, Any, Any, Any, Any]):
    """A wrapper that gives all states of ``env`` the shapes and dtypes of ``state``; equal for the same ``env``."""

    def __init__(self, env: Functional, state: Any) -> None:
        super().__init__()
        self.env, self.state = env, state
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settled) and self.env == other.env

    def __hash__(self) -> int:
        return hash(self.env)

    def initial(self, rng: Array, params: Any = None) -> Any:
        def settle(leaf: Any, like: Any) -> Array:
            return jnp.broadcast_to(jnp.asarray(leaf, like.dtype), like.shape)

        return jax.tree.map(settle, self.env.initial(rng), self.state)

    def transition(self, state: Any, action: Any, rng: Array, params: Any = None) -> Any:
        return self.env.transition(state, action, rng)

    def observation(self, state: Any, rng: Array, params: Any = None) -> Any:
        return self.env.observation(state, rng)

    def reward(self, state: Any, action: Any, next_state: Any, rng: Array, params: Any = None) -> Any:
        return self.env.reward(state, action, next_state, rng)

    def terminal(self, state: Any, rng: Array, params: Any = None) -> Any:
        return self.env.terminal(state, rng)

    def state_info(self, state: Any, params: Any = None) -> dict[str, Any]:
        return self.env.state_info(state)

    def render_init(self, params: Any = None, **kwargs: Any) -> Any:
        return self.env.render_init(**kwargs)

    def render_image(self, state: Any, render_state: Any, params: Any = None) -> Any:
        return self.env.render_image(state, render_state)

    def render_close(self, render_state: Any, params: Any = None) -> None:
        self.env.render_close(render_state)
