"""What environments of other libraries have in common."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from jax import Array

Functional: TypeAlias = FuncEnv[Any, Any, Any, Any, Any, Any, Any]
Space: TypeAlias = spaces.Space[Any]


class Outcome(NamedTuple):
    """What a suite's ``step`` gives at once and a ``FuncEnv`` is asked for piece by piece; ``state`` is the suite's."""

    state: Any
    obs: Any
    reward: Any = 0.0
    terminated: Any = False
    action_mask: Array | None = None


class SuiteEnv(FuncEnv[Outcome, Any, Array, Array, Array, Any, Any]):
    """An environment of another suite. Its state is the outcome of the step that led there.

    Args:
        begin: ``key -> Outcome``, the start of an episode.
        step: ``(the suite's state, action, key) -> Outcome``, without time limit and without reset.
        observation_space, action_space: as Gymnasium writes them.
    """

    def __init__(
        self,
        begin: Callable[[Array], Outcome],
        step: Callable[[Any, Array, Array], Outcome],
        observation_space: Space,
        action_space: Space,
    ) -> None:
        super().__init__()
        self.begin, self.step = begin, step
        self.observation_space, self.action_space = observation_space, action_space

    def initial(self, rng: Array, params: Any = None) -> Outcome:
        with usual_promotion():
            return _typed(self.begin(rng))

    def transition(self, state: Outcome, action: Array, rng: Array, params: Any = None) -> Outcome:
        # A copy, because some suites write into the dictionaries of the state that they are given.
        inner = jax.tree.map(lambda leaf: leaf, state.state)
        with usual_promotion():
            return _typed(self.step(inner, action, rng))

    def observation(self, state: Outcome, rng: Array, params: Any = None) -> Any:
        return state.obs

    def reward(self, state: Outcome, action: Array, next_state: Outcome, rng: Array, params: Any = None) -> Array:
        return next_state.reward

    def terminal(self, state: Outcome, rng: Array, params: Any = None) -> Array:
        return state.terminated

    def state_info(self, state: Outcome, params: Any = None) -> dict[str, Any]:
        return {} if state.action_mask is None else {"action_mask": state.action_mask}


def _typed(outcome: Outcome) -> Outcome:
    """The outcome with one number as reward and one flag as end, of the same types at an episode's start as later."""
    reward, terminated = jnp.reshape(outcome.reward, ()), jnp.reshape(outcome.terminated, ())
    return outcome._replace(reward=reward.astype(jnp.float32), terminated=terminated.astype(bool))


@contextlib.contextmanager
def usual_promotion() -> Iterator[None]:
    """The suites mix types and ranks, which the strict modes of JAX refuse."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


Loaded: TypeAlias = tuple[Functional, int | None]  # an environment and its time limit
