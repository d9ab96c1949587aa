"""Breakout of MinAtar."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.envs.functional.minatar.game import LAST, LEFT, NOTHING, RIGHT, SIDE, Game, Turn, cell, moved, number, outside
from rlgd.pytrees import Scalar

WALL = np.zeros((SIDE, SIDE), bool)
WALL[1:4] = True


class BreakoutBoard(NamedTuple):
    """Places are int32: of the ball, ``x`` the column and ``y`` the row; where it was before; and of the paddle.

    ``dx`` and ``dy`` int32 are 1 or -1. ``bricks [10, 10]`` bool. ``striking`` bool: the ball is in a brick, and breaks
    no second one before it has left.
    """

    x: Array
    y: Array
    last_x: Array
    last_y: Array
    dx: Array
    dy: Array
    paddle: Array
    bricks: Array
    striking: Array


class Breakout(Game):
    """A ball breaks the bricks of a wall, 1 for each, and must not fall past the paddle. A broken wall comes back."""

    channels = 4
    actions = (NOTHING, LEFT, RIGHT)
    beginning = 1

    def begin(self, chance: Array) -> BreakoutBoard:
        from_right = chance[0] >= 0.5
        x, dx = jnp.where(from_right, number(LAST), number(0)), jnp.where(from_right, number(-1), number(1))
        y = number(3)
        return BreakoutBoard(x, y, x, y, dx, number(1), number(4), jnp.asarray(WALL), jnp.zeros((), bool))

    def play(self, board: BreakoutBoard, action: Array, chance: Array, ramping: Scalar) -> Turn:
        paddle = moved(board.paddle, action, LEFT, RIGHT)
        x, y = board.x + board.dx, board.y + board.dy
        at_side, at_top = outside(x), y < 0
        x, y = jnp.clip(x, number(0), number(LAST)), jnp.maximum(y, number(0))
        here = cell(y, x)
        in_brick = ~at_top & jnp.any(board.bricks & here)
        breaks = in_brick & ~board.striking
        at_bottom = ~at_top & ~in_brick & (y == LAST)
        full_on = at_bottom & (board.x == paddle)
        at_edge = at_bottom & ~full_on & (x == paddle)
        bricks = board.bricks & ~(breaks & here)
        after = BreakoutBoard(
            x=x,
            y=jnp.where(breaks | full_on | at_edge, board.y, y),
            last_x=board.x,
            last_y=board.y,
            dx=jnp.where(at_side ^ at_edge, -board.dx, board.dx),
            dy=jnp.where(at_top | breaks | full_on | at_edge, -board.dy, board.dy),
            paddle=paddle,
            bricks=jnp.where(at_bottom & ~jnp.any(bricks), jnp.asarray(WALL), bricks),
            striking=in_brick,
        )
        return Turn(after, breaks.astype(jnp.float32), at_bottom & ~full_on & ~at_edge)

    def show(self, board: BreakoutBoard) -> Array:
        paddle, ball = cell(number(LAST), board.paddle), cell(board.y, board.x)
        return jnp.stack([paddle, ball, cell(board.last_y, board.last_x), board.bricks], axis=-1)
