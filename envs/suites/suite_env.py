"""The common base of environments from other libraries."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from gymnasium.experimental.functional import FuncEnv
from jax import Array

from rlgd.envs.aliases import Functional, Space

NO_LIMIT = 2**31 - 1  # a time limit that no episode reaches

Loaded: TypeAlias = tuple[Functional, int | None]  # an environment and its time limit


class SuiteStep(NamedTuple):
    """The result of a suite's reset or step; ``FuncEnv`` has a method for each field. ``state`` is the suite's own."""

    state: Any
    obs: Any
    reward: Any = 0.0
    terminated: Any = False
    action_mask: Array | None = None


class SuiteEnv(FuncEnv[SuiteStep, Any, Array, Array, Array, Any, Any]):
    """An environment of another suite. Its state is the ``SuiteStep`` that led there.

    Args:
        begin: ``key -> SuiteStep``, the start of an episode.
        step: ``(the suite's state, action, key) -> SuiteStep``, without time limit and without reset.
        observation_space, action_space: Gymnasium spaces.
    """

    def __init__(
        self,
        begin: Callable[[Array], SuiteStep],
        step: Callable[[Any, Array, Array], SuiteStep],
        observation_space: Space,
        action_space: Space,
    ) -> None:
        super().__init__()
        self.begin, self.step = begin, step
        self.observation_space, self.action_space = observation_space, action_space

    def initial(self, rng: Array, params: Any = None) -> SuiteStep:
        with usual_promotion():
            return _typed(self.begin(rng))

    def transition(self, state: SuiteStep, action: Array, rng: Array, params: Any = None) -> SuiteStep:
        # A copy: some suites write into the dictionaries of the given state.
        inner = jax.tree.map(lambda leaf: leaf, state.state)
        with usual_promotion():
            return _typed(self.step(inner, action, rng))

    def observation(self, state: SuiteStep, rng: Array, params: Any = None) -> Any:
        return state.obs

    def reward(self, state: SuiteStep, action: Array, next_state: SuiteStep, rng: Array, params: Any = None) -> Array:
        return next_state.reward

    def terminal(self, state: SuiteStep, rng: Array, params: Any = None) -> Array:
        return state.terminated

    def state_info(self, state: SuiteStep, params: Any = None) -> dict[str, Any]:
        return {} if state.action_mask is None else {"action_mask": state.action_mask}


def _typed(step: SuiteStep) -> SuiteStep:
    """The step with a scalar float32 reward and a scalar bool ``terminated``, at an episode's start too."""
    reward, terminated = jnp.reshape(step.reward, ()), jnp.reshape(step.terminated, ())
    return step._replace(reward=reward.astype(jnp.float32), terminated=terminated.astype(bool))


@contextlib.contextmanager
def usual_promotion() -> Iterator[None]:
    """Allow mixed dtypes and ranks, which the suites need and the strict modes of JAX refuse."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
