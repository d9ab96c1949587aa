"""Gymnasium's tabular environments on the device, from the transition tables that they contain."""

from typing import Any, NamedTuple, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from rlgd.envs.functional.gym_renderer import Rendered

Table: TypeAlias = Any  # a NumPy array; inside a program an array on the device
NO_ACTION = -1


class TabularParams(NamedTuple):
    """The tables: S states, A actions, at most K outcomes; shorter rows are filled with impossible ones.

    Attributes:
        initial: ``[S]`` float32, the probability that an episode begins in this state or an earlier one.
        outcomes: ``[S, A, K]`` float32, the probability of this outcome or an earlier one.
        next_state: ``[S, A, K]`` int32.
        reward: ``[S, A, K]`` float32.
        terminated: ``[S, A, K]`` bool.
        action_mask: ``[S, A]`` bool, which actions have an effect; None if Gymnasium gives no mask.
    """

    initial: Table
    outcomes: Table
    next_state: Table
    reward: Table
    terminated: Table
    action_mask: Table | None


class TabularState(NamedTuple):
    """``place`` int32 is Gymnasium's state; the other fields describe the transition that led there.

    ``reward`` float32 and ``terminated`` bool are those of the drawn outcome; ``action`` int32 is -1 at the beginning.
    """

    place: Array
    reward: Array
    terminated: Array
    action: Array


def cumulative(probability: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sums along the last axis, exactly 1 from the last possible outcome on, so that no later one is ever drawn."""
    total = np.cumsum(probability, axis=-1)
    return np.where(total > 1 - 1e-9, 1, total).astype(np.float32)


def draw(rng: Array, cumulative: Array) -> Array:
    """The number of a random outcome, int32, with the probabilities ``cumulative [K]``."""
    uniform = jax.random.uniform(rng, dtype=cumulative.dtype)
    return jnp.searchsorted(cumulative, uniform, side="right", method="scan_unrolled")


def tables(env: Any) -> TabularParams:
    """The tables of a Gymnasium environment that has ``P`` and ``initial_state_distrib``."""
    states, actions = range(env.observation_space.n), range(env.action_space.n)
    width = max(len(env.P[state][action]) for state in states for action in actions)

    def row(state: int, action: int) -> list[tuple[float, ...]]:
        outcomes = env.P[state][action]
        return outcomes + [(0, *outcomes[-1][1:])] * (width - len(outcomes))

    rows = np.array([[row(state, action) for action in actions] for state in states], np.float64)
    probability, next_state, reward, terminated = np.moveaxis(rows, -1, 0)
    masks = [env.action_mask(state) for state in states] if hasattr(env, "action_mask") else None
    return TabularParams(
        initial=cumulative(env.initial_state_distrib),
        outcomes=cumulative(probability),
        next_state=next_state.astype(np.int32),
        reward=reward.astype(np.float32),
        terminated=terminated.astype(bool),
        action_mask=None if masks is None else np.array(masks, bool),
    )


class Tabular(Rendered[TabularState, Array, TabularParams]):
    """An environment from the tables of Gymnasium's, read when it is made. The time limit belongs to the wrapper."""

    def __init__(self) -> None:
        env = gymnasium.make(self.env_id).unwrapped
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._tables = tables(env)
        super().__init__()

    def get_default_params(self, **kwargs: Any) -> TabularParams:
        return self._tables._replace(**kwargs)

    def _on_device(self, params: TabularParams | None) -> TabularParams:
        return jax.tree.map(jnp.asarray, params or self.default_params)

    def initial(self, rng: Array, params: TabularParams | None = None) -> TabularState:
        place = draw(rng, self._on_device(params).initial)
        return TabularState(place, jnp.zeros((), jnp.float32), jnp.zeros((), bool), jnp.full_like(place, NO_ACTION))

    def transition(
        self, state: TabularState, action: Array, rng: Array, params: TabularParams | None = None
    ) -> TabularState:
        table = self._on_device(params)
        outcome = state.place, action, draw(rng, table.outcomes[state.place, action])
        return TabularState(
            table.next_state[outcome],
            table.reward[outcome],
            table.terminated[outcome],
            jnp.asarray(action, jnp.int32),
        )

    def observation(self, state: TabularState, rng: Array, params: TabularParams | None = None) -> Array:
        return state.place

    def reward(
        self,
        state: TabularState,
        action: Array,
        next_state: TabularState,
        rng: Array,
        params: TabularParams | None = None,
    ) -> Array:
        return next_state.reward

    def terminal(self, state: TabularState, rng: Array, params: TabularParams | None = None) -> Array:
        return state.terminated

    def state_info(self, state: TabularState, params: TabularParams | None = None) -> dict[str, Array]:
        """``action_mask [A]`` bool, where Gymnasium gives one."""
        mask = self._on_device(params).action_mask
        return {} if mask is None else {"action_mask": mask[state.place]}

    def show(self, state: TabularState, env: Any) -> None:
        if state.action == NO_ACTION:
            env.reset()  # clears what the renderer keeps from the last episode
        else:
            env.lastaction = state.action
        env.s = state.place


class FrozenLake(Tabular):
    """Walk over 4x4 tiles of slippery ice, past the holes, to the goal, which pays 1."""

    env_id = "FrozenLake-v1"


class FrozenLake8x8(Tabular):
    """Walk over 8x8 tiles of slippery ice, past the holes, to the goal, which pays 1."""

    env_id = "FrozenLake8x8-v1"


class CliffWalking(Tabular):
    """Walk along a cliff; every step costs 1, a step over the edge costs 100 and leads back to the start."""

    env_id = "CliffWalking-v1"


class CliffWalkingSlippery(Tabular):
    """Walk along a cliff, where two of three steps slip to a side."""

    env_id = "CliffWalkingSlippery-v1"


class Taxi(Tabular):
    """A taxi takes a passenger to their destination, which pays 20; a step costs 1, a wrong pick-up or drop-off 10."""

    env_id = "Taxi-v4"
