"""What the five games share: a field of 10 by 10 cells, sticky actions, and pictures."""

import colorsys
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from jax import Array
from numpy.typing import NDArray

from rlgd.pytrees import Scalar

SIDE = 10  # cells
LAST = SIDE - 1
LANES = 8  # rows 1 to 8, where things move in some games
NOTHING, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
PIXELS = 16  # of a cell's side in a picture

Board: TypeAlias = Any  # of a game: what it remembers


class MinAtarParams(NamedTuple):
    """With ``sticky_action_prob`` the last action is taken again, whatever was chosen.

    ``ramping``: games become harder with time; Breakout and Freeway do not.
    """

    sticky_action_prob: Scalar = 0.1
    ramping: Scalar = True


class Turn(NamedTuple):
    """What an action leads to: ``reward`` float32, ``terminal`` bool."""

    board: Board
    reward: Array
    terminal: Array


class MinAtarState(NamedTuple):
    """``last_action`` int32, one of the six, is what may be repeated; the turn is the one that led here."""

    turn: Turn
    last_action: Array


class Game(FuncEnv[MinAtarState, Array, Array, Array, Array, NDArray[np.uint8], MinAtarParams]):
    """A game of MinAtar, version 1: the actions are those that do something in it.

    The observation is ``[10, 10, channels]`` bool: rows from the top, columns from the left, and for each kind of thing
    a channel that says where it is. No game has a time limit, and all end for good: Freeway after 2,501 steps.
    Everything is as in the package ``minatar`` but one thing: there the first action of an episode may repeat the last
    one of the episode before, here it may repeat doing nothing.

    Attributes:
        channels: how many kinds of things there are.
        actions: what each action of the agent means, as one of the six.
        beginning, chances: how many random numbers the first board takes, and a turn.
    """

    channels: ClassVar[int]
    actions: ClassVar[tuple[int, ...]]
    beginning: ClassVar[int] = 0
    chances: ClassVar[int] = 0
    default_params: MinAtarParams
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self) -> None:
        self.observation_space = Box(0, 1, (SIDE, SIDE, self.channels), np.bool_)
        self.action_space = Discrete(len(self.actions))
        super().__init__()

    def begin(self, chance: Array) -> Board:
        """The board of a new episode. ``chance [beginning]`` float32: random numbers from 0 to 1."""
        raise NotImplementedError

    def play(self, board: Board, action: Array, chance: Array, ramping: Scalar) -> Turn:
        """One turn. ``action`` int32 is one of the six, ``chance [chances]`` float32 random numbers from 0 to 1."""
        raise NotImplementedError

    def show(self, board: Board) -> Array:
        """The observation, ``[10, 10, channels]`` bool."""
        raise NotImplementedError

    def get_default_params(self, **kwargs: Any) -> MinAtarParams:
        return MinAtarParams(**kwargs)

    def initial(self, rng: Array, params: MinAtarParams | None = None) -> MinAtarState:
        return self.first(jax.random.uniform(rng, (self.beginning,), jnp.float32))

    def first(self, chance: Array) -> MinAtarState:
        """A new episode, by random numbers ``chance [beginning]`` float32."""
        board = self.begin(chance)
        return MinAtarState(Turn(board, jnp.zeros((), jnp.float32), jnp.zeros((), bool)), jnp.zeros((), jnp.int32))

    def transition(
        self, state: MinAtarState, action: Array, rng: Array, params: MinAtarParams | None = None
    ) -> MinAtarState:
        return self.after(state, action, jax.random.uniform(rng, (1 + self.chances,), jnp.float32), params)

    def after(
        self, state: MinAtarState, action: Array, chance: Array, params: MinAtarParams | None = None
    ) -> MinAtarState:
        """The next state, by random numbers ``chance [1 + chances]`` float32; the first is for the sticky action."""
        params = params or self.default_params
        chosen = jnp.asarray(self.actions, jnp.int32)[action]
        taken = jnp.where(chance[0] < params.sticky_action_prob, state.last_action, chosen)
        return MinAtarState(self.play(state.turn.board, taken, chance[1:], params.ramping), taken)

    def observation(self, state: MinAtarState, rng: Array, params: MinAtarParams | None = None) -> Array:
        return self.show(state.turn.board)

    def reward(
        self,
        state: MinAtarState,
        action: Array,
        next_state: MinAtarState,
        rng: Array,
        params: MinAtarParams | None = None,
    ) -> Array:
        return next_state.turn.reward

    def terminal(self, state: MinAtarState, rng: Array, params: MinAtarParams | None = None) -> Array:
        return state.turn.terminal

    def render_init(self, params: MinAtarParams | None = None, **kwargs: Any) -> NDArray[np.uint8]:
        """The colours: of an empty cell, and of each channel."""
        colours = [colorsys.hsv_to_rgb(channel / self.channels, 0.6, 1) for channel in range(self.channels)]
        return (255 * np.array([(0, 0, 0), *colours])).astype(np.uint8)

    def render_image(
        self, state: MinAtarState, render_state: NDArray[np.uint8], params: MinAtarParams | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The picture, ``[160, 160, 3]`` uint8: in each cell the colour of its last channel."""
        seen = np.asarray(self.show(jax.tree.map(jnp.asarray, state.turn.board)))
        last = np.max(seen * np.arange(1, self.channels + 1), axis=-1)
        return render_state, render_state[last].repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)

    def render_close(self, render_state: NDArray[np.uint8], params: MinAtarParams | None = None) -> None:
        pass


def number(value: int) -> Array:
    """A count or a place, int32."""
    return jnp.asarray(value, jnp.int32)


def along(place: Array) -> Array:
    """Which of ten cells in a line is at ``place [...]``: ``[..., 10]`` bool; none if it is outside."""
    place = jnp.expand_dims(place, -1)
    return place == jax.lax.broadcasted_iota(jnp.int32, (*place.shape[:-1], SIDE), place.ndim - 1)


def cell(row: Array, column: Array) -> Array:
    """The field ``[10, 10]`` bool with one cell that is true; none if the place is outside."""
    return along(row)[:, None] & along(column)[None, :]


def cells(rows: Array, columns: Array, there: Array) -> Array:
    """The field ``[10, 10]`` bool with a true cell for each of N things that are ``there [N]`` and not outside."""
    # A row is a number with a bit for each cell: N things take 10 N operations instead of 100 N.
    bits = jnp.where(there & ~outside(columns), jnp.left_shift(number(1), jnp.clip(columns, 0, LAST)), number(0))
    lines = jnp.bitwise_or.reduce(jnp.where(along(rows), bits[:, None], number(0)), axis=0)
    columns_of_field = jax.lax.broadcasted_iota(jnp.int32, (1, SIDE), 1)
    return jnp.right_shift(lines[:, None], columns_of_field) & 1 == 1


def lanes() -> Array:
    """The rows of the lanes, ``[8]`` int32."""
    return jnp.arange(1, LANES + 1, dtype=jnp.int32)


def shifted(field: Array, down: int = 0, right: int = 0) -> Array:
    """A field ``[10, 10]`` bool moved by so many cells; what leaves it is gone."""
    return jax.lax.pad(field, jnp.zeros((), bool), [(down, -down, 0), (right, -right, 0)])


def outside(place: Array) -> Array:
    """Whether a place is before the first cell or after the last one."""
    return (place < 0) | (place > LAST)


def step_of(right: Array) -> Array:
    """1 to the right, -1 to the left, int32."""
    return jnp.where(right, number(1), number(-1))


def moved(place: Array, action: Array, back: int, forth: int, least: int = 0, most: int = LAST) -> Array:
    """The place of a player after an action, of which one moves it back and one forth."""
    change = (action == forth).astype(jnp.int32) - (action == back).astype(jnp.int32)
    return jnp.clip(place + change, number(least), number(most))


def minus_one_if(condition: Array, count: Array) -> Array:
    """A count that falls where the condition holds."""
    return count - condition.astype(jnp.int32)


def total(things: Array) -> Array:
    """How many are true, float32: a reward."""
    return jnp.sum(things, dtype=jnp.float32)
